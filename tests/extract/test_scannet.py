"""ScanNet's front half: it says what to get and where to put it, and reads nothing halfway."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.datasets.base import Dataset
from extract.datasets.rooms import Rooms
from extract.datasets.scannet import ScanNet
from extract.errors import DatasetNotFoundError, ExtractError


def test_scannet_says_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANNET_ROOT", raising=False)
    for root in (None, tmp_path):
        with pytest.raises(DatasetNotFoundError) as caught:
            ScanNet(root)
        for part in (".sens", "2d-instance-filt.zip", "labels.combined.tsv", "scan-net.org", "--root", "SCANNET_ROOT"):
            assert part in str(caught.value)
    monkeypatch.setenv("SCANNET_ROOT", str(tmp_path / "gone"))
    with pytest.raises(DatasetNotFoundError, match=r"gone \(given by SCANNET_ROOT\)"):
        ScanNet()


def test_scannet_is_not_read_halfway(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(ExtractError, match="no ScanNet reader yet") as caught:
        ScanNet(tmp_path)
    assert not isinstance(caught.value, DatasetNotFoundError)


@pytest.mark.parametrize("dataset", [Rooms, ScanNet])
def test_datasets_state_where_they_are_looked_for(dataset: type[Dataset]) -> None:
    assert dataset.environment == f"{dataset.name.upper()}_ROOT"
    assert dataset.how_to_get
