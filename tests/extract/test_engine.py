"""One pass serves every tap, bit for bit; work is resumed, never repeated; bad clips are listed and lose nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from extract.backbones.base import Options
from extract.engine import clip_features, noise_seed
from extract.errors import ExtractError, WeightsError
from extract.landing import pool
from extract.loop import extract
from extract.plan import Plan, Request, make_plan
from extract.progress import Progress
from extract.registry import make_dataset, make_family
from extract.taps import listen
from extract.targets import write_targets
from store import FeatureStore, RecipeMismatchError
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyBackbone, ToyFamily

CPU = torch.device("cpu")


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "train", "val", "test"), size=(32, 32), frames=3)
    return tmp_path / "rooms"


def plan_for(rooms: Path, model: str = "toy", **request: object) -> Plan:
    family = ToyFamily(model) if model.startswith("toy") else make_family(model, Options(size=(64, 64)))
    return make_plan(family, make_dataset("rooms", rooms), Request(**request))  # type: ignore[arg-type]


def run(plan: Plan) -> FeatureStore:
    extract(plan, CPU, Progress(quiet=True))
    return FeatureStore.open(plan.path)


def test_all_taps_in_one_pass_equal_each_alone(rooms: Path) -> None:
    plan = plan_for(rooms, sites=["latent", "blocks.0", "blocks.2"], noise=["sigma=0.5", "sigma=4"])
    together = run(plan)
    assert together.taps == ["latent", "blocks.0@sigma0.5", "blocks.0@sigma4", "blocks.2@sigma0.5", "blocks.2@sigma4"]
    for tap in plan.taps:
        noise = [] if tap.level is None else [f"sigma={tap.level.sigma}"]
        alone = run(plan_for(rooms, sites=[tap.site.name], noise=noise, out=f"alone-{tap.name}"))
        for row in range(4):
            assert np.array_equal(alone.read(tap.name, row), together.read(tap.name, row)), tap.name


def test_a_clip_is_encoded_once_and_the_forward_stops_early(rooms: Path) -> None:
    plan = plan_for(rooms, sites=["blocks.0", "blocks.1"], noise=["sigma=1", "sigma=2", "sigma=3"])
    backbone = ToyBackbone(plan.family, 1.0)  # type: ignore[arg-type]
    clip = plan.clips[0]
    clip_features(backbone, plan, clip, torch.from_numpy(clip.frames(clip.bank)), plan.taps)
    assert backbone.encodes == 1
    assert backbone.module.calls == [0, 1] * 3


def test_features_are_those_of_a_straight_line_computation(rooms: Path) -> None:
    plan = plan_for(rooms, sites=["blocks.1"], noise=["sigma=2"], seed=7, store_dtype="float32")
    store = run(plan)
    network = ToyBackbone(ToyFamily("toy"), 1.0).module
    for row, clip in enumerate(plan.clips):
        x = torch.from_numpy(clip.frames(clip.bank)).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True).clamp(0, 1)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(noise_seed(7, clip.id)))
        with torch.no_grad():
            expected = network.blocks[1](torch.tanh(network.blocks[0](x + 2 * noise)))
        assert np.array_equal(store.read("blocks.1@sigma2", row), expected.permute(0, 2, 3, 1).numpy())


def test_parts_are_joined_along_the_bank(rooms: Path) -> None:
    write_rooms(rooms, splits=("train",), size=(32, 32), frames=5)
    plan = plan_for(rooms, "mobilenetv2", sites=["blocks.0", "blocks.9"], store_dtype="float32")
    store = run(plan)
    backbone = plan.family.load(CPU, torch.float32)
    state = backbone.encode(torch.from_numpy(plan.clips[0].frames(range(5))), range(5), torch.Generator())
    assert [list(part.bank) for part in backbone.parts(state)] == [[0, 1], [2, 3], [4]]
    sites = [tap.site for tap in plan.taps]
    with listen(backbone.module, sites, stop=True) as heard:
        backbone.forward(state, None)
    for site in sites:
        whole = backbone.grid(site, heard[site.name], state).numpy()
        assert np.allclose(store.read(site.name, 0), whole, rtol=1e-4, atol=1e-4), site.name


def test_neither_order_nor_company_changes_a_number(rooms: Path) -> None:
    whole = run(plan_for(rooms, out="whole"))
    for split in ("test", "val", "train"):
        run(plan_for(rooms, split=split, out="pieces"))
    pieces = FeatureStore.open(whole.path.parents[1] / "pieces" / "rooms")
    assert pieces.fingerprint == whole.fingerprint
    assert {
        row: {name: record.xxh3_128 for name, record in arrays.items()} for row, arrays in pieces.committed.items()
    } == {row: {name: record.xxh3_128 for name, record in arrays.items()} for row, arrays in whole.committed.items()}


def test_another_seed_is_another_noise_and_another_fingerprint(rooms: Path) -> None:
    first, second = run(plan_for(rooms, seed=0, out="a")), run(plan_for(rooms, seed=1, out="b"))
    assert first.fingerprint != second.fingerprint
    assert not np.array_equal(first.read("blocks.0@sigma1", 0), second.read("blocks.0@sigma1", 0))
    assert np.array_equal(first.read("latent", 0), second.read("latent", 0))


def test_the_second_run_does_not_even_load_the_backbone(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plan_for(rooms))
    monkeypatch.setattr(ToyFamily, "load", lambda *_: pytest.fail("loaded"))
    outcome = extract(plan_for(rooms), CPU, Progress(quiet=True))
    assert (outcome.done, outcome.skipped) == ([], [0, 1, 2, 3])


def test_a_store_knows_how_many_parameters_the_backbone_has(rooms: Path) -> None:
    plan = plan_for(rooms, sites=["latent"])
    store = run(plan)
    assert store.provenance["parameters"] == sum(p.numel() for p in ToyBackbone(plan.family, 1.0).module.parameters())  # type: ignore[arg-type]
    assert "parameters" not in store.recipe.model_dump()


def test_weights_that_cannot_be_loaded_leave_no_store_behind(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise WeightsError("half a file")

    plan = plan_for(rooms)
    with monkeypatch.context() as broke:
        broke.setattr(ToyFamily, "load", broken)
        with pytest.raises(WeightsError, match="half a file"):
            extract(plan, CPU, Progress(quiet=True))
    assert not plan.path.exists()
    assert run(plan_for(rooms, seed=1)).rows() == [0, 1, 2, 3]


def test_a_deleted_clip_alone_is_redone_bit_for_bit(rooms: Path) -> None:
    store = run(plan_for(rooms))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.path.rglob("c.*")}
    gone = [path for path in before if path.name.startswith("c.2.")]
    for path in [*gone, *(store.path / "commits").glob("000002-*")]:
        path.unlink()
    outcome = extract(plan_for(rooms), CPU, Progress(quiet=True))
    assert outcome.done == [2]
    for path, (written, content) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == written) == (path not in gone)


def test_limit_and_more_sites_extend_the_store(rooms: Path, store_root: Path) -> None:
    assert run(plan_for(rooms, sites=["blocks.0"], limit=2)).rows() == [0, 1]
    assert run(plan_for(rooms, sites=["blocks.0"])).rows() == [0, 1, 2, 3]
    before = {path: path.stat().st_mtime_ns for path in store_root.rglob("c.*")}
    store = run(plan_for(rooms, sites=["blocks.0", "blocks.1"]))
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is rewritten
    assert "blocks.1@sigma1" in zarr.open_group(str(store.path / "features.zarr"), mode="r")  # and it is announced
    assert store.rows(arrays=["blocks.0@sigma1", "blocks.1@sigma1"]) == [0, 1, 2, 3]
    with pytest.raises(RecipeMismatchError, match=r"storage\.dtype"):
        run(plan_for(rooms, store_dtype="float32"))


@pytest.mark.parametrize(
    ("model", "message"), [("toy-nan", "NaN or infinite in float32"), ("toy-huge", "does not fit float16")]
)
def test_bad_features_fail_their_clip_and_the_rest_goes_on(rooms: Path, model: str, message: str) -> None:
    plan = plan_for(rooms, model)
    outcome = extract(plan, CPU, Progress(quiet=True))
    assert list(outcome.failed) == [plan.clips[1].id]
    assert message in outcome.failed[plan.clips[1].id]
    assert FeatureStore.open(plan.path).rows() == [0, 2, 3]


def test_a_store_of_encoder_sites_can_be_extended_with_noise(rooms: Path) -> None:
    run(plan_for(rooms, sites=["latent"]))
    assert run(plan_for(rooms, sites=["latent", "blocks.0"], noise=["sigma=2"])).taps == ["latent", "blocks.0@sigma2"]


@pytest.mark.parametrize(("name", "value"), [("depth_scale", 0.002), ("version", "1.1"), ("classes", None)])
def test_facts_that_change_labels_change_the_fingerprint(rooms: Path, name: str, value: object) -> None:
    first = plan_for(rooms)
    write_targets(first.dataset, first.clips, first.table, [0], Progress(quiet=True))
    index = json.loads((rooms / "rooms.json").read_text())
    index[name] = value if name != "classes" else [*index["classes"], {"name": "ghost", "kind": "thing"}]
    (rooms / "rooms.json").write_text(json.dumps(index))
    second = plan_for(rooms)
    assert second.recipe.fingerprint != first.recipe.fingerprint
    with pytest.raises(RecipeMismatchError, match="dataset"):
        write_targets(second.dataset, second.clips, second.table, [0], Progress(quiet=True))


def test_an_unreadable_frame_fails_its_clip_and_is_refilled_later(rooms: Path) -> None:
    plan = plan_for(rooms)
    image = next((rooms / plan.clips[1].id / "rgb").iterdir())
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    outcome = extract(plan, CPU, Progress(quiet=True))
    assert list(outcome.failed) == [plan.clips[1].id]
    assert str(image) in outcome.failed[plan.clips[1].id]
    targets = write_targets(plan.dataset, plan.clips, plan.table, plan.rows, Progress(quiet=True))
    assert list(targets.failed) == [plan.clips[1].id]
    image.write_bytes(content)
    assert extract(plan, CPU, Progress(quiet=True)).done == [1]


def test_empty_splits_and_wrong_grids_are_refused(rooms: Path) -> None:
    with pytest.raises(ExtractError, match=r"split 'tset' of rooms: no clip to extract.*test, train, val"):
        plan_for(rooms, split="tset")
    plan = plan_for(rooms, sites=["blocks.0"])
    lying = replace(plan.taps[0], site=replace(plan.taps[0].site, grid=(4, 4)))
    outcome = extract(replace(plan, taps=[lying]), CPU, Progress(quiet=True))
    assert all("states (4, 4, 6)" in problem for problem in outcome.failed.values())
    assert len(outcome.failed) == 4


def test_pooling_is_the_mean_and_never_enlarges(rooms: Path) -> None:
    grid = torch.randn(2, 8, 8, 5)
    assert torch.allclose(pool(grid, (4, 2)), grid.reshape(2, 4, 2, 2, 4, 5).mean((2, 4)), atol=1e-6)
    assert torch.equal(pool(grid, (8, 8)), grid)
    plan = plan_for(rooms, sites=["latent", "blocks.0"], grid=(12, 4))
    assert [spec.shape for spec in plan.specs()] == [(3, 12, 4, 3), (3, 8, 4, 6)]


def test_coordinates_tell_which_frames_a_row_covers(rooms: Path) -> None:
    store = run(plan_for(rooms))
    group = zarr.open_group(str(store.path / "features.zarr"), mode="r")
    assert np.asarray(group["bank_frame"][0]).tolist() == [0, 1, 2]  # type: ignore[index]
    assert np.asarray(group["span"][0]).tolist() == [[0, 0], [1, 1], [2, 2]]  # type: ignore[index]
    noise = store.arrays["blocks.0@sigma1"].attrs["noise"]
    assert noise == {"name": "sigma1", "sigma": 1.0, "log_snr": 0.0, "timestep": 1.0}


def test_targets_hold_what_the_dataset_says(rooms: Path) -> None:
    plan = plan_for(rooms)
    write_targets(plan.dataset, plan.clips, plan.table, plan.rows, Progress(quiet=True))
    store = FeatureStore.open(plan.path.parents[1] / "targets" / "rooms")
    for row, clip in enumerate(plan.clips):
        expected = clip.targets()
        for name in ("rgb", "depth", "instance", "instance_class", "cam_to_world", "intrinsics"):
            assert np.array_equal(store.read(name, row), getattr(expected, name)), name
        classes = expected.instance_class[expected.instance]  # type: ignore[index]
        for k in range(len(plan.dataset.classes)):
            assert (store.read("class_pixels", row)[:, k] == (classes == k + 1).sum((1, 2))).all()
    assert store.attrs["classes"][0] == {"name": "floor", "kind": "stuff"}
    assert write_targets(plan.dataset, plan.clips, plan.table, plan.rows, Progress(quiet=True)).done == []
