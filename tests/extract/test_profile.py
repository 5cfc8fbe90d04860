"""`--profile`: where the time of a clip goes is told, and written as a trace; nothing is recorded without it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from extract import profile
from extract.__main__ import app
from extract.arguments import Arguments
from extract.errors import ExtractError
from extract.profile import Recorder, Span, recording, span
from extract.resolve import outline
from extract.trace import breakdown, write_trace
from extract.transfer import Transfer, transfer
from store import FeatureStore
from tests.extract.tiny_rooms import write_rooms

TOY = "tests.extract.toy_family:ToyFamily:toy"
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_rooms(tmp_path / "rooms", splits=("train", "train", "val", "test"), size=(32, 32), frames=3)

    def extract(*more: str) -> Any:
        arguments = ["--model", TOY, "--dataset", "rooms", "--root", str(tmp_path / "rooms"), "--sites", "blocks.0"]
        done = CliRunner().invoke(app, [*arguments, "--noise", "sigma=1,sigma=2", *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done

    return extract


def test_a_profile_says_where_the_time_went(run: Run, tmp_path: Path) -> None:
    said = json.loads(run("--profile", "--json").stdout)
    found = said["profile"]
    assert found["clips"] == 4
    parts = {(part["name"], part["lane"]): part for part in found["parts"]}
    assert list(parts) == [
        ("decode", "decode"),
        ("wait for frames", "main"),
        ("host to device", "main"),
        ("encode", "main"),
        ("denoise sigma1", "main"),
        ("denoise sigma2", "main"),
        ("pool, cast, copy", "main"),
        ("wait for the device", "main"),
        ("check", "main"),
        ("wait for the writer", "main"),
        ("write", "store-writer"),
    ]
    for (name, _), part in parts.items():
        assert part["times"] == {"pool, cast, copy": 12, "wait for the writer": 2}.get(name, 4)
        assert part["clip_s"] == pytest.approx(part["total_s"] / 4)
        assert 0 <= part["longest_s"] <= part["total_s"]
        assert part["share"] == pytest.approx(part["total_s"] / found["wall_s"])
    of_main = sum(part["total_s"] for (_, lane), part in parts.items() if lane == "main")
    assert 0.5 * found["wall_s"] < of_main <= found["wall_s"]
    assert 0 < found["waited_s"] < found["wall_s"]
    assert said["trace"] == str(Path("profile") / "toy-rooms" / "trace.json")
    assert not list((tmp_path / "stores").rglob("trace.json"))


def test_the_trace_is_what_viewers_read(run: Run, tmp_path: Path) -> None:
    run("--profile-to", str(tmp_path / "here"))
    trace = json.loads((tmp_path / "here" / "trace.json").read_text())
    names = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert {"MainThread", "decode_0", "store-writer_0"} <= set(names.values())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert {event["tid"] for event in events} <= set(names)
    assert min(event["ts"] for event in events) == 0
    assert all(event["dur"] >= 0 for event in events)
    (whole,) = [event for event in events if event["name"] == "run"]
    for event in events:
        if names[event["tid"]] == "MainThread":
            assert whole["ts"] <= event["ts"]
            assert event["ts"] + event["dur"] <= whole["ts"] + whole["dur"] + 1
    written = sorted(event["args"]["clip"] for event in events if event["name"] == "write")
    assert written == ["tiny_00", "tiny_01", "tiny_02", "tiny_03"]


def test_the_table_is_for_people_and_the_recipe_knows_nothing(run: Run) -> None:
    plain = FeatureStore.open("toy", "rooms").fingerprint if run() else ""
    shown = run("--profile", "--out", "other").stdout
    assert "denoise sigma2" in shown
    assert "4 clips in " in shown
    assert "the main thread waited " in shown
    assert FeatureStore.open("other", "rooms").fingerprint == plain
    assert "denoise" not in run("--out", "third").stdout


def test_nothing_is_recorded_unless_it_is_asked_for() -> None:
    assert span("a") is span("b") is profile.device_span("c")
    recorder = Recorder(transfer(torch.device("cpu")))
    with recording(recorder), span("a", "x"):
        pass
    with span("b"):
        pass
    (found,) = recorder.spans()
    assert (found.name, found.clip, found.lane) == ("a", "x", "MainThread")


def test_what_fails_is_recorded_too() -> None:
    recorder = Recorder(transfer(torch.device("cpu")))
    with recording(recorder), pytest.raises(ValueError, match="no"), span("a"):
        raise ValueError("no")
    assert [each.name for each in recorder.spans()] == ["a"]
    with span("b"):
        assert [each.name for each in recorder.spans()] == ["a"]


class Behind(Transfer):
    """A device that is a second behind the thread that gives it work."""

    ahead = 1

    def seconds(self, moment: Any) -> float:
        return float(moment) + 1


def test_a_device_that_computes_behind_has_a_lane_of_its_own() -> None:
    recorder = Recorder(Behind(torch.device("cpu")))
    with recording(recorder), span("run"), profile.device_span("encode", "x"):
        time.sleep(0.01)
    spans = {each.name: each for each in recorder.spans()}
    launch, device = spans["launch encode"], spans["encode"]
    assert (launch.lane, device.lane) == ("MainThread", "device")
    assert device.start - launch.start == pytest.approx(1, abs=0.01)
    assert device.seconds >= 0.01
    assert [(part.name, part.lane) for part in breakdown(recorder.spans()).parts] == [
        ("launch encode", "main"),
        ("encode", "device"),
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_time_of_a_gpu_is_its_own() -> None:
    recorder = Recorder(transfer(torch.device("cuda")))
    load = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    with recording(recorder), profile.device_span("encode", "x"):
        for _ in range(20):
            load = load @ load / load.norm()
    torch.cuda.synchronize()
    taken = time.perf_counter() - started
    (device,) = [each for each in recorder.spans() if each.lane == "device"]
    assert device.seconds == pytest.approx(taken, rel=0.3)
    assert device.start == pytest.approx(started, abs=0.01)


def test_sums_and_shares(tmp_path: Path) -> None:
    spans = [
        Span("run", "", "MainThread", 10, 14),
        Span("encode", "a", "MainThread", 10, 11),
        Span("encode", "b", "MainThread", 12, 12.5),
        Span("wait for the writer", "b", "MainThread", 13, 14),
        Span("write", "a", "store-writer_0", 11, 14),
        Span("write", "b", "store-writer_1", 11, 15),
    ]
    found = breakdown(spans)
    assert (found.clips, found.wall_s, found.waited_s) == (2, 4, 1)
    encode, _, write = found.parts
    assert (encode.times, encode.total_s, encode.clip_s, encode.longest_s, encode.share) == (2, 1.5, 0.75, 1, 0.375)
    assert (write.lane, write.total_s, write.share) == ("store-writer", 7, 1.75)
    write_trace([], tmp_path / "a" / "trace.json")
    assert json.loads((tmp_path / "a" / "trace.json").read_text())["traceEvents"] == []


def test_workers_of_a_cluster_record_nothing(tmp_path: Path) -> None:
    arguments = Arguments(model="pixels", dataset="rooms", root=tmp_path, cluster="local", profile=True)
    with pytest.raises(ExtractError, match=r"--profile: workers of a cluster record nothing.*leave out --cluster"):
        outline(arguments)
