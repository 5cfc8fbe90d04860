"""Everything that can be wrong with the files of a recording is an error that names the file and the remedy."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from extract.datasets.folder import FolderClip, FolderDataset
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.folder.recordings import moving_pictures, room, write, write_video

PICTURES = (".jpg", ".png", ".webp")


BITMAP = b"BM:\0\0\0\0\0\0\0" + bytes.fromhex("36000000280000000100000001000000010018000000000004000000" + "00" * 20)


def only(root: Path) -> FolderClip:
    (clip,) = FolderDataset(root, Sampling(window="whole", bank=81)).clips()
    return clip


def encoded(ending: str, size: tuple[int, int] = (40, 56)) -> bytes:
    rng = np.random.default_rng(0)
    stream = BytesIO()
    image = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
    image.save(stream, {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[ending])
    return stream.getvalue()


@pytest.mark.parametrize("ending", PICTURES)
def test_every_truncation_is_an_error(root: Path, ending: str) -> None:
    content = encoded(ending)
    for n in range(2):
        (root / f"{n}{ending}").write_bytes(content)
    clip = only(root)
    clip.frames([1])
    for length in {*range(0, len(content), max(1, len(content) // 40)), *range(len(content) - 20, len(content))}:
        (root / f"1{ending}").write_bytes(content[:length])
        with pytest.raises(DataError, match=rf"1{ending}: .*Remedy"):
            clip.frames([1])
    clip.frames([0])


@pytest.mark.parametrize("ending", PICTURES)
@pytest.mark.parametrize("content", [b"", b"this is text, called a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_picture(root: Path, ending: str, content: bytes) -> None:
    (root / f"0{ending}").write_bytes(encoded(ending))
    (root / f"1{ending}").write_bytes(content)
    clip = only(root)
    what = "an empty file" if not content else "cannot be read"
    with pytest.raises(DataError, match=rf"1{ending}: {what}.*Remedy"):
        clip.frames([1])
    (root / f"1{ending}").unlink()
    with pytest.raises(DataError, match=rf"1{ending}: missing.*Remedy"):
        clip.frames([1])
    assert len(clip.digest()) == 32, "other clips are none the worse"


def test_a_picture_is_what_its_content_says(root: Path) -> None:
    for ending in PICTURES:
        (root / f"0{ending}").write_bytes(encoded(ending))
    expected = only(root).frames([0, 1, 2])
    (root / "0.jpg").write_bytes(encoded(".webp"))
    (root / "0.png").write_bytes(encoded(".jpg"))
    (root / "0.webp").write_bytes(encoded(".png"))
    np.testing.assert_array_equal(only(root).frames([1, 2, 0]), expected)
    (root / "0.png").write_bytes(encoded(".jpg")[:-40])
    with pytest.raises(DataError, match=r"0\.png: .*truncated"):
        only(root).frames([1])
    (root / "1.jpg").write_bytes(BITMAP)
    with pytest.raises(DataError, match=r"1\.jpg: cannot be read as a picture"):
        only(root).frames([3])


def test_the_first_picture_may_be_broken(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its scene fails alone, and another says the size."""
    write(root / "a", room(), labels=False)
    write(root / "b", room(size=(44, 66)), labels=False)
    (root / "a/images/frame_00.png").write_bytes(b"")
    dataset = FolderDataset(root)
    assert dataset.image_size == (44, 66)
    assert "to the size of scene b: " in caplog.text
    assert "frame_00.png: an empty file" in caplog.text
    (root / "b/images/frame_00.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"a/images/frame_00\.png: an empty file.*Remedy"):
        FolderDataset(root)


def test_where_a_jpeg_ends(root: Path) -> None:
    """Phones append a film; a thumbnail with an end of its own comes before the picture."""
    plain = encoded(".jpg")
    thumbnail = b"\xff\xe1" + (2 + 8).to_bytes(2, "big") + b"\xff\xd8ab\xff\xda\xff\xd9"
    whole = plain[:2] + thumbnail + plain[2:]
    (root / "0.jpg").write_bytes(whole + b"\xff\xda a film")
    (root / "1.jpg").write_bytes(plain)
    first, second = only(root).frames([0, 1])
    np.testing.assert_array_equal(first, second)
    (root / "0.jpg").write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"0\.jpg: .*truncated"):
        only(root).frames([0])


