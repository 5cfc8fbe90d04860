"""A checkpoint in the folder layout of diffusers: where it is, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extract.errors import WeightsError

HALF = "fp16"
LAYOUT = "Give the folder that holds model_index.json and one folder per component, as diffusers saves it."


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


def check_pipeline(root: Path, expected: str) -> None:
    """Raise `WeightsError` unless `root/model_index.json` names the pipeline class `expected`."""
    got = read_config(root, "model_index.json").get("_class_name")
    if got != expected:
        raise WeightsError(
            f"checkpoint {root}: model_index.json names the pipeline {got!r}, but this model is a {expected!r}. "
            "Give the folder of the right checkpoint, or the model name that fits this one."
        )


def weight_files(root: Path, stems: Mapping[str, str]) -> tuple[str | None, list[Path]]:
    """The weight file of every component: full precision if all are there, else the `fp16` variant.

    Args:
        root: folder of the checkpoint.
        stems: component -> file name without variant and suffix.

    Returns:
        (variant, files): the variant as `from_pretrained` wants it, and one whole file per component.

    Raises:
        WeightsError: neither set is complete, or a file is truncated.
    """
    full = [root / part / f"{stem}.safetensors" for part, stem in stems.items()]
    half = [root / part / f"{stem}.{HALF}.safetensors" for part, stem in stems.items()]
    for variant, files in ((None, full), (HALF, half)):
        if all(path.is_file() for path in files):
            for path in files:
                check_safetensors(path)
            return variant, files
    missing = ", ".join(path.relative_to(root).as_posix() for path in full if not path.is_file())
    raise WeightsError(
        f"checkpoint {root}: {missing} is missing (and the {HALF} variant is not complete either). "
        "Put the missing files there, or give another folder with --checkpoint DIR."
    )


def check_safetensors(path: Path) -> None:
    """Raise `WeightsError` unless the file is as long as its header says.

    A safetensors file is an 8-byte little-endian header length, a JSON header with `data_offsets` (begin, end) of
    every tensor, and the tensors.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(file.read(length))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"weights {path}: no safetensors header in {size} bytes ({error}). Fetch it again."
        ) from error
    if size != 8 + length + end:
        raise WeightsError(
            f"weights {path}: {size} bytes, but its header asks for {8 + length + end}: "
            "the download or copy was cut short. Fetch it again."
        )


def check_reference(text: str) -> None:
    """Raise `WeightsError` unless `text` is a directory that exists, or can be a hub id (owner/name)."""
    path = Path(text).expanduser()
    if not path.is_dir() and (path.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1):
        raise WeightsError(f"checkpoint {text!r}: no such directory, and no hub id (owner/name). {LAYOUT}")


def download(repository: str, revision: str | None, names: Sequence[str]) -> Path:
    """Folder of a hub snapshot that holds `names`, from the local cache or the network.

    Raises:
        WeightsError: it is neither cached nor can be fetched; says what to get and where to put it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(names)))
    except Exception as error:  # hub client, HTTP client and transfer library share no narrower base class
        raise WeightsError(
            f"weights of {repository} (revision {revision or 'main'}) are not in the hub cache and cannot be fetched: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}\n"
            f"Accept the licence at https://huggingface.co/{repository} if asked to, and log in with `hf auth login`; "
            f"or, where there is a network, run `hf download {repository} {' '.join(names)} --local-dir DIR`, "
            "copy DIR here and pass --checkpoint DIR; or point HF_HOME at a cache that holds it."
        ) from error
