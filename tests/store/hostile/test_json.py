"""Text that is hardly JSON, or that only Python reads, in every document, sealed where there are seals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store import FormatError
from store.documents import parse_json, seal, unseal
from tests.store.hostile.forge import adopt, assert_refused, assert_verify_ends, commit_of, load, use, write_sealed

pytestmark = pytest.mark.timeout(60)
DEEP = 100_000
VALUES = {
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep without an end": "[" * DEEP,
    "as deep as Python reads": "[" * 900 + "]" * 900,
    "deeper than anybody walks": "[" * 65 + "]" * 65,
    "not a number": "NaN",
    "infinity": "-Infinity",
    "a float that is infinite": "1e999",
    "a number of 5000 digits": "9" * 5000,
    "a number with a zero before": "01",
    "half a surrogate pair": r'"\ud800"',
    "half a surrogate pair in a name": r'{"\udfff": 1}',
    "a control character": '"\x01"',
    "a comment": "1 /* one */",
    "a trailing comma": "[1,]",
    "single quotes": "'x'",
    "a second document": "1}\n{",
    "nothing": "",
}
SEALED = ["recipe.json", "clips.json", "manifest.json", "commit"]
OTHERS = ["features.zarr/half/zarr.json", "features.zarr/zarr.json"]
DOCUMENTS = pytest.mark.parametrize(
    "name", ["recipe.json", OTHERS[0], *(pytest.param(name, marks=pytest.mark.long) for name in SEALED[1:])]
)


def path_of(store: Path, name: str) -> Path:
    return commit_of(store) if name == "commit" else store / name


def put(store: Path, name: str, text: str) -> None:
    path = path_of(store, name)
    if name in OTHERS:
        path.write_text(text, encoding="utf-8")
    else:
        write_sealed(path, text)
    if name == "clips.json":
        adopt(store)


def with_member(store: Path, name: str, value: str) -> str:
    """The document with one more member of any text."""
    text = json.dumps(load(path_of(store, name)), indent=1)
    return f'{text.removesuffix("}").rstrip()},\n "surplus": {value}\n}}'


def opened(store: Path, name: str) -> None:
    """Take away what would make reading a document unnecessary."""
    if name != "manifest.json":
        for path in list(store.glob("manifest*")):
            path.unlink()


@pytest.mark.parametrize("value", VALUES)
@DOCUMENTS
def test_a_member_that_nobody_can_use(store: Path, name: str, value: str) -> None:
    opened(store, name)
    put(store, name, with_member(store, name, VALUES[value]))
    assert_refused(store)
    assert_verify_ends(store)


@pytest.mark.parametrize(
    "text", ["", "[]", "[\n]", "null", "1", '"x"', "{", "}", "\0", "\ufeff{}", "[1]\n}", "\n}", "{\n}"]
)
@DOCUMENTS
def test_something_else_than_an_object(store: Path, name: str, text: str) -> None:
    opened(store, name)
    put(store, name, text)
    assert_refused(store)
    assert_verify_ends(store)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("name", ["recipe.json", OTHERS[0]])
def test_another_encoding_than_utf_8(store: Path, name: str, encoding: str) -> None:
    opened(store, name)
    text = with_member(store, name, '"é"')
    path_of(store, name).write_bytes(text.encode(encoding))
    assert_refused(store)


@pytest.mark.parametrize("name", SEALED)
def test_a_name_that_comes_twice_means_the_same_to_everybody(store: Path, name: str) -> None:
    """The last one counts, for Python as for Rust: what is checked is what is used."""
    opened(store, name)
    document = load(path_of(store, name))
    first, *_ = document
    text = json.dumps(document, indent=1).replace("{", f'{{\n "{first}": 17,', 1)
    assert json.loads(text) == document
    put(store, name, text)
    use(store)


def test_the_seal_covers_every_byte_and_stands_at_the_end() -> None:
    document = {"a": 1, "b": ["x", 2.5]}
    content = seal(document)
    assert unseal(content, "x") == document
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            with pytest.raises(FormatError):
                unseal(bytes(flipped), "x")
    for other in (content + b"\n", content[:-1], content[1:], content * 2, b" " + content, b""):
        with pytest.raises(FormatError):
            unseal(other, "x")


def test_what_parse_json_accepts_can_be_written_again() -> None:
    for text in ('{"a": [1.5, -0.0, 1e-999, 123456789012345678901234567890, "é\\ud83d\\ude00", {"": null}]}', "{}"):
        document = parse_json(text.encode(), "x")
        assert parse_json(json.dumps(document, ensure_ascii=False, allow_nan=False).encode(), "x") == document
    nested = "[" * 63 + "]" * 63
    assert parse_json(f'{{"a": {nested}}}'.encode(), "x")
