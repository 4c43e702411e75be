"""Draw atoms of several runs, a row for each: ``python atoms.py methods.png l1=RUN topk=RUN ...``.

The runs have been analysed with ``analysis=gabor``, by whose fits the atoms are sorted.
"""

import sys
from pathlib import Path

import numpy as np

from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import Array, to_png
from sparse_ae.run.directory import Run
from sparse_ae.run.export import load

SHOWN = 18


def atoms(folder: Path) -> Array:
    """``SHOWN`` atoms of a run, from the best Gabor fit to the worst, evenly spread: ``(SHOWN, H, W)``."""
    fits = np.load(folder / "analysis" / "gabor" / "arrays.npz")
    order = np.argsort(-fits["r2"], kind="stable")
    shown = fits["unit"][order[np.linspace(0, len(order) - 1, SHOWN).astype(int)]]
    pictures: Array = load(Run(folder)).dictionary.detach().numpy()[shown].reshape(SHOWN, *fits["fit"].shape[1:])
    return pictures


if __name__ == "__main__":
    out, *runs = sys.argv[1:]
    names, folders = zip(*(run.split("=", 1) for run in runs), strict=True)
    block = Block(np.stack([atoms(Path(folder)) for folder in folders]), atoms=SHOWN, rows=names)
    title = f"{SHOWN} atoms of each dictionary, evenly spread, best Gabor fit first"
    Path(out).write_bytes(to_png(mosaic([block], title=title, signed=True), 100, palette=True))
