"""The recipe: everything that can change a number in a store, and its fingerprint.

What cannot change a number (batch size, workers, host, device, library build) is provenance and is kept apart. What is
particular to one tap (site, noise level) stands in the attributes of its array, so that a store can grow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_serializer

from store.digest import DIGEST_PATTERN, digest_text
from store.errors import FormatError

Text = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*$", max_length=200)]
"""A name that stays in its folder when it becomes part of a path."""
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BackboneRecipe(_Frozen):
    """Which network, with which weights, computed how.

    Attributes:
        family, family_version: the adapter's code; its version is raised when its numbers change.
        model: name of the model (`svd-xt`).
        kind: `vgm`, `vlm`, `encoder` or `control`; or `fusion`: several of them, see `Recipe.fusion`.
        checkpoint, revision, digest: identity of the weights; `digest` is the xxh3_128 of their files.
        untrained: seed of random weights, or `None` for the trained ones.
        dtype: dtype of the computation.
        attention: attention backend (`sdpa`, `flash_attention_2`), or `None` for a network without attention.
        settings: further facts of the family (conditioning, prompt, fps).
    """

    family: Text
    family_version: int
    model: FileName
    kind: Literal["vgm", "vlm", "encoder", "control", "fusion"]
    checkpoint: Text
    revision: Text | None
    digest: Digest
    untrained: int | None = None
    dtype: Text = "float32"
    attention: Text | None
    settings: dict[str, JsonValue] = {}


class NoiseRecipe(_Frozen):
    """How noise is drawn. The levels stand in the taps. `draws` noise samples are averaged."""

    seed: int
    draws: Annotated[int, Field(ge=1)] = 1


class DatasetRecipe(_Frozen):
    """Which data.

    Attributes:
        name, version: of the data set; the name is also that of a folder.
        clips: digest of all clips: ids, scenes, splits, lengths and the digests of their source files.
        bank: clip frame numbers that are kept, if all clips agree; else the digest of all banks.
        classes: digest of the classes and their order.
        image_size: (height, width) of the frames.
        settings: whatever else the data set says of how it is read.
    """

    name: FileName
    version: Text
    clips: Digest
    bank: tuple[int, ...] | Digest
    classes: Digest
    image_size: tuple[int, int]
    settings: dict[str, JsonValue] = {}


class StorageRecipe(_Frozen):
    """How values are kept.

    Attributes:
        dtype: storage type of the features.
        grid: the largest (rows, columns) kept, by average pooling; `None` = the native grid.
        converted_from: the storage type that values were read back from, if they were not written by an extraction.
    """

    dtype: Text = "float16"
    grid: tuple[int, int] | None = None
    converted_from: Text | None = None


class FusionRecipe(_Frozen):
    """How the features of several stores became one. See `store.fusion`.

    Attributes:
        mode: `lnconcat` or `concat`.
        eps: of the LayerNorm of `lnconcat`; `None` for `concat`.
        branches: recipes of the stores, in the order of their channels.
    """

    mode: Literal["lnconcat", "concat"]
    eps: float | None
    branches: Annotated[tuple[Recipe, ...], Field(min_length=2)]


class Recipe(_Frozen):
    """All that can change a number of a store. Taps are not part of it: a tap is the same beside any others.

    `fusion` is `None`, and then not written, for features that come from one backbone.
    """

    kind: Literal["features", "targets"]
    dataset: DatasetRecipe
    backbone: BackboneRecipe | None = None
    preprocessing: dict[str, JsonValue] = {}
    noise: NoiseRecipe | None = None
    storage: StorageRecipe = StorageRecipe()
    fusion: FusionRecipe | None = None

    @model_serializer(mode="wrap")
    def _without_absent_fusion(self, serialise: Callable[[Recipe], dict[str, Any]]) -> dict[str, Any]:
        content = serialise(self)
        return content if self.fusion else {name: value for name, value in content.items() if name != "fusion"}

    def canonical_json(self) -> str:
        """One text for one recipe: sorted keys, no blanks, all defaults written out, but for an absent `fusion`."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def fingerprint(self) -> str:
        """xxh3_128 of the canonical JSON, 32 hexadecimal digits."""
        return digest_text(self.canonical_json())

    @property
    def draw_of(self) -> str | None:
        """The fingerprint but for seeds of noise: equal for features that differ only in which noise was drawn.

        `None` if none was.
        """
        unseeded = _unseeded(self)
        return None if unseeded is None else unseeded.fingerprint


def _unseeded(recipe: Recipe) -> Recipe | None:
    """The recipe with all seeds of noise 0; `None` if it has none."""
    changes: dict[str, Any] = {}
    if recipe.noise:
        changes["noise"] = recipe.noise.model_copy(update={"seed": 0})
    if recipe.fusion:
        branches = [_unseeded(branch) for branch in recipe.fusion.branches]
        if any(branches):
            kept = tuple(new or old for new, old in zip(branches, recipe.fusion.branches, strict=True))
            changes["fusion"] = recipe.fusion.model_copy(update={"branches": kept})
    return recipe.model_copy(update=changes) if changes else None


def canonical_json(value: Any) -> str:
    """One text for one JSON value: sorted keys, no blanks, no escapes that are not needed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def differences(left: Recipe, right: Recipe) -> Iterator[tuple[str, object, object]]:
    """The fields in which two recipes differ: (dotted name, left value, right value), sorted by name."""
    a, b = flatten(left.model_dump(mode="json")), flatten(right.model_dump(mode="json"))
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield name, a.get(name), b.get(name)


def parse_recipe(content: object, where: str) -> Recipe:
    """The recipe in parsed JSON. Raises `FormatError` naming every field that is wrong."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise FormatError(f"{where}: not a recipe: {error}. Restore it from a copy of the store.") from error


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    """Nested JSON objects, and lists of objects, as one level of dotted names; entries of a list by number from 0."""
    if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, object] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
