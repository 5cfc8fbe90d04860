"""What a fusion is called, and the recipe that says how its numbers were made."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from store.digest import digest_text
from store.errors import FusionError
from store.recipe import BackboneRecipe, FusionRecipe, Recipe, StorageRecipe, canonical_json
from store.suggest import did_you_mean

EPS = {"lnconcat": 1e-6, "concat": None}
"""Mode -> eps of its LayerNorm, `None` where there is none."""
VERSION = 1
"""Is raised when the numbers of a mode change."""
DTYPE = "float32"
"""Of the arithmetic, and of the values as they are read."""


def fused_name(names: Sequence[str], dataset: str, mode: str) -> str:
    """`svd+qwen3-vl-8b-lnconcat/scannet` for the stores `svd/scannet` and `qwen3-vl-8b/scannet`."""
    bases = [name.removesuffix(f"/{dataset}").replace("/", "-") for name in names]
    return f"{'+'.join(bases)}-{mode}/{dataset}"


def fused_recipe(recipes: Sequence[Recipe], mode: str) -> Recipe:
    """The recipe of a fusion: mode, eps and the recipes of its branches, whose order is that of the channels.

    The fusion is a backbone of its own, so that nobody who reads a recipe needs to know of fusions.

    Raises:
        FusionError: there is no such mode, or the name of the fusion is too long.
    """
    if mode not in EPS:
        raise FusionError(did_you_mean("fusion", mode, EPS))
    try:
        return Recipe(
            kind="features",
            dataset=recipes[0].dataset,
            backbone=_backbone([recipe.backbone for recipe in recipes if recipe.backbone], mode),
            storage=StorageRecipe(dtype=DTYPE),
            fusion=FusionRecipe.model_validate({"mode": mode, "eps": EPS[mode], "branches": tuple(recipes)}),
        )
    except ValidationError as error:
        raise FusionError(f"the fusion of {len(recipes)} stores has no valid recipe: {error}. Fuse fewer.") from error


def _backbone(backbones: Sequence[BackboneRecipe], mode: str) -> BackboneRecipe:
    """Of all networks together. A fusion of controls is a control; one of which no network is trained is untrained."""
    networks = [backbone for backbone in backbones if backbone.kind != "control"]
    seeds = [backbone.untrained for backbone in networks if backbone.untrained is not None]
    untrained = bool(seeds) and len(seeds) == len(networks)

    def name(backbone: BackboneRecipe) -> str:
        return backbone.model + "-untrained" * (backbone.untrained is not None and not untrained)

    return BackboneRecipe(
        family="fusion",
        family_version=VERSION,
        model=f"{'+'.join(map(name, backbones))}-{mode}",
        kind="fusion" if networks else "control",
        checkpoint="+".join(backbone.checkpoint for backbone in backbones),
        revision=None,
        digest=digest_text(canonical_json([backbone.digest for backbone in backbones])),
        untrained=seeds[0] if untrained else None,
        dtype=DTYPE,
        attention=None,
    )
