"""One recipe, one fingerprint; any change that matters gives another, and the difference is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from store import FormatError, Recipe, differences
from store.recipe import flatten, parse_recipe

FULL: dict[str, Any] = {
    "kind": "features",
    "dataset": {
        "name": "rooms",
        "version": "1.0",
        "clips": "ab" * 16,
        "bank": [0, 1, 5],
        "classes": "cd" * 16,
        "image_size": [256, 256],
        "settings": {"depth_scale": 0.001},
    },
    "backbone": {
        "family": "svd",
        "family_version": 1,
        "model": "svd",
        "kind": "vgm",
        "checkpoint": "x",
        "revision": None,
        "digest": "ef" * 16,
        "untrained": None,
        "dtype": "float32",
        "attention": "sdpa",
        "settings": {"fps": 7},
    },
    "preprocessing": {"height": 64, "mean": [0.5, 0.5, 0.5]},
    "noise": {"seed": 0, "draws": 1},
    "storage": {"dtype": "float16", "grid": None, "converted_from": None},
}
REPLACED: dict[str, Any] = {
    "kind": "targets",
    "backbone.kind": "vlm",
    "backbone.revision": "main",
    "backbone.untrained": 3,
    "backbone.attention": None,
    "dataset.bank": [0, 1, 6],
    "dataset.image_size": [256, 255],
    "preprocessing.mean": [0.5, 0.5, 0.25],
    "storage.grid": [4, 4],
    "storage.converted_from": "float16",
}


def changes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a full recipe, changed alone."""
    for name, value in flatten(FULL).items():
        changed = json.loads(json.dumps(FULL))
        *parents, last = name.split(".")
        place = changed
        for parent in parents:
            place = place[parent]
        if name in REPLACED:
            place[last] = REPLACED[name]
        elif isinstance(value, str):
            place[last] = value[:-1] + ("0" if value[-1] != "0" else "1")
        else:
            place[last] = value + 1  # type: ignore[operator]
        yield name, changed


def test_fingerprint_is_the_same_in_another_process_and_order() -> None:
    recipe = Recipe.model_validate(FULL)
    shuffled = dict(reversed(list(json.loads(recipe.canonical_json()).items())))
    assert Recipe.model_validate(shuffled).fingerprint == recipe.fingerprint
    # Recorded: a change here would orphan every store that exists.
    assert recipe.fingerprint == "e0ed90747e278e23bfed46c051e49741"


@pytest.mark.parametrize(("field", "content"), [pytest.param(*entry, id=entry[0]) for entry in changes()])
def test_every_change_is_named_and_gives_another_fingerprint(field: str, content: dict[str, Any]) -> None:
    recipe, changed = Recipe.model_validate(FULL), Recipe.model_validate(content)
    assert changed.fingerprint != recipe.fingerprint
    assert [name for name, _, _ in differences(recipe, changed)] == [field]


@pytest.mark.parametrize("field", ["dataset.clips", "backbone.digest", "dataset.version", "backbone.checkpoint"])
def test_what_is_not_known_cannot_be_left_empty(field: str) -> None:
    content = json.loads(json.dumps(FULL))
    part, name = field.split(".")
    content[part][name] = ""
    with pytest.raises(ValidationError, match=name):
        Recipe.model_validate(content)


@pytest.mark.parametrize("content", [None, [], {}, FULL | {"surprise": 1}, FULL | {"noise": {"seed": "NaN"}}])
def test_what_is_no_recipe_is_refused(content: object) -> None:
    with pytest.raises(FormatError, match="not a recipe"):
        parse_recipe(content, "here")


def test_features_that_differ_in_the_noise_drawn_alone_are_draws_of_one() -> None:
    first = Recipe.model_validate(FULL)
    again = Recipe.model_validate(FULL | {"noise": {"seed": 7, "draws": 1}})
    assert first.fingerprint != again.fingerprint
    assert first.draw_of == again.draw_of == first.fingerprint
    more = Recipe.model_validate(FULL | {"noise": {"seed": 7, "draws": 2}})
    other = Recipe.model_validate(FULL | {"preprocessing": {}})
    quiet = Recipe.model_validate(FULL | {"noise": None})
    assert len({first.draw_of, more.draw_of, other.draw_of, quiet.draw_of}) == 4
    assert quiet.draw_of is None
    fused = [
        Recipe.model_validate(FULL | {"fusion": {"mode": "concat", "eps": None, "branches": branches}, "noise": None})
        for branches in ([first, quiet], [again, quiet], [quiet, quiet])
    ]
    assert fused[0].fingerprint != fused[1].fingerprint
    assert fused[0].draw_of == fused[1].draw_of is not None
    assert fused[2].draw_of is None
