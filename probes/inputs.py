"""Which features and targets belong together: stores, clips, tasks and taps. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from probes.config import TapSpec
from probes.errors import ProbesError, SplitError, TargetsError, UnknownNameError
from probes.tasks import TASKS, Rules, has_rules, needs_of, require_rules
from probes.views import require_paper_views
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from probes.labels import ClipLabels, LabelSpace
    from store import ClipRow, FeatureStore, Readable

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
MOST_FUSED = 16
"""Combinations of taps that are all probed if none is named; batches of more would fill the memory."""


@dataclass(frozen=True)
class Inputs:
    """Features and targets of the same clips.

    Attributes:
        features: a store, or several that are fused.
        targets: their targets.
        rows: split -> rows of the feature store.
        target_rows: row of the feature store -> row of the targets store.
        space: classes and image size.
    """

    features: Readable
    targets: FeatureStore
    rows: Mapping[str, Sequence[int]]
    target_rows: Mapping[int, int]
    space: LabelSpace

    def clip(self, row: int) -> ClipRow:
        """Entry of the clip table."""
        return self.features.clips[row]

    def labels(self, row: int) -> ClipLabels:
        """Targets of one clip, read when asked for."""
        from probes.labels import ClipLabels

        return ClipLabels(partial(self._read, row=row), self.space)

    def _read(self, array: str, row: int) -> NDArray[Any]:
        if array not in self.targets.arrays:
            raise KeyError(array)
        values: NDArray[Any] = self.targets.read(array, self.target_rows[row])
        return values


def open_inputs(
    features: str, targets: str | None, dataset: str | None, fusion: str | None = None
) -> tuple[Readable, FeatureStore]:
    """Open a feature store, or several as one by `fusion`, and the targets of the dataset, here or behind an address.

    Without `targets`, those of `store/targets` on this machine; if there are none and the features lie behind an
    address (`s3://lab/store/svd/scannet`), those that lie beside them there (`s3://lab/store/targets/scannet`).

    Raises:
        store.StoreError: there is no such feature store, or those that are named cannot be fused.
        TargetsError: the reference is no feature store, or there are no targets, or those of another dataset.
    """
    from store import FeatureStore, StoreError, StoreNotFoundError, open_features
    from store.layout import TARGETS, is_remote

    opened = open_features(features, dataset, fusion)
    if opened.recipe.backbone is None:
        raise TargetsError(f"{opened.name}: holds targets, not features. Name a feature store such as store/svd.")
    name = opened.recipe.dataset.name
    reference = targets or f"{TARGETS}/{name}"
    try:
        try:
            labels = _open_targets(reference, name)
        except StoreNotFoundError:
            url = next(filter(is_remote, opened.urls), None)
            if targets is not None or url is None:
                raise
            reference = "/".join([*url.split("/")[:-2], reference])
            labels = FeatureStore.open(reference)
    except StoreError as error:
        raise TargetsError(
            f"no targets for {opened.name} at {reference}: {error} "
            f"Any extraction writes them: `python -m extract --model position --dataset {name}`. "
            "Or name a store with --targets."
        ) from error
    if labels.recipe.backbone is not None:
        raise TargetsError(f"{labels.name}: holds features, not targets. Name a store such as store/targets/{name}.")
    ours, theirs = opened.recipe.dataset, labels.recipe.dataset
    # Targets of another name may be of the same clips (scannet200 and scannet); `align` compares clip by clip.
    if (ours.name != theirs.name and targets is None) or ours.version != theirs.version:
        raise TargetsError(
            f"features {opened.name} are of dataset {ours.name} version {ours.version}, targets {labels.name} of "
            f"{theirs.name} version {theirs.version}. Extract both from the same dataset."
        )
    return opened, labels


def _open_targets(reference: str, dataset: str) -> FeatureStore:
    """The targets store that is meant; of several that a reference holds, that of `dataset`."""
    from store import FeatureStore, StoreError

    try:
        return FeatureStore.open(reference)
    except StoreError:
        return FeatureStore.open(reference, dataset)


def align(
    features: Readable,
    targets: FeatureStore,
    taps: Sequence[str],
    tasks: Sequence[str],
    views: int,
    limit: int | None,
    splits: Sequence[str] = SPLITS,
    rules: Rules = "standard",
) -> Inputs:
    """Match clips by id and choose the rows of each split.

    By the paper's rules there is no third split: train and val are trained on, and test, on which results are reported,
    stands for val as well. That is a flaw, and part of its protocol.

    Raises:
        store.MissingClipError: no clip of a split is committed for all taps.
        TargetsError: a clip has no targets, or targets of other frames or of another split.
        SplitError: a clip has fewer bank frames than `views`, or a scene lies in two splits.
    """
    needed = sorted(set().union(*(needs_of(task, rules) for task in tasks)))
    rows = {split: features.rows(split=split, arrays=list(taps))[:limit] for split in splits}
    known = {clip.id: clip for clip in targets.clips}
    held = set(targets.rows(arrays=needed))
    if not any(clip.id in known for clip in features.clips):
        raise TargetsError(
            f"features {features.name} are of dataset {features.recipe.dataset.name}, targets {targets.name} of "
            f"{targets.recipe.dataset.name}, and they have no clip in common. Extract both from the same dataset."
        )
    target_rows = {}
    for row in (row for split in splits for row in rows[split]):
        clip = features.clips[row]
        other = known.get(clip.id)
        if other is None or other.row not in held:
            raise TargetsError(
                f"{targets.name}: clip {clip.id} of {features.name} has no targets. "
                f"Finish them with `python -m extract --model … --dataset {targets.recipe.dataset.name}`."
            )
        if _identity(clip) != _identity(other):
            raise TargetsError(
                f"clip {clip.id} differs between {features.name} ({_identity(clip)}) and {targets.name} "
                f"({_identity(other)}). Extract both from the same dataset."
            )
        if len(clip.bank) < views:
            raise SplitError(
                f"{features.name}: clip {clip.id} has {len(clip.bank)} bank frames, fewer than --views {views}."
            )
        if rules == "paper":
            require_paper_views(clip, views)
        target_rows[row] = other.row
    _require_apart(features, rows)
    if rules == "paper" and TRAIN in rows:
        rows = {TRAIN: [*rows[TRAIN], *rows[VAL]], VAL: rows[TEST], TEST: rows[TEST]}
    space = label_space(targets)
    if "tagging" in tasks and TRAIN in rows:
        space = space.model_copy(
            update={"rates": _rates(targets, [target_rows[row] for row in rows[TRAIN]], space, rules)}
        )
    return Inputs(features, targets, rows, target_rows, space)


def _require_apart(features: Readable, rows: Mapping[str, Sequence[int]]) -> None:
    """Raise `SplitError` if a scene lies in two splits: what was learned of it by heart would count as seen."""
    found: dict[str, str] = {}
    for split, members in rows.items():
        for clip in (features.clips[row] for row in members):
            if found.setdefault(clip.scene, split) != split:
                raise SplitError(
                    f"{features.name}: scene {clip.scene} has clips in {found[clip.scene]} and in {split}, so that "
                    "probes would be measured on what they were trained on. Extract a data set whose splits share no "
                    "scene."
                )


def _rates(targets: FeatureStore, rows: Sequence[int], space: LabelSpace, rules: Rules) -> tuple[float, ...]:
    """Share of clips that show each class of tagging: in two frames or more, with as many pixels as a tag asks for."""
    from probes.tasks import get_task
    from probes.tasks.tagging import TaggingTask

    task = get_task("tagging", space, rules)
    assert isinstance(task, TaggingTask)
    asked = [k - 1 for k in task.ids]
    shown = 0.0
    for row in rows:
        pixels = targets.read("class_pixels", row)
        shown = shown + (task.visible(pixels[None])[0] & ((pixels[:, asked] > 0).sum(0) >= 2))
    return tuple((shown / len(rows)).tolist())  # type: ignore[attr-defined]


def label_space(targets: FeatureStore) -> LabelSpace:
    """Classes and image size of a targets store. Raises `TargetsError` if no array is an image."""
    from probes.labels import LabelSpace

    sizes = {info.shape[2:4] for name, info in targets.arrays.items() if name in ("rgb", "depth", "instance")}
    if len(sizes) != 1:
        raise TargetsError(
            f"{targets.name}: expected images (rgb, depth, instance) of one size, got {sorted(sizes) or 'none'}. "
            "Write the targets again: remove their store and run `python -m extract`."
        )
    height, width = sizes.pop()
    classes = targets.attrs.get("classes", [])
    return LabelSpace(
        names=tuple(entry["name"] for entry in classes),
        things=tuple(entry["kind"] == "thing" for entry in classes),
        height=height,
        width=width,
        metric=length_unit(targets) == "m",
    )


def length_unit(targets: FeatureStore) -> str:
    """What lengths are in: `m`, or `1` where every scene has a unit of its own."""
    return str(targets.attrs.get("length_unit", "m"))


def choose_tasks(asked: Sequence[str], targets: FeatureStore, rules: Rules = "standard") -> list[str]:
    """Tasks by name; `all` are those that the targets and the rules allow.

    Raises:
        UnknownNameError: no such task; names the nearest.
        TargetsError: the targets store lacks an array that a task needs.
    """
    for name in asked:
        if name != "all" and name not in TASKS:
            raise UnknownNameError(did_you_mean("task", name, [*TASKS, "all"]))
        if name != "all":
            require_rules(name, rules)
    lacking = {name: sorted(needs_of(name, rules) - targets.arrays.keys()) for name in TASKS}
    if "all" in asked:
        chosen = [name for name in TASKS if not lacking[name] and has_rules(name, rules)]
    else:
        chosen = [name for name in TASKS if name in asked]
    for name in chosen:
        if lacking[name]:
            raise TargetsError(
                f"{targets.name}: task {name} needs the arrays {', '.join(lacking[name])}, which are not there. "
                f"It has: {', '.join(sorted(targets.arrays))}."
            )
    if not chosen:
        held = ", ".join(sorted(targets.arrays)) or "none"
        raise TargetsError(f"{targets.name}: no task is possible with its arrays ({held}). Name other --targets.")
    return chosen


def choose_taps(asked: Sequence[str], features: Readable) -> list[TapSpec]:
    """Taps by name, or all; in execution order. Raises `UnknownNameError` with the nearest name."""
    known = features.taps
    if not asked and features.recipe.fusion is not None and len(known) > MOST_FUSED:
        raise ProbesError(
            f"{features.name}: its branches have {len(known)} combinations of taps, each as wide as all branches "
            f"together. Choose some: --taps {known[-1]}"
        )
    for name in asked:
        if name not in known:
            raise UnknownNameError(f"{features.name}: {did_you_mean('tap', name, known)}")
    specs = []
    for name in known:
        if asked and name not in asked:
            continue
        info = features.arrays[name]
        noise = info.attrs.get("noise")
        (a, _, c), (_, e, f) = info.attrs.get("grid_to_image", ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
        specs.append(
            TapSpec(
                name=name,
                site=info.attrs["site"],
                depth=info.attrs["depth"],
                noise=noise["name"] if noise else None,
                channels=info.shape[-1],
                grid_map=(a, c, e, f),
            )
        )
    return specs


def _identity(clip: ClipRow) -> str:
    """What must agree for two rows to be the same clip."""
    bank = f"bank {list(clip.bank)} of {clip.n_frames} frames"
    return f"scene {clip.scene}, split {clip.split}, {bank}, source digest {clip.digest}"
