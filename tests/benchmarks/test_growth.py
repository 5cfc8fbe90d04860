"""Slopes are those of power laws, and what grows too fast is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.growing import Grown
from benchmarks.growth import Spent, shrunk, slope, spend
from benchmarks.growth import growth as grow


def test_the_slope_of_a_power_law_is_its_exponent() -> None:
    sizes = [10, 20, 40, 160]
    assert slope(sizes, [3 * size**1.5 for size in sizes]) == 1.5
    assert slope(sizes, [7.0] * 4) == 0


@pytest.mark.parametrize(
    ("cost", "whole", "tail"),
    [
        (lambda n: 5 + n, True, True),
        (lambda n: n**1.5, False, False),
        (lambda n: 1000 + n**2, True, False),  # what is done once hides it from the fit over all
    ],
)
def test_goals_are_about_growth(
    cost: Callable[[int], float], whole: bool, tail: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    def growing(size: int) -> Callable[[], None]:
        return lambda: times.append(cost(size))

    def spent(work: Callable[[], None]) -> Spent:
        work()
        return Spent(times[-1], 2 * times[-1])

    monkeypatch.setattr(growth, "spend", spent)
    found = grow(growing, [8, 16, 32, 64, 128], 2)
    assert (found["slope"]["reached"], found["slope_of_last_three"]["reached"]) == (whole, tail)
    assert found["cpu_ms"] == [round(1000 * cost(size), 2) for size in (8, 16, 32, 64, 128)]
    assert len(times) == 11


def test_one_size_is_refused() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        grow(lambda size: lambda: None, [8], 1)


def test_processor_seconds_leave_waiting_out() -> None:
    import time

    found = spend(lambda: time.sleep(0.3))
    assert found.wall >= 0.3
    assert found.cpu < 0.2


def test_sizes_of_a_trial_are_allowed_ones() -> None:
    assert shrunk("report", 8) == [50, 100]
    assert shrunk("write_clips", 8) == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "name", ["write_clips", "write_taps", "write_channels", "open", "resume", "resume_from_commits"]
)
def test_what_grows_does_its_work(name: str, tmp_path: Path) -> None:
    grown = Grown(tmp_path)
    for size in (3, 6):
        getattr(grown, name)(size)()
