"""One run's page in a browser, opened from disk."""

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from sparse_ae.reporting.run_page import write_run_page
from sparse_ae.runs import Run
from tests.reporting.browsing import needs_browser, resize


@pytest.fixture
def run(runs: list[Path]) -> Run:
    """A run with an analysis more, whose name and numbers would like to be scripts, and a damaged one."""
    hostile = "<img src=x onerror=alert(1)>"
    folder = runs[0] / "analysis" / hostile
    folder.mkdir()
    (folder / "result.json").write_text(f'{{"{hostile}": 1.5, "nested": {{"a": 1}}, "undefined": null}}')
    (folder / "not.png").write_text("no picture")
    shutil.copytree(runs[0] / "analysis" / "overview", runs[0] / "analysis" / "zz")
    (runs[0] / "analysis" / "zz" / "result.json").write_text("{")
    return Run.open(runs[0])


def test_a_finished_run_has_its_page(runs: list[Path]) -> None:
    for path in runs:
        page = (path / "report.html").read_text()
        assert "default-src 'none'" in page
        assert "http://" not in page
        assert "https://" not in page
        assert "script-src" not in page


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_everything_is_shown_and_nothing_runs(browser: webdriver.Chrome, run: Run, width: int) -> None:
    write_run_page(run)
    resize(browser, width)
    browser.get((run.path / "report.html").as_uri())
    assert browser.title == run.path.name
    heads = [head.text for head in browser.find_elements(By.TAG_NAME, "h2")]
    assert heads == ["Test metrics", "<img src=x onerror=alert(1)>", "overview", "zz"]
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
