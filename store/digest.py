"""xxh3_128 over texts, buffers and files: how contents are told apart. It finds changes; it is no signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import xxhash

_BLOCK = 1 << 22
DIGEST_PATTERN = r"^[0-9a-f]{32}$"


def digest_bytes(content: bytes | memoryview) -> str:
    """xxh3_128 of some bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(content)


def digest_text(text: str) -> str:
    """xxh3_128 of the UTF-8 bytes, as 32 hexadecimal digits."""
    return digest_bytes(text.encode())


def digest_file(path: Path) -> str:
    """xxh3_128 of a file's bytes. Raises `OSError` if it cannot be read."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def digest_files(root: Path, paths: Iterable[Path], digest: Callable[[Path], str] = digest_file) -> str:
    """xxh3_128 over names (relative to `root`) and contents, the same in any order of `paths`.

    `digest` gives that of one file's bytes.
    """
    lines = [f"{path.relative_to(root).as_posix()}\0{digest(path)}" for path in paths]
    return digest_text("\n".join(sorted(lines)))
