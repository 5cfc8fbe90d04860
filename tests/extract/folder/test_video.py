"""Frames of videos by number: exact in every container, also where time stamps, keyframes and rotation are odd."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.recordings import video
from extract.datasets.recordings.video import Index, _from, check_header, read_frames, read_index, video_size
from extract.datasets.recordings.whole import missing_bytes
from extract.errors import DataError
from tests.extract.folder.recordings import moving_pictures, turn, write_video

KINDS = [
    ("a.mp4", "libx264rgb"),
    ("b.mov", "libx264rgb"),
    ("c.mkv", "ffv1"),
    ("d.mkv", "libx264rgb"),
    ("e.webm", "libvpx-vp9"),
]
COUNT = 45
UNEVEN = [0, 7, 30, 31, 90, 91, 92, 300, *range(301, 301 + COUNT - 8)]


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return moving_pictures(COUNT)


def decode(path: Path, numbers: list[int]) -> dict[int, NDArray[np.uint8]]:
    return {number: image for number, image, _ in read_frames(path, read_index(path), numbers)}


@pytest.mark.parametrize(("name", "codec"), KINDS)
@pytest.mark.parametrize("times", [None, UNEVEN], ids=["even", "uneven"])
def test_every_frame_is_the_one_that_was_written(
    tmp_path: Path, frames: NDArray[np.uint8], name: str, codec: str, times: list[int] | None
) -> None:
    if times and not name.endswith(("mp4", "mov")):
        times = [2 * time for time in times]  # a Matroska time stamp has milliseconds
    path = tmp_path / name
    write_video(path, frames, codec, times)
    assert len(read_index(path).frames) == COUNT
    whole = decode(path, list(range(COUNT)))
    assert list(whole) == list(range(COUNT))
    np.testing.assert_array_equal(np.stack(list(whole.values())), frames)
    for numbers in ([44], [0], [13, 11], [30, 2, 2, 17], [0, 22, 44], list(range(0, 45, 7))):
        found = decode(path, numbers)
        assert list(found) == sorted(set(numbers))
        for number, image in found.items():
            np.testing.assert_array_equal(image, frames[number])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_that_are_stored_out_of_order(tmp_path: Path, frames: NDArray[np.uint8], name: str) -> None:
    """B-frames, and groups that lean on the one before: each frame alone is what decoding all in order gives."""
    path = tmp_path / name
    write_video(path, frames, "bframes")
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert times != sorted(times), "else this would tell nothing"
    with av.open(str(path)) as container:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(expected) == COUNT
    for n in range(COUNT):
        np.testing.assert_array_equal(decode(path, [n])[n], expected[n])
        off = np.abs(frames.astype(int) - expected[n]).mean((1, 2, 3))
        assert off.argmin() == n
        assert off[n] < 2


def test_seeking_skips_what_is_not_asked_for(
    tmp_path: Path, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two frames at the ends of a video decode two groups of pictures, not all."""
    from extract.datasets.recordings import video

    write_video(tmp_path / "a.mp4", frames)
    opened = []
    before = video._from

    def counted(*arguments: object) -> object:
        for frame in before(*arguments):  # type: ignore[arg-type]
            opened.append(frame.pts)
            yield frame

    monkeypatch.setattr(video, "_from", counted)
    assert list(decode(tmp_path / "a.mp4", [0, 44])) == [0, 44]
    assert len(opened) < COUNT / 2


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_is_heeded(tmp_path: Path, frames: NDArray[np.uint8], rotation: int, turns: int) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, frames[:4], rotation=rotation)
    expected = np.rot90(frames[2], turns)
    ((number, image, turned),) = read_frames(path, read_index(path), [2])
    assert (number, turned) == (2, True)
    np.testing.assert_array_equal(image, expected)
    assert video_size(path) == expected.shape[:2]


def test_a_phone_held_upright(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """The matrix 0 1 0 / -1 0 0 of such recordings shows the first stored row on the right, downwards."""
    path = tmp_path / "a.mp4"
    write_video(path, frames[:2])
    turn(path, (0, 1, -1, 0))
    ((_, image, _),) = read_frames(path, read_index(path), [1])
    np.testing.assert_array_equal(image[:, -1], frames[1][0])


def test_a_mirrored_video(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, frames[:2])
    turn(path, (-1, 0, 0, 1))
    ((_, image, turned),) = read_frames(path, read_index(path), [1])
    assert turned
    np.testing.assert_array_equal(image, frames[1][:, ::-1])
    turn(path, (0.7, 0.7, -0.7, 0.7))
    with pytest.raises(DataError, match=r"a\.mp4: is to be shown turned by other than a quarter.*Remedy"):
        list(read_frames(path, read_index(path), [1]))


def test_threads_share_nothing(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, frames)
    index = read_index(path)
    with ThreadPoolExecutor(8) as pool:
        jobs = [[n % COUNT, (3 * n) % COUNT] for n in range(32)]
        for numbers, found in zip(jobs, pool.map(lambda j: list(read_frames(path, index, j)), jobs), strict=True):
            assert [number for number, _, _ in found] == sorted(set(numbers))
            for number, image, _ in found:
                np.testing.assert_array_equal(image, frames[number])


@pytest.mark.parametrize(("name", "codec"), KINDS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97, 0.999])
def test_a_cut_is_seen_from_the_headers(
    tmp_path: Path, frames: NDArray[np.uint8], name: str, codec: str, share: float
) -> None:
    path = tmp_path / name
    write_video(path, frames, codec)
    check_header(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"{name}: .*Remedy"):
        check_header(path)


