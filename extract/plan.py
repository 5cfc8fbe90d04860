"""What an extraction will do, decided before any weight is loaded: taps, clips, arrays, recipe, place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from extract.backbones.base import Family, NoiseLevel, Site
from extract.datasets.base import Clip, Dataset
from extract.errors import DataError, ExtractError, UnknownNameError
from extract.identity import dataset_recipe, feature_recipe
from store import ArraySpec, ClipRow, Coordinate, FeatureStore, Recipe, place, root
from store.arrays import differing, identity
from store.head import RECIPE
from store.suggest import did_you_mean

MOST_NAMED = 20
"""Damaged clips that are named one by one."""


@dataclass(frozen=True)
class Tap:
    """One array to fill: a site, at a noise level if the site sees noise."""

    site: Site
    level: NoiseLevel | None

    @property
    def name(self) -> str:
        """`blocks.20` or `blocks.20@t502`."""
        return self.site.name if self.level is None else f"{self.site.name}@{self.level.name}"


@dataclass(frozen=True)
class Request:
    """What the user asked for beyond model and data set. `None` and empty mean the family's defaults."""

    sites: Sequence[str] = ()
    noise: Sequence[str] = ()
    grid: tuple[int, int] | None = None
    dtype: str = "float32"
    store_dtype: str = "float16"
    seed: int = 0
    draws: int = 1
    split: str | None = None
    limit: int | None = None
    skip_damaged: bool = False
    share: tuple[int, int] = (0, 1)
    """(rank, world): every process of `world` takes the clips of its own number."""
    out: str | None = None


@dataclass(frozen=True)
class Outline:
    """An extraction but for its recipe: all that can be said without the weights' files.

    Attributes:
        damaged: clip id -> what is wrong, of clips that were left out since they cannot be read.
    """

    family: Family
    dataset: Dataset
    request: Request
    taps: Sequence[Tap]
    clips: Sequence[Clip]
    table: Sequence[ClipRow]
    path: Path
    damaged: Mapping[str, str]

    @property
    def rows(self) -> list[int]:
        """Rows asked for by `--split` and `--limit`, and of them our share."""
        rank, world = self.request.share
        return select_rows(self.table, self.request.split, self.request.limit)[rank::world]

    def pending(self) -> dict[int, list[Tap]]:
        """Rows asked for that lack taps, with the taps that no commit covers yet.

        A store in our place that is plainly of something else, as `create` would find, holds nothing of this.
        """
        store = FeatureStore.open(self.path) if (self.path / RECIPE).exists() else None
        if store is None or not self._same(store):
            return {row: list(self.taps) for row in self.rows}
        held = {tap.name: store.committed.mask(tap.name) for tap in self.taps}
        missing = {row: [tap for tap in self.taps if not held[tap.name][row]] for row in self.rows}
        return {row: taps for row, taps in missing.items() if taps}

    def specs(self) -> list[ArraySpec]:
        """One array per tap."""
        return [self._spec(tap) for tap in self.taps]

    def grid(self, site: Site) -> tuple[int, int]:
        """(rows, columns) kept of a site: the native grid, pooled down to the asked one but never up."""
        asked = self.request.grid or site.grid
        return min(asked[0], site.grid[0]), min(asked[1], site.grid[1])

    def coordinates(self) -> dict[str, Coordinate]:
        """Clip frame number of every bank row, and the clip frames its features summarise; -1 beyond a short clip."""
        length = bank_length(self.table)
        span = np.full((len(self.table), length, 2), -1, dtype=np.int32)
        for clip in self.table:
            span[clip.row, : len(clip.bank)] = self.family.spans(clip.n_frames, clip.bank)
        description = "first and last clip frame that the features of this bank row summarise"
        return bank_coordinate(self.table) | {"span": Coordinate(span, ("clip", "frame", "bound"), description)}

    def _same(self, store: FeatureStore) -> bool:
        """Whether clips and arrays of a store are those asked for; the recipe is not known yet."""
        there = {name: identity(info.spec()) for name, info in store.arrays.items()}
        asked = {spec.name: identity(spec) for spec in self.specs()}
        return list(store.clips) == list(self.table) and not any(
            differing(there[name], asked[name]) for name in there.keys() & asked.keys()
        )

    def _spec(self, tap: Tap) -> ArraySpec:
        rows, columns = self.grid(tap.site)
        height, width = self.dataset.image_size
        attrs: dict[str, Any] = {
            "site": tap.site.name,
            "depth": tap.site.depth,
            "noise": None if tap.level is None else vars(tap.level),
            "native_grid": list(tap.site.grid),
            "grid_to_image": [list(row) for row in self.family.preprocessing().grid_to_image(height, width)],
        }
        shape = bank_length(self.table), rows, columns, tap.site.channels
        return ArraySpec(tap.name, shape, self.request.store_dtype, ("frame", "y", "x", "channel"), attrs)