def test_pillow_must_not_fill_holes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "0.jpg").write_bytes(encoded(".jpg"))
    clip = only(root)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES"):
        clip.frames([0])


def test_a_picture_that_claims_to_be_huge(root: Path) -> None:
    content = bytearray(encoded(".png"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (root / "0.png").write_bytes(encoded(".png"))
    (root / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png: cannot be read.*exceeds limit"):
        only(root).frames([1])


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P"])
def test_other_kinds_of_pixels(root: Path, mode: str) -> None:
    image = Image.fromarray(moving_pictures(1)[0]).convert(mode)
    image.save(root / "0.png")
    np.testing.assert_array_equal(only(root).frames([0])[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes(range(16))], ids=["one colour", "each colour"])
def test_transparency_of_a_palette_is_left_out(root: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(moving_pictures(1)[0]).quantize(16)
    image.save(root / "0.png", transparency=transparency)
    np.testing.assert_array_equal(only(root).frames([0])[0], np.asarray(image.convert("RGB")))


def test_pixels_of_16_bits_are_no_colours(root: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(root / "0.png")
    with pytest.raises(DataError, match=r"0\.png: pixels of mode I;16.*Remedy"):
        only(root).frames([0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_heeded(root: Path, orientation: int) -> None:
    """What the camera stored, by the definition of the tag: where row 0 and column 0 of the file are when seen."""
    pixels = moving_pictures(5)[4]
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, 1),
        7: pixels.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(root / "0.png", exif=exif)
    clip = only(root)
    assert clip.dataset.image_size == pixels.shape[:2]
    np.testing.assert_array_equal(clip.frames([0])[0], pixels)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(root: Path, orientation: int) -> None:
    """Cameras write 0 for "unknown": labels of such pictures are used."""
    write(root / "a", room(), "nerfstudio")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(room().rgb[0]).save(root / "a/images/frame_00.png", exif=exif)
    clip = only(root)
    assert clip.dataset.image_size == room().rgb.shape[1:3]
    np.testing.assert_array_equal(clip.targets().rgb, room().rgb)


@pytest.mark.parametrize("kind", [{}, {"dpi": (72, 72)}], ids=["plain", "with a resolution"])
def test_exif_data_that_cannot_be_read(root: Path, kind: dict[str, tuple[int, int]]) -> None:
    """Pillow forgives it where it has looked for a resolution there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = BytesIO()
    Image.fromarray(room().rgb[0]).save(stream, "JPEG", exif=exif, **kind)
    content = stream.getvalue()
    assert b"\0\0MM\0*" in content
    (root / "0.png").write_bytes(encoded(".png"))
    (root / "1.jpg").write_bytes(content.replace(b"MM\0*", b"MM\0\xab"))
    clip = only(root)
    with pytest.raises(DataError, match=r"1\.jpg: its EXIF data cannot be read .*Remedy"):
        clip.frames([1])
    clip.frames([0])


def test_turned_frames_with_labels_are_refused(root: Path) -> None:
    write(root / "a", room(), "nerfstudio")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(room().rgb[1]).save(root / "a/images/frame_01.png", exif=exif)
    clip = only(root)
    clip.frames([0])
    for use in (clip.targets, lambda: clip.frames([1])):
        with pytest.raises(DataError, match=r"scene a, frame 1: is stored turned.*Remedy"):
            use()


def test_a_turned_video_with_labels_is_refused(root: Path) -> None:
    (root / "a/depth").mkdir(parents=True)
    write_video(root / "a/v.mp4", moving_pictures(2), rotation=90)
    for n in range(2):
        np.save(root / f"a/depth/{n}.npy", np.ones((64, 48), np.float32))
    with pytest.raises(DataError, match=r"scene a, frame 0: is stored turned"):
        only(root).targets()
