"""The recipe: everything that can change a number in a store, and its fingerprint.

What cannot change a number (batch size, workers, host, device, library build) is provenance and is kept apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import xxhash
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from store.errors import FormatError

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneRecipe(_Frozen):
    """Which network, with which weights, computed how.

    Attributes:
        family, family_version: the adapter's code; its version is raised when its numbers change.
        model: name of the model (`svd-xt`).
        kind: `vgm`, `vlm`, `encoder` or `control`.
        checkpoint, revision, digest: identity of the weights; `digest` is the xxh3_128 of their files.
        untrained: seed of random weights, or `None` for the trained ones.
        dtype: dtype of the computation.
        attention: attention implementation.
        settings: further facts of the family (conditioning, prompt, fps).
    """

    family: str
    family_version: int
    model: str
    kind: Literal["vgm", "vlm", "encoder", "control"]
    checkpoint: str
    revision: str | None
    digest: str
    untrained: int | None = None
    dtype: str = "float32"
    attention: str = "sdpa"
    settings: dict[str, JsonValue] = {}


class NoiseRecipe(_Frozen):
    """How noise is drawn. The levels themselves stand in the taps' names. `draws` noise samples are averaged."""

    seed: int
    draws: int = 1


class DatasetRecipe(_Frozen):
    """Which data. `digest` covers the ids, splits, bank frames and source digests of all clips."""

    name: str
    version: str
    digest: str


class StorageRecipe(_Frozen):
    """How values are kept. `grid`: the largest (rows, columns) kept, by average pooling; `None` = the native grid."""

    dtype: str = "float16"
    grid: tuple[int, int] | None = None


class Recipe(_Frozen):
    """All that can change a number of a store. Taps are not part of it: a tap is the same beside any others."""

    schema_version: Literal[1] = 1
    kind: Literal["features", "targets"]
    dataset: DatasetRecipe
    backbone: BackboneRecipe | None = None
    preprocessing: dict[str, JsonValue] = {}
    noise: NoiseRecipe | None = None
    storage: StorageRecipe = StorageRecipe()

    def canonical_json(self) -> str:
        """One text for one recipe: sorted keys, no blanks, all defaults written out."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """xxh3_128 of the canonical JSON, 32 hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest(self.canonical_json().encode())


def differences(left: Recipe, right: Recipe) -> Iterator[tuple[str, object, object]]:
    """The fields in which two recipes differ: (dotted name, left value, right value), sorted by name."""
    a, b = _flat(left.model_dump(mode="json")), _flat(right.model_dump(mode="json"))
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield name, a.get(name), b.get(name)


def load_recipe(path: Path) -> Recipe:
    """Read `recipe.json`. Raises `FormatError` if it is damaged or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{path}: cannot be read as a recipe ({error}). Restore it from a copy of the store."
        ) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise FormatError(
            f"{path}: store format version {version!r}; this code reads version {SCHEMA_VERSION}. "
            "Install the version of this project that wrote the store, or extract it again."
        )
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise FormatError(f"{path}: not a recipe: {error}. Restore it from a copy of the store.") from error


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, object] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