@dataclass(frozen=True)
class Plan(Outline):
    """An extraction, resolved."""

    recipe: Recipe

    def _same(self, store: FeatureStore) -> bool:
        return store.recipe == self.recipe and list(store.clips) == list(self.table)


def make_plan(family: Family, dataset: Dataset, request: Request) -> Plan:
    """Resolve a request. Loads no weights, but reads their digest, and the digest of every clip.

    Raises:
        ExtractError: as `make_outline`; or the weights are not here and cannot be fetched.
    """
    return complete(make_outline(family, dataset, request))


def make_outline(family: Family, dataset: Dataset, request: Request, known: Sequence[ClipRow] | None = None) -> Outline:
    """Resolve a request but for the recipe. Reads the digest of every clip, and nothing of the weights.

    Args:
        family, dataset, request: what is asked for.
        known: the clip table, if somebody read the digests before.

    Raises:
        DataError: files of clips cannot be read, and the request does not say to leave such clips out, or none is left;
            or the data set lacks clips that are known.
    """
    taps = make_taps(family, request.sites, request.noise)
    clips, table, damaged = _readable(dataset) if known is None else (_matched(dataset, known), list(known), {})
    if damaged and not (request.skip_damaged and table):
        remedy = "Mend them, or go on without them: --skip-damaged" if table else "No other clip is there. Mend them."
        raise DataError(f"{_listed(damaged)}\nNothing was begun. {remedy}")
    if not select_rows(table, request.split, request.limit):
        splits = sorted({clip.split for clip in table})
        what = "data set" if request.split is None else f"split {request.split!r} of"
        raise ExtractError(
            f"{what} {dataset.name}: no clip to extract. "
            f"The data set has {len(table)} clips in splits {', '.join(splits) or 'none'}."
        )
    name = family.model if family.options.untrained is None else f"{family.model}-untrained"
    folder = place(request.out) if request.out else root() / name
    return Outline(family, dataset, request, taps, clips, table, folder / dataset.name, damaged)


def complete(outline: Outline) -> Plan:
    """The plan of an outline. Reads the digest of the weights, which are fetched if they are not here.

    Raises:
        WeightsError: the weights are not here and cannot be fetched, or cannot be read.
        ExtractError: something that can change a number cannot be determined.
    """
    request = outline.request
    recipe = feature_recipe(
        outline.family,
        dataset_recipe(outline.dataset, outline.table),
        dtype=request.dtype,
        noise=(request.seed, request.draws),
        store_dtype=request.store_dtype,
        grid=request.grid,
    )
    return Plan(**vars(outline), recipe=recipe)


