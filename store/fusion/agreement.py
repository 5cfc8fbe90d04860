"""Whether stores are of the same clips. If they are not, in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from store.clips import ClipRow
from store.errors import FusionError
from store.feature_store import FeatureStore
from store.recipe import DatasetRecipe

_NAMED = 3
"""Clips that are named where many differ."""


def check_same_clips(branches: Sequence[FeatureStore]) -> None:
    """Raise unless all stores hold features of the same data set, with the same clip table.

    Raises:
        FusionError: a store holds labels, or other clips; says in what they differ.
    """
    first = branches[0]
    for branch in branches:
        if branch.recipe.backbone is None:
            raise FusionError(f"{branch.name}: holds labels, which are not fused. Name stores of features only.")
        if not branch.taps:
            raise FusionError(
                f"{branch.name}: has no taps to fuse. Extract some first (`python -m extract`); "
                "if it is on a web server, finalize it where it was made (`python -m store finalize`), then upload it."
            )
        lines = list(_dataset_lines(first.recipe.dataset, branch.recipe.dataset))
        lines += _clip_lines(first.clips, branch.clips)
        if lines:
            raise FusionError(
                "\n".join(
                    [
                        f"{first.name} and {branch.name} are not of the same clips and cannot be fused. They differ in",
                        *(f"  {line}" for line in lines),
                        "Extract both from one version of the data set, with the same clips and bank.",
                    ]
                )
            )


def _dataset_lines(a: DatasetRecipe, b: DatasetRecipe) -> Iterator[str]:
    """The facts of the data set that differ; those of clips, which are digests, are left to `_clip_lines`."""
    left, right = (dataset.model_dump(mode="json", exclude={"clips", "bank"}) for dataset in (a, b))
    for name, value in left.items():
        if value != right[name]:
            yield f"dataset.{name}: {value!r} and {right[name]!r}"


def _clip_lines(a: Sequence[ClipRow], b: Sequence[ClipRow]) -> Iterator[str]:
    left, right = ({clip.id: clip for clip in clips} for clips in (a, b))
    for place, only in (("first", left.keys() - right.keys()), ("second", right.keys() - left.keys())):
        if only:
            yield f"clips that only the {place} has ({len(only)}): {_listed(sorted(only))}"
    changed = [name for name in left if name in right and left[name] != right[name]]
    if changed:
        one, other = (clips[changed[0]].model_dump() for clips in (left, right))
        fields = ", ".join(f"{name} {one[name]} and {other[name]}" for name in one if one[name] != other[name])
        yield f"clips that both have ({len(changed)}), such as {changed[0]}: {fields}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
