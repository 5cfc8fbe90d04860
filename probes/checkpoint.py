"""Trained probes on disk: `probes.safetensors` and `probes.json`. Opening what a colleague sent never runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from probes.bank import ProbeBank
from probes.config import ProbeSpec, TapSpec
from probes.errors import CheckpointError
from probes.labels import LabelSpace
from probes.standardise import Standardiser
from probes.tasks import Rules, tasks_of
from store import Readable
from store.digest import digest_text
from store.recipe import canonical_json

EMBEDDINGS = "read.embeddings"
"""Name in a head of the embeddings of class names that it was given."""
WEIGHTS, CARD = "probes.safetensors", "probes.json"


class Card(BaseModel):
    """What the weights belong to.

    Attributes:
        features, fingerprint: name and fingerprint of the feature store the probes were trained on.
        backbone: digest of what made the features, the data set aside: equal for stores that these probes can read.
        space: classes and image size of the targets.
        protocol: whose rules the probes were trained by.
        taps, probes: what was trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    features: str
    fingerprint: str
    backbone: str
    space: LabelSpace
    protocol: Rules
    taps: list[TapSpec]
    probes: list[ProbeSpec]


def backbone_digest(features: Readable) -> str:
    """xxh3_128 of what makes features what they are, but for the data set and how numbers are stored."""
    recipe = features.recipe.model_dump(mode="json", exclude={"dataset", "storage"})
    return digest_text(canonical_json(recipe))


def save(bank: ProbeBank, directory: Path, features: Readable, space: LabelSpace, protocol: Rules) -> None:
    """Write both files. Tensors: `standardise/<tap>/mean`, `…/std`, and `<probe id>/<parameter>`."""
    from safetensors.torch import save as serialised

    card = Card(
        features=features.name,
        fingerprint=features.fingerprint,
        backbone=backbone_digest(features),
        space=space,
        protocol=protocol,
        taps=list(bank.taps.values()),
        probes=list(bank.probes),
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(bank).items()}
    (directory / WEIGHTS).write_bytes(serialised(tensors))
    (directory / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load(directory: Path) -> tuple[ProbeBank, Card]:
    """Read probes back, ready to predict.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are not those that the card describes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        card = Card.model_validate_json((directory / CARD).read_bytes())
        stored = load_file(directory / WEIGHTS)
    except (OSError, ValidationError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: no readable probes ({error}). Train them again with --force.") from error
    try:
        standardisers = {
            tap.name: Standardiser(stored[f"standardise/{tap.name}/mean"], stored[f"standardise/{tap.name}/std"])
            for tap in card.taps
        }
        tasks = tasks_of(card.probes, card.space, card.protocol)
        for probe in card.probes:
            if (embeddings := stored.get(f"{probe.id}/{EMBEDDINGS}")) is not None:
                tasks[probe.asked].embeddings = embeddings
        bank = ProbeBank(card.probes, {tap.name: tap for tap in card.taps}, tasks, standardisers)
        expected = _tensors(bank)
        if expected.keys() != stored.keys():
            raise KeyError(*sorted(expected.keys() ^ stored.keys())[:3])
        for name, tensor in expected.items():
            if tensor.shape != stored[name].shape:
                raise ValueError(f"{name} has shape {tuple(stored[name].shape)}, expected {tuple(tensor.shape)}")
            tensor.data.copy_(stored[name])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{directory / WEIGHTS}: not the weights that {CARD} describes ({error}). Train them again with --force."
        ) from error
    return bank.eval(), card


def _tensors(bank: ProbeBank) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for tap in bank.taps:
        for name, tensor in bank.standardiser(tap).named_buffers():
            tensors[f"standardise/{tap}/{name}"] = tensor
    for probe, owned in zip(bank.probes, bank.owned, strict=True):
        tensors |= {f"{probe.id}/{name}": tensor for name, tensor in owned.items()}
    return tensors
