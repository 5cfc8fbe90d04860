"""Whether a picture is whole, as all readers ask it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from extract.datasets._pictures import decode, has_end
from extract.datasets._sources import Faults
from extract.datasets.co3d.pictures import open_picture
from extract.datasets.recordings.pictures import read_colours
from extract.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
FAULTS = Faults("copy it.")


def encoded(form: str, **how: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(NOISE).save(stream, form, **how)
    return stream.getvalue()


def with_thumbnail(content: bytes) -> bytes:
    """A JPEG in a segment of its own, as cameras write it."""
    inner = encoded("JPEG", quality=5)
    return content[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + content[2:]


JPEGS = [encoded("JPEG"), encoded("JPEG", progressive=True), with_thumbnail(encoded("JPEG"))]
JPEGS += [JPEGS[0][:2] + b"\xff\xff\xff" + JPEGS[0][2:]]


@pytest.mark.parametrize("content", [*JPEGS, encoded("PNG")])
@pytest.mark.parametrize("after", [b"", b"\0" * 5000, b"ftypmp42" * 900 + b"\xff\xda"])
def test_what_follows_the_end_does_not_matter_and_what_lacks_it_is_refused(
    content: bytes, after: bytes, tmp_path: Path
) -> None:
    form: Literal["JPEG", "PNG"] = "PNG" if content.startswith(b"\x89") else "JPEG"
    path = tmp_path / "picture"
    for size in (len(content), len(content) - 2, len(content) * 9 // 10, len(content) // 2):
        whole = size == len(content)
        shown = content[:size] + after * whole
        assert has_end(shown, form) == whole
        path.write_bytes(shown)
        readers: list[Callable[[], np.ndarray]] = [
            lambda: decode(path.read_bytes(), form, "RGB", path, (40, 60), FAULTS),
            lambda: np.asarray(open_picture(path, (40, 60), ("RGB",))),
            lambda: read_colours(path)[0],
        ]
        for read in readers:
            if whole:
                assert read().shape == (40, 60, 3)
            else:
                with pytest.raises(DataError):
                    read()
