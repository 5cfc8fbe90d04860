"""A tiny world in real stores: four blocks per image, and features that say all about them, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from store import (
    ArraySpec,
    BackboneRecipe,
    ClipRow,
    DatasetRecipe,
    Recipe,
    StorageRecipe,
    StoreWriter,
    clips_digest,
    common_bank,
    create,
)

CLASSES = [
    {"name": "chair", "kind": "thing"},
    {"name": "wall", "kind": "stuff"},
    {"name": "lamp", "kind": "thing"},
    {"name": "sofa", "kind": "thing"},
    {"name": "floor", "kind": "stuff"},
]
SPLITS = {"train": 10, "val": 4, "test": 4}
SLOTS = 8


@dataclass(frozen=True)
class Size:
    """How large the world is. The image is `grid` cells of `cell` pixels along each axis."""

    grid: int = 8
    cell: int = 4
    frames: int = 6
    channels: int = 48
    splits: tuple[tuple[str, int], ...] = tuple(SPLITS.items())


def clip_table(size: Size) -> list[ClipRow]:
    names = [(split, index) for split, count in size.splits for index in range(count)]
    return [
        ClipRow(
            row=row,
            id=f"{split}-{index}",
            scene=f"scene-{split}-{index}",
            split=split,
            bank=tuple(range(0, 2 * size.frames, 2)),
            n_frames=2 * size.frames,
            digest=f"{row:032x}",
        )
        for row, (split, index) in enumerate(names)
    ]


def clip_targets(row: int, size: Size) -> dict[str, NDArray[Any]]:
    """Four blocks, each an instance with its own class and depth, rolled from frame to frame; a camera that pans."""
    rng = np.random.default_rng(row)
    g, f, px = size.grid, size.frames, size.grid * size.cell
    slots = rng.permutation(SLOTS - 1)[:4] + 1
    instance_class = np.zeros(SLOTS, np.uint8)
    instance_class[slots] = rng.choice(len(CLASSES), size=4, replace=False) + 1
    block_depth = np.zeros(SLOTS)
    block_depth[slots] = np.exp(rng.uniform(0.0, 1.5, size=4))
    blocks = np.kron(slots.reshape(2, 2), np.ones((g // 2, g // 2), np.int64))
    cells = np.stack([np.roll(blocks, rng.integers(0, g, 2), (0, 1)) for _ in range(f)])
    instance = np.kron(cells, np.ones((1, size.cell, size.cell), np.int64)).astype(np.uint16)
    depth = block_depth[instance].astype(np.float32)
    depth[:, :2, :2] = 0.0
    classes = instance_class[instance]
    yaw = rng.uniform(-0.4, 0.4, f)
    cam_to_world = np.tile(np.eye(4), (f, 1, 1))
    cam_to_world[:, :3, :3] = Rotation.from_rotvec(np.stack([0 * yaw, yaw, 0 * yaw], -1)).as_matrix()
    cam_to_world[:, :3, 3] = rng.uniform(-1, 1, (f, 3))
    intrinsics = np.tile(np.array([[px, 0, px / 2], [0, px, px / 2], [0, 0, 1.0]]), (f, 1, 1))
    return {
        "rgb": rng.integers(0, 255, (f, px, px, 3), dtype=np.uint8),
        "depth": depth,
        "instance": instance,
        "instance_class": instance_class,
        "class_pixels": np.stack([np.bincount(c.ravel(), minlength=len(CLASSES) + 1)[1:] for c in classes]).astype(
            np.int32
        ),
        "cam_to_world": cam_to_world,
        "intrinsics": intrinsics,
    }


def telling(targets: dict[str, NDArray[Any]], size: Size, row: int) -> NDArray[np.float32]:
    """Features (frame, y, x, channel) of which every label is an affine function, with absurd scales per channel."""
    centre = slice(size.cell // 2, None, size.cell)
    instance = targets["instance"][:, centre, centre]
    depth = np.maximum(targets["depth"][:, centre, centre], 0.1)
    shape = instance.shape
    pose = targets["cam_to_world"]
    angle = Rotation.from_matrix(pose[:, :3, :3]).as_rotvec()[:, 1]
    middle = (np.arange(size.grid) + 0.5) / size.grid - 0.5
    v, u = np.meshgrid(middle, middle, indexing="ij")
    camera = np.concatenate([pose[:, :3, 3], np.sin(angle)[:, None], np.cos(angle)[:, None]], -1)
    parts = [
        np.eye(len(CLASSES) + 1)[targets["instance_class"][instance]],
        np.eye(SLOTS)[instance],
        np.log(depth)[..., None],
        np.stack([u * depth, v * depth, depth], -1),
        np.broadcast_to(camera[:, None, None], (*shape, 5)),
    ]
    signal = np.concatenate(parts, -1)
    noise = np.random.default_rng([row, 1]).normal(size=(*shape, size.channels - signal.shape[-1]))
    scale = 10.0 ** np.linspace(-1, 2, size.channels)
    return (np.concatenate([signal, noise], -1) * scale + 3 * scale).astype(np.float32)


def mute(size: Size, row: int, tap: int = 0) -> NDArray[np.float32]:
    """Features that say nothing."""
    shape = (size.frames, size.grid, size.grid, size.channels)
    return np.random.default_rng([row, 2, tap]).normal(size=shape).astype(np.float32)


def write_world(
    root: Path, size: Size = Size(), taps: tuple[str, ...] = ("blocks.0", "blocks.1@t500"), model: str = "toy"
) -> None:
    """`targets/world` and `<model>/world` under `root`. The last tap tells all, the others nothing."""
    table = clip_table(size)
    dataset = DatasetRecipe(
        name="world",
        version="1",
        clips=clips_digest(table),
        bank=common_bank(table),
        classes="0" * 32,
        image_size=(size.grid, size.grid),
    )
    labels = [clip_targets(clip.row, size) for clip in table]
    dims = {
        "rgb": ("frame", "y", "x", "rgb"),
        "depth": ("frame", "y", "x"),
        "instance": ("frame", "y", "x"),
        "instance_class": ("slot",),
        "class_pixels": ("frame", "class"),
        "cam_to_world": ("frame", "row", "column"),
        "intrinsics": ("frame", "row", "column"),
    }
    specs = [ArraySpec(name, v.shape, str(v.dtype), dims[name], compressed=True) for name, v in labels[0].items()]
    (root / "targets").mkdir(parents=True, exist_ok=True)
    recipe = Recipe(kind="targets", dataset=dataset, storage=StorageRecipe(dtype="labels"))
    path = root / "targets" / "world"
    create(path, recipe, table, specs, attrs={"classes": CLASSES}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for clip in table:
            writer.put(clip.row, labels[clip.row])
    write_features(root / model / "world", dataset, table, labels, size, taps, model)


def write_features(
    path: Path,
    dataset: DatasetRecipe,
    table: list[ClipRow],
    labels: list[dict[str, NDArray[Any]]],
    size: Size,
    taps: tuple[str, ...],
    model: str,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    backbone = BackboneRecipe(
        family="toy",
        family_version=1,
        model=model,
        kind="encoder",
        checkpoint="toy",
        revision=None,
        digest="0" * 32,
        attention=None,
    )
    shape = (size.frames, size.grid, size.grid, size.channels)
    specs = [
        ArraySpec(
            tap,
            shape,
            "float16",
            ("frame", "y", "x", "channel"),
            {
                "site": tap.partition("@")[0],
                "depth": index,
                "noise": {"name": tap.partition("@")[2], "sigma": 1.0, "log_snr": 0.0, "timestep": 500}
                if "@" in tap
                else None,
                "grid_to_image": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            },
        )
        for index, tap in enumerate(taps)
    ]
    create(
        path,
        Recipe(kind="features", dataset=dataset, backbone=backbone),
        table,
        specs,
        attrs={},
        coordinates={},
        provenance={},
    )
    with StoreWriter(path) as writer:
        for clip in table:
            values = {tap: mute(size, clip.row, index) for index, tap in enumerate(taps[:-1])}
            values[taps[-1]] = telling(labels[clip.row], size, clip.row)
            writer.put(clip.row, values)
