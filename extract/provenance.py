"""Facts about a run that do not change a number but help when one is questioned. Kept apart from the recipe."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from extract.backbones.base import Backbone

_PACKAGES = ("spatial-probing", "torch", "diffusers", "transformers", "zarr", "numpy", "pillow")


def provenance(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, code commit, host, device, command and time."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "code": _git_commit(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": _device_name(device),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def parameter_count(backbone: Backbone) -> int:
    """Return how many parameters the loaded networks have: of a video generator denoiser and autoencoder, of a
    vision-language model all but the output head. Tied weights count once; a text encoder that only made the prompt's
    embedding does not count.
    """
    return sum(parameter.numel() for parameter in backbone.module.parameters())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the checkout, with `+` if it has changes; `None` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _device_name(device: torch.device | None) -> str | None:
    if device is None:
        return None
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()})"