def test_a_cut_behind_complete_headers(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """An index in front tells of frames that are not there."""
    path = tmp_path / "a.mp4"
    write_video(path, frames, faststart=True)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert missing_bytes(path) == 0
    path.write_bytes(content[:-1000])
    assert missing_bytes(path) == 1000
    with pytest.raises(DataError, match="truncated: 1000 bytes are missing"):
        check_header(path)


def test_damage_inside_is_an_error_of_the_frames(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, frames)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + len(content) // 3
    content[start : start + len(content) // 3] = bytes(len(content) // 3)
    path.write_bytes(content)
    check_header(path)
    with pytest.raises(DataError, match=r"a\.mp4: .*Remedy"):
        decode(path, list(range(COUNT)))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi"])
@pytest.mark.parametrize("content", [b"", b"ffconcat version 1.0\nfile /etc/passwd\n", b"#EXTM3U\n#EXTINF:1,\nb.mp4\n"])
def test_what_is_no_video(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*Remedy"):
        check_header(path)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: missing"):
        check_header(path)


def test_frames_that_an_edit_list_takes_out(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """As phones cut films without encoding them anew: what comes before the first shown frame is still stored."""
    path = tmp_path / "a.mp4"
    write_video(path, frames)
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12  # version and flags, count, duration; then media time
    assert content[at : at + 8] == (COUNT * 1000 // 30).to_bytes(4, "big") + bytes(4)
    content[at + 4 : at + 8] = (5 * 640).to_bytes(4, "big")
    path.write_bytes(content)
    assert len(read_index(path).frames) == COUNT - 5
    whole = decode(path, list(range(COUNT - 5)))
    np.testing.assert_array_equal(np.stack(list(whole.values())), frames[5:])
    np.testing.assert_array_equal(decode(path, [0])[0], frames[5])


def test_a_concealed_error_is_an_error(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """Decoders fill in what they cannot read, and mark the frame; no number may be made of it."""
    path = tmp_path / "a.mkv"
    write_video(path, frames, "bframes")
    content = bytearray(path.read_bytes())
    broken = 0
    for start in range(len(content) // 4, len(content) * 3 // 4, 97):
        damaged = bytearray(content)
        damaged[start : start + 40] = bytes(byte ^ 0x5A for byte in damaged[start : start + 40])
        path.write_bytes(damaged)
        with av.open(str(path)) as container:
            try:
                concealed = any(frame.is_corrupt for frame in container.decode(video=0))
            except av.error.FFmpegError:
                continue
        if concealed:
            broken += 1
            with pytest.raises(DataError, match=r"a\.mkv: .*Remedy"):
                decode(path, list(range(COUNT)))
    assert broken


def test_a_seek_that_goes_too_far() -> None:
    """Then the keyframe before is tried, at last the beginning."""
    from types import SimpleNamespace
    from typing import Any, cast

    class Late:
        def __init__(self) -> None:
            self.sought: list[int] = []

        def seek(self, offset: int, *, stream: object) -> None:
            self.sought.append(offset)

        def decode(self, stream: object) -> Any:
            starts = {20: 25, 10: 15, 0: 0}[self.sought[-1]]
            return iter([SimpleNamespace(pts=pts) for pts in range(starts, 30)])

    index, container = Index(tuple(range(30)), (10, 20)), Late()
    found = _from(cast(Any, container), cast(Any, None), index, 22, Path("a.mp4"))
    assert container.sought == [20, 10]
    assert next(found).pts == 15
    found = _from(cast(Any, container), cast(Any, None), index, 12, Path("a.mp4"))
    assert container.sought[2:] == [10, 0]
    assert next(found).pts == 0


def test_titles_that_are_no_text_do_not_matter(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    """Old cameras write Latin-1."""
    path = tmp_path / "a.mp4"
    write_video(path, frames[:3])
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"L\xe9vf"))
    check_header(path)
    np.testing.assert_array_equal(decode(path, [1])[1], frames[1])


def test_a_video_that_claims_to_be_huge(
    tmp_path: Path, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, frames[:3])
    monkeypatch.setattr(video, "MOST_PIXELS", frames[0, ..., 0].size)
    check_header(path)
    monkeypatch.setattr(video, "MOST_PIXELS", frames[0, ..., 0].size - 1)
    with pytest.raises(DataError, match=r"a\.mp4: says frames of 64x48, which are not read.*Remedy"):
        check_header(path)