def make_taps(family: Family, sites: Sequence[str], noise: Sequence[str]) -> list[Tap]:
    """Cross the sites with the noise levels, in execution order. Sites of the encoder see no noise.

    Raises:
        UnknownNameError: no such site.
        ExtractError: a noise level for a family without noise, or one that cannot be parsed.
    """
    known = {site.name: site for site in family.sites()}
    names = list(sites) or list(family.default_sites())
    for name in names:
        if name not in known:
            raise UnknownNameError(
                did_you_mean(f"site of {family.model}", name, known)
                + f" List them with `python -m extract sites {family.model}`."
            )
    chosen = sorted((known[name] for name in dict.fromkeys(names)), key=lambda site: site.depth)
    named = {level.name: level for level in map(family.noise_level, noise or family.default_levels())}
    ordered: list[NoiseLevel | None] = [*sorted(named.values(), key=lambda level: level.sigma)] or [None]
    taps = [Tap(site, None) for site in chosen if site.stage == "encode"]
    taps += [Tap(site, level) for level in ordered for site in chosen if site.stage == "forward"]
    return taps


def clip_table(clips: Sequence[Clip]) -> list[ClipRow]:
    """The clip table of clips, in their order. Raises `DataError` for the first whose files cannot be read."""
    return [_row(row, clip) for row, clip in enumerate(clips)]


def _readable(dataset: Dataset) -> tuple[list[Clip], list[ClipRow], dict[str, str]]:
    """The clips of which every file can be read, their table, and what is wrong with the others, by clip id."""
    clips: list[Clip] = []
    table: list[ClipRow] = []
    found = dataset.clips()
    damaged = dict(dataset.damaged)  # not before: some data sets look into recordings when they list their clips
    for clip in found:
        try:
            table.append(_row(len(clips), clip))
            clips.append(clip)
        except DataError as error:
            damaged[clip.id] = str(error)
    return clips, table, damaged


def _matched(dataset: Dataset, table: Sequence[ClipRow]) -> list[Clip]:
    """The clips of a table. Raises `DataError` if the data set lacks some."""
    found = {clip.id: clip for clip in dataset.clips()}
    if missing := [clip.id for clip in table if clip.id not in found]:
        raise DataError(
            f"{dataset.root}: lacks {len(missing)} of {len(table)} clips, such as {missing[0]}. Point at the same data."
        )
    return [found[clip.id] for clip in table]


def _row(row: int, clip: Clip) -> ClipRow:
    """The entry of a clip. Raises `DataError` if a file cannot be read, or no store can take what the clip says."""
    try:
        return ClipRow(
            row=row,
            id=clip.id,
            scene=clip.scene,
            split=clip.split,
            bank=tuple(clip.bank),
            n_frames=clip.n_frames,
            digest=clip.digest(),
        )
    except UnicodeEncodeError as error:
        name = error.object[: error.end].rpartition("\n")[2]
        raise DataError(f"clip {clip.id!r}: {name!r} … is no UTF-8. Remedy: rename the file.") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise DataError(
            f"clip {clip.id!r}: {'.'.join(map(str, fault['loc']))} is {fault['input']!r}, which no store takes: "
            f"{fault['msg']}. Remedy: rename the recording (at most 200 characters of UTF-8, no slash, no control "
            "character, no dot in front)."
        ) from error


def _listed(damaged: Mapping[str, str]) -> str:
    """Damaged clips, one a line, the first of many."""
    lines = [f"clip {clip}: {why}" for clip, why in list(damaged.items())[:MOST_NAMED]]
    more = [f"and {len(damaged) - MOST_NAMED} more"] * (len(damaged) > MOST_NAMED)
    return "\n".join([f"{len(damaged)} clips cannot be read:", *lines, *more])


def select_rows(table: Sequence[ClipRow], split: str | None, limit: int | None) -> list[int]:
    """Rows of a split, the first `limit` of them."""
    return [clip.row for clip in table if split in (None, clip.split)][:limit]


def bank_length(table: Sequence[ClipRow]) -> int:
    """Length of the frame axis: the longest bank."""
    return max(len(clip.bank) for clip in table)


def bank_coordinate(table: Sequence[ClipRow]) -> dict[str, Coordinate]:
    """The coordinate `bank_frame`."""
    frames = np.full((len(table), bank_length(table)), -1, dtype=np.int32)
    for clip in table:
        frames[clip.row, : len(clip.bank)] = clip.bank
    return {"bank_frame": Coordinate(frames, ("clip", "frame"), "clip frame number of this bank row; -1 = none")}
