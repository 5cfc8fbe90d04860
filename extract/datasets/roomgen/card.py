"""Writes the dataset card from what was measured: no number in it is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from extract.datasets.roomgen import catalog, encode, layout, measure, produce, stored
from extract.datasets.roomgen.errors import RoomError
from extract.datasets.roomgen.render import Quality

TEXT = """\
# rooms

{total} furnished rooms, {frames} pictures of {width} x {height} pixels, with exact depth, instances, camera poses
and the classes each room shows. It is small enough to travel with the source code, so that every task has real pixels
to work on before any licence has been signed. The rooms are made by a program and drawn by a path tracer: see *Limits*.

| | train | val | test | all |
|---|---|---|---|---|
| rooms | {train} | {val} | {test} | {total} |

Room types: {types}. Instances: {instances}, of which {things} are things, the rest walls, floors and the like.
Files: {megabytes} MB.

## Licence

The pictures and labels: [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/), no conditions. They derive from
furniture models that their authors gave to the public domain (CC0; listed below) and from shapes, textures and
pictures that the generator draws itself. Models with a visible brand were left out.

## Files

```
rooms.json                      name, version, image size, classes, rooms with split and digest
<room>/room.json                intrinsics, cam_to_world, instances, tags, how the room was made
<room>/rgb/0000.jpg             sRGB
<room>/depth/0000.png           16 bit, {scale} m per unit, 0 = nothing
<room>/instance/0000.png        ids of room.json's instances, 0 = nothing
```

- **class id** = position in rooms.json's `classes` + 1; 0 = nothing. `stuff`: walls, floors, ceilings, windows, doors;
  `thing`: furniture and what lies about.
- **depth** is planar: z along the optical axis, not the length of the ray. Each value belongs to the exact pixel
  centre. It is rounded to 1 mm up to 2 m, 2 mm up to 4 m, 4 mm up to 8 m, and so on. Glass counts as solid.
- **intrinsics**: pixels, pixel centres at integer + 0.5 (`u = fx X / Z + cx`; the image spans [0, {width}]).
- **cam_to_world**: metres, OpenCV camera (x right, y down, z forward), world z up, floor at z = 0.
- **instances**: those that at least one frame shows, with how many pixels and frames show them. Each wall is one.
- **tags**: the classes shown by at least {tag_pixels} pixels in at least {tag_frames} frames.

## Measured

By `python -m extract.datasets.rooms_render measure`, from the files.

| what | value |
|---|---|
| R2 of log depth from pixel position and frame number alone, fitted on train: test | **{r2_test}** |
| the same, on val / train | {r2_val} / {r2_train} |
| the same with products of position features: test / val / train | {r2_products} |
| pixels of a view that another of {views} random views sees (5 % depth tolerance): median | **{shared_median}** |
| the same: tenth and ninetieth percentile of views | {shared_low} to {shared_high} |
| relative depth error after reprojection into the next frame: median / 99 % | {error_median} / {error_high} |
| reprojected pixels that find the same instance | {same} |
| pixels without depth | {missing} |
| depth: 10 % / median / 90 % / largest | {depth} |
| nearest thing in the central fifth of a frame: smallest / median | {centre} |
| things of at least 0.1 % of the pixels per frame: 10 % / median / 90 % | {per_frame} |
| frames with at least two of them | {two_things} |
| thing classes tagged per room: smallest / median / largest | {tags} |
| mean luminance of a frame: smallest / median / largest | {luminance} |

The first line is the floor under every depth result: a probe that beats a blind guess by less has learned the
camera, not the scene. Features: sin and cos of pi 2^k c, k = 0..3, of c = frame number, row and column in [0, 1].

Rooms that have a class among their tags:

| class | kind | train | val | test | share |
|---|---|---|---|---|---|
{classes}

## How it was made

Floor plans and furniture: one recipe for each room type puts models of real sizes against walls, around tables and on
tops, without overlaps. Camera: a path of its own for each room (orbit, walk, pan, approach), with height, pitch, roll
and field of view spread over the rooms so that pixel position says little about depth; of several random paths the one
that shows most without standing still is kept. Pictures: Cycles, {samples} samples per pixel,
Open Image Denoise, AgX. Depth and instances: a second pass with one ray through each pixel centre.

To make it again (CPU only, some {seconds} s per frame on two cores; the same seed gives the same rooms and labels, and
pictures equal up to the last bits of floating point):

```
python3.11 -m venv render                      # of its own, since bpy needs numpy < 2
render/bin/pip install "bpy=={bpy}.*" pillow
apt-get install sweethome3d-furniture          # 1.8; or --furniture PATH to BlendSwap-CC-0.sh3f
render/bin/python -m extract.datasets.rooms_render make OUT --seed {seed}
python -m extract.datasets.rooms_render measure OUT --write
python -m extract.datasets.rooms_render card OUT
```

