"""Names that lead out of a store, or that no file system can hold, wherever a stranger could have put them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store import FormatError
from store.digest import digest_file
from tests.store.hostile.forge import adopt, assert_refused, commit_of, edit, use
from tests.store.truth import make, tap

TRAVERSALS = ["../../x", "..", ".", "/etc/passwd", "a/../b", "a/b", "a\\b", "a\0b", "a\nb", ".hidden", "", "x" * 5000]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_of_arrays_in_a_commit(store: Path, name: str) -> None:
    (store / "manifest.json").unlink()

    def change(commit: dict[str, Any]) -> None:
        commit["arrays"][name] = commit["arrays"]["half"]
        commit["metadata"][name] = commit["metadata"]["half"]

    edit(commit_of(store), change)
    assert_refused(store, "not a commit")


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_of_arrays_in_the_manifest_and_the_consolidated_metadata(store: Path, name: str) -> None:
    group = store / "features.zarr" / "zarr.json"
    document = json.loads(group.read_bytes())
    metadata = document["consolidated_metadata"]["metadata"]
    metadata[name] = metadata.pop("half")
    group.write_text(json.dumps(document))

    def change(manifest: dict[str, Any]) -> None:
        manifest["arrays"][name] = manifest["arrays"].pop("half")

    edit(store / "manifest.json", change)
    edit(store / "manifest.json", lambda manifest: manifest.update(group=digest_file(group)))
    assert_refused(store, "not a manifest")


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_of_files_in_the_recipe(store: Path, name: str) -> None:
    edit(store / "recipe.json", lambda head: head["files"].update({name: "0" * 32}))
    if name == "a/b":  # a file in a folder, which nothing asks for
        use(store)
    else:
        assert_refused(store, "not a name that a store may hold")


@pytest.mark.parametrize("name", [*TRAVERSALS, "manifest-" + "0" * 32 + ".table\n", "recipe.json"])
def test_the_name_of_the_table(store: Path, name: str) -> None:
    edit(store / "manifest.json", lambda manifest: manifest["table"].update(file=name))
    assert_refused(store, "not a manifest")


@pytest.mark.parametrize("name", [*TRAVERSALS, "1e5-0123456789ab.json", "-00001-0123456789ab.json"])
def test_names_of_commits_in_the_manifest(store: Path, name: str) -> None:
    edit(store / "manifest.json", lambda manifest: manifest["commits"].append(name))
    assert_refused(store, "not a manifest")


@pytest.mark.parametrize("field", ["id", "scene", "split"])
@pytest.mark.parametrize("name", [*TRAVERSALS, "x" * 201])
def test_names_of_clips(store: Path, field: str, name: str) -> None:
    edit(store / "clips.json", lambda table: table["clips"][0].update({field: name}))
    adopt(store)
    assert_refused(store, "clips.json: cannot be read as a clip table")


def test_a_name_that_no_array_may_have_is_not_made(tmp_path: Path) -> None:
    for name in TRAVERSALS:
        with pytest.raises(FormatError):
            make(tmp_path / "known", 2, [tap(name, "float16", 0)])
    assert not list(tmp_path.glob("x*"))
