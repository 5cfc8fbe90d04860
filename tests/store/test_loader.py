"""Epochs depend on the arguments and the epoch alone, are shared exactly among ranks, and go on where they stopped."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from store import CorruptShardError, FeatureStore, MissingClipError, UnknownArrayError
from store.reading.batch import FeatureBatch
from store.reading.loader import FeatureLoader
from store.reading.samples import Sampler
from tests.store.many_clips import FRAMES, TAPS, assert_equals_read, no_thread_is_left, same, write_many_clips

ROWS = dict.fromkeys(range(11), 5)


@pytest.fixture
def store(store_root: Path) -> FeatureStore:
    return write_many_clips(store_root / "toy" / "many")


def loader(store: FeatureStore, taps: list[str] | None = None, **options: Any) -> FeatureLoader:
    return FeatureLoader(store, taps or list(TAPS), **{"pin": False} | options)


def kept(batches: Any) -> list[FeatureBatch]:
    return [batch.clone() for batch in batches]


def shown(sampler: Sampler) -> list[int]:
    return [sample.row for batch in sampler for sample in batch]


# Which clips


@given(
    clips=st.integers(1, 60),
    batch=st.integers(1, 7),
    world_size=st.integers(1, 5),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_ranks_share_every_epoch_exactly(clips: int, batch: int, world_size: int, drop_last: bool, epoch: int) -> None:
    options = {"batch": batch, "world_size": world_size, "drop_last": drop_last}
    try:
        ranks = [Sampler(dict.fromkeys(range(clips), 1), rank=rank, **options) for rank in range(world_size)]
    except ValueError:
        too_few = clips < batch * world_size if drop_last else batch == 1 or clips < world_size
        assert too_few
        return
    for sampler in ranks:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in ranks]
    sizes = {len(samples) for of_rank in batches for samples in of_rank}
    assert {len(of_rank) for of_rank in batches} == {len(ranks[0])}
    rows = Counter(sample.row for of_rank in batches for samples in of_rank for sample in samples)
    assert set(rows.values()) == {1}
    if drop_last:
        assert sizes == {batch}
        assert clips - len(rows) < batch * world_size
    else:
        assert len(rows) == clips
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= 1
        assert len(ranks[0]) == -(-clips // (batch * world_size))


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    orders = []
    for seed in range(3):
        sampler = Sampler(ROWS, seed=seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.append(tuple(shown(sampler)))
    assert len(set(orders)) == 9
    assert all(sorted(order) == list(ROWS) for order in orders)
    assert shown(Sampler(ROWS, shuffle=False)) == list(ROWS)


def test_orders_and_views_are_uniform() -> None:
    first, views = Counter[int](), Counter[int]()
    sampler = Sampler(ROWS, batch=11, views=2)
    for epoch in range(2200):
        sampler.set_epoch(epoch)
        (batch,) = sampler
        first[batch[0].row] += 1
        views.update(batch[0].frames)
    # Binomial: mean 200, deviation 13.5; mean 880, deviation 23.
    assert all(abs(first[row] - 200) < 5 * 13.5 for row in ROWS)
    assert all(abs(views[frame] - 880) < 5 * 23 for frame in range(5))


def test_views_depend_on_seed_epoch_and_row_alone() -> None:
    def views(**options: Any) -> dict[tuple[int, int], tuple[int, ...]]:
        sampler = Sampler(**{"lengths": ROWS, "views": 3} | options)
        found = {}
        for epoch in range(6):
            sampler.set_epoch(epoch)
            found.update({(epoch, sample.row): sample.frames for batch in sampler for sample in batch})
        return found

    all_views = views()
    assert all(len(set(frames)) == 3 and list(frames) == sorted(frames) for frames in all_views.values())
    assert len(set(all_views.values())) == 10  # every choice of 3 of 5 occurs
    for options in ({"batch": 3}, {"shuffle": False}, {"lengths": {7: 5, 2: 5}}, {"rank": 1, "world_size": 2}):
        some = views(**options)
        assert some
        assert some.items() <= all_views.items(), options
    assert views(seed=1).items() != all_views.items()


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Recorded: a change of these numbers breaks the resumption of runs that others have under way."""
    sampler = Sampler(ROWS, seed=3, views=2)
    sampler.set_epoch(2)
    assert shown(sampler) == RECORDED_ROWS
    assert [sample.frames for sample in next(sampler.batches())] == RECORDED_VIEWS


