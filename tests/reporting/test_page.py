"""The page in a browser, opened from disk."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from sparse_ae.commands.report import report
from tests.reporting.browsing import dress, needs_browser, resize, shown_whole

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def page(finished_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of three finished runs and a failed one, whose error would like to be a script."""
    sweep = Path(shutil.copytree(finished_sweep, tmp_path_factory.mktemp("page") / "sweep"))
    first = next(path for path in sorted(sweep.iterdir()) if path.is_dir())
    status = json.loads((first / "status.json").read_text())
    error = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">" + "x" * 200
    (first / "status.json").write_text(json.dumps(status | {"state": "failed", "error": error}))
    report([sweep], sweep)
    return (sweep / "report.html").as_uri()


@pytest.fixture
def opened(browser: webdriver.Chrome, page: str) -> Iterator[webdriver.Chrome]:
    """The page, fresh; whatever the test did to it, the console stays empty."""
    resize(browser, 1280)
    browser.get(page)
    yield browser
    assert browser.get_log("browser") == []
    assert browser.title == "sweep"


def _column(browser: webdriver.Chrome, label: str) -> tuple[WebElement, list[str]]:
    """A column's head, and the texts below it from top to bottom."""
    heads = browser.find_elements(By.CSS_SELECTOR, "#runs thead th")
    place = next(i for i, head in enumerate(heads) if head.text.replace("\n", " ").startswith(label))
    rows = browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")
    return heads[place], [row.find_elements(By.CSS_SELECTOR, "th, td")[place].text for row in rows]


def test_sorting_up_and_down_with_what_is_missing_last(opened: webdriver.Chrome) -> None:
    head, before = _column(opened, "MSE")
    assert before[0] == ""  # the failed run comes first by its weight
    numbers = sorted(float(text) for text in before if text)
    button = head.find_element(By.TAG_NAME, "button")
    button.click()
    head, texts = _column(opened, "MSE")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in texts[:3]] == numbers
    assert texts[3] == ""
    button.click()
    head, texts = _column(opened, "MSE")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in texts[:3]] == numbers[::-1]
    assert texts[3] == ""


def test_sorting_by_another_column_from_the_keyboard(opened: webdriver.Chrome) -> None:
    _column(opened, "MSE")[0].find_element(By.TAG_NAME, "button").click()
    head, _ = _column(opened, "sparsity.coefficient")
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    _, texts = _column(opened, "sparsity.coefficient")
    assert texts == ["0.001", "0.001", "0.1", "0.1"]
    sorted_by = opened.find_elements(By.CSS_SELECTOR, "#runs thead [aria-sort]:not([aria-sort=none])")
    assert [element.text.replace("\n", " ")[:20] for element in sorted_by] == ["sparsity.coefficient"]
    head, _ = _column(opened, "state")
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert _column(opened, "state")[1] == ["failed", "finished", "finished", "finished"]


def _dialog(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.ID, "details")


def _images_are_shown(browser: webdriver.Chrome) -> bool:
    widths = browser.execute_script(
        "return Array.from(document.querySelectorAll('#details img'), image => image.complete && image.naturalWidth)"
    )
    return len(widths) == 3 and all(width > 100 for width in widths)


def test_a_click_on_a_run_opens_its_images_and_metrics(opened: webdriver.Chrome) -> None:
    assert opened.execute_script("return document.querySelectorAll('#details img').length") == 0
    row = opened.find_elements(By.CSS_SELECTOR, "#runs tbody tr")[1]
    name = row.find_element(By.TAG_NAME, "button").text
    row.find_elements(By.TAG_NAME, "td")[3].click()
    dialog = _dialog(opened)
    assert dialog.is_displayed()
    WebDriverWait(opened, 10).until(_images_are_shown)
    assert name in dialog.text
    for text in ("features", "reconstructions", "sparsity.coefficient", "test/lifetime_sparsity"):
        assert text in dialog.text
    dialog.find_element(By.XPATH, ".//button[.='Close']").click()
    assert not dialog.is_displayed()


def test_the_same_from_the_keyboard(opened: webdriver.Chrome) -> None:
    buttons = opened.find_elements(By.CSS_SELECTOR, "#runs tbody button")
    buttons[2].send_keys(Keys.ENTER)
    WebDriverWait(opened, 10).until(_images_are_shown)
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not _dialog(opened).is_displayed()
    assert opened.switch_to.active_element == buttons[2]


def test_an_error_text_is_shown_and_not_run(opened: webdriver.Chrome) -> None:
    opened.find_elements(By.CSS_SELECTOR, "#runs tbody button")[0].click()
    assert "<script>document.title = 'taken'</script>" in _dialog(opened).text
    verdict = opened.find_element(By.ID, "verdict").text
    assert verdict == "partial: 3 finished, 1 failed"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_wider_than_the_window(opened: webdriver.Chrome, width: int, scheme: str) -> None:
    dress(opened, width, scheme)
    assert shown_whole(opened)
    opened.find_elements(By.CSS_SELECTOR, "#runs tbody button")[0].click()
    assert shown_whole(opened)
    ground = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[scheme]
