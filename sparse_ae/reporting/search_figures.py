"""Figure of a search, where a folder holds one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_ae.plotting.fronts import Front, front_panels
from sparse_ae.plotting.search import search_panel
from sparse_ae.plotting.style import to_png
from sparse_ae.reporting.figures import Drawing
from sparse_ae.reporting.search import Search, read_search
from sparse_ae.run.errors import RunError

_DPI = 180


def draw_searches(folders: Sequence[Path]) -> list[Drawing]:
    """Draw the search of each of ``folders`` that holds one."""
    drawings = list[Drawing]()
    for folder in folders:
        name = "search" if len(folders) == 1 else f"search_{len(drawings)}"
        title = "Search" if len(folders) == 1 else f"Search in {folder}"
        try:
            search = read_search(folder)
        except RunError as damage:
            drawings.append(Drawing(name, title, f"Not drawn: {damage}", None))
            continue
        if search is not None:
            drawings.append(_draw(search, name, title))
    return drawings


def _draw(search: Search, name: str, title: str) -> Drawing:
    complete = search.complete
    if not complete:
        return Drawing(name, title, "Not drawn: no trial is finished.", None)
    failed = sum(trial.state == "failed" for trial in search.trials)
    pruned = [trial for trial in search.trials if trial.state == "pruned"]
    counts = f"{len(complete)} trials are finished, {failed} failed, {len(pruned)} were pruned. "
    values = np.array([trial.values for trial in complete], dtype=float).T
    if len(search.metric) == 1:
        figure = search_panel(
            np.array([trial.number for trial in complete], dtype=float),
            values[0],
            search.best_so_far,
            pruned=np.array([(trial.number, *trial.values) for trial in pruned], dtype=float).reshape(-1, 2).T,
            ylabel=search.metric[0],
            title="What the search has reached",
        )
        caption = f"{counts}Best is trial {search.best[0].number}, {search.best[0].run}."
    else:
        on_front = {trial.number for trial in search.best}
        mask = np.array([trial.number in on_front for trial in complete])
        x, y = search.metric
        figure = front_panels(
            values[1],
            [Front(x, values[0], mask, None, "")],
            [str(trial.params.get("sparsity", "trial")) for trial in complete],
            ylabel=y,
            title="Trials that no other beats in both",
        )
        caption = f"{counts}{len(on_front)} are on the front: {', '.join(str(trial.run) for trial in search.best)}."
    caption += " Values are those of the validation split, which chose them."
    return Drawing(name, title, caption, to_png(figure, _DPI, palette=True))
