"""dataset.json, scene.json and instances.json: what pictures and poses alone do not say. All of it is optional."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from extract.datasets.poses.camera import Camera
from extract.errors import DataError
from store.recipe import FileName

DATASET, SCENE, INSTANCES = "dataset.json", "scene.json", "instances.json"
MILLIMETRE = 0.001
MOST_NAME = 150
"""Characters of a data set's name; that of its stores is longer."""
_Side = Annotated[int, Field(gt=0, le=1 << 14)]
_Json = TypeVar("_Json", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Intrinsics(_Model):
    """A pinhole for pictures of w x h pixels; the centre of the first pixel is (0.5, 0.5)."""

    fl_x: float = Field(gt=0)
    fl_y: float | None = Field(default=None, gt=0)
    cx: float
    cy: float
    w: int = Field(gt=0)
    h: int = Field(gt=0)

    def camera(self) -> Camera:
        """The same as other formats say it."""
        return Camera("PINHOLE", (self.h, self.w), (self.fl_x, self.fl_y or self.fl_x), (self.cx, self.cy))


class Scales(_Model):
    """Units.

    Attributes:
        depth_scale: metres per unit of 16-bit depth pictures. 5000 units per metre are 0.0002.
        pose_scale: metres per unit of the camera positions.
    """

    depth_scale: float | None = Field(default=None, gt=0, le=1)
    pose_scale: float | None = Field(default=None, gt=0)


class SceneSettings(Scales):
    """scene.json, beside a recording. What it does not say, dataset.json says.

    Attributes:
        intrinsics: of every picture, where the poses bring none.
    """

    intrinsics: Intrinsics | None = None


class ClassEntry(_Model):
    """A class of the instances."""

    name: str = Field(min_length=1)
    kind: Literal["thing", "stuff"] = "thing"


class Splits(_Model):
    """Names of scenes."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def of(self) -> dict[str, str]:
        """Scene -> split. Raises `ValueError` for a scene that is listed twice."""
        pairs = [(scene, split) for split, scenes in self for scene in scenes]
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [scene for scene, _ in pairs]
            raise ValueError(f"scene {max(names, key=names.count)!r} is listed twice")
        return found


class DatasetSettings(SceneSettings):
    """dataset.json, in the directory that --root names.

    Attributes:
        name: the data set is called `folder-<name>`, and its stores are kept apart from those of others.
        version: part of the recipe; raise it to keep stores apart.
        image_size: (height, width) that all pictures are brought to.
        classes: names of `instances.json`, in the order of their ids, and their kinds.
        splits: instead of folders train, val and test, or of a hash.
    """

    name: Annotated[FileName, Field(max_length=MOST_NAME)] | None = None
    version: str = Field(default="1", min_length=1)
    image_size: tuple[_Side, _Side] | None = None
    classes: tuple[ClassEntry, ...] | None = Field(default=None, min_length=1, max_length=255)
    splits: Splits | None = None


_NAMES = TypeAdapter(dict[Annotated[int, Field(ge=1, le=65535)], Annotated[str, Field(min_length=1)] | None])


def read_settings(path: Path, model: type[_Json]) -> _Json:
    """The file, or the defaults if there is none. Raises `DataError` for unknown keys and impossible values."""
    if not path.is_file():
        return model()
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{path}: not as expected: {error}. Remedy: correct it; docs/datasets.md lists what it may say."
        ) from error


def read_instances(path: Path) -> dict[int, str | None]:
    """instances.json, `{"1": "chair", "2": null}`: instance id -> name of its class, or none. Raises `DataError`."""
    try:
        return _NAMES.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f'{path}: not as expected: {error}. Remedy: write {{"1": "chair", "2": null}}: ids from 1 to 65535.'
        ) from error
