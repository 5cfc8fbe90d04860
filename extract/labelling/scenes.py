"""Labelling the scenes of a data set one after another: what is there and valid is kept, the rest is made."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from extract.datasets._names import some
from extract.datasets.dl3dv import Dl3dv
from extract.datasets.dl3dv_files.scenes import LABELS, Scene
from extract.datasets.dl3dv_files.sft import read_header, write_labels
from extract.datasets.recordings.beside import DEPTH
from extract.datasets.sampling import PAPER_RUN, run_start
from extract.errors import DataError, ExtractError
from extract.labelling.base import Labeller
from extract.progress import Progress

log = logging.getLogger(__name__)


@dataclass
class Labelled:
    """What a run did. Attributes: done, skipped: scenes; failed: scene -> why; nothing of those was written."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def label_scenes(
    dataset: Dl3dv, labeller: Labeller, out: Path | None, frames: int, limit: int | None, progress: Progress
) -> Labelled:
    """Label up to `frames` consecutive frames of every scene, or of the first `limit`.

    A scene that cannot be read, or of which the network finds no cameras, is listed, and the rest goes on.

    Args:
        dataset: its scenes, whether they have labels or not.
        labeller: what makes them.
        out: folder for <subset>/<scene>.sft; by default where the reader looks for them.
        frames: as many of each scene, from where its clip begins; all if it has no more.
        limit: how many scenes.
        progress: a bar.

    Raises:
        ExtractError: the labeller cannot go on, or labels would lie beside depth that a user supplied.
        StoreError: the disk is full, or does not take a file.
    """
    if out is None and (deep := [scene.id for scene in dataset.scenes if scene.depth]):
        raise ExtractError(
            f"{dataset.root}: {DEPTH}/ lies beside the pictures of scenes {some(deep)}, and targets are of one kind. "
            "Remedy: move those folders away, or let labels go elsewhere (--out)."
        )
    folder = out or dataset.root / LABELS
    scenes = dataset.scenes[:limit]
    outcome = Labelled(failed={} if limit else dict(dataset.unreadable))
    with progress.bar(f"labels {dataset.name}", len(scenes)) as advance:
        for scene in scenes:
            path = folder / scene.subset / f"{scene.id}.sft"
            try:
                if _is_made(path, scene, labeller):
                    outcome.skipped.append(scene.id)
                else:
                    _label(path, scene, labeller, frames)
                    outcome.done.append(scene.id)
            except DataError as error:
                outcome.failed[scene.id] = str(error)
                log.error("scene %s failed: %s", scene.id, error)
            advance()
    return outcome


def _is_made(path: Path, scene: Scene, labeller: Labeller) -> bool:
    """Whether a valid file is there. Raises `DataError` if another labeller made it: labels are not mixed unasked."""
    if not path.exists():
        return False
    try:
        header = read_header(path)
    except DataError as error:
        log.warning("%s is made anew: %s", path, error)
        return False
    if header.start + header.frames > scene.total:
        log.warning("%s is made anew: it labels frames that the scene does not have", path)
        return False
    said = header.made_by
    if said["labeller"] != labeller.name or said.get("checkpoint", labeller.checkpoint) != labeller.checkpoint:
        raise DataError(
            f"{path}: is there, made by {' '.join(said.values())}, not by {labeller.name} {labeller.checkpoint}. "
            "Remedy: name another folder (--out), or remove the file."
        )
    return True


def _label(path: Path, scene: Scene, labeller: Labeller, frames: int) -> None:
    start = run_start(scene.id, scene.total, max(frames, PAPER_RUN))
    pictures = _pictures(scene, range(start, min(start + frames, scene.total)))
    made = labeller.label(pictures)
    made.check()
    if len(made.images) != len(pictures):
        raise ExtractError(f"labeller {labeller.name}: {len(made.images)} labels of {len(pictures)} frames.")
    made_by = {"labeller": labeller.name, "checkpoint": labeller.checkpoint}
    write_labels(
        path, made.images, made.depth, made.confidence, made.intrinsic, made.extrinsic, start=start, made_by=made_by
    )


def _pictures(scene: Scene, numbers: range) -> UInt8[np.ndarray, "frame y x 3"]:
    """Decode these frames. Raises `DataError` for one that is damaged or of another size."""
    images = np.empty((len(numbers), *scene.size, 3), np.uint8)
    for row, number in enumerate(numbers):
        images[row] = scene.picture(number)
    return images
