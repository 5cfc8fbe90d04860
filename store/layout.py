"""Where stores are on this machine: the root, references such as `store/svd`, and the files of one store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from store.arrays import GROUP
from store.clips import CLIPS
from store.commits import COMMITS
from store.errors import FusionError, StoreNotFoundError
from store.head import RECIPE
from store.manifest import MANIFEST

TARGETS = "targets"
PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Layout:
    """The files of one store on this machine."""

    path: Path

    @property
    def recipe(self) -> Path:
        """What made the numbers."""
        return self.path / RECIPE

    @property
    def provenance(self) -> Path:
        """Versions, host and device of the run that created the store."""
        return self.path / PROVENANCE

    @property
    def clips(self) -> Path:
        """The clip table."""
        return self.path / CLIPS

    @property
    def group(self) -> Path:
        """The Zarr group."""
        return self.path / GROUP

    @property
    def commits(self) -> Path:
        """The commit records."""
        return self.path / COMMITS

    @property
    def manifest(self) -> Path:
        """The merged commits."""
        return self.path / MANIFEST


def root() -> Path:
    """The folder that holds all stores.

    `FEATURE_STORE` if set; else the package's own folder in a checkout; else `store/` in the working directory.
    """
    if override := os.environ.get("FEATURE_STORE"):
        return Path(override).expanduser().absolute()
    package = Path(__file__).parent
    return package if (package.parent / "pyproject.toml").exists() else Path.cwd() / "store"


def is_remote(reference: str | Path) -> bool:
    """Whether a reference is an address such as `s3://…`, `hf://…` or `https://…`."""
    return "://" in str(reference)


def place(reference: str | Path) -> Path:
    """Where a reference leads: a path if it plainly is one or holds a store, else a name under the root.

    With `FEATURE_STORE` set, `store/…` is always a name under the root.
    """
    text = str(reference)
    if is_remote(text):
        raise StoreNotFoundError(f"{text}: expected a place on this machine. Fetch the store: `python -m store pull`.")
    path = Path(text).expanduser()
    named = path.parts[:1] == ("store",)
    if named and os.environ.get("FEATURE_STORE"):  # then `store/` can mean nothing else, whatever lies beside us
        return root() / path.relative_to("store")
    if path.is_absolute() or text.startswith(".") or (path / RECIPE).exists() or _inside(path):
        return path.absolute()
    return root() / (path.relative_to("store") if named else path)


def _inside(path: Path) -> list[str]:
    """Names of the stores directly inside a folder. Drafts, whose names start with a dot, are none."""
    if not path.is_dir():
        return []
    return sorted(child.name for child in path.iterdir() if child.name[0] != "." and (child / RECIPE).exists())


def resolve(reference: str | Path, dataset: str | None = None) -> Path:
    """The directory of one store.

    A reference may name the store itself (`store/svd/scannet`) or the folder of a model that holds one store per
    dataset (`store/svd`); `dataset` chooses among several.

    Raises:
        StoreNotFoundError: nothing is there, or several are and none was chosen; says which.
        FusionError: the reference joins several stores by `+`.
    """
    path = place(reference)
    if (path / RECIPE).exists():
        if dataset not in (None, path.name):
            raise StoreNotFoundError(
                f"{path}: is the store of {path.name!r}, not of {dataset!r}. Leave one of them out."
            )
        return path
    if dataset is not None and (path / dataset / RECIPE).exists():
        return path / dataset
    inside = _inside(path)
    if dataset is None and len(inside) == 1:
        return path / inside[0]
    if inside:
        problem = "holds several datasets" if dataset is None else f"holds no dataset {dataset!r}"
        raise StoreNotFoundError(f"{path}: {problem}. Choose one with --dataset: {', '.join(inside)}.")
    check_single(reference)
    known = sorted({name for store in find_stores() for name in (store.parent.name, name_of(store))})
    near = get_close_matches(str(reference).removeprefix("store/"), known, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join('store/' + name for name in near)}?" if near else ""
    raise StoreNotFoundError(
        f"{reference}: no feature store at {path}.{hint} "
        "List stores with `python -m store ls`; make one with `python -m extract --model … --dataset …`."
    )


def split_reference(reference: str | Path) -> list[str]:
    """The references that `+` joins: `store/svd+store/qwen3-vl-8b` is two. Within the name of a store it joins nothing.

    Of several ways to read a text, the one with the longest names of stores that are there, from the left. An address
    ends where the next one begins.
    """
    if len(remote := re.split(r"\+(?=[a-z0-9]+://)", str(reference))) > 1 and is_remote(remote[0]):
        return remote
    pieces, parts = str(reference).split("+"), []
    while pieces:
        names = ("+".join(pieces[:count]) for count in range(len(pieces), 1, -1))
        parts.append(next((name for name in names if _is_here(name)), pieces[0]))
        pieces = pieces[parts[-1].count("+") + 1 :]
    return parts


def check_single(reference: str | Path) -> None:
    """Raise `FusionError` if a reference that leads to no store joins several by `+`."""
    parts = split_reference(reference)
    if len(parts) > 1 and all(parts):
        raise FusionError(
            f"{reference}: names {len(parts)} stores ({', '.join(parts)}) where one is expected. Name one of them; or, "
            "to train on them or copy them as one, say how they are fused: --fusion lnconcat, or concat."
        )


def _is_here(reference: str) -> bool:
    if is_remote(reference):
        return False
    path = place(reference)
    return (path / RECIPE).exists() or bool(_inside(path))


def find_stores(base: Path | None = None) -> Iterator[Path]:
    """All stores below the root, sorted: folders `<name>/<dataset>` or `<name>` that hold a recipe."""
    base = base or root()
    for pattern in (f"[!.]*/{RECIPE}", f"[!.]*/[!.]*/{RECIPE}"):
        yield from sorted(recipe.parent for recipe in base.glob(pattern))


def name_of(place: str | Path) -> str:
    """`svd/scannet` for a store under the root, else the last two parts of its path or address."""
    try:
        return Path(place).relative_to(root()).as_posix()
    except ValueError:
        parts = str(place).rstrip("/").split("/")
        return "/".join(parts[-2:])
