"""What is known of a backbone and of data, for the recipe. What cannot be known is refused, with what to pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from extract.backbones.base import Family
from extract.datasets.base import Dataset
from extract.errors import ExtractError
from store import (
    BackboneRecipe,
    ClipRow,
    DatasetRecipe,
    NoiseRecipe,
    Recipe,
    StorageRecipe,
    clips_digest,
    common_bank,
)
from store.digest import digest_text
from store.recipe import canonical_json

Made = TypeVar("Made")

_REMEDIES = {
    "checkpoint": "Name the weights: --checkpoint DIR or --checkpoint OWNER/NAME.",
    "revision": "Name it: --revision COMMIT.",
    "digest": "Give the folder that holds all weight files: --checkpoint DIR.",
    "version": "Point at the files of a published release: --root DIR.",
    "bank": "Point at the files of a published release: --root DIR.",
    "clips": "Point at the files of a published release: --root DIR.",
}
_OTHERWISE = "Mend the adapter that states it."


def feature_recipe(
    family: Family,
    dataset: DatasetRecipe,
    *,
    dtype: str,
    noise: tuple[int, int],
    store_dtype: str,
    grid: tuple[int, int] | None,
) -> Recipe:
    """The recipe of features. Reads the digest of the weights. `noise` is the seed, and how many draws are averaged.

    Raises:
        ExtractError: something that can change a number cannot be determined; names it, and the flag that tells it.
    """
    seed, draws = noise
    if draws > 1 and not family.default_noise:
        raise ExtractError(f"--draws {draws}: {family.model} sees no noise; there is nothing to average. Leave it out.")
    weights = family.weights()
    backbone = _stated(
        f"model {family.model}",
        lambda: BackboneRecipe(
            family=family.name,
            family_version=family.version,
            model=family.model,
            kind=family.kind,
            checkpoint=weights.id,
            revision=weights.revision,
            digest=weights.digest,
            untrained=family.options.untrained,
            dtype=dtype,
            attention=family.attention,
            settings={**family.settings(), **_computed(family)},
        ),
    )
    return Recipe(
        kind="features",
        dataset=dataset,
        backbone=backbone,
        preprocessing=family.preprocessing().model_dump(mode="json"),
        noise=NoiseRecipe(seed=seed, draws=draws) if family.default_noise else None,
        storage=StorageRecipe(dtype=store_dtype, grid=grid),
    )


def _computed(family: Family) -> dict[str, int | str]:
    """How the network is run, where it is asked to be run otherwise than block by block and clip by clip.

    Both change the last bits of features, so that stores of both kinds are told apart.
    """
    asked = family.options
    return ({"compiled": "blocks"} if asked.compiled else {}) | (
        {"batch_clips": asked.batch_clips} if asked.batch_clips > 1 else {}
    )


def dataset_recipe(dataset: Dataset, table: Sequence[ClipRow]) -> DatasetRecipe:
    """Identity of the data: the clips, the classes, and whatever else the data set says of how it is read.

    Raises:
        ExtractError: something that can change a number cannot be determined.
    """
    return _stated(
        f"data set {dataset.name}",
        lambda: DatasetRecipe(
            name=dataset.name,
            version=dataset.version,
            clips=clips_digest(table),
            bank=common_bank(table),
            classes=digest_text(canonical_json([[each.name, each.kind] for each in dataset.classes])),
            image_size=dataset.image_size,
            settings=dict(dataset.facts()),
        ),
    )


def _stated(of: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except ValidationError as error:
        lines = [f"  {_describe(problem)}" for problem in error.errors()]
        raise ExtractError(f"{of}: the store would not say what made its numbers:\n" + "\n".join(lines)) from error


def _describe(problem: Any) -> str:
    field = ".".join(map(str, problem["loc"]))
    return f"{field} is {problem['input']!r}: {problem['msg']}. {_REMEDIES.get(field.split('.')[0], _OTHERWISE)}"
