"""A checkpoint in the layout of diffusers or transformers: what it is made of, where it is, and whether it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from extract.errors import WeightsError

_MAY_FETCH: ContextVar[bool] = ContextVar("may_fetch", default=True)
HALF = "fp16"
INDEX = ".safetensors.index.json"
PICKLED = "pytorch_model.bin"
LAYOUT = "Give the folder of a checkpoint, with all files that its library saves: configurations and weights."


@dataclass(frozen=True)
class Component:
    """One folder of a checkpoint.

    Attributes:
        name: of the folder.
        network: its class: of diffusers if `library` says so, else of transformers; or `package.module:Class`, of the
            kind that `library` says. `None` if it has no weights.
        library: that knows the class.
        needs: entries that its configuration must have.
        config: file of its configuration.
        role: a `network` is hooked and run for every clip; `text` is what embeds the prompt, once, and has whatever
            configuration is found; `facts` have no weights, only a configuration; files of a `tokenizer` are part of
            the text encoder's identity.
        folder: below the checkpoint's, if not `name`; empty for what lies in the checkpoint's own folder.
        file: of the weights, for a network that is published as one file and no folder. Its tensors must be the
            network's; its configuration is the published one, unless the checkpoint has one in `folder`.
        pickled: the weights may be a `pytorch_model.bin`, which is read without running what it holds.
        files: of a tokenizer, as patterns.
    """

    name: str
    network: str | None = None
    library: Literal["diffusers", "transformers"] = "diffusers"
    needs: tuple[str, ...] = ()
    config: str = "config.json"
    role: Literal["network", "text", "facts", "tokenizer"] = "network"
    folder: str | None = None
    file: str | None = None
    pickled: bool = False
    files: tuple[str, ...] = ("*",)

    @property
    def stem(self) -> str:
        """Name of the weight file without variant and suffix."""
        return "diffusion_pytorch_model" if self.library == "diffusers" else "model"

    @property
    def place(self) -> str:
        """Its folder."""
        return self.name if self.folder is None else self.folder

    def at(self, name: str) -> str:
        """Path of one of its files, from the checkpoint's folder."""
        return f"{self.place}/{name}" if self.place else name

    @property
    def config_file(self) -> str | None:
        """Where its configuration is, for one that has a known one."""
        return self.at(self.config) if self.role in ("network", "facts") else None


def read_config(root: Path, name: str) -> dict[str, Any]:
    """The JSON object in `root/name`. Raises `WeightsError` if it is missing or no JSON object."""
    path = root / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"checkpoint {root}: {name} is missing. {LAYOUT}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"checkpoint {root}: {name} cannot be read as JSON ({error}). Fetch it again.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"checkpoint {root}: {name} holds a {type(config).__name__}, not an object. Fetch it again.")
    return config


def check_pipeline(root: Path, expected: str) -> dict[str, Any]:
    """`root/model_index.json`. Raises `WeightsError` unless it names the pipeline class `expected`."""
    index = read_config(root, "model_index.json")
    got = index.get("_class_name")
    if got != expected:
        raise WeightsError(
            f"checkpoint {root}: model_index.json names the pipeline {got!r}, but this model is a {expected!r}. "
            "Give the folder of the right checkpoint, or the model name that fits this one."
        )
    return index


