"""Data of the page of units, and a run that has them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_ae.reporting.pages import write_run_page
from sparse_ae.run.directory import Run

TAKE = "document.title = 'taken'"
HOSTILE = f'</script><script>{TAKE}</script><img src=x onerror="{TAKE}">{{{{ 7 * 7 }}}}&amp;'


def units_of(pieces: Sequence[str], n: int = 1) -> dict[str, Any]:
    """``n`` units with one context each, of all ``pieces``; unit i marks and has as its top token piece i."""
    count = len(pieces)
    units = [
        {
            "unit": 10 * i,
            "frequency": (i * 7 % n + 1) / 1000,
            "largest": -1.5 if i == 1 else i + 1,
            "tokens": [i % count],
            "shares": [round(1 - i / n, 3)],
            "contexts": [
                {
                    "row": i,
                    "marked": i % count,
                    "pieces": list(range(count)),
                    "codes": [
                        None if j == count - 1 and j != i else float(i + 1) * (j + 1) / count for j in range(count)
                    ],
                }
            ],
        }
        for i in range(n)
    ]
    sizes = {"rows": 50, "all_units": n + 2, "living_units": n, "contexts_per_unit": 1, "threshold": 0.1}
    return sizes | {"pieces": list(pieces), "units": units}


def run_on_text(folder: Path, pieces: Sequence[str], n: int = 1) -> Run:
    """A run whose analysis found ``units_of(pieces, n)``, and its pages."""
    run = Run(folder)
    run.write_analysis("features", {}, {"units.json": json.dumps(units_of(pieces, n)).encode()})
    config = {"data": {}, "coder": {}, "seed": 0, "active_threshold": 0.1}
    run.start(config=config, resumed=True, sources={"config.yaml": json.dumps(config)}, threads=1)
    write_run_page(run)
    return run
