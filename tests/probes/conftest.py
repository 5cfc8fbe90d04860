"""One tiny world for all tests of `probes`, and shapes checked at run time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(
    [
        *(
            f"probes.{name}"
            for name in (
                "bank",
                "data",
                "features",
                "geometry",
                "heads",
                "labels",
                "losses",
                "pools",
                "sampling",
                "standardise",
                "training",
                "views",
            )
        ),
        *(f"probes.tasks.{name}" for name in ("tagging", "segmentation", "grouping", "depth", "points")),
        *(f"probes.tasks.{name}" for name in ("camera", "normals", "correspondence", "probe3d")),
    ],
    "beartype.beartype",
)

from tests.probes.world import write_world  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def world_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores `toy/world` and `targets/world`, written once. Read only."""
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    return root


@pytest.fixture
def world(world_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny world as the root of all stores."""
    monkeypatch.setenv("FEATURE_STORE", str(world_root))
    return world_root
