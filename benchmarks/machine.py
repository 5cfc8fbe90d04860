"""What the numbers of a run were measured on, and how much of it others used meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

LIBRARIES = (
    *("spatial-probing", "torch", "numpy", "zarr", "tensorstore", "safetensors", "dask", "scipy", "scikit-learn"),
    *("diffusers", "transformers", "distributed"),
)
BUSY = 0.2
"""Share of the processors in others' use from which on a machine is called busy."""


def describe(folder: Path) -> dict[str, Any]:
    """The machine, and the code. `load` is how many processes wanted a processor in the last minute.

    Args:
        folder: where benchmarks write, whose disk is described.
    """
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return {
        "cpu": _cpu(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "disk": _disk(folder),
        "gpus": _gpus(),
        "system": platform.platform(),
        "load": round(load, 2),
        "busy": load > BUSY * cores,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "commit": _commit(),
    }


class Ticks(NamedTuple):
    """Seconds of all processors together since the machine started, and of our processes that have ended.

    Attributes:
        total, idle: of the machine.
        ours: of processes that this one started and saw end.
    """

    total: float
    idle: float
    ours: float


def ticks() -> Ticks | None:
    """What the kernel has counted until now; `None` where there is no `/proc/stat`."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user and nice already.
    values = [int(each) / os.sysconf("SC_CLK_TCK") for each in line.split()[1:9]]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Ticks(sum(values), values[3] + values[4], used.ru_utime + used.ru_stime)


def others(before: Ticks | None, after: Ticks | None) -> float | None:
    """Share of the processors that neither idled nor worked for us, between two counts."""
    if before is None or after is None or after.total <= before.total:
        return None
    total = after.total - before.total
    used = total - (after.idle - before.idle) - (after.ours - before.ours)
    return round(min(1.0, max(0.0, used / total)), 2)


def slug(machine: dict[str, Any]) -> str:
    """A short name for a file: processor, cores, GPU. Not the host's, which says nothing to others."""
    parts = [machine["cpu"], f"{machine['cores']}-cores", *dict.fromkeys(machine["gpus"])]
    return "-".join("-".join("".join(c if c.isalnum() else " " for c in part.lower()).split()) for part in parts)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _disk(folder: Path) -> str:
    """File system, and what its device says of itself. What a virtual machine calls a disk may be anything."""
    place = folder.resolve()
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "not known"
    device, _, system, *_ = max(
        (each for each in mounts if place.is_relative_to(each[1])), key=lambda each: len(each[1])
    )
    number = place.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    for queue in (block / "queue", block / ".." / "queue"):  # of a disk, or of the disk of a partition
        if queue.exists():
            rotational = (queue / "rotational").read_text(encoding="ascii").strip() == "1"
            return f"{system} on {device}, {'rotational' if rotational else 'not rotational'}"
    return f"{system} on {device}"


def _gpus() -> list[str]:
    """As the driver's own tool names them. Empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return found.stdout.strip().splitlines() if found.returncode == 0 else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout, with `+` if it has changes; `None` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
