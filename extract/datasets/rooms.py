"""Rooms: small rendered indoor scenes with exact depth, instances and camera poses; they come with this project.

rooms.json                        name, version, image_size, depth_scale, classes, rooms
<room id>/room.json               intrinsics, cam_to_world, instances
<room id>/rgb/0000.jpg            the frame
<room id>/depth/0000.png          16 bit, times depth_scale = metres, 0 = invalid
<room id>/instance/0000.png       instance ids, 0 = nothing
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float32, Shaped, UInt8, UInt16
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extract.datasets._pictures import check_unforgiving
from extract.datasets.base import ClassInfo, Clip, Dataset, Targets
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from store.digest import digest_files

if TYPE_CHECKING:
    from PIL.Image import Image

READS = "1"
"""First number of the versions that this file reads: 1.0, 1.1, …"""
_ENDS = {".jpg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}
_Json = TypeVar("_Json", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Class(_Model):
    name: str
    kind: Literal["thing", "stuff"]


class _Entry(_Model):
    id: str = Field(pattern=r"^\w[\w.-]*$")
    split: Literal["train", "val", "test"]
    n_frames: int = Field(gt=0)
    sha256: str


class _Index(_Model):
    """rooms.json."""

    version: str | int
    image_size: tuple[int, int]
    depth_scale: float = Field(gt=0)
    classes: list[_Class] = Field(min_length=1, max_length=255)
    rooms: list[_Entry]


class _Instance(_Model):
    id: int = Field(ge=1, le=65535)
    cls: str = Field(alias="class")


_Row3 = tuple[float, float, float]
_Row4 = tuple[float, float, float, float]


class _Room(_Model):
    """room.json."""

    intrinsics: tuple[_Row3, _Row3, _Row3]
    cam_to_world: list[tuple[_Row4, _Row4, _Row4, _Row4]]
    instances: list[_Instance]


class Rooms(Dataset):
    """Reads rooms.json at once and each room's files when they are asked for. Every frame is a bank frame.

    Raises:
        DatasetNotFoundError: there is no rooms.json.
        DataError: it has another version, or is damaged.
    """

    name = "rooms"
    environment = "ROOMS_ROOT"
    how_to_get = (
        "The rooms come with this project in extract/datasets/assets/rooms: get a complete checkout. "
        "Another set of rooms needs a rooms.json and one directory per room."
    )
    shipped = Path(__file__).parent / "assets" / "rooms"

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        path = self.root / "rooms.json"
        if not path.is_file():
            raise self.not_found(f"{path} is missing")
        self.index = _read_json(path, _Index)
        self.version = str(self.index.version)
        if self.version.split(".")[0] != READS:
            raise DataError(
                f"{path}: version {self.version}, but this code reads versions {READS}.x. "
                "Remedy: use the rooms that came with this checkout, or update it."
            )
        self.classes = [ClassInfo(entry.name, entry.kind) for entry in self.index.classes]
        self.image_size = self.index.image_size
        self._clips = [RoomClip(self, entry) for entry in self.index.rooms]
        for what, names in (("class", [c.name for c in self.classes]), ("room", [clip.id for clip in self._clips])):
            if len(set(names)) < len(names):
                raise DataError(
                    f"{path}: a {what} is listed twice: {max(names, key=names.count)!r}. Remedy: render anew."
                )

    def facts(self) -> Mapping[str, Any]:
        """Metres per unit of the depth pictures."""
        return {"depth_scale": self.index.depth_scale}

    def clips(self) -> Sequence[RoomClip]:
        """One clip per room, as listed in rooms.json."""
        return self._clips

    @cached_property
    def max_instances(self) -> int:
        """Greatest instance id of any room. Reads every room.json, once; what cannot be read makes no clip."""
        greatest = 0
        for clip in self._clips:
            with suppress(DataError):
                greatest = max([greatest, *(instance.id for instance in clip.room.instances)])
        return greatest


class RoomClip(Clip):
    """One room, seen by a camera that walks through it. The room is the scene."""

    def __init__(self, rooms: Rooms, entry: _Entry) -> None:
        self.rooms = rooms
        self.sha256 = entry.sha256
        self.id = self.scene = entry.id
        self.split = entry.split
        self.n_frames = entry.n_frames
        self.bank = tuple(range(entry.n_frames))
        self.directory = rooms.root / entry.id

    @cached_property
    def room(self) -> _Room:
        """What room.json says. Raises `DataError`."""
        path = self.directory / "room.json"
        room = _read_json(path, _Room)
        if len(room.cam_to_world) != self.n_frames:
            raise DataError(
                f"{path}: {len(room.cam_to_world)} camera poses, but rooms.json says {self.n_frames} frames. "
                "Remedy: render or copy the room anew."
            )
        return room

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames."""
        images = np.empty((len(indices), *self.rooms.image_size, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = self._decode("rgb", index, ("RGB",))
        return images

    def targets(self) -> Targets:
        """Decode every frame's depth and instances."""
        poses = np.array(self.room.cam_to_world, np.float64)
        rotation = poses[:, :3, :3]
        if not (
            np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3), atol=1e-4)
            and (np.linalg.det(rotation) > 0).all()
            and (poses[:, 3] == (0, 0, 0, 1)).all()
        ):
            raise DataError(f"{self.directory / 'room.json'}: cam_to_world holds no rigid motion. Remedy: render anew.")
        intrinsics = np.array(self.room.intrinsics, np.float64)
        return Targets(
            rgb=self.frames(self.bank),
            depth=self._depth(),
            instance=self._instances(),
            instance_class=self._instance_classes(),
            cam_to_world=poses,
            intrinsics=np.repeat(intrinsics[None], self.n_frames, axis=0),
        )

    def digest(self) -> str:
        """Over room.json and every picture, with their names, once they are what rooms.json lists."""
        folders = (("rgb", ".jpg"), ("depth", ".png"), ("instance", ".png"))
        paths = [self._path(folder, index, ending) for folder, ending in folders for index in self.bank]
        paths.append(self.directory / "room.json")
        try:
            self._check_listed(paths)
            return digest_files(self.rooms.root, paths)
        except OSError as error:
            raise _unreadable(Path(error.filename or self.directory), error) from error

    def _check_listed(self, paths: Sequence[Path]) -> None:
        """Compare with the SHA-256 in rooms.json: decoders forgive damage inside a JPEG, and any wrong file."""
        whole = hashlib.sha256()
        for path in sorted(paths):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{path.relative_to(self.directory).as_posix()}\0{content}\n".encode())
        if whole.hexdigest() != self.sha256:
            raise DataError(
                f"{self.directory}: its files have sha256 {whole.hexdigest()}, but rooms.json lists {self.sha256}. "
                "They were changed or damaged. Remedy: copy the room anew, or write rooms.json anew."
            )

    def _depth(self) -> Float32[np.ndarray, "frame y x"]:
        raw = np.stack([self._decode("depth", index, ("I;16",)) for index in self.bank])
        return (raw * self.rooms.index.depth_scale).astype(np.float32)

    def _instances(self) -> UInt16[np.ndarray, "frame y x"]:
        known = [0, *(instance.id for instance in self.room.instances)]
        images = np.stack([self._decode("instance", index, ("L", "I;16")) for index in self.bank]).astype(np.uint16)
        if strangers := sorted(set(np.unique(images).tolist()) - set(known)):
            raise DataError(
                f"{self.directory / 'instance'}: instance ids {strangers} are not listed in room.json. "
                "Remedy: render or copy the room anew."
            )
        return images

    def _instance_classes(self) -> UInt8[np.ndarray, " slot"]:
        names = [info.name for info in self.rooms.classes]
        classes = np.zeros(self.rooms.max_instances + 1, np.uint8)
        for instance in self.room.instances:
            if instance.cls not in names or classes[instance.id]:
                fault = "is listed twice" if classes[instance.id] else f"has the unknown class {instance.cls!r}"
                raise DataError(
                    f"{self.directory / 'room.json'}: instance {instance.id} {fault}. "
                    f"Classes in rooms.json: {', '.join(names)}. Remedy: render or copy the room anew."
                )
            classes[instance.id] = names.index(instance.cls) + 1
        return classes

    def _path(self, folder: str, index: int, ending: str) -> Path:
        if not 0 <= index < self.n_frames:
            raise DataError(f"room {self.id}: there is no frame {index}. Remedy: ask for 0 to {self.n_frames - 1}.")
        return self.directory / folder / f"{index:04d}{ending}"

    def _decode(self, folder: str, index: int, modes: tuple[str, ...]) -> Shaped[np.ndarray, "y x *channel"]:
        """The picture as it is stored, which has to have one of Pillow's `modes` and the dataset's size."""
        path = self._path(folder, index, ".jpg" if folder == "rgb" else ".png")
        image = _open_whole(path)
        height, width = self.rooms.image_size
        if image.mode not in modes or image.size != (width, height):
            raise DataError(
                f"{path}: {image.width}x{image.height} pixels of mode {image.mode}; rooms.json says {width}x{height}, "
                f"and {folder} is stored as {' or '.join(modes)}. Remedy: render or copy the room anew."
            )
        return np.asarray(image)


def _open_whole(path: Path) -> Image:
    """A decoded picture. Raises `DataError` if any byte of it is missing: Pillow alone forgives a missing end."""
    from PIL import Image, UnidentifiedImageError

    check_unforgiving(path)
    try:
        content = path.read_bytes()
        if not content.endswith(_ENDS[path.suffix]):
            raise DataError(f"{path}: truncated, its end is missing. Remedy: render or copy the room anew.")
        with Image.open(BytesIO(content)) as image:
            image.load()
            return image
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    what = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
    return DataError(f"{path}: {what}. Remedy: get a complete checkout, or render or copy the room anew.")


def _read_json(path: Path, model: type[_Json]) -> _Json:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValidationError as error:
        raise DataError(
            f"{path}: not as expected: {error}. Remedy: get a complete checkout, or render anew."
        ) from error
