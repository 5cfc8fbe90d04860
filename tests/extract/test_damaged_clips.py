"""Clips that cannot be read, or that no store takes: all named at once, or left out if that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from extract.datasets.rooms import RoomClip, Rooms
from extract.errors import DataError
from extract.plan import Request, clip_table, make_plan
from extract.registry import make_family
from tests.extract.tiny_rooms import write_rooms


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "val", "test"), size=(32, 32), frames=2)
    return tmp_path / "rooms"


class Late(Rooms):
    """It knows what is damaged once it lists its clips."""

    name = "late"

    def clips(self) -> Sequence[RoomClip]:
        self.damaged = {"late": "its list of frames is empty"}
        return super().clips()


def test_damage_that_is_found_while_listing(rooms: Path) -> None:
    pixels = make_family("pixels")
    with pytest.raises(DataError, match=r"(?s)1 clips cannot be read:.*late: its list.*--skip-damaged"):
        make_plan(pixels, Late(rooms), Request())
    assert make_plan(pixels, Late(rooms), Request(skip_damaged=True)).damaged == {"late": "its list of frames is empty"}


def test_where_nothing_is_left_it_is_said_what_is_wrong(rooms: Path) -> None:
    for picture in rooms.glob("*/rgb/*"):
        picture.unlink()
    for skip in (False, True):
        with pytest.raises(DataError, match=r"(?s)3 clips cannot be read:.*tiny_00.*tiny_02.*No other clip is there"):
            make_plan(make_family("pixels"), Rooms(rooms), Request(skip_damaged=skip))


@pytest.mark.parametrize("name", ["a/b", "a\\b", ".hidden", "a\nb", "x" * 201, "", "caf\udce9"])
@pytest.mark.parametrize("field", ["id", "scene", "split"])
def test_names_that_no_store_takes_are_damage_of_their_clip(rooms: Path, name: str, field: str) -> None:
    clip = Rooms(rooms).clips()[0]
    setattr(clip, field, name)
    with pytest.raises(DataError, match=rf"(?s)^clip '.*{field} is '.*no store takes.*Remedy: rename"):
        clip_table([clip])


def test_a_name_that_no_store_takes_leaves_the_others(rooms: Path) -> None:
    dataset = Rooms(rooms)
    dataset.clips()[0].id = "a\nb"
    plan = make_plan(make_family("pixels"), dataset, Request(skip_damaged=True))
    assert list(plan.damaged) == ["a\nb"]
    assert len(plan.table) == len(dataset.clips()) - 1
