"""The page alive: Chromium opens it, sorts, filters, singles out, turns; without a complaint and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluate.report.page import render
from evaluate.table import build, find_runs
from tests.evaluate.browser import Browser, executable

pytestmark = pytest.mark.skipif(
    executable() is None,
    reason="NO BROWSER: whether the report sorts, filters and turns was NOT TESTED; install chromium or google-chrome",
)

BOARD = "document.querySelector('table.board')"
NAMES = f"[...{BOARD}.tBodies[0].rows].filter(row => !row.hidden).map(row => row.dataset.name)"
VALUES = f"[...{BOARD}.tBodies[0].rows].map(row => parseFloat(row.cells[1].dataset.value))"
SORTED = f"{BOARD}.querySelectorAll('thead th')[1].getAttribute('aria-sort')"


@pytest.fixture(scope="module")
def page(runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(build(find_runs([str(runs_root / "*")]), resamples=100)), "utf-8")
    return file


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        yield browser
        assert browser.complaints == []


def _settle(browser: Browser) -> None:
    """Wait until two frames are drawn."""
    browser.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_it_loads_alone(browser: Browser, page: Path):
    outside = [url for url in browser.requests if not url.startswith("data:") and url != page.resolve().as_uri()]
    assert outside == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int):
    browser.resize(width, 900)
    browser.eval("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    _settle(browser)
    assert browser.eval("document.documentElement.scrollWidth") <= width
    # The table is reached by scrolling in its own box.
    assert browser.eval(f"{BOARD}.parentElement.getBoundingClientRect().right") <= width


def test_a_columns_button_sorts_it_both_ways_and_back(browser: Browser):
    button = f"{BOARD}.querySelectorAll('thead button')[1]"
    assert browser.eval(SORTED) == "descending"
    before = browser.eval(VALUES)
    assert before == sorted(before, reverse=True)
    browser.eval(f"{button}.click()")
    assert browser.eval(SORTED) == "ascending"
    assert browser.eval(VALUES) == sorted(before)
    browser.eval(f"{button}.click()")
    assert browser.eval(VALUES) == before
    browser.eval(f"{BOARD}.querySelector('thead button').click()")
    assert browser.eval(NAMES) == ["net-a", "net-a (untrained)", "pixels", "video-b"]
    assert browser.eval(SORTED) is None


def test_what_is_not_known_comes_last_whichever_way(browser: Browser):
    browser.eval(f"{BOARD}.tBodies[0].rows[0].cells[1].dataset.value = ''")
    unknown = browser.eval(NAMES)[0]
    for _ in range(2):
        browser.eval(f"{BOARD}.querySelectorAll('thead button')[1].click()")
        assert browser.eval(NAMES)[-1] == unknown


def test_keys_alone_are_enough_to_sort(browser: Browser):
    browser.eval(f"{BOARD}.querySelectorAll('thead button')[0].focus()")
    browser.press("Tab", 9)
    assert browser.eval(f"document.activeElement === {BOARD}.querySelectorAll('thead button')[1]")
    browser.press("Enter", 13, "\r")
    assert browser.eval(SORTED) == "ascending"


def test_the_filter_hides_rows_and_their_part_of_figures(browser: Browser):
    box = "document.querySelector('.filter [type=search]')"
    type_in = f"{box}.dispatchEvent(new Event('input', {{ bubbles: true }}))"
    browser.eval(f"{box}.value = 'video'; {type_in}")
    assert browser.eval(NAMES) == ["video-b"]
    assert browser.eval("document.querySelector('.filter output').textContent") == "1 of 4 models"
    gone = browser.eval("document.querySelector('tr[data-name=net-a]').dataset.model")
    kept = browser.eval("document.querySelector('tr[data-name=video-b]').dataset.model")
    shown = "getComputedStyle(document.querySelector('svg .{}')).display"
    assert browser.eval(shown.format(gone)) == "none"
    assert browser.eval(shown.format(kept)) != "none"
    browser.eval(f"{box}.value = ''; {type_in}")
    assert len(browser.eval(NAMES)) == 4
    assert browser.eval(shown.format(gone)) != "none"


def test_kinds_and_twins_can_be_left_out(browser: Browser):
    press = "document.querySelector('.filter [value={}]').click()"
    browser.eval(press.format("twin"))
    assert sorted(browser.eval(NAMES)) == ["net-a", "pixels", "video-b"]
    browser.eval(press.format("control"))
    browser.eval(press.format("encoder"))
    assert browser.eval(NAMES) == ["video-b"]


def test_a_key_singles_a_model_out(browser: Browser):
    key = "document.querySelector('[data-single]')"
    group = browser.eval(f"{key}.dataset.single")
    faint = "Number(getComputedStyle([...document.querySelectorAll('svg .m')].find(m => {}m.matches('.{}'))).opacity)"
    browser.eval(f"{key}.click()")
    browser.eval("new Promise(done => setTimeout(done, 300))")
    assert browser.eval(f"{key}.getAttribute('aria-pressed')") == "true"
    assert browser.eval(faint.format("", group)) == 1
    assert browser.eval(faint.format("!", group)) < 0.2
    browser.eval(f"{key}.click()")
    assert browser.eval(f"{key}.getAttribute('aria-pressed')") == "false"


def test_a_name_leads_to_the_command_that_made_its_numbers(browser: Browser):
    browser.eval(f"{BOARD}.querySelector('tbody a').click()")
    browser.eval("new Promise(done => setTimeout(done, 100))")
    shown = browser.eval(
        "document.querySelector(location.hash).open && document.querySelector(location.hash).innerText"
    )
    assert "python -m probes.train" in shown
    assert "features-" in shown


def test_clouds_turn_by_mouse_and_by_keys(browser: Browser):
    cloud = "document.querySelectorAll('.clouds canvas')[{}]"
    browser.eval(f"{cloud.format(0)}.scrollIntoView({{ block: 'center', behavior: 'instant' }})")
    _settle(browser)
    pixels = (
        "(() => { const c = %s; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let lit = 0, sum = 0; for (let k = 0; k < d.length; k += 4)"
        " if (d[k] > 40) { lit++; sum = (sum * 31 + k) %% 1e9; }"
        " return [lit / (d.length / 4), sum]; })()"
    )
    first, second = (pixels % cloud.format(index) for index in (0, 1))
    seen = [browser.eval(first)]
    assert 0.02 < seen[0][0] < 0.9
    x, y, width, height = browser.eval(
        f"(({{ x, y, width, height }}) => [x, y, width, height])({cloud.format(0)}.getBoundingClientRect())"
    )
    beside = browser.eval(second)
    browser.drag((x + width / 2, y + height / 2), (x + width / 2 + 60, y + height / 2 + 10))
    _settle(browser)
    seen.append(browser.eval(first))
    assert browser.eval(second) != beside, "both clouds of a pair turn together"
    browser.eval(f"{cloud.format(0)}.focus()")
    browser.press("ArrowLeft", 37)
    _settle(browser)
    seen.append(browser.eval(first))
    browser.press("+", 187, "+")
    _settle(browser)
    seen.append(browser.eval(first))
    assert len({tuple(state) for state in seen}) == 4
    browser.press("0", 48, "0")
    _settle(browser)
    assert browser.eval(first) == seen[0]
