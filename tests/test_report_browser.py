"""The report in headless Chromium, from the file system: it asks for nothing, complains of nothing, and can be driven.

Besides a small page made here, the demos' reports below the folder RADSTACK_OUT are driven, where that variable is set.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import chromium, opened

from radstack.core.files import replacing
from radstack.report import images, plots
from radstack.report.blocks import Section, Slices, Table
from radstack.report.cases import Case
from radstack.report.page import page

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium: name one by RADSTACK_CHROMIUM")
OUT = os.environ.get("RADSTACK_OUT", "")
REPORTS = sorted(Path(OUT, "reports").glob("*-demo/index.html")) if OUT else []


def stack(count: int) -> Slices:
    """A stack whose slices are brighter and brighter."""
    frames = [np.full((40, 40), 20 + 8 * place, np.uint8) for place in range(count)]
    figure, ax = plots.along(count)
    ax.plot(np.linspace(0, 1, count))
    return Slices(images.data_uri(images.sheet(frames, 4)), count, 4, tuple(f"slice {place}" for place in range(count)),
                  ("",) * count, plots.svg(figure), "a stack", start=2)


def small_page() -> str:
    """A table and four cases of two labels and two folds."""
    table = Table(pd.DataFrame({"model": ["b", "a", "c"], "score": [0.5, float("nan"), 0.25]}), "Scores")
    cases = [Case(f"case {place}", ("worst",) if place < 2 else ("random",), ("red" if place % 2 else "blue",), place % 2,
                  1.0 - place / 5, 0.1, pd.DataFrame(), {}, (stack(6 + place),)) for place in range(4)]
    return page("Small", "A page", [Section("result", "Result", "", (table,)), Section("cases", "Cases", "", ())], cases)


@pytest.fixture(params=["small", *REPORTS], ids=lambda one: one if isinstance(one, str) else one.parent.name)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if isinstance(request.param, Path):
        return request.param
    path = tmp_path / "index.html"
    path.write_text(small_page(), encoding="utf-8")
    return path


def shown(tab: object) -> str:
    """Key of the case that is seen; there must be exactly one."""
    seen = tab.locator(".case:visible")
    assert seen.count() == 1
    return seen.get_attribute("id")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_asks_for_nothing_and_fits_its_window(file: Path, width: int, scheme: str) -> None:
    with opened(file, width, scheme) as (tab, said):
        tab.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        assert not said
        if OUT:
            picture = Path(OUT, "reports", "screenshots", f"{file.parent.name}-{width}-{scheme}.png")
            with replacing(picture) as part:
                tab.screenshot(path=part, type="png", full_page=True)


def test_arrows_and_buttons_turn_the_pages(file: Path) -> None:
    with opened(file) as (tab, said):
        first = shown(tab)
        tab.keyboard.press("ArrowRight")
        second = shown(tab)
        assert second != first
        tab.keyboard.press("ArrowLeft")
        assert shown(tab) == first
        tab.locator(".filters .next").click()
        assert shown(tab) == second
        assert not said


def test_filters_leave_the_cases_that_fit(file: Path) -> None:
    with opened(file) as (tab, said):
        everyone = tab.locator(".case").count()
        for name in ("label", "fold", "why"):
            words = tab.locator(f"select[name={name}] option").all_inner_texts()[1:]
            counts = []
            for word in words:
                tab.locator(f"select[name={name}]").select_option(label=word)
                assert word in tab.locator(".case:visible").get_attribute(f"data-{name}").split("|")
                counts.append(int(tab.locator(".filters .place").inner_text().split(" of ")[1]))
            tab.locator(f"select[name={name}]").select_option(index=0)
            assert sum(counts) >= everyone
            assert max(counts) < everyone or len(words) == 1 or name != "fold"
        tab.locator("input[name=loss]").evaluate("one => { one.value = one.max; one.dispatchEvent(new Event('input', "
                                                 "{ bubbles: true })); }")
        assert int(tab.locator(".filters .place").inner_text().split(" of ")[1]) < everyone
        assert not said


def test_a_click_on_a_column_sorts_by_it(file: Path) -> None:
    with opened(file) as (tab, said):
        table = tab.locator("#result table.sortable").first
        names = table.locator("th").all_inner_texts()
        place = names.index("score" if "score" in names else "out of fold")

        def column() -> list[float]:
            cells = table.locator(f"tbody td:nth-child({place + 1})").evaluate_all("all => all.map(one => one.dataset.sort)")
            return [float(cell) for cell in cells if cell]

        head = table.locator("th button").nth(place)
        head.click()
        assert column() == sorted(column())
        head.click()
        assert column() == sorted(column(), reverse=True)
        assert len(column()) > 1
        assert not said


def test_slices_follow_slider_strip_and_keys(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(small_page(), encoding="utf-8")
    with opened(file) as (tab, said):
        figure = tab.locator(".case:visible .slices")
        says = figure.locator(".says")
        tab.wait_for_function("document.querySelector('.case.shown .says').textContent === 'slice 2'")
        pixels = "one => one.toDataURL()"
        before = figure.locator(".large canvas").evaluate(pixels)
        figure.locator(".strip button").nth(5).click()
        assert says.inner_text() == "slice 5"
        assert figure.locator(".large canvas").evaluate(pixels) != before
        figure.press("ArrowUp")
        assert says.inner_text() == "slice 4"
        assert not said
