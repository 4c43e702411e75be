"""One run as a page: how it was made, its test metrics, and what each analysis found."""

from typing import NamedTuple

from sparse_ae.files import write_atomically
from sparse_ae.reporting.collect import Entry, collect
from sparse_ae.reporting.columns import as_number, cell_text
from sparse_ae.reporting.html import Picture, pictures, render_page, value_text
from sparse_ae.runs import Run, RunError


class AnalysisView(NamedTuple):
    """One analysis as the page shows it."""

    name: str
    numbers: list[tuple[str, str]]
    """Its single numbers."""
    figures: list[Picture]


def write_run_page(run: Run) -> None:
    """Write ``report.html`` into the run's folder, from what is in it."""
    (entry,) = collect([run.path]).entries
    write_atomically(run.path / "report.html", render_run(entry).encode(errors="replace"))


def render_run(entry: Entry) -> str:
    """The whole page."""
    return render_page(
        "run.html",
        script=None,
        title=entry.name,
        state=entry.state,
        metrics=[(name, value_text(value)) for name, value in entry.metrics.items()],
        config=[(key, cell_text(value)) for key, value in entry.config.items()],
        analyses=[_view(entry.run, name) for name in entry.run.analyses],
    )


def _view(run: Run, name: str) -> AnalysisView:
    try:
        result = run.read_analysis(name)
    except RunError:  # damaged: its figures may still be worth seeing
        result = {}
    numbers = [(key, value_text(value)) for key, value in result.items() if as_number(value) is not None]
    return AnalysisView(name, numbers, pictures(run.figures_of(name)))
