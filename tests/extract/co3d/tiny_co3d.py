"""A tiny release of CO3D v2: a ball on a floor before a wall, ray-cast exactly, in the official layout.

Cameras are PyTorch3D's throughout, by the definition: X_cam = X_world @ R + T (rows; x left, y up, z forward), and
x_ndc = f X_cam / Z + p. Nothing here knows OpenCV's axes, pixel intrinsics, or the reader.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FRAMES = 24
CENTRE, RADIUS = np.array([0.1, 0.6, 0.2]), 0.6
WALL = 3.0
"""The floor is y = 0, the wall is z = 3; beyond it is nothing."""


@dataclass(frozen=True)
class Recipe:
    """How a sequence is written. `size` is (height, width)."""

    name: str
    size: tuple[int, int]
    intrinsics_format: str = "ndc_norm_image_bounds"
    frame_type: str = "train_known"
    score: float | None = 1.3
    scale_adjustment: float = 1.0
    frames: int = FRAMES


@dataclass(frozen=True)
class Written:
    """What a sequence shows, by frame number. Depths are as float16 keeps them, times the scale."""

    recipe: Recipe
    rgb: list[NDArray[np.uint8]] = field(default_factory=list)
    depth: list[NDArray[np.float64]] = field(default_factory=list)
    valid: list[NDArray[np.bool_]] = field(default_factory=list)
    ball: list[NDArray[np.bool_]] = field(default_factory=list)


UPRIGHT = Recipe("110_13051_23361", (90, 50))
LYING = Recipe("189_20393_38136", (30, 150), "ndc_isotropic", "dev_unseen", 0.8, 0.5)


def write_release(root: Path, recipes: Sequence[Recipe] = (UPRIGHT, LYING), category: str = "apple") -> list[Written]:
    """One category with these sequences."""
    folder = root / category
    written, frames, sequences = [], [], []
    for recipe in recipes:
        shown, annotations = write_sequence(folder / recipe.name, recipe)
        written.append(shown)
        frames += annotations
        sequences.append(_sequence(category, recipe))
    # The order of the list is no promise of the release.
    write_list(folder / "frame_annotations.jgz", frames[::-1])
    write_list(folder / "sequence_annotations.jgz", sequences)
    (folder / "set_lists").mkdir(exist_ok=True)
    listed = [[frame["sequence_name"], frame["frame_number"], frame["image"]["path"]] for frame in frames]
    text = json.dumps({"train": listed, "val": [], "test": []})
    (folder / "set_lists/set_lists_fewview_dev.json").write_text(text)
    return written


def write_sequence(folder: Path, recipe: Recipe) -> tuple[Written, list[dict[str, Any]]]:
    """The files of a sequence; what they show, and its frame annotations."""
    for name in ("images", "depths", "depth_masks", "masks"):
        (folder / name).mkdir(parents=True)
    below = f"{folder.parent.name}/{folder.name}"
    written, annotations = Written(recipe), []
    for number in range(recipe.frames):
        view = _viewpoint(recipe, number)
        depth, ball = cast(view, recipe.size)
        stem = f"frame{2 * number + 5:06d}"  # as the release warns: not the frame number
        colour = np.where(ball[..., None], (200, 60, 40), (90, 120, 60 + 5 * number)).astype(np.uint8)
        Image.fromarray(colour).save(folder / f"images/{stem}.jpg", quality=95, subsampling=0)
        with np.errstate(over="ignore"):
            half = (depth / recipe.scale_adjustment).astype(np.float16)
        half[1, -2:], half[2, -2:] = np.inf, np.nan
        Image.fromarray(half.view(np.uint16)).save(folder / f"depths/{stem}.jpg.geometric.png")
        consistent = np.ones(recipe.size, bool)
        consistent[:, : recipe.size[1] // 5] = False
        Image.fromarray(consistent).save(folder / f"depth_masks/{stem}.png")
        probability = np.where(ball, 128, 127).astype(np.uint8)
        Image.fromarray(probability).save(folder / f"masks/{stem}.png")
        known = np.isfinite(half) & (half > 0) & consistent
        written.rgb.append(colour)
        written.depth.append(np.where(known, half.astype(np.float64) * recipe.scale_adjustment, 0))
        written.valid.append(known)
        written.ball.append(ball)
        annotations.append(
            {
                "sequence_name": recipe.name,
                "frame_number": number,
                "frame_timestamp": number / 10,
                "image": {"path": f"{below}/images/{stem}.jpg", "size": list(recipe.size)},
                "depth": {
                    "path": f"{below}/depths/{stem}.jpg.geometric.png",
                    "scale_adjustment": recipe.scale_adjustment,
                    "mask_path": f"{below}/depth_masks/{stem}.png",
                },
                "mask": {"path": f"{below}/masks/{stem}.png", "mass": float(ball.sum())},
                "viewpoint": view,
                "meta": {"frame_type": recipe.frame_type},
            }
        )
    return written, annotations


def cast(view: dict[str, Any], size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Planar z (0 = nothing) and the ball, through the centre of every pixel."""
    height, width = size
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    if view["intrinsics_format"] == "ndc_isotropic":  # the shorter side is 2 long
        shorter = min(size)
        x, y = (width - 2 * column) / shorter, (height - 2 * row) / shorter
    else:
        x, y = 1 - 2 * column / width, 1 - 2 * row / height
    (fx, fy), (px, py) = view["focal_length"], view["principal_point"]
    camera = np.stack([(x - px) / fx, (y - py) / fy, np.ones_like(x)], -1)  # at z = 1
    back = np.linalg.inv(np.array(view["R"]))
    rays, origin = camera @ back, -np.array(view["T"]) @ back
    with np.errstate(divide="ignore", invalid="ignore"):
        floor, wall = -origin[1] / rays[..., 1], (WALL - origin[2]) / rays[..., 2]
        depth = np.minimum(np.where(floor > 0, floor, np.inf), np.where(wall > 0, wall, np.inf))
    a, b = (rays**2).sum(-1), rays @ (origin - CENTRE)
    root = b**2 - a * (((origin - CENTRE) ** 2).sum() - RADIUS**2)
    near = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    ball = (near > 0) & (near < depth)
    depth = np.where(ball, near, depth)
    return np.where(np.isfinite(depth), depth, 0), ball


