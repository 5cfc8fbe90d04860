"""Examples as recordings for the Rerun viewer (https://rerun.io): cameras, points and pictures in one space.

```
DIR/<run>/<task>-<why>-<scene>.rrd      rerun DIR/svd-rooms/depth-worst-1-room_003.rrd
  world/camera, world/points            pose and camera matrix with the picture; points of depth or of a point map
  world/camera_predicted, points_…      as the probe says, if it says so; its cameras are drawn with the true matrix
  pictures/depth/truth, …/prediction    also instances, classes, normals; pictures/features
  what                                  of which model, probe and scene this is
```

The world is the first view's camera frame: x right, y down, z forward. Timelines: `view` counts views from 0, `frame`
is the number of the frame in its clip. What an example does not hold is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import EvaluateError, InputError
from evaluate.records import Run
from evaluate.report.clouds import unproject
from evaluate.schema import Example

if TYPE_CHECKING:
    from types import ModuleType

    from rerun import RecordingStream

APPLICATION = "spatial-probing"
_TRUE, _PREDICTED = (90, 94, 100), (213, 94, 0)
Arrays = Mapping[str, NDArray[Any]]
Logged = tuple[str, list[Any]]
"""An entity, and what it is in each view."""
_DENSE = {"depth": "depth", "instance": "instances", "classes": "classes", "normals": "normals"}
"""Array -> how its pictures are called."""


class ViewerMissingError(EvaluateError):
    """What writes recordings is not installed."""


def write_recordings(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write a recording of every example of every run. Returns the files, whose names do not change between calls.

    Raises:
        ViewerMissingError: `rerun-sdk` is not installed.
        InputError: no run has an example, or two runs have directories of one name.
    """
    rerun = _rerun()
    names = [run.path.resolve().name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"--rerun writes a folder per run, and several runs are called {', '.join(twice)}; name one of them only"
        )
    files = []
    for run, name in zip(runs, names, strict=True):
        for example, file in _named(run.examples()):
            target = folder / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(rerun, run, example, target)
            files.append(target)
    if not files:
        raise InputError(f"no examples in {', '.join(names)}; `python -m probes.train` keeps some of every run")
    return files


def _rerun() -> ModuleType:
    try:
        return import_module("rerun")
    except ModuleNotFoundError as error:
        if error.name != "rerun":
            raise
        raise ViewerMissingError(
            "--rerun needs rerun-sdk, which is not installed; pip install 'spatial-probing[view]'"
        ) from error


def _named(examples: Sequence[Example]) -> Iterator[tuple[Example, str]]:
    """Examples with their file names; where those of two would be the same, the later one has a number."""
    taken: set[str] = set()
    for example in examples:
        why = re.sub(r" of \d+$", "", example.why)
        stem = re.sub(r"[^\w.]+", "-", "-".join(part for part in (example.task, why, example.scene) if part)).strip("-")
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        yield example, f"{name}.rrd"


def _write(rerun: ModuleType, run: Run, example: Example, file: Path) -> None:
    draft = file.with_name(f".{file.name}.draft")
    name = f"{run.info.title}: {example.task}, scene {example.scene}" + f" ({example.why})" * bool(example.why)
    # The same example is the same recording: a viewer that has it open replaces it.
    recording = rerun.RecordingStream(APPLICATION, recording_id=f"{run.info.name}/{file.stem}")
    try:
        recording.save(draft)
        recording.send_recording_name(name)
        _log(rerun, recording, run, example)
        recording.disconnect()
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _log(rerun: ModuleType, recording: RecordingStream, run: Run, example: Example) -> None:
    recording.log("world", rerun.ViewCoordinates.RDF, static=True)
    recording.log("what", rerun.TextDocument(_said(run, example), media_type="text/markdown"), static=True)
    if "classes" in example.arrays:
        names = [(0, "no label"), *enumerate(run.info.classes.get(example.task, []), 1)]
        recording.log("pictures/classes", rerun.AnnotationContext(names), static=True)
    logged = [*_cameras(rerun, example.arrays), *_points(rerun, example.arrays), *_pictures(rerun, example.arrays)]
    for view, frame in enumerate(example.frames):
        recording.set_time("view", sequence=view)
        recording.set_time("frame", sequence=int(frame))
        for entity, archetypes in logged:
            recording.log(entity, archetypes[view])


