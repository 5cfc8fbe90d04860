"""Which videos show one place, and in which split they are. Videos of one visit never lie in two.

Source: `raw/raw_train_val_splits.csv` and `threedod/3dod_train_val_splits.csv` of github.com/apple/ARKitScenes, and
metadata.csv, which its script `download_data.py` puts beside the data: columns video_id, visit_id, and mostly fold.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from extract.errors import DataError
from store.digest import digest_text

TRAINING, VALIDATION = "Training", "Validation"
FOLDS = (TRAINING, VALIDATION)
VAL_IN = 10
"""One of so many training scenes is of the split val."""
RULE = (
    f"{VALIDATION} is test; of {TRAINING}, scenes are val whose digest is a multiple of {VAL_IN}, and left out if "
    f"{VALIDATION} shows them too"
)
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Visits:
    """What the tables say.

    Attributes:
        of: video -> visit; a video that is not here was filmed on a visit that nobody knows.
        reserved: visits with a video in Validation. One visit of the release (381879) has videos in both folds.
    """

    of: Mapping[str, str]
    reserved: frozenset[str]

    def reserving(self, videos: Iterable[str]) -> Visits:
        """The same, where the visits of these videos of Validation are reserved too: a table may lack the folds."""
        return replace(self, reserved=self.reserved | {self.of[video] for video in videos if video in self.of})


def find_visits(folders: Sequence[Path], release: str) -> Visits | None:
    """From the first table in `folders` that has visits; `None` if none has. Raises `DataError` if it is damaged."""
    for folder in folders:
        for name in ("metadata.csv", f"{release}_train_val_splits.csv"):
            if (path := folder / name).is_file() and (visits := _read(path)) is not None:
                return visits
    return None


def place_video(video: str, fold: str, visits: Visits | None) -> tuple[str, str] | None:
    """Scene and split by `RULE`; `None` if the video is left out.

    Without tables, every video is a scene. With tables, a training video of an unknown visit (8 in the release) is of
    train: val is made of visits that are known.
    """
    visit = None if visits is None else visits.of.get(video)
    if fold == VALIDATION:
        return visit or video, "test"
    if visits is None:
        return video, _held_out(video)
    if visit is None:
        return video, "train"
    return None if visit in visits.reserved else (visit, _held_out(visit))


def _held_out(scene: str) -> str:
    return "train" if int(digest_text(scene)[:8], 16) % VAL_IN else "val"


def _read(path: Path) -> Visits | None:
    """`None` if the table has no column of visits."""
    of, reserved = {}, set()
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path}: larger than {_LARGEST} bytes, and no such table is. {_REMEDY}")
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, strict=True)
            if not {"video_id", "visit_id"} <= set(rows.fieldnames or ()):
                return None
            for row in rows:
                video, visit = _number(row["video_id"]), _number(row["visit_id"])
                if video is None or video in of:
                    what = "twice" if video in of else "as a video"
                    raise DataError(f"{path}, line {rows.line_num}: lists {row['video_id']!r} {what}. {_REMEDY}")
                if visit is not None:
                    of[video] = visit
                    if row.get("fold") == VALIDATION:
                        reserved.add(visit)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}). {_REMEDY}") from error
    return Visits(of, frozenset(reserved))


_REMEDY = "Remedy: take the table of github.com/apple/ARKitScenes, or of its script download_data.py."


def _number(text: str | None) -> str | None:
    """`381879` of `381879` or `381879.0`, as pandas writes it; `None` for anything else, such as `NA`."""
    number = (text or "").strip().removesuffix(".0")
    return number if number.isascii() and number.isdigit() else None
