"""Features averaged over several draws of noise: what is averaged, from which seeds, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from extract.backbones._svd_backbone import SVDBackbone
from extract.backbones.base import Options, State
from extract.backbones.svd import SVD
from extract.engine import clip_features, noise_seed
from extract.errors import ExtractError
from extract.loop import extract
from extract.plan import Plan, Request, make_plan
from extract.progress import Progress
from extract.registry import make_dataset, make_family
from store import FeatureStore
from tests.extract.svd_features import CPU, SIZE, encode, equal, features, random_clip
from tests.extract.tiny_rooms import write_rooms
from tests.extract.tiny_svd import build
from tests.extract.toy_family import ToyBackbone, ToyFamily

SITES = ("latent", "blocks.0", "blocks.2")
LEVELS = ("sigma=0.5", "sigma=4")


class DrawnToy(ToyFamily):
    """The toy, whose noise can be drawn again."""

    def load(self, device: torch.device, dtype: torch.dtype) -> DrawnBackbone:
        return DrawnBackbone(self, 1.0)


class DrawnBackbone(ToyBackbone):
    redraws = 0

    def redraw(self, state: State, generator: torch.Generator) -> State:
        self.redraws += 1
        latent = state.values["latent"]
        return replace(state, values={"latent": latent, "noise": torch.randn(latent.shape, generator=generator)})


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "train", "test"), size=(32, 32), frames=3)
    return tmp_path / "rooms"


def plan_for(rooms: Path, draws: int = 1, **request: object) -> Plan:
    asked = {"sites": SITES, "noise": LEVELS, "store_dtype": "float32", "draws": draws, "seed": 7, **request}
    return make_plan(DrawnToy("toy"), make_dataset("rooms", rooms), Request(**asked))  # type: ignore[arg-type]


def run(plan: Plan) -> FeatureStore:
    extract(plan, CPU, Progress(quiet=True))
    return FeatureStore.open(plan.path)


def one_draw(plan: Plan, row: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """The toy by hand: its layers on the frames of a clip plus noise of one seed."""
    clip = plan.clips[row]
    network = DrawnBackbone(DrawnToy("toy"), 1.0).module
    x = torch.from_numpy(clip.frames(clip.bank)).permute(0, 3, 1, 2).float() / 255
    x = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True).clamp(0, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    found: dict[str, Tensor] = {"latent": x}
    with torch.no_grad():
        for level in LEVELS:
            sigma = float(level.removeprefix("sigma="))
            found[f"blocks.0@sigma{sigma:g}"] = network.blocks[0](x + sigma * noise)
            h = torch.tanh(found[f"blocks.0@sigma{sigma:g}"])
            found[f"blocks.2@sigma{sigma:g}"] = network.blocks[2](torch.tanh(network.blocks[1](h)))
    return {name: each.permute(0, 2, 3, 1).numpy() for name, each in found.items()}


def test_three_draws_are_the_mean_of_three_straight_lines(rooms: Path) -> None:
    plan = plan_for(rooms, draws=3)
    store = run(plan)
    assert set(store.taps) == {tap.name for tap in plan.taps}
    for row, clip in enumerate(plan.clips):
        a, b, c = (one_draw(plan, row, noise_seed(7, clip.id, draw)) for draw in range(3))
        assert np.array_equal(store.read("latent", row), a["latent"])
        for name in set(store.taps) - {"latent"}:
            assert np.array_equal(store.read(name, row), (a[name] + b[name] + c[name]) / 3), name
            assert not np.array_equal(a[name], b[name])


def test_seeds_are_those_that_are_documented() -> None:
    """63 bits of xxh3 over recipe seed and clip id, and the number of the draw from the second on."""
    assert noise_seed(7, "room") == noise_seed(7, "room", 0) == xxhash.xxh3_64_intdigest(b"7:room") >> 1
    assert noise_seed(7, "room", 2) == xxhash.xxh3_64_intdigest(b"7:room\x002") >> 1
    seeds = {
        noise_seed(seed, clip, draw) for seed in (0, 1, 10) for clip in ("a", "a0", "0") for draw in (0, 1, 10, 100)
    }
    assert len(seeds) == 36
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_clip_is_encoded_once_and_redrawn_for_every_further_draw(rooms: Path) -> None:
    plan = plan_for(rooms, draws=4)
    backbone = DrawnBackbone(plan.family, 1.0)  # type: ignore[arg-type]
    clip = plan.clips[0]
    clip_features(backbone, plan, clip, torch.from_numpy(clip.frames(clip.bank)), plan.taps)
    assert (backbone.encodes, backbone.redraws) == (1, 3)
    assert backbone.module.calls == [0, 1, 2] * 2 * 4  # one forward per level and draw


def test_sites_without_noise_are_drawn_once(rooms: Path) -> None:
    plan = plan_for(rooms, draws=3, sites=["latent"])
    backbone = DrawnBackbone(plan.family, 1.0)  # type: ignore[arg-type]
    clip = plan.clips[0]
    got = clip_features(backbone, plan, clip, torch.from_numpy(clip.frames(clip.bank)), plan.taps).arrive()
    assert np.array_equal(got["latent"], one_draw(plan, 0, 0)["latent"])
    assert (backbone.encodes, backbone.redraws, backbone.module.calls) == (1, 0, [])


def test_one_draw_is_what_it_was_before_there_were_several(rooms: Path) -> None:
    plan = plan_for(rooms)
    store = run(plan)
    for row, clip in enumerate(plan.clips):
        seed = xxhash.xxh3_64_intdigest(f"7:{clip.id}".encode()) >> 1
        for name, expected in one_draw(plan, row, seed).items():
            assert np.array_equal(store.read(name, row), expected), name


def test_the_mean_does_not_depend_on_which_taps_are_there(rooms: Path) -> None:
    whole = run(plan_for(rooms, draws=3, out="whole"))
    run(plan_for(rooms, draws=3, out="pieces", sites=["blocks.0"], noise=["sigma=4"], split="test"))
    run(plan_for(rooms, draws=3, out="pieces", sites=["latent"], limit=1))
    pieces = run(plan_for(rooms, draws=3, out="pieces"))
    assert pieces.fingerprint == whole.fingerprint
    for name in whole.taps:
        for row in range(3):
            assert np.array_equal(pieces.read(name, row), whole.read(name, row)), name


def test_the_number_of_draws_is_in_the_recipe(rooms: Path) -> None:
    recipes = [plan_for(rooms, draws=draws).recipe for draws in (1, 2, 3)]
    assert [recipe.noise.draws for recipe in recipes if recipe.noise] == [1, 2, 3]
    assert len({recipe.fingerprint for recipe in recipes}) == 3


def test_pooled_features_are_means_of_pooled_ones(rooms: Path) -> None:
    plan = plan_for(rooms, draws=2, grid=(2, 2), sites=["blocks.0"], noise=["sigma=4"])
    pooled = run(plan).read("blocks.0@sigma4", 0)
    whole = [one_draw(plan, 0, noise_seed(7, plan.clips[0].id, draw))["blocks.0@sigma4"] for draw in range(2)]
    expected = np.mean(whole, axis=0).reshape(3, 2, 4, 2, 4, -1).mean((2, 4))
    assert np.allclose(pooled, expected, atol=1e-6)


def test_what_sees_no_noise_is_not_averaged(rooms: Path) -> None:
    for model in ("mobilenetv2", "pixels"):
        family = make_family(model, Options(size=(64, 64)))
        with pytest.raises(ExtractError, match=rf"--draws 2: {model} sees no noise; there is nothing to average"):
            make_plan(family, make_dataset("rooms", rooms), Request(draws=2))
        assert make_plan(family, make_dataset("rooms", rooms), Request(draws=1)).recipe.noise is None


def test_a_backbone_that_cannot_draw_again_says_so(rooms: Path) -> None:
    plan = plan_for(rooms, draws=2)
    clip = plan.clips[0]
    backbone = ToyBackbone(plan.family, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ExtractError, match=r"ToyBackbone draws no noise.*leave out --draws"):
        clip_features(backbone, plan, clip, torch.from_numpy(clip.frames(clip.bank)), plan.taps)


# --- Stable Video Diffusion: the noise on its condition image is drawn again too --------------------


@pytest.fixture(scope="module")
def svd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("svd"))


def svd(folder: Path, **options: object) -> SVDBackbone:
    return SVD("svd", Options(checkpoint=str(folder), size=SIZE, **options)).load(CPU, torch.float32)  # type: ignore[arg-type]


@pytest.mark.parametrize("condition", ["first", "last", "none"])
def test_svd_draws_again_as_if_it_had_encoded_with_that_seed(svd_folder: Path, condition: str) -> None:
    backbone, clip = svd(svd_folder, condition=condition), random_clip()
    bank = [0, 6, 19]
    state, other = encode(backbone, clip, bank, 0), encode(backbone, clip, bank, 1)
    drawn = backbone.redraw(state, torch.Generator().manual_seed(1))
    assert torch.equal(drawn.latents, state.latents)
    assert torch.equal(drawn.noise, other.noise)
    assert torch.equal(drawn.condition, other.condition)
    assert torch.equal(drawn.embedding, other.embedding)
    assert torch.equal(drawn.condition, state.condition) == (condition == "none")
    assert equal(features(backbone, drawn), features(backbone, other))
    assert not equal(features(backbone, drawn), features(backbone, state))
    again = backbone.redraw(drawn, torch.Generator().manual_seed(0))
    assert equal(features(backbone, again), features(backbone, state))


def test_svd_features_are_the_mean_of_its_draws(svd_folder: Path, tmp_path: Path) -> None:
    write_rooms(tmp_path / "rooms", splits=("train",), size=SIZE, frames=3)
    family = SVD("svd", Options(checkpoint=str(svd_folder), size=SIZE))
    asked = Request(sites=["vae.latent", "mid_block"], noise=["sigma=1"], draws=2, store_dtype="float32")
    plan = make_plan(family, make_dataset("rooms", tmp_path / "rooms"), asked)
    store, backbone = run(plan), svd(svd_folder)
    (clip,) = plan.clips
    frames = torch.from_numpy(clip.frames(range(3)))
    states = [encode(backbone, frames, clip.bank, noise_seed(0, clip.id, draw)) for draw in range(2)]
    a, b = (features(backbone, state, "sigma=1")["mid_block"] for state in states)
    assert np.array_equal(store.read("mid_block@sigma1", 0), ((a + b) / 2).numpy())
