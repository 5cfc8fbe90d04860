"""Forge stores: change a document and seal it again, as only somebody who wants to deceive would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store import Recipe
from store.clips import CLIPS, ClipRow, seal_clips
from store.digest import digest_file
from store.documents import seal, unseal
from store.head import RECIPE


def edit_document(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change any sealed document but the clip table."""
    document = unseal(path.read_bytes(), str(path))
    change(document)
    path.write_bytes(seal(document))


def edit_recipe(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the recipe, and give the store the fingerprint that follows."""

    def edit(document: dict[str, Any]) -> None:
        change(document["recipe"])
        document["fingerprint"] = Recipe.model_validate(document["recipe"]).fingerprint

    edit_document(store / RECIPE, edit)


def edit_clips(store: Path, change: dict[str, object], rows: list[int]) -> None:
    """Change some rows of the clip table, and the digest that `recipe.json` has of it."""
    clips = json.loads((store / CLIPS).read_text())["clips"]
    for row in rows:
        clips[row] |= change
    (store / CLIPS).write_bytes(seal_clips([ClipRow.model_validate(clip) for clip in clips]))
    edit_document(store / RECIPE, lambda head: head["files"].update({CLIPS: digest_file(store / CLIPS)}))
