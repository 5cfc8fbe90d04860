"""docs/backbones.md: its example is a working backbone outside this project, and its table is true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.errors import ExtractError, UnknownNameError
from extract.registry import make_family
from store import FeatureStore, resolve
from tests.extract.tiny_rooms import write_rooms

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "backbones.md").read_text(encoding="utf-8")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example as a file in the current folder."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.S)
    (tmp_path / "my_vit.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_vit", raising=False)
    return "my_vit"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_the_example_is_a_backbone(module: str, checkpoint: Path, tmp_path: Path) -> None:
    rooms = write_rooms(tmp_path / "rooms", splits=("train", "test"), size=(32, 32), frames=2)
    command = [sys.executable, "-m", "extract", "--model", f"{module}:ViT", "--dataset", "rooms", "--json"]
    command += ["--checkpoint", str(checkpoint), "--root", str(tmp_path / "rooms"), "--store-dtype", "float32"]
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == len(rooms)
    store = FeatureStore.open(resolve("store/my-vit"))
    assert store.taps == ["blocks.0", "blocks.1", "blocks.2"]
    assert store.read("blocks.2", 0).shape == (2, 4, 4, 12)

    from transformers import ViTModel

    family: Any = make_family(f"{module}:ViT", None)
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    family = type(family)("my-vit", type(family.options)(checkpoint=str(checkpoint)))
    backbone = family.load(torch.device("cpu"), torch.float32)
    got = {}
    hook = backbone.module.layers[1].register_forward_hook(lambda *call: got.update(x=call[2]))
    state = backbone.encode(frames, [0, 1], torch.Generator())
    backbone.forward(state, None)
    hook.remove()
    network = ViTModel.from_pretrained(checkpoint, attn_implementation="sdpa").eval()
    with torch.no_grad():
        expected = network((frames.movedim(-1, 1) / 255 - 0.5) / 0.5, output_hidden_states=True).hidden_states[2]
    grid = backbone.grid(family.site("blocks.1"), got["x"], state)
    assert torch.equal(grid, expected[:, 1:].reshape(2, 4, 4, 12))


def test_names_outside_the_project(module: str, tmp_path: Path) -> None:
    assert make_family(f"{module}:ViT").model == make_family(f"{module}:ViT:my-vit").model == "my-vit"
    with pytest.raises(UnknownNameError, match=r"nowhere:ViT.*cannot be imported.*in the current folder"):
        make_family("nowhere:ViT")
    with pytest.raises(UnknownNameError, match="cannot be imported"):
        make_family(f"{module}:Missing")
    for reference in (f"{module}:Path", f"{module}:json", f"{module}:Family"):
        with pytest.raises(ExtractError, match=r"no concrete subclass.*docs/backbones\.md"):
            make_family(reference)
    (tmp_path / "two.py").write_text(
        "from my_vit import ViT, Checkpoint\n"
        "class Two(ViT):\n    models = {'a': Checkpoint('a'), 'b': Checkpoint('b')}\n"
    )
    with pytest.raises(UnknownNameError, match=r"Two has a, b\. Say which: two:Two:MODEL"):
        make_family("two:Two")
    assert make_family("two:Two:b").model == "b"
    with pytest.raises(UnknownNameError, match="unknown model 'c'"):
        make_family("two:Two:c")


def test_the_tables_are_what_the_families_state() -> None:
    from extract.catalogue import markdown

    _, _, rest = DOCUMENT.partition("<!-- python -m extract models --markdown -->\n")
    tables, found, _ = rest.partition("<!-- end -->")
    assert found
    assert tables == markdown(), "run `python -m extract models --markdown`, and put what it prints between the markers"


def test_names_that_differ_in_numbers_are_shown_as_one() -> None:
    from extract.catalogue import collapsed

    assert collapsed(["a.0", "a.1", "b", "a.2", "c.1.d.0", "c.2.d.0"]) == ["a.0…2", "b", "c.*.d.*"]
    assert collapsed(["a.0", "a.2"]) == ["a.*"]
    assert collapsed(["a.7"]) == ["a.7"]
