"""Gzipped lists: read element by element wherever blocks end, and refused when they are damaged or huge."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from extract.datasets.co3d import lists
from extract.datasets.co3d.lists import elements
from extract.errors import DataError

CONTENT: list[dict[str, Any]] = [
    {"name": 'ä}]{"[', "deep": {"list": [1, 2.5e-3, None, True]}},
    {},
    {"name": "€" * 40, "none": float("inf")},
]


def packed(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_reads_what_json_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None, ascii_only: bool
) -> None:
    monkeypatch.setattr(lists, "_BLOCK", block)
    path = packed(tmp_path / "a.jgz", json.dumps(CONTENT, indent=indent, ensure_ascii=ascii_only) + "\n")
    found = list(elements(path))
    assert [element for element, _ in found] == CONTENT
    assert [json.loads(text) for _, text in found] == CONTENT


def test_an_empty_list(tmp_path: Path) -> None:
    assert list(elements(packed(tmp_path / "a.jgz", " [ ] "))) == []


BAD_TEXTS = [
    ("", "found the end"),
    ('{"a": 1}', "found {"),
    ("[1]", "is no object: it begins with 1"),
    ("[null]", "is no object"),
    ('[{"a": 1}', "found the end"),
    ('[{"a": 1},', "begins with the end"),
    ('[{"a": 1} {"a": 2}]', "found {"),
    ('[{"a": 1},]', "begins with ]"),
    ('[{"a": 1}] [', r"the list is over, but '\[' follows"),
    ('[{"a": ]', "JSONDecodeError"),
    ('[{"a": 1', "JSONDecodeError"),
    ('[{"a": ' + "[" * 100_000, "RecursionError"),
    ('[{"a": ' + "9" * 5000 + "}]", "ValueError"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = packed(tmp_path / "a.jgz", text)
    with pytest.raises(DataError, match=rf"(?s)a\.jgz: cannot be read.*{message}.*Remedy"):
        list(elements(path))


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jgz", json.dumps(CONTENT))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.jgz: cannot be read"):
            list(elements(path))


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jgz", json.dumps(CONTENT))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # the checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        list(elements(path))
    path.write_bytes(gzip.compress(b'[{"a": "\xff"}]'))
    with pytest.raises(DataError, match="UnicodeDecodeError"):
        list(elements(path))
    path.unlink()
    with pytest.raises(DataError, match=r"a\.jgz: missing.*Remedy"):
        list(elements(path))


def bomb(path: Path, head: str, megabytes: int) -> None:
    """A gzip file of `head` and that many megabytes of spaces, written without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(head.encode()))
        for _ in range(megabytes):
            file.write(packer.compress(b" " * (1 << 20)))
        file.write(packer.flush())


def test_a_bomb_is_not_unpacked_further_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jgz"
    bomb(path, '[{"a": 1}', 64)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(lists, "MAX_TEXT", 4 << 20)
    with pytest.raises(DataError, match="unpacks to more than 4194304 bytes"):
        list(elements(path))


def test_an_endless_element_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that never closes is given up after a few blocks, long before the end of the file."""
    path = tmp_path / "a.jgz"
    bomb(path, '[{"a": ', 64)
    taken: list[int] = []
    blocks = lists._blocks

    def counted(file: gzip.GzipFile) -> Any:
        for block in blocks(file):
            taken.append(len(block))
            yield block

    monkeypatch.setattr(lists, "_blocks", counted)
    with pytest.raises(DataError, match="JSONDecodeError"):
        list(elements(path))
    assert sum(taken) <= 3 * lists.MAX_ELEMENT
