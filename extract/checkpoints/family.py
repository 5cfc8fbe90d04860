"""Families whose checkpoints are folders: facts from configurations, and the identity of the weights."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import WEIGHTS_AND_SIZE, Family, Weights, checkpoint_dir
from extract.checkpoints.digests import digest_weights
from extract.checkpoints.folder import Component, check_pipeline, check_reference, download, read_config, weight_files
from extract.errors import ExtractError, WeightsError
from store.digest import digest_text

if TYPE_CHECKING:
    import torch

    from extract.backbones.base import Backbone

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[1] / "backbones" / "configs"
"""Published configurations, one folder per model. What is known without weights is known from them."""


class FolderFamily(Family):
    """A family of checkpoints in the folder layout of diffusers, or in one that its components describe."""

    pipelines: ClassVar[Mapping[str, str]] = {}
    """model -> class that `model_index.json` must name; a model that is not among them has no such file."""
    components: ClassVar[tuple[Component, ...]] = ()
    published_configs: ClassVar[Path] = CONFIGS
    takes = WEIGHTS_AND_SIZE

    @property
    def pipeline(self) -> str | None:
        """Class of the library's own pipeline, if it has one."""
        return self.pipelines.get(self.model)

    @property
    def offloads(self) -> bool:
        """Yes: these networks are large."""
        return True

    @property
    def parts(self) -> Sequence[Component]:
        """What this model's checkpoint is made of."""
        return self.components

    @property
    def networks(self) -> list[Component]:
        """What is run for every clip."""
        return [part for part in self.parts if part.role == "network"]

    @cached_property
    def index(self) -> dict[str, Any]:
        """`model_index.json`, of the local checkpoint if one is given, else as published; empty if it has none."""
        if self.options.checkpoint is not None:
            check_reference(self.options.checkpoint)
        if self.pipeline is None:
            return {}
        return check_pipeline(self._configs_root, self.pipeline)

    @property
    def _configs_root(self) -> Path:
        return checkpoint_dir(self.options) or self.published_configs / self.model

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Configuration of every component: of the local checkpoint if one is given, else as published."""
        root = self._configs_root
        _ = self.index  # which refuses the folder of another pipeline
        configs = {}
        for part in self.parts:
            if (name := part.config_file) is None:
                continue
            given = part.file is None or (root / name).is_file()
            configs[part.name] = config = read_config(root if given else self.published_configs / self.model, name)
            if missing := [key for key in part.needs if config.get(key) is None]:
                raise WeightsError(
                    f"checkpoint {root}: {name} lacks {', '.join(missing)}. "
                    "Take the file from the published checkpoint, or save the checkpoint again with diffusers."
                )
            self._check_types(part, config, root)
        self.check_configs(configs, root)
        if checkpoint_dir(self.options) is not None:
            self._check_model(configs, root)
        return configs

    def _check_types(self, part: Component, config: Mapping[str, Any], root: Path) -> None:
        """Every entry that is needed must be of the type that the published configuration has."""
        published = self.published_configs / self.model
        if not (published / str(part.config_file)).is_file():
            return
        for key, usual in read_config(published, str(part.config_file)).items():
            if key in part.needs and kind_of(config[key]) != kind_of(usual):
                raise WeightsError(
                    f"checkpoint {root}: {part.config_file}: {key} is {config[key]!r}, expected {kind_of(usual)} "
                    f"such as {usual!r}. Fetch the file again."
                )

    def _check_model(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Refuse the folder of another model of the family; say how a folder differs from what is published."""
        found = {part.name: self.facts(part, configs[part.name]) for part in self.networks}
        for other in sorted({*self.models} - {self.model}):
            if (self.published_configs / other).is_dir() and self._published(other) == found:
                raise WeightsError(
                    f"checkpoint {root}: its configuration is that of {other}, and not of {self.model}. "
                    f"Ask for it by its name: --model {other}."
                )
        if (self.published_configs / self.model).is_dir():
            usual = self._published(self.model)
            other_values = [
                f"{part}.{key} = {found[part].get(key)!r} (published: {value!r})"
                for part, config in usual.items()
                for key, value in config.items()
                if key in found[part] and found[part][key] != value
            ]
            if other_values:
                more = f", and {len(other_values) - 3} more" if len(other_values) > 3 else ""
                log.warning("%s is not the published %s: %s%s", root, self.model, ", ".join(other_values[:3]), more)

    def _published(self, model: str) -> dict[str, dict[str, Any]]:
        """Facts of the networks of a model, as published."""
        facts = type(self)(model)
        return {part.name: self.facts(part, facts.configs[part.name]) for part in facts.networks}

    def facts(self, part: Component, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a configuration says of a network, to be compared with that of another checkpoint."""
        return facts_of(config)

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Raise `WeightsError` if the configurations describe a network that this family cannot run."""

    def check_weights(self, root: Path) -> None:
        """Raise `WeightsError` if the weight files hold a network that this family cannot run. Reads headers only."""

    def in_multiples(self, size: tuple[int, int], step: int) -> tuple[int, int]:
        """`size`, (height, width) in pixels. Raises `ExtractError` unless both are positive multiples of `step`."""
        if any(side <= 0 or side % step for side in size):
            near = tuple(max(step, round(side / step) * step) for side in size)
            raise ExtractError(
                f"size {size[0]}x{size[1]}: {self.model} takes multiples of {step} pixels. "
                f"Nearest: {near[0]}x{near[1]}."
            )
        return size

    # --- weights ----------------------------------------------------------------------------

    def load(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """All networks on the device. Raises `WeightsError` if they cannot be loaded."""
        return self.load_offloaded(device, dtype, "none")

    def dtype_of(self, part: Component, dtype: torch.dtype) -> torch.dtype:
        """The type of a component's weights for a computation in `dtype`."""
        return dtype

    def drawn_configs(self) -> Mapping[str, Mapping[str, Any]]:
        """Configurations of networks that are drawn at random."""
        return self.configs

    def weights(self) -> Weights:
        """Identity of the weights. For `untrained`, the digest is of seed and configuration."""
        if self.options.untrained is not None:
            facts = {part: facts_of(config) for part, config in self.drawn_configs().items()}
            drawn = json.dumps([self.options.untrained, facts], sort_keys=True)
            return Weights(f"{self.model} untrained", None, digest_text(drawn))
        if self.options.revision is not None and checkpoint_dir(self.options) is not None:
            raise ExtractError(
                f"--revision {self.options.revision}: --checkpoint is a folder, which has no revisions. Leave it out."
            )
        root = self.weights_root
        facts = {part: facts_of(config) for part, config in self.loaded_configs(root).items()}
        files = [*self.weight_files[1], *text_files(root, self.parts)]
        digest = digest_text(json.dumps([digest_weights(root, files), facts], sort_keys=True))
        if checkpoint_dir(self.options) is not None:
            return Weights("local", None, digest)  # where it lies cannot change a number
        return Weights(self._hub_id, root.name, digest)  # a snapshot folder is named by its commit

    def loaded_configs(self, root: Path) -> Mapping[str, Mapping[str, Any]]:
        """Configurations of the networks that are loaded from `root`."""
        return self.configs

    @cached_property
    def weight_files(self) -> tuple[str | None, list[Path]]:
        """(variant, files) of all components together: what is digested is what is loaded."""
        variant, files = weight_files(self.weights_root, self._with_weights)
        if variant is not None:
            log.info("%s: full precision is not complete; the %s weights are taken", self.weights_root, variant)
        return variant, files

    @property
    def _with_weights(self) -> list[Component]:
        return [part for part in self.parts if part.network is not None]

    @property
    def _hub_id(self) -> str:
        return self.options.checkpoint or self.published.id

    @cached_property
    def weights_root(self) -> Path:
        """Folder of the weights; fetched from the hub unless a local one is given."""
        expected = self.configs
        local = checkpoint_dir(self.options)
        if local is not None:
            self.check_weights(local)
            return local
        root = self.fetch()
        self.check_fetched(root, expected)
        self.check_weights(root)
        return root

    def check_fetched(self, root: Path, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise `WeightsError` unless a folder of the hub is described by the published configurations."""
        for part in self.parts:
            name = part.config_file
            if name is not None and part.file is None and not same_facts(read_config(root, name), expected[part.name]):
                raise self.differs(name, root)

    def differs(self, name: str, root: Path) -> WeightsError:
        """The error for a folder of the hub that the published configuration `name` does not describe."""
        return WeightsError(
            f"checkpoint {self._hub_id}: {name} differs from that of {self.published.id}, so sites and sizes "
            f"would be wrong. Pass its folder, so that its own configuration is read: --checkpoint {root}"
        )

    def fetch(self) -> Path:
        """A folder with the published checkpoint, from the hub; it is named by its commit."""
        revision = self.options.revision or self.published.revision
        index = [] if self.pipeline is None else ["model_index.json"]
        root = download(self._hub_id, revision, [*index, *names_of(self.parts)], self._with_weights)
        if self.pipeline is not None and flags_of(check_pipeline(root, self.pipeline)) != flags_of(self.index):
            raise WeightsError(
                f"checkpoint {self._hub_id}: model_index.json differs from that of {self.published.id}. "
                f"Pass its folder, so that its own is read: --checkpoint {root}"
            )
        return root


def flags_of(index: Mapping[str, Any]) -> dict[str, Any]:
    """What `model_index.json` says besides the components; what is null says nothing."""
    values = {key: value for key, value in index.items() if not key.startswith("_")}
    return {key: value for key, value in values.items() if not isinstance(value, list) and value is not None}


def kind_of(value: object) -> str:
    """What sort of JSON value it is; whole numbers and others are one sort."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list | tuple):
        return f"a list of {', '.join(sorted({kind_of(each) for each in value}))}"
    return "a text" if isinstance(value, str) else "an object"


def names_of(parts: Iterable[Component]) -> list[str]:
    """Files of components that are not weights, as patterns."""
    names: list[str] = []
    for part in parts:
        if part.role == "tokenizer":
            names += [part.at(pattern) for pattern in part.files]
        elif part.role == "text":
            names.append(part.at(part.config))
        elif part.config_file is not None and part.file is None:
            names.append(part.config_file)
    return names


def same_facts(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two configurations are of the same thing; what one leaves out has the default of its class."""
    if facts_of(a) == facts_of(b):
        return True
    defaults = _defaults(str(a.get("_class_name")))
    return {**defaults, **facts_of(a)} == {**defaults, **facts_of(b)}


def _defaults(name: str) -> dict[str, Any]:
    """What a class of diffusers assumes where its configuration is silent, as JSON would hold it."""
    import diffusers

    known = inspect.signature(getattr(diffusers, name, object).__init__).parameters.values()
    defaults = {each.name: each.default for each in known if each.default is not inspect.Parameter.empty}
    plain: dict[str, Any] = json.loads(json.dumps(defaults, default=str))
    return plain


def facts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what only tells its history."""
    history = {"architectures", "torch_dtype", "dtype", "transformers_version"}
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in history}


def text_files(root: Path, parts: Iterable[Component]) -> list[Path]:
    """What decides on the embedding of a prompt besides weights: configurations, and every file of the tokenizers.

    Hidden files, which some systems leave in every folder, are passed over. Raises `WeightsError` if one is missing.
    """
    files = []
    for part in parts:
        if part.role not in ("text", "tokenizer"):
            continue
        patterns = part.files if part.role == "tokenizer" else (part.config,)
        listed = {path for pattern in patterns for path in (root / part.place).glob(pattern) if path.is_file()}
        found = {path for path in listed if not path.name.startswith(".")}
        if not found:
            what = "the files of a tokenizer" if part.role == "tokenizer" else part.config
            raise WeightsError(f"checkpoint {root}: {part.place}/ lacks {what}. Put all files of the folder there.")
        files += sorted(found)
    return files
