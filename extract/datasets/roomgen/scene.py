"""Builds a furnished room as a Blender scene in which every object carries its instance id."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from extract.datasets.roomgen import catalog, meshes, shapes, textures
from extract.datasets.roomgen.blender import load
from extract.datasets.roomgen.errors import RoomError
from extract.datasets.roomgen.geometry import Placement
from extract.datasets.roomgen.layout import Room
from extract.datasets.roomgen.materials import Palette


@dataclasses.dataclass
class Built:
    """A scene, what its instance ids mean, and the sockets that make glass see-through."""

    instances: list[dict[str, Any]]
    glass: list[tuple[Any, float]]


class Builder:
    """Fills the current Blender file with one room."""

    def __init__(self, room: Room, pack: Path) -> None:
        self.room, self.pack = room, pack
        self.rng = np.random.default_rng([room.seed, 1])
        self.bpy = load()
        self.palette = Palette(self.rng, room.daylight)
        self.instances: list[dict[str, Any]] = []
        self.glass: list[tuple[Any, float]] = []

    def build(self) -> Built:
        """Empty the file and build the room in it."""
        bpy = self.bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.scene.world = bpy.data.worlds.new("world")
        self._shell()
        for item in self.room.items:
            ident = self._register(item.cls, item.model)
            model = catalog.models()[item.model]
            added = self._import(model) if model.path else self._own(item)
            self._stand(added, item, ident, scale=bool(model.path))
        self._lights()
        bpy.context.view_layer.update()
        return Built(self.instances, self.glass)

    def _register(self, cls: str, model: str) -> int:
        ident = len(self.instances) + 1
        count = sum(item["class"] == cls for item in self.instances) + 1
        self.instances.append({"id": ident, "class": cls, "model": model, "name": f"{cls} {count}"})
        return ident

    def _object(self, name: str, mesh: meshes.Mesh) -> Any:
        bpy = self.bpy
        data = bpy.data.meshes.new(name)
        data.from_pydata(mesh.vertices, [], mesh.faces)
        used = list(dict.fromkeys(mesh.materials))
        for material in used:
            data.materials.append(self.palette.get(material))
        data.polygons.foreach_set("material_index", [used.index(m) for m in mesh.materials])
        data.polygons.foreach_set("use_smooth", mesh.smooth)
        layer = data.uv_layers.new()
        layer.data.foreach_set("uv", np.asarray(mesh.uv, np.float32).ravel())
        data.update()
        added = bpy.data.objects.new(name, data)
        bpy.context.scene.collection.objects.link(added)
        return added

    def _own(self, item: Placement) -> Any:
        return self._object(item.model, meshes.from_parts(shapes.parts(item.model, item.size, self.rng)))

    def _import(self, model: catalog.Model) -> Any:
        """Import an OBJ as one object."""
        bpy = self.bpy
        path = self.pack / model.path
        if not path.is_file():
            raise RoomError(f"the furniture pack has no {path}\n  remedy: --furniture PATH to BlendSwap-CC-0.sh3f 1.8")
        before = set(bpy.data.objects)
        bpy.ops.wm.obj_import(filepath=str(path))
        new = [added for added in bpy.data.objects if added not in before and added.type == "MESH"]
        bpy.ops.object.select_all(action="DESELECT")
        for added in new:
            added.select_set(True)
        bpy.context.view_layer.objects.active = new[0]
        if len(new) > 1:
            bpy.ops.object.join()
        joined = bpy.context.view_layer.objects.active
        bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)
        for slot in joined.material_slots:
            if slot.material and slot.material.use_nodes:
                self._mend(slot.material)
        return joined

    def _mend(self, material: Any) -> None:
        """MTL files say little: soften mirror-like defaults, remember constant transparency."""
        tree = material.node_tree
        for node in list(tree.nodes):
            if node.type == "TEX_IMAGE" and not self._exists(node.image):
                # a texture its author left out: the plain colour of the material stands in
                tree.nodes.remove(node)
        for node in tree.nodes:
            if node.type != "BSDF_PRINCIPLED":
                continue
            rough = node.inputs["Roughness"]
            if not rough.is_linked:
                rough.default_value = min(max(rough.default_value, 0.22), 0.85)
            alpha = node.inputs["Alpha"]
            if not alpha.is_linked and alpha.default_value < 0.99:
                alpha.default_value = max(alpha.default_value, 0.25)
                self.glass.append((alpha, alpha.default_value))

    def _exists(self, image: Any) -> bool:
        """Whether an image's file is there. (`has_data` says no until a picture is first used.)"""
        return image is not None and Path(self.bpy.path.abspath(image.filepath)).is_file()

    def _stand(self, added: Any, item: Placement, ident: int, *, scale: bool) -> None:
        from mathutils import Matrix  # type: ignore[import-not-found, unused-ignore]

        if scale:
            count = len(added.data.vertices)
            flat = np.empty(count * 3, np.float32)
            added.data.vertices.foreach_get("co", flat)
            points = flat.reshape(-1, 3)
            low, high = points.min(0), points.max(0)
            points = (points - [*((low + high) / 2)[:2], low[2]]) * (
                np.asarray(item.size) / np.maximum(high - low, 1e-6)
            )
            added.data.vertices.foreach_set("co", points.astype(np.float32).ravel())
            added.data.update()
        turn = Matrix.Rotation(math.radians(item.yaw), 4, "Z")
        added.matrix_world = Matrix.Translation((item.x, item.y, item.z)) @ turn
        added.pass_index = ident

    def _shell(self) -> None:
        """Floor, ceiling, four walls with holes for windows and doors, and skirting boards."""
        from mathutils import Matrix

        room, palette = self.room, self.palette
        rx, ry, rz = room.size
        image, period = textures.floor(self.rng, room.floor)
        roughness = {"carpet": 0.95, "tiles": 0.25}.get(room.floor, 0.35)
        palette.made["floor"] = palette.surface("floor", image, period, roughness)
        image, period = textures.wall(self.rng, room.walls)
        palette.made["wall"] = palette.surface("wall", image, period, 0.3 if room.walls == "tiles" else 0.85)
        palette.made["feature"] = palette.made["wall"]
        if room.feature != room.walls:
            image, period = textures.wall(self.rng, room.feature)
            palette.made["feature"] = palette.surface("feature", image, period, 0.85)
        palette.made["ceiling"] = palette.surface("ceiling", textures.plaster(self.rng, (0.93, 0.92, 0.9)), 2.0, 0.9)
        flat = {"floor": (0.0, -90.0), "ceiling": (rz, 90.0)}
        for name, (z, tilt) in flat.items():
            added = self._object(name, meshes.panel(rx, ry, [], name))
            turn = Matrix.Rotation(math.radians(tilt), 4, "X")
            start = (0, 0 if z == 0 else ry, z)
            added.matrix_world = Matrix.Translation(start) @ turn
            added.pass_index = self._register(name, "")
        places = {"n": ((0, ry), 0), "e": ((rx, ry), -90), "s": ((rx, 0), 180), "w": ((0, 0), 90)}
        for index, (side, ((x, y), yaw)) in enumerate(places.items()):
            length = rx if side in "ns" else ry
            holes = self._holes(side)
            covering = "feature" if index == room.seed % 4 else "wall"
            mesh = meshes.panel(length, rz, holes, covering)
            gaps = [(x0, x1) for x0, x1, z0, _ in sorted(holes) if z0 <= 0.02]
            at = 0.0
            for x0, x1 in [*gaps, (length, length)]:
                if x0 - at > 0.01:
                    board = shapes.Part((at, -0.015, 0.0), (x0, 0.0, 0.08), "white")
                    skirting = meshes.from_parts([board])
                    for k, face in enumerate(skirting.faces):
                        corners = [skirting.vertices[v] for v in face]
                        mesh.face(corners, skirting.uv[4 * k : 4 * k + 4], "white")
                at = x1
            added = self._object(f"wall_{side}", mesh)
            turn = Matrix.Rotation(math.radians(yaw), 4, "Z")
            added.matrix_world = Matrix.Translation((x, y, 0)) @ turn
            added.pass_index = self._register("wall", "")

    def _holes(self, side: str) -> list[tuple[float, float, float, float]]:
        """Openings of a wall in its own coordinates, which run to the right as seen from inside."""
        rx, ry, _ = self.room.size
        yaw = {"n": 0, "s": 180, "w": 90, "e": -90}[side]
        holes = []
        for item in self.room.items:
            if item.cls in ("window", "door") and round(item.yaw) == yaw:
                u = {"n": item.x, "s": rx - item.x, "w": item.y, "e": ry - item.y}[side]
                half = item.size[0] / 2
                holes.append((u - half, u + half, max(item.z, 0.0), item.z + item.size[2]))
        return holes

    def _lights(self) -> None:
        """Soft ceiling light, daylight from windows, and a warm glow at lamps. Exposure is set later."""
        room = self.room
        rx, ry, rz = room.size
        warm = (1.0, room.warmth, room.warmth**2.2)
        area = rx * ry
        self._light("AREA", (rx / 2, ry / 2, rz - 0.02), 4.0 * area * room.lamp, warm, 0.35 * min(rx, ry))
        for item in room.items:
            if item.cls == "window":
                x, y = item.local(0.0, -0.06)
                power = 85 * room.daylight * item.size[0] * item.size[2]
                colour = (0.86, 0.93, 1.0)
                light = self._light("AREA", (x, y, item.z + item.size[2] / 2), power, colour, item.size[0] * 0.9)
                light.data.shape = "RECTANGLE"
                light.data.size_y = item.size[2] * 0.9
                light.rotation_euler = (math.radians(-80), 0, math.radians(item.yaw))
            elif item.cls == "lamp":
                above = item.z + item.size[2] * (0.85 if item.z + item.size[2] < rz - 0.3 else 0.0) - 0.02
                x, y = item.local(0.0, -0.15 if item.model == "wallLight" else 0)
                if item.model in ("desklamp", "wallLight", "lamp2"):
                    self._light("POINT", (x, y, max(above, 0.1)), 7.0, (1.0, 0.8, 0.55), 0.06)

    def _light(
        self, kind: str, at: tuple[float, float, float], power: float,
        colour: tuple[float, float, float], size: float,
    ) -> Any:  # fmt: skip
        bpy = self.bpy
        data = bpy.data.lights.new("light", kind)
        data.energy, data.color = power, colour
        setattr(data, "size" if kind == "AREA" else "shadow_soft_size", size)
        light = bpy.data.objects.new("light", data)
        light.location = at
        light.visible_camera = False
        bpy.context.scene.collection.objects.link(light)
        return light
