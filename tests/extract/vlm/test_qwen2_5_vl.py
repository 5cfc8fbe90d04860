"""What is particular to Qwen2.5-VL: the order of windows, times of a video, and files of older names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.backbones.base import Site
from extract.backbones.qwen2_5_vl import Qwen25VL
from extract.errors import WeightsError
from extract.vision_language.backbone import VisionLanguageBackbone
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.test_promises import features
from tests.extract.vlm.test_qwen import Checkpoint, encoded, family, loaded
from tests.extract.vlm.tiny import CPU
from tests.extract.vlm.tiny_qwen2_5_vl import TINY

WINDOWED, WINDOWED_VIDEO = TINY


# --- windows ----------------------------------------------------------------------------------


def test_windows_are_put_back_in_rows() -> None:
    """Against the library's own order, for windows that fit and for such as are cut at the right and at the bottom."""
    from transformers.vision_utils import get_vision_window_index

    for rows, columns in ((19, 34), (8, 12), (1, 9), (4, 4), (5, 3), (17, 1)):
        of = family("qwen2.5-vl-7b", size=(28 * rows, 28 * columns))
        grid = torch.tensor([[1, 2 * rows, 2 * columns]] * 3)
        windowed, _ = get_vision_window_index(grid, spatial_merge_size=2, window_size=112, patch_size=14)
        cells = torch.arange(3 * rows * columns)
        patches = 4 * windowed[:, None] + torch.arange(4)
        assert torch.equal(of.in_order(of.site("merger"), windowed[:, None], 3).flatten(), cells)
        ordered = of.in_order(of.site("vision.0"), patches.reshape(-1, 1), 3)
        assert torch.equal(ordered.flatten(), torch.arange(12 * rows * columns))
        shuffled = not torch.equal(windowed, cells)
        assert shuffled == (rows > 1 and columns > 4)


def test_a_window_order_that_is_left_would_be_seen(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = random_clip(2, WINDOWED.size)
    backbone = loaded(WINDOWED, checkpoint)
    expected = WINDOWED.straight_line(checkpoint(WINDOWED), clip)

    def left(self: Qwen25VL, site: Site, output: Tensor, frames: int) -> Tensor:
        return output

    monkeypatch.setattr(Qwen25VL, "in_order", left)
    got = features(backbone, clip)
    for name, grid in got.items():
        assert torch.equal(grid, expected[name]) == name.startswith("llm."), name


def test_the_merger_is_what_the_language_model_is_given(checkpoint: Checkpoint) -> None:
    for tiny in (WINDOWED, WINDOWED_VIDEO):
        backbone = loaded(tiny, checkpoint)
        module: Any = backbone.module
        given: list[Tensor] = []
        module.language_model.register_forward_pre_hook(
            lambda _, args, named, given=given: given.append(named["inputs_embeds"]), with_kwargs=True
        )
        clip = random_clip(2, tiny.size)
        merged, state = features(backbone, clip)["merger"], encoded(backbone, clip)
        assert torch.equal(backbone.grid(backbone.family.site("llm.0"), given[0], state), merged)


def test_windows_that_hold_no_token_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint(WINDOWED), tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["window_size"] = 20
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"vision_config\.window_size is 20, less than a token of 28 pixels"):
        WINDOWED.family(folder)


# --- files ------------------------------------------------------------------------------------


def test_files_are_as_they_are_published(checkpoint: Checkpoint) -> None:
    """Old names, and a flat configuration; Qwen2.5-VL of 3 billion parameters has no head of its own."""
    from extract.checkpoints.folder import tensors_in

    for tiny, tied in ((WINDOWED, True), (WINDOWED_VIDEO, False)):
        folder = checkpoint(tiny)
        config = json.loads((folder / "config.json").read_text())
        assert "text_config" not in config
        published = family(tiny.model).config
        assert config.keys() <= published.keys()
        assert config["vision_config"].keys() == published["vision_config"].keys()
        assert config["tie_word_embeddings"] is published["tie_word_embeddings"] is tied
        names = tensors_in(folder / "model.safetensors")
        assert {name.partition(".")[0] for name in names} == {"visual", "model", *([] if tied else ["lm_head"])}
        assert not [name for name in names if "language_model" in name]


def test_files_as_the_library_writes_them_today_are_the_same_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    folder = Path(shutil.copytree(checkpoint(WINDOWED), tmp_path / "copy"))
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "again" / name, folder / name)
    assert "text_config" in json.loads((folder / "config.json").read_text())
    clip = random_clip(2, WINDOWED.size)
    new, old = WINDOWED.family(folder).load(CPU, torch.float32), loaded(WINDOWED, checkpoint)
    assert isinstance(new, VisionLanguageBackbone)
    a, b = features(new, clip), features(old, clip)
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert new.family.settings() == old.family.settings()


# --- time -------------------------------------------------------------------------------------


def test_frames_of_a_video_are_a_second_apart(checkpoint: Checkpoint) -> None:
    """In Qwen2.5-VL the time of a frame is in its positions, `tokens_per_second` apart; a row or a column is one."""
    backbone = loaded(WINDOWED_VIDEO, checkpoint)
    state = encoded(backbone, random_clip(3, WINDOWED_VIDEO.size))
    assert state.inputs["second_per_grid_ts"].tolist() == [1.0]
    told = {name: value for name, value in state.inputs.items() if not name.startswith("pixel")}
    module: Any = backbone.module
    positions, _ = module.get_rope_index(**told)
    first = state.starts[0]
    assert [int(positions[0, 0, start]) for start in state.starts] == [first, first + 2, first + 4]
    columns = backbone.family.llm.grid[1]
    for start in state.starts:
        assert positions[1:, 0, start + columns + 2].tolist() == [first + 1, first + 2]
