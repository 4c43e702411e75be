"""The page of units in text: its data and their escaping, without a browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sparse_ae.reporting.units import units_pages
from sparse_ae.run.directory import Run
from tests.reporting.units import HOSTILE, run_on_text, units_of


def _write(run: Run, analysis: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    run.write_analysis(analysis, {}, {"units.json": text.replace("\\u2028", "\u2028").encode()})


def test_text_cannot_leave_its_script(tmp_path: Path) -> None:
    run = Run(tmp_path / "<b>run")
    _write(run, "features", units_of([HOSTILE, "\u2028\ud800", "<!--<script>", "]]>"]))
    page = units_pages(run)["units.html"]
    assert page.count("<script") == page.count("</script") == 2
    assert "<!--" not in page
    assert "onerror" not in re.sub(r"(?s)<script.*?</script>", "", page)
    (inside,) = re.findall(r'(?s)<script id="data" type="application/json">(.*?)</script>', page)
    assert not set(inside) & set("<>&\u2028\u2029")
    assert json.loads(inside) == units_of([HOSTILE, "\u2028\ud800", "<!--<script>", "]]>"])
    assert "&lt;b&gt;run" in page
    page.encode(errors="strict")


def test_a_policy_forbids_all_but_the_script(tmp_path: Path) -> None:
    run = Run(tmp_path)
    _write(run, "features", units_of(["a"]))
    page = units_pages(run)["units.html"]
    assert page.index("Content-Security-Policy") < page.index("<style")
    assert re.search(r"default-src 'none'; script-src 'sha256-[A-Za-z0-9+/]{43}='; style-src 'unsafe-inline'", page)
    assert "http://" not in page
    assert "https://" not in page


def test_a_page_for_the_runs_weights_and_for_each_variant(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("overview", "features", "features-best-0.5", "selectivity"):
        if name != "selectivity":
            _write(run, name, units_of([f"of {name}"]))
        else:
            run.write_analysis(name, {}, {})
    pages = units_pages(run)
    assert list(pages) == ["units.html", "units-best-0.5.html"]
    assert "of features" in pages["units.html"]
    assert "(best-0.5)" in pages["units-best-0.5.html"]


WHOLE = units_of(["a"])


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        "null",
        "[" * 10**5,
        json.dumps(WHOLE)[:-1],
        json.dumps(WHOLE | {"rows": float("nan")}),
        WHOLE | {"units": None},
        WHOLE | {"pieces": {}},
        WHOLE | {"all_units": "<b>"},
        {name: value for name, value in WHOLE.items() if name != "contexts_per_unit"},
    ],
    ids=range(10),
)
def test_damaged_data_make_no_page(tmp_path: Path, damaged: Any) -> None:
    run = Run(tmp_path)
    _write(run, "features", damaged)
    assert units_pages(run) == {}


def test_runs_on_other_data_have_no_page_and_no_link(runs: list[Path]) -> None:
    assert not list(runs[0].glob("units*"))
    assert "units" not in re.sub(r"(?s)<(style|dl).*?</\1>", "", (runs[0] / "report.html").read_text())


def test_a_run_on_text_has_its_page_and_starting_over_removes_it(tmp_path: Path) -> None:
    run = run_on_text(tmp_path / "run", ["the cat", "sat"])
    assert '<a href="units.html">' in (run.path / "report.html").read_text()
    assert (run.path / "units.html").exists()
    run.start(config={"seed": 0}, resumed=False, sources={}, threads=1)
    assert not (run.path / "units.html").exists()
