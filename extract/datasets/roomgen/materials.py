"""Blender materials for walls, floors and our own furniture, drawn once per room."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from extract.datasets.roomgen import textures
from extract.datasets.roomgen.blender import load
from extract.datasets.roomgen.textures import Colour, Image, hsv

SURFACES = {
    "metal": (0.25, 1.0), "gloss": (0.12, 0.0), "ceramic": (0.12, 0.0), "appliance": (0.3, 0.35),
    "screen_off": (0.08, 0.0), "wood": (0.45, 0.0), "front": (0.42, 0.0), "worktop": (0.25, 0.0),
    "rubber": (0.6, 0.0), "white": (0.4, 0.0), "paint": (0.4, 0.0), "dark": (0.4, 0.0),
}  # fmt: skip
"""Material name to (roughness, metallic); others are matt."""


def _linear(colour: Colour) -> tuple[float, float, float, float]:
    r, g, b = (float(np.clip(c, 0, 1)) ** 2.2 for c in colour)
    return (r, g, b, 1.0)


@dataclasses.dataclass
class Palette:
    """The materials of one room by name. `daylight` in [0, 1] sets the brightness of windows."""

    rng: np.random.Generator
    daylight: float
    made: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = self.rng
        self.wood = hsv(rng.uniform(0.055, 0.1), rng.uniform(0.2, 0.65), rng.uniform(0.3, 0.85))
        self.accent = hsv(rng.uniform(0, 1), rng.uniform(0.1, 0.55), rng.uniform(0.4, 0.9))
        self.white_fronts = bool(rng.random() < 0.4)
        self.hue = float(rng.uniform(0, 1))

    def get(self, name: str) -> Any:
        """A material by name; pictures and rugs are new at each call."""
        if name in ("painting", "rug", "screen"):
            return self._picture(name)
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def surface(self, name: str, image: Image, period: float, roughness: float) -> Any:
        """A material that repeats an image every `period` metres."""
        material, shader = self._new(name, roughness, 0.0)
        self._link_image(material, shader.inputs["Base Color"], image, 1 / period)
        return material

    def _new(self, name: str, roughness: float, metallic: float) -> tuple[Any, Any]:
        material = load().data.materials.new(name)
        material.use_nodes = True
        shader = material.node_tree.nodes["Principled BSDF"]
        shader.inputs["Roughness"].default_value = roughness
        shader.inputs["Metallic"].default_value = metallic
        return material, shader

    def _link_image(self, material: Any, socket: Any, image: Image, scale: float) -> None:
        height, width, _ = image.shape
        picture = load().data.images.new(material.name, width, height)
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = image
        picture.pixels.foreach_set(rgba.ravel())
        picture.pack()
        nodes, links = material.node_tree.nodes, material.node_tree.links
        node, place = nodes.new("ShaderNodeTexImage"), nodes.new("ShaderNodeMapping")
        node.image = picture
        place.inputs["Scale"].default_value = (scale, scale, 1)
        links.new(nodes.new("ShaderNodeTexCoord").outputs["UV"], place.inputs["Vector"])
        links.new(place.outputs["Vector"], node.inputs["Vector"])
        links.new(node.outputs["Color"], socket)

    def _glow(self, shader: Any, colour: Colour, strength: float) -> None:
        shader.inputs["Emission Color"].default_value = _linear(colour)
        shader.inputs["Emission Strength"].default_value = strength

    def _picture(self, name: str) -> Any:
        material, shader = self._new(name, 0.2 if name == "screen" else 0.8, 0.0)
        image = textures.rug(self.rng) if name == "rug" else textures.painting(self.rng)
        if name == "screen" and self.rng.random() < 0.45:
            shader.inputs["Base Color"].default_value = (0.008, 0.008, 0.01, 1)
            return material
        self._link_image(material, shader.inputs["Base Color"], image, 1)
        if name == "screen":
            shader.inputs["Base Color"].default_value = (0.01, 0.01, 0.01, 1)
            self._link_image(material, shader.inputs["Emission Color"], image, 1)
            shader.inputs["Emission Strength"].default_value = 1.2
        return material

    def _make(self, name: str) -> Any:
        rng = self.rng
        material, shader = self._new(name, *SURFACES.get(name, (0.75, 0.0)))
        if name == "outside":
            self._link_image(material, shader.inputs["Emission Color"], textures.outside(rng, self.daylight), 1)
            shader.inputs["Base Color"].default_value = (0.02, 0.02, 0.02, 1)
            shader.inputs["Emission Strength"].default_value = 1.0 + 4.5 * self.daylight
        elif name == "wood" or (name == "front" and not self.white_fronts):
            image = textures.planks(rng, self.wood, rows=4)
            self._link_image(material, shader.inputs["Base Color"], image, 0.8)
        elif name == "shade":
            shader.inputs["Base Color"].default_value = _linear((0.95, 0.88, 0.75))
            self._glow(shader, (1.0, 0.85, 0.62), float(rng.uniform(2.0, 5.0)))
        else:
            shader.inputs["Base Color"].default_value = _linear(self._colour(name))
        return material

    def _colour(self, name: str) -> Colour:
        rng = self.rng
        if name.startswith("book"):
            return hsv(rng.uniform(0, 1), rng.uniform(0.3, 0.85), rng.uniform(0.25, 0.85))
        grey = float(rng.uniform(0.75, 0.95))
        shades: dict[str, Colour] = {
            "front": (0.93, 0.92, 0.9),
            "legs": self.wood if rng.random() < 0.6 else (0.12, 0.12, 0.13),
            "metal": (0.75, 0.75, 0.76),
            "dark": (0.11, 0.11, 0.12),
            "rubber": (0.07, 0.07, 0.08),
            "gloss": (0.05, 0.045, 0.045) if rng.random() < 0.6 else hsv(0.03, 0.7, 0.35),
            "white": (0.93, 0.93, 0.91),
            "ceramic": (0.95, 0.95, 0.94),
            "appliance": (grey, grey, grey),
            "screen_off": (0.03, 0.03, 0.035),
            "worktop": hsv(rng.uniform(0, 1), 0.08, rng.uniform(0.2, 0.85)),
            "paint": self.accent if rng.random() < 0.5 else (0.92, 0.91, 0.88),
            "cloth": hsv(self.hue, rng.uniform(0.05, 0.55), rng.uniform(0.4, 0.92)),
        }
        return shades[name]