def _said(run: Run, example: Example) -> str:
    protocol = run.info.protocols.get(example.task, "")
    lines = [
        f"# {run.info.title}: {example.task} on {run.info.dataset}",
        f"- scene `{example.scene}` ({example.split}), frames {', '.join(map(str, example.frames))}",
        f"- probe `{example.probe_id}`, protocol `{protocol}`",
    ]
    lines += [f"- {example.why}, with {example.value:.4g} on the whole scene"] if example.why else []
    return "\n".join(lines)


def _cameras(rerun: ModuleType, arrays: Arrays) -> Iterator[Logged]:
    """Poses in the first view's frame, of which the true one is taken."""
    if "cam_to_world" not in arrays:
        return
    home = np.linalg.inv(arrays["cam_to_world"][0])
    for name, entity, colour in (
        ("cam_to_world", "camera", _TRUE),
        ("cam_to_world_pred", "camera_predicted", _PREDICTED),
    ):
        if name in arrays:
            poses = home @ arrays[name]
            yield (
                f"world/{entity}",
                [rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]) for pose in poses],
            )
            if "intrinsics" in arrays and "rgb" in arrays:
                size = arrays["rgb"].shape[2:0:-1]
                matrices = arrays["intrinsics"]
                yield (
                    f"world/{entity}/image",
                    [
                        rerun.Pinhole(
                            image_from_camera=k, resolution=size, camera_xyz=rerun.ViewCoordinates.RDF, color=colour
                        )
                        for k in matrices
                    ],
                )


def _points(rerun: ModuleType, arrays: Arrays) -> Iterator[Logged]:
    """True and predicted points, both where the truth is known."""
    if {"points", "points_pred", "points_valid"} <= set(arrays):
        valid, colours = arrays["points_valid"], arrays.get("points_rgb")
        sides = {"points": arrays["points"], "points_predicted": arrays["points_pred"]}
    elif {"depth", "depth_pred", "intrinsics", "cam_to_world"} <= set(arrays):
        valid, colours = arrays["depth"] > 0, arrays.get("rgb")
        camera = (arrays["intrinsics"].astype(np.float64), arrays["cam_to_world"].astype(np.float64))
        sides = {
            entity: unproject(arrays[name].astype(np.float64), *camera)
            for name, entity in (("depth", "points"), ("depth_pred", "points_predicted"))
        }
    else:
        return
    for entity, places in sides.items():
        yield (
            f"world/{entity}",
            [
                rerun.Points3D(
                    places[view][known].astype(np.float32),
                    colors=None if colours is None else colours[view][known],
                    radii=_radius(places[view][known]),
                )
                for view, known in enumerate(valid)
            ],
        )


def _radius(places: Float[np.ndarray, "point 3"]) -> float:
    """Such that neighbouring pixels touch, about."""
    return float(np.median(np.linalg.norm(places, axis=-1))) / 300 if len(places) else 0.01


def _pictures(rerun: ModuleType, arrays: Arrays) -> Iterator[Logged]:
    if "rgb" in arrays:
        placed = {"cam_to_world", "intrinsics"} <= set(arrays)
        entity = "world/camera/image/rgb" if placed else "pictures/rgb"
        yield entity, [rerun.Image(view) for view in arrays["rgb"]]
    for name, title in _DENSE.items():
        for array, side in ((name, "truth"), (f"{name}_pred", "prediction")):
            if array in arrays:
                yield f"pictures/{title}/{side}", [_picture(rerun, name, view) for view in arrays[array]]
    if "features_pca" in arrays:
        yield "pictures/features", [rerun.Image(view) for view in arrays["features_pca"]]


def _picture(rerun: ModuleType, name: str, view: NDArray[Any]) -> Any:
    if name == "depth":
        return rerun.DepthImage(view, meter=1.0)
    if name == "normals":  # red to the right, green up, blue towards the camera, as in the report
        return rerun.Image(np.clip(127.5 + view.astype(np.float32) * (1, -1, -1), 0, 255).astype(np.uint8))
    return rerun.SegmentationImage(view.astype(np.uint16))
