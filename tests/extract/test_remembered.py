"""Digests that are kept: whatever the names of files are."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path

import pytest

from extract.remembered import remembered
from store.digest import digest_text


def test_names_need_not_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux lets a file have any bytes for a name; Python has lone surrogates for what is no UTF-8."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10)
    path = tmp_path / "caf\udce9"
    path.write_bytes(b"x")
    made: list[str] = []

    def make() -> str:
        made.append(digest_text("x"))
        return made[-1]

    assert remembered("file, 1", str(path), [path], make) == digest_text("x")
    assert remembered("file, 1", str(path), [path], make) == digest_text("x")
    assert len(made) == 1
    path.write_bytes(b"yz")
    remembered("file, 1", str(path), [path], make)
    assert len(made) == 2


def test_another_rule_reads_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10)
    path = tmp_path / "file"
    path.write_bytes(b"x")
    first, second = digest_text("one way"), digest_text("another")
    assert remembered("clip, 1", "a", [path], lambda: first) == first
    assert remembered("clip, 1", "a", [path], lambda: second) == first
    assert remembered("clip, 2", "a", [path], lambda: second) == second
    assert remembered("clip, 1", "b", [path], lambda: second) == second


@pytest.mark.parametrize(
    ("module", "constant"),
    [
        ("checkpoints.digests", "_RULE"),
        ("datasets.arkitscenes", "_DIGEST"),
        ("datasets.co3dv2", "_DIGEST"),
        ("datasets.dl3dv_files.clip", "_DIGEST"),
        ("datasets.folder", "_DIGEST"),
        ("datasets.hypersim_files.clip", "_DIGEST"),
        ("datasets.scannet_files.clip", "_DIGEST"),
        ("datasets.scannetpp", "_DIGEST"),
        ("datasets.seven_scenes", "_DIGEST"),
    ],
)
def test_every_rule_has_a_number(module: str, constant: str) -> None:
    assert re.fullmatch(r"[\w .+-]+, [1-9][0-9]*", getattr(importlib.import_module(f"extract.{module}"), constant))
