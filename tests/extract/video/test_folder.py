"""Folders of checkpoints: weights in shards, in half precision, damaged, and fetched from the hub."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import WanTransformer3DModel
from transformers import UMT5EncoderModel

from extract.backbones.base import Options
from extract.backbones.wan import COMPONENTS, Wan
from extract.checkpoints.folder import Component, check_reference, read_config, weight_files
from extract.checkpoints.loading import load_trained
from extract.errors import WeightsError
from tests.extract.video.tiny import CPU, Tiny, all_tiny

WAN = next(tiny for tiny in all_tiny() if tiny.model == "wan2.1-t2v-1.3b")
TRANSFORMER, VAE, TEXT, _ = COMPONENTS
DIFFUSERS_INDEX = "diffusion_pytorch_model.safetensors.index.json"
COMMIT = "c0ffee" * 6 + "1234"


@pytest.fixture
def folder(checkpoint: Callable[[Tiny], Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(checkpoint(WAN), tmp_path / "wan"))


def shard(folder: Path, variant: str | None = None) -> Path:
    """Split transformer and text encoder as the libraries do."""
    for name, network in (("transformer", WanTransformer3DModel), ("text_encoder", UMT5EncoderModel)):
        loaded = network.from_pretrained(folder / name, local_files_only=True)
        for path in (folder / name).glob("*.safetensors"):
            path.unlink()
        if variant is not None:
            loaded = loaded.to(torch.float16)
        loaded.save_pretrained(folder / name, max_shard_size="4KB", variant=variant)
    return folder


def relative(root: Path, files: list[Path]) -> list[str]:
    return [file.relative_to(root).as_posix() for file in files]


# --- shards -------------------------------------------------------------------------------------


def test_shards_load_as_the_whole_file(folder: Path, checkpoint: Callable[[Tiny], Path]) -> None:
    whole = WAN.family(checkpoint(WAN))
    split = WAN.family(shard(folder))
    variant, files = weight_files(folder, [TRANSFORMER, VAE, TEXT])
    assert variant is None
    on_disk = {path for path in folder.rglob("*.safetensors") if path.parent != folder / "vae"}
    assert set(files) == {*on_disk, folder / "vae" / "diffusion_pytorch_model.safetensors"}
    assert len(on_disk) > 4
    a, b = (family.load(CPU, torch.float32) for family in (whole, split))
    assert all(torch.equal(p, q) for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True))
    assert all(torch.equal(a.prompt[name], b.prompt[name]) for name in a.prompt)


def test_every_shard_is_part_of_the_identity(folder: Path, checkpoint: Callable[[Tiny], Path]) -> None:
    digest = WAN.family(shard(folder)).weights().digest
    assert digest != WAN.family(checkpoint(WAN)).weights().digest  # other files
    for component in ("transformer", "text_encoder"):
        for path in (folder / component).glob("*.safetensors"):
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert WAN.family(folder).weights().digest != digest
            path.write_bytes(content)
    assert WAN.family(folder).weights().digest == digest


def test_missing_shards_are_named(folder: Path) -> None:
    first, second, *_ = sorted((shard(folder) / "transformer").glob("*.safetensors"))
    first.unlink()
    second.unlink()
    for ask in (lambda: WAN.family(folder).weights(), lambda: WAN.family(folder).load(CPU, torch.float32)):
        with pytest.raises(WeightsError, match=rf"transformer/{first.name}, transformer/{second.name} is missing"):
            ask()


def test_a_truncated_shard_is_named(folder: Path) -> None:
    path = sorted((shard(folder) / "transformer").glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-1])
    for ask in (lambda: WAN.family(folder).weights(), lambda: WAN.family(folder).load(CPU, torch.float32)):
        with pytest.raises(WeightsError, match=rf"{path.name}.*cut short"):
            ask()


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "",
        ".",
        "..",
        "a\0b",
        "*",
        "[a]",
        "weights.bin",
        7,
        None,
        ["x"],
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(folder: Path, name: Any) -> None:
    """It is a file from the hub: what it names is opened."""
    (shard(folder).parent / "x.safetensors").write_bytes(b"")
    path = folder / "transformer" / DIFFUSERS_INDEX
    index = json.loads(path.read_text())
    some = next(iter(index["weight_map"]))
    path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {some: name}}))
    with pytest.raises(WeightsError, match=r"transformer/diffusion_pytorch_model\.safetensors\.index\.json lists no"):
        WAN.family(folder).weights()


@pytest.mark.parametrize("index", [{}, {"weight_map": None}, {"weight_map": {}}, {"weight_map": ["a"]}])
def test_an_index_without_shards_is_refused(folder: Path, index: Any) -> None:
    (shard(folder) / "transformer" / DIFFUSERS_INDEX).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="lists no shards"):
        WAN.family(folder).weights()


def test_an_index_that_is_no_json_is_refused(folder: Path) -> None:
    (shard(folder) / "transformer" / DIFFUSERS_INDEX).write_text("{")
    with pytest.raises(WeightsError, match=r"index\.json cannot be read as JSON"):
        WAN.family(folder).weights()


def test_shards_that_lack_a_weight_are_refused(folder: Path) -> None:
    """The index names fewer shards than the network needs, all of them whole."""
    path = shard(folder) / "transformer" / DIFFUSERS_INDEX
    index = json.loads(path.read_text())
    last = max(index["weight_map"].values())
    left = {weight: file for weight, file in index["weight_map"].items() if file != last}
    path.write_text(json.dumps(index | {"weight_map": left}))
    with pytest.raises(WeightsError, match="the weights of transformer do not fill its network"):
        WAN.family(folder).load(CPU, torch.float32)


# --- half precision -----------------------------------------------------------------------------


def test_the_half_precision_variant_is_taken_if_all_is_there(folder: Path) -> None:
    shard(folder, "fp16")
    plain = folder / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(WeightsError, match=r"transformer/diffusion_pytorch_model\.safetensors, text_encoder"):
        weight_files(folder, [TRANSFORMER, VAE, TEXT])  # only two of three are
    half = plain.rename(plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    variant, files = weight_files(folder, [TRANSFORMER, VAE, TEXT])
    assert variant == "fp16"
    assert set(files) == set(folder.rglob("*.safetensors"))
    assert len(files) > 4
    networks = load_trained(folder, variant, [TRANSFORMER, VAE, TEXT], lambda _: torch.float32)
    assert {parameter.dtype for network in networks.values() for parameter in network.parameters()} == {torch.float32}
    backbone = WAN.family(folder).load(CPU, torch.float32)
    assert all(torch.equal(p, p.half().float()) for p in backbone.networks["transformer"].parameters())
    shutil.copy(half, plain)
    assert weight_files(folder, [VAE])[0] is None  # full precision goes first


def test_a_whole_file_beside_an_index_is_refused(folder: Path) -> None:
    """diffusers would load the shards, transformers the whole file."""
    (folder / "transformer" / DIFFUSERS_INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors, and shards that .* lists"):
        weight_files(folder, [TRANSFORMER])


# --- the hub ------------------------------------------------------------------------------------


class Hub:
    """`snapshot_download` of a repository on this disk: copies what the patterns match, and remembers the calls."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache, self.asked = repository, cache, list[tuple[str, str | None, list[str]]]()

    def __call__(self, repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append((repository, revision, list(allow_patterns)))
        for path in self.repository.rglob("*"):
            name = path.relative_to(self.repository).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.cache / name)
        return str(self.cache)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The sharded checkpoint, on the hub, as the published one."""
    hub = Hub(shard(folder), tmp_path / "hub" / "snapshots" / COMMIT)
    (folder / "README.md").write_text("not needed")
    (folder / "extra").mkdir()
    (folder / "extra" / "model.safetensors").write_bytes(b"not needed")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    published = tmp_path / "published"
    published.mkdir()
    (published / WAN.model).symlink_to(folder)
    monkeypatch.setattr(Wan, "published_configs", published)
    return hub


def from_hub(**options: Any) -> Wan:
    return Wan(WAN.model, Options(frames=WAN.frames, size=WAN.size, **options))


def test_a_snapshot_is_fetched_in_two_steps_of_one_commit(hub: Hub, folder: Path) -> None:
    weights = from_hub(revision="v1").weights()
    identity = Wan.models[WAN.model].id
    assert [each[:2] for each in hub.asked] == [(identity, "v1"), (identity, COMMIT)]
    first, second = (each[2] for each in hub.asked)
    assert f"transformer/{DIFFUSERS_INDEX}" in first
    assert {"tokenizer/*", "model_index.json", "transformer/config.json", "text_encoder/config.json"} <= set(first)
    assert not any(name.endswith(".safetensors") for name in first)
    wanted = {name for name in second if name.endswith(".safetensors")}
    assert wanted == {path.relative_to(folder).as_posix() for path in weight_files(folder, [TRANSFORMER, VAE, TEXT])[1]}
    assert (weights.id, weights.revision) == (identity, COMMIT)
    assert weights.digest == WAN.family(folder).weights().digest
    fetched = {path.relative_to(hub.cache).parts[0] for path in hub.cache.rglob("*")}
    assert fetched == {"model_index.json", "transformer", "vae", "text_encoder", "tokenizer"}  # and no scheduler


def test_what_was_fetched_loads(hub: Hub, folder: Path) -> None:
    a, b = from_hub().load(CPU, torch.float32), WAN.family(folder).load(CPU, torch.float32)
    assert all(torch.equal(p, q) for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True))


def test_a_whole_file_is_asked_for_where_there_is_no_index(hub: Hub, folder: Path) -> None:
    from_hub().weights()
    assert "vae/diffusion_pytorch_model.safetensors" in hub.asked[1][2]
    assert "transformer/diffusion_pytorch_model.safetensors" not in hub.asked[1][2]


def test_another_repository_is_asked_by_its_name(hub: Hub) -> None:
    assert from_hub(checkpoint="someone/else").weights().id == "someone/else"
    assert {each[0] for each in hub.asked} == {"someone/else"}


def test_a_repository_of_another_size_is_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    path = other / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 6}))
    hub.repository = other
    with pytest.raises(WeightsError, match=r"transformer/config\.json differs.*--checkpoint"):
        from_hub(checkpoint="someone/else").weights()


def test_a_repository_of_another_pipeline_is_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.repository = Path(shutil.copytree(folder, tmp_path / "other"))
    (hub.repository / "model_index.json").write_text('{"_class_name": "CogVideoXPipeline"}')
    with pytest.raises(WeightsError, match=r"'CogVideoXPipeline'.*'WanPipeline'"):
        from_hub(checkpoint="someone/else").weights()


def test_a_bad_index_on_the_hub_is_refused_before_anything_large_is_fetched(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    hub.repository = Path(shutil.copytree(folder, tmp_path / "other"))
    (hub.repository / "transformer" / DIFFUSERS_INDEX).write_text('{"weight_map": {"a": "../../x"}}')
    with pytest.raises(WeightsError, match="lists no shards"):
        from_hub(checkpoint="someone/else").weights()
    assert len(hub.asked) == 1


def test_an_untrained_network_asks_nobody(hub: Hub) -> None:
    family = from_hub(untrained=0)
    family.weights()
    family.load(CPU, torch.float32)
    assert hub.asked == []


def test_no_network_is_one_clear_error_that_names_all_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"(?s)Wan2\.1-T2V-1\.3B-Diffusers .*--local-dir.*--checkpoint DIR"
    ) as caught:
        Wan("wan2.1-t2v-1.3b").weights()
    for name in ("model_index.json", "transformer/config.json", "tokenizer/*"):
        assert name in str(caught.value)


def test_hidden_files_beside_a_tokenizer_are_no_part_of_it(folder: Path) -> None:
    """Some systems leave them wherever a folder is opened or copied."""
    weights = WAN.family(folder).weights()
    (folder / "tokenizer" / ".DS_Store").write_bytes(b"\0")
    assert WAN.family(folder).weights() == weights
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")
    assert WAN.family(folder).weights() != weights


# --- files --------------------------------------------------------------------------------------


def test_a_config_that_is_missing_or_no_object(tmp_path: Path) -> None:
    for content, problem in ((None, "is missing"), ("{", "cannot be read as JSON"), ("[]", "holds a list")):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(WeightsError, match=rf"config\.json {problem}"):
            read_config(tmp_path, "config.json")


def test_stems_are_those_of_the_libraries(folder: Path) -> None:
    for part in (TRANSFORMER, VAE, TEXT):
        assert (folder / part.name / f"{part.stem}.safetensors").is_file()
    assert Component("x", "Y").stem != Component("x", "Y", "transformers").stem


@pytest.mark.parametrize("text", ["owner/name", "owner/name-1.3B"])
def test_a_hub_id_is_a_reference(text: str) -> None:
    check_reference(text)


@pytest.mark.parametrize("text", ["name", "a/b/c", "./x", "../x/y", "/nowhere", "~/nowhere"])
def test_what_is_neither_folder_nor_hub_id(text: str) -> None:
    with pytest.raises(WeightsError, match="no such directory, and no hub id"):
        check_reference(text)
