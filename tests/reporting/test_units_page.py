"""The page of units in text in a browser, opened from disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from sparse_ae.data.activations.pieces import visible
from tests.reporting.browsing import dress, needs_browser, resize, shown_whole
from tests.reporting.units import HOSTILE, TAKE, run_on_text, units_of

pytestmark = [pytest.mark.slow, needs_browser]

PIECES = [
    " the",
    " cat",
    "##ing",
    "␣Theory",
    HOSTILE,
    visible("\0\u202e"),
    "שלום",
    f"javascript:{TAKE}",
    " 日本",
    " end",
]
UNITS = 230


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run on text that would like to be a script."""
    return run_on_text(tmp_path_factory.mktemp("text") / "run", PIECES, UNITS).path / "units.html"


@pytest.fixture
def opened(browser: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    """The page, fresh; whatever the test did to it, nothing of the text ran, nothing was fetched, no policy broken."""
    resize(browser, 1280)
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.title == "Units of run"
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert browser.find_elements(By.CSS_SELECTOR, "img, iframe, object, script[src], [onerror]") == []


def _rows(browser: webdriver.Chrome) -> list[list[str]]:
    return [
        [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
        for row in browser.find_elements(By.CSS_SELECTOR, "#units tbody tr")[:5]
    ]


def _numbers(browser: webdriver.Chrome) -> list[int]:
    script = "return Array.from(document.querySelectorAll('#units tbody th'), cell => Number(cell.textContent))"
    return list(browser.execute_script(script))


def _search(browser: webdriver.Chrome, text: str) -> str:
    box = browser.find_element(By.ID, "query")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE, text)
    return browser.find_element(By.ID, "count").text


def _sort(browser: webdriver.Chrome, key: str) -> WebElement:
    button = browser.find_element(By.CSS_SELECTOR, f"button[data-key={key}]")
    button.click()
    return button.find_element(By.XPATH, "..")


def test_units_are_sorted_by_every_measure(opened: webdriver.Chrome) -> None:
    units = units_of(PIECES, UNITS)["units"]
    measures = {
        "frequency": lambda unit: unit["frequency"],
        "largest": lambda unit: abs(unit["largest"]),
        "share": lambda unit: unit["shares"][0],
        "unit": lambda unit: unit["unit"],
    }

    def expected(key: str, *, ascending: bool) -> list[int]:
        ranked = sorted(units, key=lambda unit: (measures[key](unit) * (1 if ascending else -1), unit["unit"]))
        return [unit["unit"] for unit in ranked[:100]]

    assert _numbers(opened) == expected("frequency", ascending=False)
    for key in ("largest", "share", "frequency"):
        assert _sort(opened, key).get_attribute("aria-sort") == "descending"
        assert _numbers(opened) == expected(key, ascending=False)
        assert _sort(opened, key).get_attribute("aria-sort") == "ascending"
        assert _numbers(opened) == expected(key, ascending=True)
    assert _sort(opened, "unit").get_attribute("aria-sort") == "ascending"
    assert _numbers(opened) == expected("unit", ascending=True)
    assert len(opened.find_elements(By.CSS_SELECTOR, "[aria-sort]:not([aria-sort=none])")) == 1
    assert _rows(opened)[1] == ["10", "0.8%", "-1.5", "99.6%", "cat"]


def test_more_rows_are_shown_on_demand(opened: webdriver.Chrome) -> None:
    assert opened.find_element(By.ID, "count").text == "230 units, the first 100 shown"
    more = opened.find_element(By.ID, "more")
    more.click()
    more.click()
    assert len(_numbers(opened)) == len(set(_numbers(opened))) == UNITS
    assert not more.is_displayed()


@pytest.mark.parametrize(
    ("text", "whole", "places"),
    [
        ("the", False, [0, 3]),
        ("the", True, [0]),
        (" THE ", True, [0]),
        ("ing", True, [2]),
        ("##ing", False, [2]),
        ("theory", True, [3]),
        ("</script>", False, [4]),
        ("{{", False, [4]),
        (".*", False, []),
        ("U+202E", False, [5]),
        ("שלום", True, [6]),
        ("日", False, [8]),
    ],
)
def test_units_are_found_by_token(opened: webdriver.Chrome, text: str, whole: bool, places: list[int]) -> None:
    if whole:
        opened.find_element(By.ID, "whole").click()
    found = len(places) * UNITS // len(PIECES)
    assert _search(opened, text) == f"{found} units found"
    assert {number // 10 % len(PIECES) for number in _numbers(opened)} == set(places)
    chips = opened.find_elements(By.CSS_SELECTOR, ".token.found")
    assert len(chips) == found
    if places:
        assert _search(opened, "") == "230 units, the first 100 shown"


def _dialog(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.ID, "details")


def test_a_click_shows_contexts_with_their_colours(opened: webdriver.Chrome) -> None:
    _sort(opened, "unit")
    opened.find_elements(By.CSS_SELECTOR, "#units tbody tr")[4].find_elements(By.TAG_NAME, "td")[1].click()
    dialog = _dialog(opened)
    assert dialog.find_element(By.TAG_NAME, "h2").text == "Unit 40"
    (context,) = units_of(PIECES, UNITS)["units"][4]["contexts"]
    spans = dialog.find_elements(By.CSS_SELECTOR, ".context > *")
    assert [span.get_property("textContent") for span in spans] == PIECES
    assert [span.tag_name for span in spans] == ["mark" if i == 4 else "span" for i in range(len(PIECES))]
    assert HOSTILE in dialog.text
    script = "return getComputedStyle(arguments[0]).backgroundColor"
    for span, code in zip(spans, context["codes"], strict=True):
        colour = opened.execute_script(script, span)
        if code is None:
            assert (colour, span.get_attribute("title")) == ("rgba(0, 0, 0, 0)", "")
        else:
            assert span.get_attribute("title") == f"{code:g}"
            parts = [float(part) for part in colour.removeprefix("rgba(").removesuffix(")").split(",")]
            assert parts == pytest.approx([213, 94, 0, 0.6 * code / 5], abs=0.01)
    assert int(opened.execute_script("return getComputedStyle(arguments[0]).fontWeight", spans[4])) == 700
    dialog.find_element(By.XPATH, ".//button[.='Close']").click()
    assert not dialog.is_displayed()


def test_everything_from_the_keyboard(opened: webdriver.Chrome) -> None:
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    reached = []
    for _ in range(12):
        focused = opened.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.get_attribute("data-key") or focused.text)
        focused.send_keys(Keys.TAB)
    first = str(_numbers(opened)[0])
    for name in ("query", "whole", "unit", "frequency", "largest", "share", first):
        assert name in reached
    opened.find_element(By.CSS_SELECTOR, "button[data-key=unit]").send_keys(Keys.ENTER)
    assert _numbers(opened)[:2] == [0, 10]
    button = opened.find_elements(By.CSS_SELECTOR, "#units tbody button")[1]
    button.send_keys(Keys.ENTER)
    assert _dialog(opened).find_element(By.TAG_NAME, "h2").text == "Unit 10"
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not _dialog(opened).is_displayed()
    assert opened.switch_to.active_element == button
    opened.find_element(By.ID, "query").send_keys("cat", Keys.ENTER)  # which sends no form
    assert opened.find_element(By.ID, "count").text == "23 units found"


def test_a_script_in_the_page_would_not_run(browser: webdriver.Chrome, page: Path, tmp_path: Path) -> None:
    """The policy holds even if the escaping were to fail."""
    broken = tmp_path / "units.html"
    attack = f'<img src="x" onerror="{TAKE}"><script>{TAKE}</script>'
    broken.write_text(page.read_text().replace("<main>", f"<main>{attack}"))
    browser.get(broken.as_uri())
    assert browser.title == "Units of run"
    assert len(_numbers(browser)) == 100
    assert len(browser.get_log("browser")) >= 2  # says what it refused


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_wider_than_the_window(opened: webdriver.Chrome, width: int, scheme: str) -> None:
    dress(opened, width, scheme)
    assert shown_whole(opened)
    opened.find_elements(By.CSS_SELECTOR, "#units tbody button")[0].click()
    assert shown_whole(opened)
