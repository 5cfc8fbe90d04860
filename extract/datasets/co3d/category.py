"""One category of the release: which of its sequences are read, and the annotations of their clips' frames."""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.datasets._names import some
from extract.datasets.co3d.lists import REMEDY, elements
from extract.datasets.sampling import Sampling
from extract.errors import DataError

log = logging.getLogger(__name__)

FRAMES, SEQUENCES = "frame_annotations.jgz", "sequence_annotations.jgz"
MIN_QUALITY = 0.5
"""A sequence is read if its `viewpoint_quality_score` is greater, as RelPose, PoseDiffusion, DUSt3R and VGGT do."""
MIN_FRAMES = 20
"""A sequence of fewer frames makes no clip; the published code for ScanNet draws the same line."""
SETS = ("train", "dev", "test")
"""Sets of sequences: what stands before the underscore in a frame's `meta.frame_type`. Later ones are more reserved."""
HIDDEN = "test"
"""The set whose pictures and depths the release blanks in part: the targets of the CO3D challenge."""
_ABSENT, _SHORT = "without a folder", f"of fewer than {MIN_FRAMES} frames"
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Chosen:
    """A sequence that is read.

    Attributes:
        name: of the sequence; unique in its category.
        official: `train` or `dev`.
        n_frames: frames of the clip.
        packed: the annotations of these frames, by frame number: a JSON list, compressed.
    """

    name: str
    official: str
    n_frames: int
    packed: bytes

    @property
    def text(self) -> bytes:
        """The annotations of the clip's frames as the release has them, a JSON list."""
        return zlib.decompress(self.packed)


def read_category(folder: Path, sampling: Sampling) -> tuple[list[Chosen], dict[str, str]]:
    """Sequences of a category that are there and good enough, by name, and what is wrong with others of these.

    Reads its annotations once, from end to end.

    Raises:
        DataError: the annotations are missing, damaged, contradictory, or of version 1.
    """
    check_version(folder)
    scores = dict(_scores(folder))
    log.info("co3dv2: reading %s", folder / FRAMES)
    present = {entry.name for entry in os.scandir(folder) if entry.is_dir()}
    good = {name for name in present & scores.keys() if scores[name] > MIN_QUALITY}
    sets: dict[str, str] = {}
    texts: dict[str, dict[int, str]] = {name: {} for name in good}
    damaged: dict[str, str] = {}
    for name, number, official, text in _frames(folder, scores, damaged):
        # Of a sequence in two sets the more reserved one holds.
        sets[name] = max(sets.get(name, SETS[0]), official, key=SETS.index)
        if name not in good:
            continue
        if number in texts[name]:
            damaged[name] = f"{folder / FRAMES}: sequence {name} has two frames of number {number}. {REMEDY}"
        texts[name][number] = text
    chosen: list[Chosen] = []
    left_out: dict[str, list[str]] = {}
    damaged = {name: why for name, why in damaged.items() if name in good and sets.get(name) != HIDDEN}
    for name in sorted(scores.keys() - damaged.keys()):
        if why := _fault(name, sets, scores, present, texts):
            left_out.setdefault(why, []).append(name)
        else:
            chosen.append(_choose(name, sets[name], texts.pop(name), sampling))
    _report(folder.name, chosen, left_out)
    return chosen, damaged


def check_version(folder: Path) -> None:
    """Raise `DataError` for files of version 1, which states none: it has set_lists.json, version 2 a folder."""
    if not (folder / "set_lists").is_dir():
        found = (
            "set_lists.json, as version 1 has" if (folder / "set_lists.json").exists() else "neither it nor version 1"
        )
        raise DataError(
            f"{folder}: CO3D v2 has a folder set_lists here; found {found}. "
            "Remedy: get version 2 (github.com/facebookresearch/co3d), and its first archive of this category."
        )


def _scores(folder: Path) -> Iterator[tuple[str, float]]:
    """Name and `viewpoint_quality_score` of every sequence; NaN if it has none, which is not greater than anything."""
    path, seen = folder / SEQUENCES, set()
    for element, _ in elements(path):
        name, category, score = (element.get(key) for key in ("sequence_name", "category", "viewpoint_quality_score"))
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(score, float | int | None):
            raise DataError(f"{path}: sequence {name!r} has the viewpoint_quality_score {score!r}. {REMEDY}")
        if category != folder.name or name in seen:
            fault = "is listed twice" if name in seen else f"is of category {category!r}"
            raise DataError(f"{path}: sequence {name} {fault}. {REMEDY}")
        seen.add(name)
        yield name, float("nan") if score is None else score


def _frames(folder: Path, known: Mapping[str, float], damaged: dict[str, str]) -> Iterator[tuple[str, int, str, str]]:
    """Sequence, number, set and text of every frame. Sequences with frames of no number or set go to `damaged`."""
    path = folder / FRAMES
    for row, (element, text) in enumerate(elements(path)):
        name, number = element.get("sequence_name"), element.get("frame_number")
        official = _set_of(element)
        of_known = isinstance(name, str) and name in known
        if of_known and type(number) is int and official in SETS:
            yield str(name), number, official, text
            continue
        fault = (
            f"{path}: element {row} has sequence_name {name!r}, frame_number {number!r} and the set {official!r} "
            f"(in meta.frame_type); expected a sequence of {SEQUENCES}, a number, and {', '.join(SETS)}. {REMEDY}"
        )
        if not of_known:
            raise DataError(fault)
        damaged.setdefault(str(name), fault)


def _set_of(element: Mapping[str, Any]) -> str | None:
    meta = element.get("meta")
    kind = meta.get("frame_type") if isinstance(meta, dict) else None
    return kind.partition("_")[0] if isinstance(kind, str) else None


def _fault(
    name: str,
    sets: Mapping[str, str],
    scores: Mapping[str, float],
    present: set[str],
    texts: Mapping[str, Mapping[int, str]],
) -> str | None:
    """Why a sequence is not read; `None` if it is."""
    if sets.get(name) == HIDDEN:
        return f"of the hidden set {HIDDEN!r}"
    if not scores[name] > MIN_QUALITY:
        return f"with no viewpoint_quality_score above {MIN_QUALITY}"
    if name not in present:
        return _ABSENT
    return _SHORT if len(texts[name]) < MIN_FRAMES else None


def _choose(name: str, official: str, texts: Mapping[int, str], sampling: Sampling) -> Chosen:
    numbers = sorted(texts)
    kept = [texts[numbers[position]] for position in sampling.choose(len(numbers), name)]
    return Chosen(name, official, len(kept), zlib.compress(f"[{','.join(kept)}]".encode()))


def _report(category: str, chosen: Sequence[Chosen], left_out: Mapping[str, Sequence[str]]) -> None:
    sets = Counter(each.official for each in chosen)
    found = ", ".join(f"{sets[name]} {name}" for name in SETS if name != HIDDEN)
    reasons = "; ".join(f"{len(names)} {why}" for why, names in left_out.items()) or "none"
    log.info("co3dv2: %s: %d sequences are read (%s); left out: %s", category, len(chosen), found, reasons)
    for why in (_ABSENT, _SHORT):
        if names := left_out.get(why):
            log.warning("co3dv2: %s: left out %d sequences %s: %s", category, len(names), why, some(names))
    if not chosen:
        log.warning("co3dv2: %s: no sequence can be read, so that it has no clip", category)
