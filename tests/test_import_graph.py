"""extract -> store <- probes -> evaluate, and `--help` imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOMS = {"store", "extract", "probes", "evaluate"}
FORBIDDEN = {
    "store": {"extract", "probes", "evaluate", "pipelines", "tests"},
    "extract": {"probes", "evaluate", "pipelines", "tests"},
    "probes": {"extract", "pipelines", "tests"},
    "evaluate": {"extract", "probes", "store", "pipelines", "tests"},
}
HEAVY = {"torch", "diffusers", "transformers", "lightning", "matplotlib", "sklearn", "scipy", "zarr", "xarray", "bpy"}


def imports(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_packages_import_only_downstream(package: str) -> None:
    files = list((PROJECT / package).rglob("*.py"))
    assert len(files) > 3
    for path in files:
        wrong = imports(path) & FORBIDDEN[package]
        assert not wrong, f"{path.relative_to(PROJECT)} imports {wrong}"


def test_only_pipelines_knows_all_four() -> None:
    assert set.union(*map(imports, (PROJECT / "pipelines").rglob("*.py"))) >= ROOMS


def test_every_package_is_declared_for_installation() -> None:
    import tomllib

    declared = set(tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {
        str(init.parent.relative_to(PROJECT)).replace("/", ".")
        for package in (*ROOMS, "pipelines")
        for init in (PROJECT / package).rglob("__init__.py")
    }
    assert declared == present


@pytest.mark.parametrize(
    "command",
    [
        "store --help",
        "extract --help",
        "extract models",
        "extract sites svd",
        "probes.train --help",
        "evaluate --help",
        "pipelines --help",
    ],
)
def test_answers_without_heavy_imports(command: str) -> None:
    module, *arguments = command.split()
    code = (
        f"import runpy, sys; sys.argv = {[module, *arguments]!r}\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        f"except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
