"""Which recordings lie below a directory, and in which split each is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from extract.datasets.poses.tum import Listing, parse_listing
from extract.datasets.recordings.settings import DATASET, SCENE, DatasetSettings
from extract.datasets.recordings.source import Pictures, Source, Video, in_order, inside, is_picture, is_video
from extract.datasets.recordings.video import check_header
from extract.errors import DataError
from store.digest import digest_text
from store.recipe import FileName

SPLITS = ("train", "val", "test")
FOLDERS = ("images", "rgb")
LABELS = ("depth", "instance")
TUM_LIST, TRANSFORMS = "rgb.txt", "transforms.json"
_CLIP = TypeAdapter(FileName)
NO_CLIP = (
    "a clip cannot have this name: at most 200 characters of UTF-8, no control characters, no dot in front. "
    "Remedy: rename the scene"
)
LOOKED_FOR = f"images/, rgb/, {TUM_LIST}, picture files, or one video"


@dataclass(frozen=True)
class Recording:
    """One scene.

    Attributes:
        name: of its folder, or of its video without the ending.
        split: `train`, `val` or `test`.
        folder: where its labels are looked for; `None` for a video that lies among others.
        source: its frames.
        listing: rgb.txt, if the frames are those that it lists.
    """

    name: str
    split: str
    folder: Path | None
    source: Source
    listing: Listing | None


def find_recordings(root: Path, settings: DatasetSettings) -> tuple[list[Recording], dict[str, str]]:
    """All recordings, sorted by split and name, and the name of each folder that is none with the reason.

    Raises:
        DataError: two have one name, or the splits contradict what is there.
    """
    places = list(_places(root, settings))
    names = [name for name, _, _ in places]
    if len(set(names)) < len(names):
        raise DataError(
            f"{root}: two scenes are named {max(names, key=names.count)!r} (folders, or videos without their ending, "
            "in one split or two). Remedy: rename one."
        )
    listed = _listed_splits(root, settings, names)
    recordings, unusable = [], {}
    for name, place, split in places:
        if not can_be_a_clip(name):
            unusable[repr(name)] = NO_CLIP
            continue
        chosen = split or (listed.get(name) if listed is not None else split_of(name))
        if chosen is None:
            unusable[name] = f"is in no split of {DATASET}"
            continue
        try:
            recordings.append(_open(name, chosen, place))
        except DataError as error:
            unusable[name] = str(error)
    return sorted(recordings, key=lambda each: (SPLITS.index(each.split), each.name)), unusable


def can_be_a_clip(name: str) -> bool:
    """Whether a store takes it as the name of a clip."""
    try:
        _CLIP.validate_python(name)
    except ValidationError:
        return False
    return True


def split_of(name: str) -> str:
    """80 % train, 10 % val, 10 % test, by the xxh3_128 of the scene's name: other scenes do not matter."""
    place = int(digest_text(name)[:8], 16) / 16**8
    return "train" if place < 0.8 else "val" if place < 0.9 else "test"


def _places(root: Path, settings: DatasetSettings) -> Iterator[tuple[str, Path, str | None]]:
    """Name and place of everything that may be a scene, and the split that its folder says."""
    folders = [root / split for split in SPLITS if (root / split).is_dir() and not _is_recording(root / split)]
    if _is_recording(root):
        if not _is_marked(root) and (nested := [each.name for each in _subfolders(root) if _is_recording(each)]):
            raise DataError(
                f"{root}: pictures lie in it, and below it there are recordings too: {', '.join(nested[:5])}. "
                "Remedy: put the pictures into a folder beside them, or elsewhere."
            )
        yield root.resolve().name, root, None
        return
    if folders and settings.splits is not None:
        raise DataError(
            f"{root}: splits are given by {DATASET} and by folders {', '.join(f.name for f in folders)} too. "
            "Remedy: keep one."
        )
    for folder in folders or [root]:
        split = folder.name if folders else None
        for path in sorted([*_subfolders(folder), *filter(is_video, folder.iterdir())]):
            yield path.stem if path.is_file() else path.name, path, split
    beside = [p.name for p in root.iterdir() if is_video(p) or (p.is_dir() and p not in folders and _is_recording(p))]
    if folders and (outside := sorted(beside)):
        raise DataError(
            f"{root}: beside the folders {', '.join(f.name for f in folders)} there are recordings in no split: "
            f"{', '.join(outside[:5])}. Remedy: move them into one."
        )


def _listed_splits(root: Path, settings: DatasetSettings, names: list[str]) -> dict[str, str] | None:
    if settings.splits is None:
        return None
    try:
        listed = settings.splits.of()
    except ValueError as error:
        raise DataError(f"{root / DATASET}: splits: {error}. Remedy: list each scene once.") from error
    if strangers := sorted(listed.keys() - set(names)):
        raise DataError(
            f"{root / DATASET}: splits name scenes that are not there: {', '.join(strangers[:5])}. There are "
            f"{', '.join(sorted(names)[:5]) or 'none'}. Remedy: correct the names."
        )
    return listed


def _subfolders(folder: Path) -> list[Path]:
    """Without hidden ones and those that macOS puts into archives."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _is_marked(folder: Path) -> bool:
    """Whether something lies in the folder that lies beside frames."""
    return any((folder / name).exists() for name in (*FOLDERS, *LABELS, TUM_LIST, TRANSFORMS, SCENE))


def _is_recording(folder: Path) -> bool:
    """Whether the folder itself is one. Videos alone do not make it one: each may be a scene of its own."""
    return _is_marked(folder) or any(map(is_picture, folder.iterdir()))


def _open(name: str, split: str, place: Path) -> Recording:
    """Raises `DataError` if it has no frames."""
    if place.is_file():
        check_header(place)
        return Recording(name, split, None, Video(place), None)
    if (place / TUM_LIST).is_file():
        listing = parse_listing((place / TUM_LIST).read_bytes(), str(place / TUM_LIST))
        paths = [inside(place, each, str(place / TUM_LIST)) for each in listing.names]
        return Recording(name, split, place, Pictures(paths), listing)
    for folder in (*(place / each for each in FOLDERS), place):
        if folder.is_dir() and (pictures := in_order([path for path in folder.iterdir() if is_picture(path)])):
            return Recording(name, split, place, Pictures(pictures), None)
    videos = sorted(filter(is_video, place.iterdir()))
    if len(videos) != 1:
        found = f"{len(videos)} videos" if videos else "no picture and no video"
        raise DataError(f"{place}: {found}; looked for {LOOKED_FOR}. Remedy: one recording per folder.")
    check_header(videos[0])
    return Recording(name, split, place, Video(videos[0]), None)