A run that was cut off goes on where it stopped.

## Limits

- Made, not photographed: clean, evenly lit, without people and almost without text or wear. Numbers on it do not
  carry over to photographs.
- {total} rooms are few: give intervals over rooms, not over frames. Several classes have two test rooms
  or fewer, and some have none in val.
- Few models per class, and the same models in all splits: it asks for new rooms, not for new kinds of chair.
- Rooms are rectangular, things stand still, frames are apart ({frames_per_room} per room): it is a set of
  views rather than video.
- Mirrors and thin wires are absent; glass doors and cabinets are solid in the labels but see-through in the pictures.

## Models

From `BlendSwap-CC-0.sh3f` 1.8 (Emmanuel Puybaret's conversion for Sweet Home 3D), CC0 by the licence file of each:

| model | class | author | from |
|---|---|---|---|
{models}
"""


def _used(folder: Path) -> set[str]:
    """The furniture that some frame shows."""
    return {item["model"] for room in stored.read_rooms(folder) for item in room.info["instances"]}


def _model_rows(folder: Path) -> str:
    used = _used(folder)
    rows = []
    for model in catalog.models().values():
        if model.path and model.name in used:
            title = f"[{model.title.replace('|', ' ')}]({model.source})"
            rows.append(f"| {model.name} | {model.cls} | {model.creator or 'not named'} | {title} |")
    return "\n".join(rows)


def _class_rows(counts: dict[str, list[int]], total: int) -> str:
    rows = []
    for name in catalog.CLASSES:
        kind = "stuff" if name in catalog.STUFF else "thing"
        split = " | ".join(str(n) for n in counts[name])
        rows.append(f"| {name} | {kind} | {split} | {sum(counts[name]) / total:.0%} |")
    return "\n".join(rows)


def _row(values: dict[str, float], names: tuple[str, ...], unit: str = "") -> str:
    return " / ".join(f"{values[name]:g}{unit}" for name in names)


def render(folder: Path, numbers: dict[str, Any]) -> str:
    """The card's text for measured numbers."""
    index = stored.read_index(folder)
    rooms, r2 = numbers["rooms"], numbers["position_only_r2_log_depth"]
    width, height = index["image_size"]
    shared, error = numbers["shared_pixels_of_4_random_views"]["all"], numbers["reprojection"]
    total = sum(rooms.values())

    def fit(kind: str, split: str) -> str:
        return f"{r2[kind].get(split, float('nan')):.3f}"

    return TEXT.format(
        **rooms,
        total=total,
        frames=numbers["frames"],
        frames_per_room=numbers["frames"] // max(total, 1),
        width=width,
        height=height,
        types=", ".join(f"{name} {count}" for name, count in numbers["room_types"].items()),
        instances=numbers["instances"],
        things=numbers["thing_instances"],
        megabytes=numbers["megabytes"],
        scale=encode.DEPTH_SCALE,
        tag_pixels=produce.TAG_PIXELS,
        tag_frames=produce.TAG_FRAMES,
        r2_test=fit("additive", "test"),
        r2_val=fit("additive", "val"),
        r2_train=fit("additive", "train"),
        r2_products=" / ".join(fit("with_products", s) for s in ("test", "val", "train")),
        views=measure.VIEWS,
        shared_median=f"{shared['p50']:.3f}",
        shared_low=f"{shared['p10']:.3f}",
        shared_high=f"{shared['p90']:.3f}",
        error_median=f"{error['relative_depth_error']['p50']:.2%}",
        error_high=f"{error['relative_depth_error']['p99']:.2%}",
        same=f"{error['same_instance']:.2%}",
        missing=f"{numbers['depth_missing']:.2%}",
        depth=_row(numbers["depth_m"], ("p10", "p50", "p90", "p100"), " m"),
        centre=_row(numbers["nearest_in_central_fifth_m"], ("p00", "p50"), " m"),
        per_frame=_row(numbers["things_per_frame"], ("p10", "p50", "p90")),
        two_things=f"{numbers['frames_with_two_things']:.1%}",
        tags=_row(numbers["thing_tags_per_room"], ("p00", "p50", "p100")),
        luminance=_row(numbers["mean_luminance"], ("p00", "p50", "p100")),
        classes=_class_rows(numbers["rooms_with_tag"], total),
        models=_model_rows(folder),
        samples=Quality().samples,
        seconds=2,
        bpy="4.5",
        seed=layout.SEED,
    )


def write(folder: Path) -> None:
    """Write README.md from statistics.json."""
    path = folder / "statistics.json"
    if not path.is_file():
        raise RoomError(f"no {path}\n  remedy: python -m extract.datasets.rooms_render measure {folder} --write")
    text = render(folder, json.loads(path.read_text(encoding="utf-8")))
    (folder / "README.md").write_text(text, encoding="utf-8")
