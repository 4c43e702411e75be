"""One run's page in a browser, opened from disk."""

import json
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from sparse_ae.reporting.analyses import reading_order
from sparse_ae.reporting.pages import write_run_page
from sparse_ae.run.directory import Run
from tests.reporting.browsing import needs_browser, resize

NUMBERS = {
    "empty": None,
    "affine": True,
    "huge": 10**400,
    "classes": [3, 5],
    "nothing": [],
    "long": list(range(1000, 1100)),
    "flat": {"least": 0.25, "most": None, "deeper": {"not": "shown"}},
    "rows": {"first": {"a": 1, "deeper": [{"b": 1}]}, "<b>second": {"a": 2.5, "only": False}},
    "pairs": [{"run": "kl-s2", "matched": 8}],
    "long_pairs": [{"unit": 123456}] * 100,
    "curves": {"x": list(range(100)), "y": [0] * 100},
}


@pytest.fixture
def run(runs: list[Path]) -> Run:
    """A run with an analysis more, whose name and numbers would like to be scripts, and a damaged one."""
    hostile = "<img src=x onerror=alert(1)>"
    folder = runs[0] / "analysis" / hostile
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({hostile: 1.5} | NUMBERS))
    (folder / "not.png").write_text("no picture")
    shutil.copytree(runs[0] / "analysis" / "overview", runs[0] / "analysis" / "zz")
    (runs[0] / "analysis" / "zz" / "result.json").write_text("{")
    return Run.open(runs[0])


def test_a_finished_run_has_its_page(runs: list[Path]) -> None:
    for path in runs:
        page = (path / "report.html").read_text()
        assert "http://" not in page
        assert "https://" not in page
        assert "<script" not in page


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_everything_is_shown_and_nothing_runs(browser: webdriver.Chrome, run: Run, width: int) -> None:
    write_run_page(run)
    resize(browser, width)
    browser.get((run.path / "report.html").as_uri())
    assert browser.title == run.path.name
    heads = [head.text for head in browser.find_elements(By.TAG_NAME, "h2")]
    assert heads == ["Test metrics", "overview", "<img src=x onerror=alert(1)>", "zz"]
    shown = browser.execute_script("return Array.from(document.images, i => i.complete && i.naturalWidth > 100)")
    assert len(shown) == len(run.figures) - 1  # all but what is no picture
    assert all(shown)
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "test/fvu" in text
    assert "sparsity.coefficient" not in text
    browser.find_element(By.TAG_NAME, "summary").click()
    assert "sparsity.coefficient" in browser.find_element(By.TAG_NAME, "body").text
    wide = browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth")
    assert wide == 0
    assert browser.get_log("browser") == []


def _cells(parent: WebElement, selector: str) -> list[str]:
    return [cell.text for cell in parent.find_elements(By.CSS_SELECTOR, selector)]


@pytest.mark.slow
@needs_browser
def test_single_values_and_flat_tables_are_shown_and_what_is_larger_is_not(browser: webdriver.Chrome, run: Run) -> None:
    write_run_page(run)
    browser.get((run.path / "report.html").as_uri())
    section = browser.find_elements(By.CSS_SELECTOR, "main section")[2]
    values = dict(zip(_cells(section, "dt"), _cells(section, "dd"), strict=True))
    assert values.pop("huge") == str(10**400)
    assert values == {
        "<img src=x onerror=alert(1)>": "1.5",
        "empty": "undefined",
        "affine": "yes",
        "classes": "3, 5",
        "nothing": "none",
    }
    tables = [
        [_cells(row, "th, td") for row in table.find_elements(By.TAG_NAME, "tr")]
        for table in section.find_elements(By.TAG_NAME, "table")
    ]
    assert tables == [
        [["", "least", "most"], ["flat", "0.25", "undefined"]],
        [["rows", "a", "only"], ["first", "1", ""], ["<b>second", "2.5", "no"]],
        [["pairs", "run", "matched"], ["1", "kl-s2", "8"]],
    ]


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_no_name_and_no_number_is_broken(browser: webdriver.Chrome, run: Run, width: int) -> None:
    (run.path / "analysis" / "overview" / "result.json").write_text('{"always_on_units_nonzero": 0.0958937}')
    write_run_page(run)
    resize(browser, width)
    browser.get((run.path / "report.html").as_uri())
    sections = browser.find_elements(By.CSS_SELECTOR, "main section")[:2]
    parts = [part for section in sections for part in section.find_elements(By.CSS_SELECTOR, "dt, dd") if part.text]
    assert len(parts) > 10
    assert {part.size["height"] for part in parts} == {24}


def test_analyses_stand_in_reading_order(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("mine", "zz", "sparsity", "overview", "features-best", "features", "sparsity-0.5"):
        run.write_analysis(name, {}, {})
    by_name = ["features", "features-best", "mine", "overview", "sparsity", "sparsity-0.5", "zz"]
    assert reading_order(run) == by_name  # nothing else is known
    (tmp_path / ".hydra").mkdir()
    config = {"data": {}, "coder": {}, "seed": 0, "active_threshold": 0.1, "analysis": {"overview": {}, "zz": {}}}
    (tmp_path / ".hydra" / "config.yaml").write_text(json.dumps(config))
    assert reading_order(run) == ["overview", "zz", "features", "features-best", "mine", "sparsity", "sparsity-0.5"]
