"""Renders a built room: pictures with Cycles, then depth and instance ids through the exact pixel centres."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.datasets.roomgen import camera
from extract.datasets.roomgen.blender import load
from extract.datasets.roomgen.scene import Built

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV camera (x right, y down, z forward) to Blender camera (y up, z backward), and back."""


@dataclasses.dataclass(frozen=True)
class Quality:
    """What a picture costs."""

    size: int = 256
    samples: int = 6
    bounces: int = 3
    threads: int = 2


@dataclasses.dataclass
class Frames:
    """rgb (n, h, w, 3) uint8, planar depth in metres (n, h, w), instance ids (n, h, w)."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instance: NDArray[np.uint16]


def caster() -> camera.Cast:
    """A ray caster over the current scene."""
    from mathutils import Vector  # type: ignore[import-not-found, unused-ignore]

    bpy = load()
    scene = bpy.context.scene
    graph = bpy.context.evaluated_depsgraph_get()

    def cast(origin: camera.Array, directions: camera.Array) -> tuple[camera.Array, NDArray[np.int64]]:
        distance = np.zeros(len(directions))
        ident = np.zeros(len(directions), np.int64)
        start = Vector(origin)
        lengths = np.linalg.norm(directions, axis=1)
        for n, direction in enumerate(directions):
            hit, at, _, _, found, _ = scene.ray_cast(graph, start, Vector(direction))
            if hit:
                distance[n] = (at - start).length / lengths[n]
                ident[n] = found.pass_index
        return distance, ident

    return cast


class Renderer:
    """Films one room. Owns a scratch folder until `close`."""

    def __init__(self, built: Built, fov: float, quality: Quality) -> None:
        self.bpy, self.built, self.quality = load(), built, quality
        self.scratch = tempfile.TemporaryDirectory(prefix="roomgen-render-")
        self.scene = self.bpy.context.scene
        lens = self.bpy.data.cameras.new("camera")
        lens.angle = np.radians(fov)
        lens.clip_start, lens.clip_end = 0.05, 50
        self.camera = self.bpy.data.objects.new("camera", lens)
        self.scene.collection.objects.link(self.camera)
        self.scene.camera = self.camera
        self._settings()

    def close(self) -> None:
        """Remove the scratch folder."""
        self.scratch.cleanup()

    def _settings(self) -> None:
        scene, quality = self.scene, self.quality
        render, cycles = scene.render, scene.cycles
        render.engine = "CYCLES"
        render.resolution_x = render.resolution_y = quality.size
        render.resolution_percentage = 100
        render.threads_mode, render.threads = "FIXED", quality.threads
        render.use_persistent_data = True
        render.image_settings.file_format = "PNG"
        cycles.device = "CPU"
        # many small lamps make the light tree slower than it is useful at few samples
        cycles.use_light_tree = False
        cycles.max_bounces = quality.bounces
        cycles.diffuse_bounces, cycles.glossy_bounces = quality.bounces, 2
        cycles.transparent_max_bounces = 8
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 4.0
        # at so few samples the denoiser makes the picture: more samples were tried and look the same
        cycles.use_adaptive_sampling = False
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_prefilter = "FAST"
        cycles.denoising_quality = "BALANCED"
        scene.view_settings.view_transform = "AgX"
        scene.view_settings.look = "AgX - Medium High Contrast"

    def _place(self, pose: camera.Array) -> None:
        from mathutils import Matrix

        self.camera.matrix_world = Matrix((pose @ FLIP).tolist())

    def _photograph(self, pose: camera.Array) -> NDArray[np.uint8]:
        from PIL import Image

        self._place(pose)
        path = Path(self.scratch.name) / "rgb.png"
        self.scene.render.filepath = str(path)
        self.bpy.ops.render.render(write_still=True)
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    def pictures(self, poses: camera.Array) -> NDArray[np.uint8]:
        """The rgb frames, at an exposure that suits the room."""
        self.expose(poses[:: max(len(poses) // 3, 1)])
        cycles = self.scene.cycles
        cycles.samples, cycles.use_denoising = self.quality.samples, True
        cycles.filter_width = 1.5
        return np.stack([self._photograph(pose) for pose in poses])

    def expose(self, poses: camera.Array, target: float = 0.46) -> None:
        """Set the exposure so that small test pictures have a mean sRGB value near `target`."""
        scene, size = self.scene, self.scene.render.resolution_x
        scene.cycles.samples, scene.cycles.use_denoising = 6, False
        scene.render.resolution_x = scene.render.resolution_y = 40
        for _ in range(3):
            mean = float(np.mean([self._photograph(pose).mean() for pose in poses])) / 255
            scene.view_settings.exposure += float(np.clip(3.2 * np.log2(target / max(mean, 0.01)) / 1.6, -3, 3))
        scene.render.resolution_x = scene.render.resolution_y = size

    def truth(self, poses: camera.Array) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Depth and instance ids: one ray through each pixel centre, with see-through glass made solid."""
        scene, bpy = self.scene, self.bpy
        for socket, _ in self.built.glass:
            socket.default_value = 1.0
        scene.cycles.samples, scene.cycles.use_denoising = 1, False
        scene.cycles.max_bounces = 0
        # the filter's width is the region a sample may fall into
        scene.cycles.pixel_filter_type, scene.cycles.filter_width = "BOX", 0.01
        layer = bpy.context.view_layer
        layer.use_pass_z = layer.use_pass_object_index = True
        output = self._outputs()
        depths, idents = [], []
        for pose in poses:
            self._place(pose)
            bpy.ops.render.render()
            depths.append(self._read("depth"))
            idents.append(self._read("instance"))
        scene.node_tree.nodes.remove(output)
        scene.use_nodes = False
        return np.stack(depths), np.stack(idents).round().astype(np.uint16)

    def _outputs(self) -> Any:
        scene = self.scene
        scene.use_nodes = True
        nodes, links = scene.node_tree.nodes, scene.node_tree.links
        nodes.clear()
        layers = nodes.new("CompositorNodeRLayers")
        links.new(layers.outputs["Image"], nodes.new("CompositorNodeComposite").inputs[0])
        output = nodes.new("CompositorNodeOutputFile")
        output.base_path = self.scratch.name
        output.format.file_format = "OPEN_EXR"
        output.format.color_depth, output.format.exr_codec = "32", "NONE"
        output.file_slots.clear()
        for slot, name in (("depth", "Depth"), ("instance", "IndexOB")):
            output.file_slots.new(slot)
            links.new(layers.outputs[name], output.inputs[slot])
        return output

    def _read(self, slot: str) -> NDArray[np.float32]:
        bpy, size = self.bpy, self.scene.render.resolution_x
        (path,) = Path(self.scratch.name).glob(f"{slot}*.exr")
        image = bpy.data.images.load(str(path))
        pixels = np.empty(size * size * image.channels, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
        path.unlink()
        return pixels.reshape(size, size, -1)[::-1, :, 0].copy()
