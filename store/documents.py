"""Sealed JSON: the last member of a document is the digest of every byte before it, so no flipped bit goes unseen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from store.digest import digest_bytes
from store.errors import FormatError

SEAL = "xxh3_128"
_BEFORE = f',\n "{SEAL}": "'.encode()
_AFTER = b'"\n}\n'
_DIGITS = 32
_MOST_DEPTH = 64


def seal(document: Mapping[str, Any]) -> bytes:
    """A JSON object as bytes, one member a line, sealed."""
    return seal_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def seal_text(text: str) -> bytes:
    r"""Seal the text of a JSON object that ends in `\n}` and has at least one member."""
    body = text.removesuffix("\n}").encode()
    return b"".join([body, _BEFORE, digest_bytes(body).encode(), _AFTER])


def unseal(content: bytes, where: str) -> dict[str, Any]:
    """Parse a sealed document and check its seal.

    Args:
        content: the bytes of the file.
        where: its name, for messages.

    Raises:
        FormatError: the seal is missing or does not match, or the content is no JSON object.
    """
    tail = len(_BEFORE) + _DIGITS + len(_AFTER)
    body, end = content[:-tail], content[-tail:]
    digest = digest_bytes(body).encode()
    if end != b"".join([_BEFORE, digest, _AFTER]):
        raise FormatError(
            f"{where}: damaged, cut short, or edited by hand: its last member {SEAL!r} does not match what stands "
            "before it. Restore the file from a copy of the store."
        )
    document = parse_json(content, where)
    del document[SEAL]
    return document


def parse_json(content: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object. Raises `FormatError` for anything else, also what Python reads but cannot write as JSON."""
    try:
        document = json.loads(content.decode(), parse_constant=_refuse, parse_float=_finite)
        _check_depth(document)
        if b"\\u" in content:
            json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: no JSON ({error}). Restore the file from a copy of the store.") from error
    if not isinstance(document, dict):
        raise FormatError(f"{where}: holds a {type(document).__name__}, expected a JSON object. Restore the file.")
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _check_depth(document: Any) -> None:
    """Refuse what is nested so deeply that whoever walks through it later would run out of stack."""
    level = list(_inside([document]))
    for _ in range(_MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(f"nested more than {_MOST_DEPTH} deep")


def _inside(value: Any) -> Iterable[Any]:
    """Containers directly inside a container."""
    values = value.values() if isinstance(value, dict) else value
    return [inner for inner in values if isinstance(inner, (dict, list))]
