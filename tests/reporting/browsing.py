"""Chromium for tests of pages, if it is installed."""

import shutil

import pytest
from selenium import webdriver

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with a chromedriver on the path to show the page in"
)


def resize(browser: webdriver.Chrome, width: int) -> None:
    """Make the window ``width`` pixels wide and 900 high."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def shown_whole(browser: webdriver.Chrome) -> bool:
    """True if neither the page nor the dialog of details is wider than its place."""
    wide = "[document.documentElement, document.getElementById('details')].map(e => e.scrollWidth - e.clientWidth)"
    return bool(browser.execute_script(f"return {wide}") == [0, 0])


def dress(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    """Make the window ``width`` pixels wide, and its colours ``light`` or ``dark``."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    resize(browser, width)
