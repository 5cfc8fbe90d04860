"""Frames of a video by number, exactly: found by their times, decoded from the keyframe before them.

Frame k is the one with the k-th smallest time stamp, whatever the distances between them are, so that a variable frame
rate changes nothing. Every call opens the file for itself: threads share nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import UInt8

from extract.datasets.recordings.whole import missing_bytes
from extract.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FORMATS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi"}
"""Endings, and the one demuxer that may read such a file: a playlist in disguise would make others open more files."""
MOST_PIXELS = 1 << 27
"""Of a frame, 16384x8192. A header that says more is not believed."""
_REMUX = "Remedy: copy it anew, or write it anew: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mp4."


@dataclass(frozen=True)
class Index:
    """Time stamps in units of the stream, ascending: of all frames that are shown, and of keyframes."""

    frames: tuple[int, ...]
    keys: tuple[int, ...]

    def key_before(self, time: int) -> int | None:
        """The last keyframe not after `time`."""
        place = bisect_right(self.keys, time)
        return self.keys[place - 1] if place else None


def check_header(path: Path) -> None:
    """Raises `DataError` if there is no video in the file, or its end is missing. Reads the headers only."""
    try:
        lacking = missing_bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if lacking:
        raise DataError(f"{path}: truncated: {lacking} bytes are missing at its end. {_REMUX}")
    with _open(path):
        pass


def read_index(path: Path) -> Index:
    """All time stamps. Reads the packets of the whole file, and decodes none. Raises `DataError`."""
    frames, keys = set(), set()
    with _open(path) as (container, stream):
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                raise DataError(f"{path}: has frames without time stamps, which cannot be counted. {_REMUX}")
            frames.add(packet.pts)
            if packet.is_keyframe:
                keys.add(packet.pts)
    if not frames:
        raise DataError(f"{path}: has no frames. {_REMUX}")
    return Index(tuple(sorted(frames)), tuple(sorted(keys)))


def video_size(path: Path) -> tuple[int, int]:
    """(height, width) as seen. Decodes the first frame, since not every header tells how it is turned."""
    with _open(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise DataError(f"{path}: has no frames. {_REMUX}")
        image, _ = _upright(first, path)
    return image.shape[0], image.shape[1]


def read_frames(
    path: Path, index: Index, numbers: Sequence[int]
) -> Iterator[tuple[int, UInt8[np.ndarray, "y x 3"], bool]]:
    """Number, RGB picture and whether it was turned, of the frames with these numbers: ascending, each once.

    Raises:
        DataError: a frame does not decode, decodes damaged, or is turned by other than quarters.
    """
    wanted = sorted(set(numbers))
    with _open(path) as (container, stream):
        stream.thread_type = "AUTO"
        while wanted:
            for frame in _from(container, stream, index, index.frames[wanted[0]], path):
                number = wanted[0]
                if frame.pts is None or frame.pts < index.frames[number]:
                    continue
                if frame.pts > index.frames[number] or frame.is_corrupt:
                    raise DataError(f"{path}: frame {number} is damaged. {_REMUX}")
                image, turned = _upright(frame, path)
                yield number, image, turned
                wanted.pop(0)
                if not wanted or _worth_seeking(index, number, wanted[0]):
                    break
            else:
                raise DataError(f"{path}: frame {wanted[0]} of {len(index.frames)} does not decode. {_REMUX}")


def _worth_seeking(index: Index, done: int, following: int) -> bool:
    """Whether a keyframe lies beyond the next frame, so that frames in between need no decoding."""
    key = index.key_before(index.frames[following])
    return key is not None and following > done + 1 and key > index.frames[done + 1]


def _from(container: InputContainer, stream: VideoStream, index: Index, time: int, path: Path) -> Iterator[VideoFrame]:
    """Frames, the first of which is not after `time`.

    Where a demuxer seeks too far, or the frames after a keyframe lean on those before it, earlier keyframes are tried.
    """
    place = bisect_right(index.keys, time)
    for key in [*reversed(index.keys[:place]), None]:
        container.seek(index.frames[0] if key is None else key, stream=stream)
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and first.pts is not None and first.pts <= time:
            return chain([first], frames)
    return iter(())


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its main video stream. Errors of the library become `DataError`."""
    import av

    try:
        # Titles of any age and encoding are nobody's business here, and must not stop it.
        with av.open(str(path), format=FORMATS[path.suffix.lower()], metadata_errors="replace") as container:
            stream = cast("VideoStream | None", container.streams.best("video"))  # a cover picture is the last choice
            if stream is None:
                raise DataError(f"{path}: has no video stream. {_REMUX}")
            if cast("object", stream.codec_context) is None:
                raise DataError(f"{path}: its video is compressed in a way that is not known here. {_REMUX}")
            if stream.width * stream.height > MOST_PIXELS:
                raise DataError(f"{path}: says frames of {stream.width}x{stream.height}, which are not read. {_REMUX}")
            yield container, stream
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _upright(frame: VideoFrame, path: Path) -> tuple[UInt8[np.ndarray, "y x 3"], bool]:
    """RGB as it is to be seen, and whether the file's display matrix turned it.

    The matrix (a b u; c d v; x y w), in 1/65536, maps a stored position (p, q) to (a p + c q, b p + d q):
    ISO/IEC 14496-12 section 6.2.2, and libavutil/display.h.
    """
    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    sides: Mapping[str, Any] = frame.side_data
    matrix = sides.get("DISPLAYMATRIX")
    if matrix is None:
        return image, False
    a, b, _, c, d, *_ = (int(value) / 65536 for value in np.frombuffer(bytes(matrix), np.int32))
    if (a, b, c, d) == (1, 0, 0, 1):
        return image, False
    if (abs(a), abs(b), abs(c), abs(d)) not in ((1, 0, 0, 1), (0, 1, 1, 0)):
        raise DataError(
            f"{path}: is to be shown turned by other than a quarter ({a:.3g} {b:.3g} {c:.3g} {d:.3g}). {_REMUX}"
        )
    if a == 0:
        image = image.swapaxes(0, 1)
    image = image[:, ::-1] if a + c < 0 else image
    image = image[::-1] if b + d < 0 else image
    return np.ascontiguousarray(image), True


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: missing. Remedy: copy the recording anew.")
    empty = path.is_file() and not path.stat().st_size
    return DataError(f"{path}: {'an empty file' if empty else f'cannot be read as a video ({error})'}. {_REMUX}")
