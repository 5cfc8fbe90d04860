"""Families whose checkpoints are folders of diffusers: facts from configurations, and the identity of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from extract.backbones.base import Family, Weights, checkpoint_dir
from extract.diffusion.digests import digest_weights
from extract.diffusion.folder import Component, check_pipeline, check_reference, download, read_config, weight_files
from extract.errors import WeightsError
from store.digest import digest_text

CONFIGS = Path(__file__).parents[1] / "backbones" / "configs"
"""Published configurations, one folder per model. What is known without weights is known from them."""


class FolderFamily(Family):
    """A family of checkpoints in the folder layout of diffusers."""

    pipelines: ClassVar[Mapping[str, str]]
    """model -> class that `model_index.json` must name."""
    components: ClassVar[tuple[Component, ...]] = ()
    published_configs: ClassVar[Path] = CONFIGS

    @property
    def pipeline(self) -> str:
        """Class of the library's own pipeline."""
        return self.pipelines[self.model]

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
        """`model_index.json`, of the local checkpoint if one is given, else as published."""
        if self.options.checkpoint is not None:
            check_reference(self.options.checkpoint)
        root = self._configs_root
        check_pipeline(root, self.pipeline)
        return read_config(root, "model_index.json")

    @property
    def _configs_root(self) -> Path:
        return checkpoint_dir(self.options) or self.published_configs / self.model

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Configuration of every component: of the local checkpoint if one is given, else as published."""
        root = self._configs_root
        assert self.index
        configs = {}
        for part in self.parts:
            if part.role == "tokenizer":
                continue
            configs[part.name] = config = read_config(root, f"{part.name}/{part.config}")
            if missing := [key for key in part.needs if config.get(key) is None]:
                raise WeightsError(
                    f"checkpoint {root}: {part.name}/{part.config} lacks {', '.join(missing)}. "
                    "Take the file from the published checkpoint, or save the checkpoint again with diffusers."
                )
        self.check_configs(configs, root)
        return configs

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Raise `WeightsError` if the configurations describe a network that this family cannot run."""

    # --- weights ----------------------------------------------------------------------------

    def weights(self) -> Weights:
        """Identity of the weights. For `untrained`, the digest is of seed and configuration."""
        facts = {part: facts_of(config) for part, config in self.configs.items()}
        if self.options.untrained is not None:
            drawn = json.dumps([self.options.untrained, facts], sort_keys=True)
            return Weights(f"{self.model} untrained", None, digest_text(drawn))
        root = self.weights_root
        _, files = weight_files(root, self._with_weights)
        tokens = [file for part in self.parts if part.role == "tokenizer" for file in files_in(root / part.name)]
        digest = digest_text(json.dumps([digest_weights(root, [*files, *tokens]), facts], sort_keys=True))
        if checkpoint_dir(self.options) is not None:
            return Weights("local", self.options.revision, digest)  # where it lies cannot change a number
        return Weights(self._hub_id, root.name, digest)  # a snapshot folder is named by its commit

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
            return local
        revision = self.options.revision or self.published.revision
        named = {part.name: f"{part.name}/{part.config}" for part in self.parts if part.role != "tokenizer"}
        tokens = [f"{part.name}/*" for part in self.parts if part.role == "tokenizer"]
        names = ["model_index.json", *named.values(), *tokens]
        root = download(self._hub_id, revision, names, self._with_weights)
        check_pipeline(root, self.pipeline)
        for part, name in named.items():
            if facts_of(read_config(root, name)) != facts_of(expected[part]):
                raise WeightsError(
                    f"checkpoint {self._hub_id}: {name} differs from that of {self.published.id}, so sites and sizes "
                    f"would be wrong. Pass its folder, so that its own configuration is read: --checkpoint {root}"
                )
        return root


def facts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what only tells its history."""
    history = {"architectures", "torch_dtype", "dtype", "transformers_version"}
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in history}


def files_in(folder: Path) -> list[Path]:
    """Every file of a tokenizer. Raises `WeightsError` if there is none."""
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise WeightsError(
            f"checkpoint {folder.parent}: {folder.name}/ is missing or empty. Put the tokenizer's files there."
        )
    return files
