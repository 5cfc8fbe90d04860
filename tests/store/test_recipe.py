"""One recipe, one fingerprint; any change that matters gives another, and the difference is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store import BackboneRecipe, DatasetRecipe, FormatError, NoiseRecipe, Recipe, StorageRecipe, differences
from store.recipe import load_recipe


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "kind": "features",
        "dataset": DatasetRecipe(name="rooms", version="1.0", digest="ab"),
        "backbone": BackboneRecipe(
            family="svd",
            family_version=1,
            model="svd",
            kind="vgm",
            checkpoint="x",
            revision=None,
            digest="cd",
            settings={"fps": 7},
        ),
        "preprocessing": {"height": 64, "mean": [0.5, 0.5, 0.5]},
        "noise": NoiseRecipe(seed=0),
    }
    return Recipe.model_validate(fields | changes)


def test_fingerprint_is_the_same_in_another_process_and_order() -> None:
    shuffled = dict(reversed(list(json.loads(recipe().canonical_json()).items())))
    assert Recipe.model_validate(shuffled).fingerprint == recipe().fingerprint
    # Recorded: a change here would orphan every store that exists.
    assert recipe().fingerprint == "f74efa25b381d7df3e578d83ee6af37c"


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("noise.seed", recipe(noise=NoiseRecipe(seed=1))),
        ("preprocessing.height", recipe(preprocessing={"height": 65, "mean": [0.5, 0.5, 0.5]})),
        ("storage.dtype", recipe(storage=StorageRecipe(dtype="float32"))),
        ("storage.grid", recipe(storage=StorageRecipe(grid=(4, 4)))),
        ("dataset.digest", recipe(dataset=DatasetRecipe(name="rooms", version="1.0", digest="ac"))),
    ],
)
def test_every_change_is_named_and_gives_another_fingerprint(field: str, changed: Recipe) -> None:
    assert changed.fingerprint != recipe().fingerprint
    assert [name for name, _, _ in differences(recipe(), changed)] == [field]


def test_every_field_of_the_backbone_counts() -> None:
    base = recipe().backbone
    assert base is not None
    replacement = {"kind": "vlm", "family_version": 2, "untrained": 3, "revision": "main", "settings": {"fps": 8}}
    for field in BackboneRecipe.model_fields:
        changed = base.model_copy(update={field: replacement.get(field, "other")})
        assert recipe(backbone=changed).fingerprint != recipe().fingerprint, field


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 2}', "format version 2"),
        ("{", "cannot be read"),
        ("[]", "format version None"),
        ('{"schema_version": 1, "kind": "features", "surprise": 1}', "not a recipe"),
    ],
)
def test_other_versions_and_damage_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=message):
        load_recipe(path)