def check_entries(root: Path, name: str, config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `WeightsError` unless `config`, read from `root/name`, has these entries; one that is missing is null."""
    wrong = [
        f"{key} is {json.dumps(config.get(key))} and not {json.dumps(value)}"
        for key, value in wanted.items()
        if (config.get(key) or None) != (value or None)
    ]
    if wrong:
        raise WeightsError(
            f"checkpoint {root}: {name}: {', '.join(wrong)}, which this model's code does not cover. "
            "Give the folder of the right checkpoint, or the model name that fits this one."
        )


def weight_files(root: Path, components: Sequence[Component]) -> tuple[str | None, list[Path]]:
    """The weight files of all components: full precision if all are there, else the `fp16` variant.

    Args:
        root: folder of the checkpoint.
        components: those with weights.

    Returns:
        (variant, files): the variant as `from_pretrained` wants it, and whole files, one or several per component.

    Raises:
        WeightsError: neither set is complete, or a file is truncated.
    """
    lacking: list[str] = []
    for variant in (None, HALF):
        files = [file for component in components for file in _files(root, component, variant)]
        missing = [path.relative_to(root).as_posix() for path in files if not path.is_file()]
        if not missing:
            for path in files:
                if path.suffix != Path(PICKLED).suffix:
                    check_safetensors(path)
            return variant, files
        lacking = lacking or missing
    raise WeightsError(
        f"checkpoint {root}: {', '.join(lacking)} is missing (and the {HALF} variant is not complete either). "
        "Put the missing files there, or give another folder with --checkpoint DIR."
    )


def _files(root: Path, component: Component, variant: str | None) -> list[Path]:
    """Where the weights of a component must be: one file, or the shards that an index lists."""
    files = _safetensors(root, component, variant)
    if component.pickled and variant is None and not files[0].is_file():
        folder = root / component.place
        if (folder / PICKLED).is_file() or (folder / f"{PICKLED}.index.json").is_file():
            return _pickled(root, component)
    return files


def _safetensors(root: Path, component: Component, variant: str | None) -> list[Path]:
    if component.file is not None:
        return [root / component.file]
    suffix = "" if variant is None else f".{variant}"
    index = f"{component.stem}{INDEX.removesuffix('.json')}{suffix}.json"
    return _shards(root, component, f"{component.stem}{suffix}.safetensors", index)


def _pickled(root: Path, component: Component) -> list[Path]:
    return _shards(root, component, PICKLED, f"{PICKLED}.index.json")


def _shards(root: Path, part: Component, whole: str, index: str) -> list[Path]:
    """The component's file `whole`, or what its file `index` lists. Raises `WeightsError` if both are there."""
    whole, index = part.at(whole), part.at(index)
    if not (root / index).is_file():
        return [root / whole]
    if (root / whole).is_file():
        raise WeightsError(
            f"checkpoint {root}: has {whole}, and shards that {index} lists. Which are meant is not known, "
            "and libraries differ. Remove the one or the other."
        )
    shards = read_config(root, index).get("weight_map")
    suffix = Path(whole).suffix
    if not isinstance(shards, dict) or not shards or not all(_is_name(name, suffix) for name in shards.values()):
        raise WeightsError(f"checkpoint {root}: {index} lists no shards. Fetch it again.")
    return [root / part.at(name) for name in sorted(set(shards.values()))]


def _is_name(name: object, suffix: str) -> bool:
    """Whether an index may name it: a file of this very folder, and no pattern that the hub would match with others."""
    return isinstance(name, str) and re.fullmatch(rf"[A-Za-z0-9_.-]+{re.escape(suffix)}", name) is not None


def check_safetensors(path: Path) -> None:
    """Raise `WeightsError` unless the file is as long as its header says."""
    tensors_in(path)


def tensors_in(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """name -> (type, shape) of the tensors of a safetensors file, whose header alone is read.

    Such a file is an 8-byte little-endian header length, a JSON header with `dtype`, `shape` and `data_offsets` (begin,
    end) of every tensor, and the tensors. Raises `WeightsError` unless it is as long as its header says.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max(entry["data_offsets"][1] for entry in header.values())
        tensors = {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"weights {path}: no safetensors header in {size} bytes ({error}). Fetch it again."
        ) from error
    if size != 8 + length + end:
        raise WeightsError(
            f"weights {path}: {size} bytes, but its header asks for {8 + length + end}: "
            "the download or copy was cut short. Fetch it again."
        )
    return tensors


def check_reference(text: str) -> None:
    """Raise `WeightsError` unless `text` is a directory that exists, or can be a hub id (owner/name)."""
    path = Path(text).expanduser()
    if not path.is_dir() and (path.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1):
        raise WeightsError(f"checkpoint {text!r}: no such directory, and no hub id (owner/name). {LAYOUT}")


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Within the body of the `with`, checkpoints of the hub that are not in its cache count as not to be had."""
    token = _MAY_FETCH.set(False)
    try:
        yield
    finally:
        _MAY_FETCH.reset(token)


def download(repository: str, revision: str | None, names: Sequence[str], components: Sequence[Component]) -> Path:
    """Folder of a hub snapshot that holds `names` and the weights of `components`, from the cache or the network.

    Raises:
        WeightsError: it is neither cached nor can be fetched; says what to get and where to put it.
    """
    from huggingface_hub import snapshot_download as fetch

    snapshot_download = fetch if _MAY_FETCH.get() else partial(fetch, local_files_only=True)
    indices = [part.at(f"{part.stem}{INDEX}") for part in components if part.file is None]
    indices += [part.at(f"{PICKLED}.index.json") for part in components if part.pickled]
    patterns = [part.file or part.at(f"{part.stem}*") for part in components]
    try:
        root = Path(snapshot_download(repository, revision=revision, allow_patterns=[*names, *indices]))
        wanted = [file.relative_to(root).as_posix() for part in components for file in _safetensors(root, part, None)]
        # The folder is named by its commit: what is fetched now is of the same one, whatever `main` is by now.
        root = Path(snapshot_download(repository, revision=root.name, allow_patterns=[*names, *indices, *wanted]))
        lacking = [part for part in components if part.pickled and not _safetensors(root, part, None)[0].is_file()]
        if lacking:
            wanted += [file.relative_to(root).as_posix() for part in lacking for file in _pickled(root, part)]
            root = Path(snapshot_download(repository, revision=root.name, allow_patterns=[*names, *indices, *wanted]))
        return root
    except WeightsError:
        raise
    except Exception as error:  # hub client, HTTP client and transfer library share no narrower base class
        if not _MAY_FETCH.get():
            raise WeightsError(
                f"weights of {repository} (revision {revision or 'main'}) are not in the hub cache, and nothing is "
                "fetched now."
            ) from error
        which = " ".join(map(repr, [*names, *patterns]))
        raise WeightsError(
            f"weights of {repository} (revision {revision or 'main'}) are not in the hub cache and cannot be fetched: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}\n"
            f"Accept the licence at https://huggingface.co/{repository} if asked to, and log in with `hf auth login`; "
            f"or, where there is a network, run `hf download {repository} --include {which} "
            "--local-dir DIR`, copy DIR here and pass --checkpoint DIR; or point HF_HOME at a cache that holds it."
        ) from error
