"""The map-style dataset gives the values of `read`, alone or together, in this process or in workers."""

from __future__ import annotations

import pickle
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import torch
from torch.utils.data import DataLoader

from store import FeatureStore, MissingClipError, RecipeMismatchError, finalize
from store.reading.batch import FeatureBatch
from store.reading.dataset import FeatureDataset
from store.sharing.cache import ShardCache
from store.sharing.remote import RemoteFolder
from tests.store.many_clips import FRAMES, GRID, TAPS, assert_equals_read, same, write_many_clips
from tests.store.servers import Handler, serving


@pytest.fixture
def store(store_root: Path) -> FeatureStore:
    return write_many_clips(store_root / "toy" / "many", clips=7)


def dataset(store: FeatureStore, **options: Any) -> FeatureDataset:
    return FeatureDataset(store, list(TAPS), **options)


def with_axis(clip: FeatureBatch) -> FeatureBatch:
    features = {tap: values[None] for tap, values in clip.features.items()}
    return FeatureBatch(clip.rows[None], clip.frames[None], features, {t: s[None] for t, s in clip.scales.items()})


def test_an_item_is_one_clip_without_the_axis_clip(store: FeatureStore) -> None:
    clips = dataset(store, frames=[3, 1], rows=[4, 0])
    assert len(clips) == 2
    for index, row in enumerate([4, 0]):
        clip = clips[index]
        assert (int(clip.rows), clip.frames.tolist()) == (row, [3, 1])
        assert clip.features["brain"].shape == (2, *GRID)
        assert clip.features["brain"].dtype == torch.bfloat16
        assert clip.scales["byte"].shape == GRID[-1:]
        assert torch.equal(clip.values("byte"), torch.from_numpy(store.read("byte", row, [3, 1])))
        assert_equals_read(with_axis(clip), store)
    with pytest.raises(IndexError):
        clips[2]


def test_several_items_are_views_of_one_batch(store: FeatureStore) -> None:
    clips = dataset(store)
    together = clips.__getitems__([5, 2, 2])
    batch = FeatureDataset.collate(together)
    assert batch.rows.tolist() == [5, 2, 2]
    assert batch.features["half"].shape == (3, FRAMES, *GRID)
    assert_equals_read(batch, store)
    for clip, index in zip(together, [5, 2, 2], strict=True):
        assert same(clip, clips[index])
    assert together[1].features["half"].data_ptr() == batch.features["half"][1].data_ptr()


def test_collating_makes_the_same_batch_with_and_without_a_copy(store: FeatureStore) -> None:
    clips = dataset(store)
    for batches in (
        DataLoader(clips, batch_size=3, collate_fn=FeatureDataset.collate),
        DataLoader(clips, batch_size=3),
    ):
        found = list(batches)
        assert [batch.rows.tolist() for batch in found] == [[0, 1, 2], [3, 4, 5], [6]]
        for batch in found:
            assert isinstance(batch, FeatureBatch)
            assert_equals_read(batch, store)
    apart = FeatureDataset.collate([clips[3], clips[4]])
    assert same(apart, FeatureDataset.collate(clips.__getitems__([3, 4])))


def test_worker_processes_read_the_same(store: FeatureStore) -> None:
    clips = dataset(store, frames=[0, 2], split="train")
    batches = DataLoader(
        clips, batch_size=2, num_workers=2, multiprocessing_context="spawn", collate_fn=FeatureDataset.collate
    )
    found = list(batches)
    assert [row for batch in found for row in batch.rows.tolist()] == clips.rows == [0, 1, 2, 3, 4, 5]
    for batch in found:
        assert_equals_read(batch, store)


def test_a_pickled_dataset_opens_the_store_again(store: FeatureStore) -> None:
    clips = dataset(store, rows=[6, 3])
    assert same(clips[0], clips[0])
    content = pickle.dumps(clips)
    assert len(content) < 2000
    copy = pickle.loads(content)
    assert copy.rows == [6, 3]
    assert same(copy[1], clips[1])


def test_clips_of_several_lengths_come_alone(store_root: Path) -> None:
    ragged = write_many_clips(store_root / "toy" / "ragged", clips=4, lengths=(FRAMES, 2))
    clips = dataset(ragged)
    assert [len(clip.frames) for clip in clips] == [FRAMES, 2, FRAMES, 2]
    with pytest.raises(ValueError, match=r"equally many frames.*got \[2, 5\]"):
        clips.__getitems__([0, 1])


def test_what_is_not_there_is_named(store: FeatureStore) -> None:
    with pytest.raises(MissingClipError, match=r"rows \[7\]"):
        dataset(store, rows=[7])
    with pytest.raises(MissingClipError, match="bank frames 0 … 4, asked for"):
        dataset(store, frames=[5])[0]


class _Locked(Handler):
    """Files for who knows the password."""

    root: ClassVar[Path]

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Basic {b64encode(b'me:secret').decode()}":
            return self.answer(401)
        path = self.root / urlsplit(self.path).path.lstrip("/")
        return self.answer(200, path.read_bytes()) if path.is_file() else self.answer(404)


def test_a_pickled_dataset_reads_with_the_same_login_through_the_same_cache(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FEATURE_CACHE", str(tmp_path / "default"))
    finalize(store)
    shards = {record.xxh3_128 for record in store.committed[3].values()}
    with serving(_Locked, root=store.path) as (url, _):
        address = url.replace("http://", "http://me:secret@")
        for name in ("one", "two"):
            cache = ShardCache(tmp_path / name, 10**9)
            copy = pickle.loads(pickle.dumps(dataset(FeatureStore(RemoteFolder(address, cache)))))
            assert same(copy[3], dataset(store)[3])
            assert shards <= {path.name for path in cache.path.rglob("*")}
    assert not (tmp_path / "default").exists()


def test_a_pickled_dataset_refuses_another_store_that_took_the_place(store: FeatureStore) -> None:
    content = pickle.dumps(dataset(store))
    shutil.rmtree(store.path)
    write_many_clips(store.path, clips=8)
    with pytest.raises(RecipeMismatchError, match="Open it again"):
        pickle.loads(content)[0]
