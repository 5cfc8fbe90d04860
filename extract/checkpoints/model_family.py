"""Families whose checkpoints are one model of transformers: one folder, whose `config.json` says what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from extract.backbones.base import checkpoint_dir
from extract.checkpoints.family import FolderFamily
from extract.checkpoints.folder import Component, read_config
from extract.errors import WeightsError

MODEL = "model"
SIZES = {
    "crop_size",
    "depth",
    "hidden_size",
    "image_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_heads",
    "num_hidden_layers",
    "out_hidden_size",
    "patch_size",
    "spatial_merge_size",
    "temporal_patch_size",
    "tubelet_size",
    "vocab_size",
}
HISTORY = {"architectures", "dtype", "torch_dtype", "transformers_version", "model_type"}
"""Entries of a configuration that tell where it comes from, at any depth."""


class ModelFamily(FolderFamily):
    """A family of checkpoints as transformers saves them.

    Such a file may leave out what is the default of its class. A published configuration is taken as it is, so that
    facts need no library; it holds every fact that the family reads. A local one is completed by its class.
    """

    network: ClassVar[str]
    """Class of transformers that fits the weight file."""
    whole: ClassVar[str | None] = None
    """Class that `config.json` describes, where `network` is a part of it."""
    pickled: ClassVar[bool] = False
    """Whether the weights may be a `pytorch_model.bin`, which is read without running what it holds."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Entries that every `config.json` of the family has."""
    tokenizer_files: ClassVar[tuple[str, ...]] = ()
    """Files that decide on tokens, as patterns; none for a network that sees no text."""
    attentions = ("sdpa", "flash_attention_2", "eager")

    @property
    def parts(self) -> Sequence[Component]:
        """The model, and the tokenizer beside it."""
        needs = ("model_type", *self.needs)
        model = Component(MODEL, self.network, "transformers", needs=needs, folder="", pickled=self.pickled)
        if not self.tokenizer_files or self.options.untrained is not None:
            return (model,)
        return (model, Component("tokenizer", role="tokenizer", folder="", files=self.tokenizer_files))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`: of a local checkpoint with the defaults of its class, else as published."""
        raw = self.configs[MODEL]
        return raw if checkpoint_dir(self.options) is None else self._completed(raw, self._configs_root)

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """The model must be of the type that is published under this name."""
        usual = read_config(self.published_configs / self.model, "config.json")["model_type"]
        if (got := configs[MODEL]["model_type"]) != usual:
            raise WeightsError(
                f"checkpoint {root}: config.json is of a {got!r}, but {self.model} is a {usual!r}. "
                "Give the folder of the right checkpoint, or the model name that fits this one."
            )
        if configs[MODEL].get("quantization_config"):
            raise WeightsError(
                f"checkpoint {root}: config.json has a quantization_config: its weights are not the published ones, "
                "and how they are computed depends on the machine. Give a checkpoint in 16 or 32 bits."
            )

    def facts(self, part: Component, config: Mapping[str, Any]) -> dict[str, Any]:
        """Completed by the class, without history: files of different versions of transformers compare."""
        return dict(_flat(self._completed(config, self._configs_root)))

    def as_loaded(self) -> Self:
        """The same family, of the very folder whose weights are loaded, so that all its facts are that folder's."""
        if self.options.untrained is not None or checkpoint_dir(self.options) is not None:
            return self
        return self._of(self.weights_root)

    def _of(self, root: Path) -> Self:
        return type(self)(self.model, replace(self.options, checkpoint=str(root), revision=None))

    def check_fetched(self, root: Path, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """What was planned from the published configuration must be what the fetched one says."""
        there = self._of(root)
        if (
            list(there.sites()) != list(self.sites())
            or there.preprocessing() != self.preprocessing()
            or there.settings() != self.settings()
        ):
            raise self.differs("config.json", root)

    def loaded_configs(self, root: Path) -> Mapping[str, Mapping[str, Any]]:
        """As the folder has it, so that a copy of a hub's folder has the hub's digest."""
        return {MODEL: read_config(root, "config.json")}

    def _completed(self, config: Mapping[str, Any], root: Path) -> Mapping[str, Any]:
        import transformers

        known = getattr(transformers, self.whole or self.network).config_class
        try:
            plain: dict[str, Any] = json.loads(json.dumps(known.from_dict(dict(config)).to_dict(), default=str))
        except Exception as error:  # what the library raises at a wrong value depends on the value
            raise WeightsError(
                f"checkpoint {root}: config.json is none that {known.__name__} of transformers can read "
                f"({type(error).__name__}: {' '.join(str(error).split())}). Fetch the file again."
            ) from error
        if wrong := [f"{name} is {value!r}" for name, value in _flat(plain) if not _is_size(name, value)]:
            raise WeightsError(
                f"checkpoint {root}: config.json: {', '.join(wrong[:3])}, where a whole number above zero is needed. "
                "Fetch the file again."
            )
        return plain


def _is_size(name: str, value: Any) -> bool:
    """Whether an entry that tells a size can be one; entries of other names, and what is null, always can."""
    if name.rpartition(".")[2] not in SIZES or value is None:
        return True
    numbers = value if isinstance(value, list) else [value]
    return bool(numbers) and all(isinstance(each, int) and each > 0 for each in numbers)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Entries at any depth by dotted names, without history."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key not in HISTORY and not key.startswith("_"):
            yield f"{prefix}{key}", value
