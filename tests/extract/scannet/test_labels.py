"""Instances and their classes: archives, aggregations, the label table, and the two vocabularies."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest

from extract.datasets.base import ClassInfo
from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet, ScanNet200
from extract.datasets.scannet_files.instances import InstanceArchive
from extract.datasets.scannet_files.labels import TABLE, read_table
from extract.datasets.scannet_files.vocabularies import SCANNET20, SCANNET200
from extract.errors import DataError
from store.digest import digest_text
from tests.extract.scannet.tiny_scans import TinyScan, png, write_instances

FEW = Sampling(frames=3, window="whole", bank=2)  # bank 0 and 19 of 20


def archive_of(folder: Path) -> Path:
    return folder / f"{folder.name}_2d-instance-filt.zip"


def test_the_classes_of_20() -> None:
    classes = SCANNET20.classes
    assert len(classes) == 20
    assert classes[:3] == [ClassInfo("wall", "stuff"), ClassInfo("floor", "stuff"), ClassInfo("cabinet", "thing")]
    assert classes[-1] == ClassInfo("otherfurniture", "thing")
    assert list(SCANNET20.class_of) == [*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39]
    assert list(SCANNET20.class_of.values()) == list(range(1, 21))


def test_the_classes_of_200() -> None:
    """Counts and corners of the official list; ids ascend, and no name is there twice."""
    classes, ids = SCANNET200.classes, list(SCANNET200.class_of)
    names = [each.name for each in classes]
    assert len(classes) == len(set(names)) == len(ids) == 200
    assert ids == sorted(ids)
    assert [each.name for each in classes if each.kind == "stuff"] == ["wall", "floor"]
    known = {1: "wall", 2: "chair", 3: "floor", 11: "bed", 13: "pillow", 89: "blackboard", 417: "shower floor"}
    known |= {1156: "bathroom counter", 1163: "object", 1164: "bathroom vanity", 1191: "mattress"}
    assert {key: names[SCANNET200.class_of[key] - 1] for key in known} == known
    official = "\n".join(f"{key} {name}" for key, name in zip(ids, names, strict=True))
    assert digest_text(official) == "257180fcf850cae50ead01beb80c3c9f", "of the constants of ScanNet's repository"


def test_instances_that_are_no_objects(folder: Path, root: Path) -> None:
    path = folder / f"{folder.name}.aggregation.json"
    said = json.loads(path.read_text())
    del said["segGroups"][2]
    path.write_text(json.dumps(said))
    with pytest.raises(DataError, match=r"filt\.zip: instances \[3\] are no objects of scene0001_00\.aggr.*Remedy"):
        ScanNet(root, FEW).clips()[0].targets()


AGGREGATIONS: list[tuple[Callable[[Any], object], str]] = [
    (lambda said: said.pop("segGroups"), "segGroups"),
    (lambda said: said["segGroups"][0].pop("label"), "label"),
    (lambda said: said["segGroups"][0].update(objectId=-1), "objectId"),
    (lambda said: said["segGroups"][0].update(objectId="one"), "objectId"),
    (lambda said: said["segGroups"].append({"objectId": 0, "label": "bed"}), "object 0 has two labels"),
]


@pytest.mark.parametrize(("change", "message"), AGGREGATIONS)
def test_faults_of_an_aggregation(folder: Path, root: Path, change: Callable[[Any], object], message: str) -> None:
    path = folder / f"{folder.name}.aggregation.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    with pytest.raises(DataError, match=rf"(?s)aggregation\.json: .*{message}.*Remedy"):
        ScanNet(root, FEW).clips()[0].targets()
    path.write_text("{")
    with pytest.raises(DataError, match=r"aggregation\.json: not as expected"):
        ScanNet(root, FEW).clips()[0].targets()


def test_objects_beyond_eight_bits_are_in_no_picture(folder: Path, root: Path) -> None:
    path = folder / f"{folder.name}.aggregation.json"
    said = json.loads(path.read_text())
    said["segGroups"].append({"objectId": 300, "label": "wall"})
    path.write_text(json.dumps(said))
    targets = ScanNet(root, FEW).clips()[0].targets()
    assert targets.instance_class is not None
    assert np.count_nonzero(targets.instance_class) == 3


TABLES: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace("nyu40id", "nyu"), "nyu40id cannot be read"),
    (lambda text: text.replace("raw_category", "raw"), "raw_category"),
    (lambda text: text.replace("4646\t5", "4646\tfive"), "cannot be read"),
    (lambda text: text.replace("4646\t5", "4646"), "cannot be read"),
    (lambda text: text + "4\twall\twall\t1\t2\n", "category 'wall' has two classes"),
    (lambda text: "", "none of its categories has a class"),
]


@pytest.mark.parametrize(("change", "message"), TABLES)
def test_faults_of_the_label_table(root: Path, change: Callable[[str], str], message: str) -> None:
    path = root / TABLE
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=rf"combined\.tsv: .*{message}.*Remedy: download"):
        ScanNet(root, FEW)


def test_the_label_table_by_either_id(root: Path) -> None:
    assert read_table(root / TABLE, SCANNET20) == {"wall": 1, "floor": 2, "chair": 5, "office chair": 5}
    assert read_table(root / TABLE, SCANNET200) == {"wall": 1, "chair": 2, "floor": 3, "office chair": 10, "pillow": 12}


def test_a_member_is_never_more_than_it_says(tmp_path: Path) -> None:
    """A bomb: 100 MB of zeros behind a header that says 100 bytes, in both places where sizes stand."""
    path = tmp_path / "bomb.zip"
    write_instances(path, {"instance-filt/0.png": bytes(100_000_000)})
    content, real = path.read_bytes(), struct.pack("<I", 100_000_000)
    assert content.count(real) == 2
    path.write_bytes(content.replace(real, struct.pack("<I", 100)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb\.zip: .*Remedy"):
        InstanceArchive(path).read([0])
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_member_that_says_too_much_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    write_instances(path, {"instance-filt/0.png": bytes(100_000_000)})
    with pytest.raises(DataError, match=r"instance-filt/0\.png says 100000000 bytes"):
        InstanceArchive(path).read([0])


def test_members_with_other_names_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "names.zip"
    strange = {"../../0.png": b"a", "/etc/0.png": b"b", "instance-filt/../0.png": b"c", "instance-filt/0.png": b"d"}
    write_instances(path, strange)
    before = sorted(tmp_path.rglob("*"))
    assert InstanceArchive(path).read([0]) == {0: b"d"}
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(DataError, match=r"names\.zip: has no instance-filt/1\.png.*Remedy"):
        InstanceArchive(path).read([0, 1])


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED])
def test_either_way_of_storing(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w", method) as archive:
        archive.writestr("instance-filt/7.png", b"seven" * 99)
    assert InstanceArchive(path).read([7]) == {7: b"seven" * 99}


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipFile(path, "w", ZIP_BZIP2) as archive:
        archive.writestr("instance-filt/0.png", b"content")
    with pytest.raises(DataError, match="method 12"):
        InstanceArchive(path).read([0])


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_instances(path, {"instance-filt/0.png": b"content"})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        InstanceArchive(path).read([0])


def test_every_truncation_of_an_archive_is_an_error(folder: Path) -> None:
    path = archive_of(folder)
    content = path.read_bytes()
    for length in {*range(0, len(content), len(content) // 40), *range(len(content) - 30, len(content))}:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"filt\.zip: .*Remedy"):
            InstanceArchive(path).read([0, 19])
    path.unlink()
    with pytest.raises(DataError, match=r"filt\.zip: missing"):
        InstanceArchive(path).read([0])


def test_a_changed_byte_is_noticed(folder: Path) -> None:
    path = archive_of(folder)
    content = bytearray(path.read_bytes())
    content[60] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"filt\.zip: cannot be read"):
        InstanceArchive(path).read([0])


@pytest.mark.parametrize("bits", [2, 4])
def test_ids_that_pillow_would_spread(tmp_path: Path, bits: int) -> None:
    """A PNG of 4 bits is grey from 0 to 255 in steps of 17."""
    head = struct.pack(">IIBBBBB", 8, 2, bits, 0, 0, 0, 0)
    rows = (b"\0" + b"\x1b" * bits) * 2
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    archive = InstanceArchive(tmp_path / "a.zip")
    with pytest.raises(DataError, match=rf"a\.zip: instance-filt/7\.png: grey of {bits} bits.*Remedy"):
        archive.decode(7, content, (2, 8))


def test_pictures_of_another_kind(folder: Path, root: Path, scan: TinyScan) -> None:
    first = scan.instance[0]
    for wrong, message in (
        (png(first.astype(np.uint16)), "mode I;16; expected 40x30, mode L"),
        (png(first[1:]), "40x29 pixels"),
        (png(first)[:-1], "truncated"),
        (b"", "truncated"),
    ):
        write_instances(archive_of(folder), {"instance-filt/0.png": wrong, "instance-filt/19.png": png(first)})
        with pytest.raises(DataError, match=rf"filt\.zip: instance-filt/0\.png: .*{message}.*Remedy"):
            ScanNet(root, FEW).clips()[0].targets()


def test_200_classes_fit_their_type(release: Path) -> None:
    assert len(ScanNet200(release, FEW).classes) == 200