def write_list(path: Path, content: object) -> None:
    """Gzipped JSON, as the release has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(content).encode()))


def read_list(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def _sequence(category: str, recipe: Recipe) -> dict[str, Any]:
    return {
        "sequence_name": recipe.name,
        "category": category,
        "video": None,
        "point_cloud": {"path": f"{category}/{recipe.name}/pointcloud.ply", "quality_score": 0.9, "n_points": 1000},
        "viewpoint_quality_score": recipe.score,
    }


def _viewpoint(recipe: Recipe, number: int) -> dict[str, Any]:
    """A camera on an arc around the ball, at eye height, looking at it and a little beside it."""
    angle = 0.5 * (number / max(recipe.frames - 1, 1) - 0.5)
    centre = CENTRE + 2.5 * np.array([np.sin(angle), 0.4, -np.cos(angle)])
    forward = CENTRE + np.array([0.05, 0, 0]) - centre
    forward /= np.linalg.norm(forward)
    left = np.cross((0, 1, 0), forward)
    left /= np.linalg.norm(left)
    rotation = np.column_stack([left, np.cross(forward, left), forward])  # a row of world times this is a row of camera
    height, width = recipe.size
    isotropic = recipe.intrinsics_format == "ndc_isotropic"
    # The same in both directions once it is in pixels: about as long as the longer side.
    pixels, sides = max(height, width) * 0.9, (min(recipe.size),) * 2 if isotropic else (width, height)
    return {
        "R": rotation.tolist(),
        "T": (-centre @ rotation).tolist(),
        "focal_length": [2 * pixels / side for side in sides],
        "principal_point": [0.06, -0.04],
        "intrinsics_format": recipe.intrinsics_format,
    }