RECORDED_ROWS = [1, 10, 6, 5, 7, 2, 4, 9, 8, 0, 3]
RECORDED_VIEWS = [(0, 2), (0, 4), (1, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch: must be at least 1"),
        ({"rank": 2, "world_size": 2}, "rank: must be from 0 to world_size - 1 = 1, got 2"),
        ({"views": 6}, r"views: must be from 1 to 5 \(row 0 has 5 frames\), got 6"),
        ({"views": 0}, "views: must be from 1"),
        ({"frames": [0, 5]}, r"frames: must be from 0 to 4 \(row 0 has 5\), got \[0, 5\]"),
        ({"frames": []}, "frames: must be"),
        ({"frames": [0], "views": 1}, "give one of them"),
        ({"lengths": {}}, "no clip"),
        ({"lengths": {3: 5, 4: 2}}, "row 4 has 2 frames and row 3 has 5, which cannot be in one batch"),
        ({"drop_last": True, "batch": 4, "world_size": 3}, "11 clips do not fill a batch of 4 on 3 ranks"),
        ({"batch": 1, "world_size": 2}, "11 clips in batches of 1 cannot be dealt to 2 ranks"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(**{"lengths": ROWS} | options)


# Which values


@pytest.mark.parametrize("frames", [{}, {"frames": [3, 0]}, {"views": 2}])
def test_values_are_those_of_read(store: FeatureStore, frames: dict[str, Any]) -> None:
    batches = loader(store, batch=3, **frames)
    rows: list[int] = []
    for batch in batches:
        assert_equals_read(batch, store)
        rows += batch.rows.tolist()
    assert sorted(rows) == batches.rows == list(range(11))
    assert len(batches) == 4


def test_threads_and_slots_change_nothing(store: FeatureStore) -> None:
    reference = kept(loader(store, views=3, seed=7, slots=1, threads=1))
    for slots, threads in ((2, 1), (3, 4), (6, 2)):
        again = kept(loader(store, views=3, seed=7, slots=slots, threads=threads))
        assert len(again) == len(reference)
        assert all(same(a, b) for a, b in zip(again, reference, strict=True))


def test_a_full_iteration_moves_to_the_next_epoch_and_a_broken_one_does_not(store: FeatureStore) -> None:
    batches = loader(store, ["half"])
    epochs = [kept(batches) for _ in range(2)]
    assert batches.sampler.epoch == 2
    assert not all(same(a, b) for a, b in zip(*epochs, strict=True))
    for batch in batches:
        third = batch.clone()
        break
    assert same(third, next(iter(batches)))
    for epoch in (1, 0):
        batches.set_epoch(epoch)
        assert all(same(a, b) for a, b in zip(kept(batches), epochs[epoch], strict=True))


def test_splits_and_rows(store: FeatureStore) -> None:
    assert loader(store, split="val").rows == [9, 10]
    chosen = loader(store, ["half"], rows=[5, 2, 8], shuffle=False, batch=2)
    assert [batch.rows.tolist() for batch in chosen] == [[5], [2, 8]]
    with pytest.raises(MissingClipError, match="split 'test'"):
        loader(store, split="test")
    with pytest.raises(MissingClipError, match=r"rows \[11\] \(1 in all\) are not committed for half"):
        loader(store, ["half"], rows=[0, 11])
    with pytest.raises(ValueError, match="rows: 1 are given more than once"):
        loader(store, rows=[0, 0])
    with pytest.raises(ValueError, match="rows, split"):
        loader(store, rows=[0], split="val")
    with pytest.raises(UnknownArrayError, match="half"):
        loader(store, ["hafl"])


def test_clips_of_several_lengths(store_root: Path) -> None:
    store = write_many_clips(store_root / "toy" / "ragged", clips=6, lengths=(FRAMES, 2))
    with pytest.raises(ValueError, match="cannot be in one batch"):
        loader(store)
    for options in ({"batch": 1}, {"views": 2}, {"frames": [1]}):
        for batch in loader(store, **options):
            assert_equals_read(batch, store)


def test_ranks_see_different_clips_and_all_of_them(store: FeatureStore) -> None:
    ranks = [loader(store, ["half"], batch=2, rank=rank, world_size=3) for rank in range(3)]
    rows = [[row for batch in batches for row in batch.rows.tolist()] for batches in ranks]
    assert sorted(chain.from_iterable(rows)) == list(range(11))
    assert len({len(batches) for batches in ranks}) == 1


def test_the_rank_is_found_in_torch_distributed(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 2)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    found, given = loader(store, ["half"], batch=2), loader(store, ["half"], batch=2, rank=2, world_size=3)
    assert all(same(a, b) for a, b in zip(kept(found), kept(given), strict=True))
    assert loader(store, ["half"], batch=2, rank=0, world_size=1).sampler.settings["world_size"] == 1


# Going on


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
def test_resuming_shows_exactly_the_batches_that_were_left(store: FeatureStore, seen: int) -> None:
    first = loader(store, views=2, batch=4, seed=5)
    first.set_epoch(3)
    iterator = iter(first)
    for _ in range(seen):
        next(iterator)
    state = json.loads(json.dumps(first.state_dict()))
    left, following = kept(iterator), kept(first)
    assert (len(left), len(following)) == (3 - seen, 3)

    second = loader(store, views=2, batch=4, seed=5, slots=2, threads=1)
    second.load_state_dict(state)
    assert second.state_dict() == state
    if left:  # else the next epoch is what is left
        assert all(same(a, b) for a, b in zip(kept(second), left, strict=True))
    assert all(same(a, b) for a, b in zip(kept(second), following, strict=True))
    assert second.sampler.epoch == first.sampler.epoch == 5


def test_a_trainer_that_names_the_resumed_epoch_does_not_rewind_it(store: FeatureStore) -> None:
    first = loader(store, ["half"])
    iterator = iter(first)
    next(iterator)
    second = loader(store, ["half"])
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(0)
    assert len(kept(second)) == 2
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(1)
    assert len(kept(second)) == 3, "another epoch begins at its beginning"


def test_a_resumed_epoch_that_is_broken_off_begins_at_its_beginning_again(store: FeatureStore) -> None:
    first = loader(store, ["half"])
    begin = next(iter(first)).clone()
    second = loader(store, ["half"])
    second.load_state_dict(first.state_dict())
    for batch in second:
        assert not same(batch, begin)
        break
    assert same(next(iter(second)), begin)


def test_a_state_of_another_loader_is_refused(store: FeatureStore, store_root: Path) -> None:
    state = loader(store, seed=1, batch=4).state_dict()
    with pytest.raises(ValueError, match=r"batch: 4 there, 3 here, seed: 1 there, 2 here"):
        loader(store, seed=2, batch=3).load_state_dict(state)
    with pytest.raises(ValueError, match="clips: "):
        loader(store, seed=1, batch=4, split="train").load_state_dict(state)
    other = write_many_clips(store_root / "toy" / "other", clips=12)
    with pytest.raises(ValueError, match="fingerprint: "):
        loader(other, seed=1, batch=4).load_state_dict(state)


# Ending


def test_nothing_is_left_when_the_consumer_stops_or_a_shard_is_damaged(store: FeatureStore) -> None:
    with no_thread_is_left():
        for _ in loader(store):
            break
    path = store.path / "features.zarr" / "single" / "c.4.0.0.0.0"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with no_thread_is_left(), pytest.raises(CorruptShardError, match=r"c\.4"):
        kept(loader(FeatureStore.open(store.path), ["half", "single"]))


def test_lightning_takes_the_loader_as_it_is(store: FeatureStore, tmp_path: Path) -> None:
    """It names the epoch, moves the batch, and keeps the position in its checkpoint."""
    import lightning.pytorch as L

    seen: list[tuple[int, list[int]]] = []
    checkpoint = tmp_path / "4.ckpt"

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: FeatureBatch, index: int) -> torch.Tensor:
            seen.append((self.current_epoch, batch.rows.tolist()))
            return self.weight * batch.values("byte").mean()

        def on_train_batch_end(self, *_: object) -> None:
            if self.global_step == 4 and not checkpoint.exists():
                self.trainer.save_checkpoint(checkpoint)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(start: Path | None) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
            trainer = L.Trainer(
                accelerator="cpu",
                max_steps=7,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=tmp_path,
            )
            trainer.fit(Module(), loader(store, ["byte"], views=2), ckpt_path=start, weights_only=True)

    fit(None)
    whole = list(seen)
    assert [epoch for epoch, _ in whole] == [0, 0, 0, 1, 1, 1, 2]
    orders = [[row for epoch, rows in whole if epoch == number for row in rows] for number in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(11))
    assert orders[0] != orders[1]
    seen.clear()
    fit(checkpoint)
    assert seen == whole[4:]
