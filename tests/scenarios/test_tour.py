"""The tour, executed as a notebook in an empty folder."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT

TOUR = ROOT / "experiments" / "tour.ipynb"


def test_committed_outputs_are_small_and_name_no_place() -> None:
    text = TOUR.read_text()
    assert len(text) < 400_000
    without_pictures = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)
    assert not re.search(r"/(home|root|tmp|work|Users)/", without_pictures)
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])


@pytest.mark.slow
def test_executed(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    tour = nbformat.read(TOUR, as_version=4)
    assert any("trainer.max_epochs=5" in cell.source for cell in tour.cells)
    for cell in tour.cells:  # fewer epochs, as where lab books are executed
        cell.source = cell.source.replace("trainer.max_epochs=5", "trainer.max_epochs=1")
    NotebookClient(tour, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = tour.cells[-1].outputs[0].text
    assert len(shown.splitlines()) == 3  # mistakes
