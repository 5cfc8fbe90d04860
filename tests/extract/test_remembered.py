"""Digests that are kept: whatever the names of files are."""

from __future__ import annotations

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

    assert remembered(str(path), [path], make) == remembered(str(path), [path], make) == digest_text("x")
    assert len(made) == 1
    path.write_bytes(b"yz")
    remembered(str(path), [path], make)
    assert len(made) == 2
