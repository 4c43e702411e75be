"""CSV logger: one table of all metrics by step."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from sparse_ae.atomic import write_atomically
from sparse_ae.loggers.base import RunLogger
from sparse_ae.run.directory import Run

_STEP = "step"


class CSV(RunLogger):
    """``<run>/metrics.csv``, a row per step and a column per metric, and ``<run>/hparams.yaml``.

    A row is written when the next step is logged, or at the end. A resumed run takes up the row that was open at the
    checkpoint and removes those after it: each step is there once, in order.
    """

    keeps_curves = True

    def __init__(self, *, run: Run) -> None:
        super().__init__(run=run)
        self._columns: list[str] = []
        self._row: dict[str, float] = {}

    def begin(self, options: Mapping[str, Any]) -> None:
        self.run.metrics_table.unlink(missing_ok=True)
        text = yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True)
        write_atomically(self.run.path / "hparams.yaml", text.encode())

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        at = self._row.get(_STEP, 0) if step is None else step
        if self._row and self._row[_STEP] != at:
            self._write_row()
        self._row.setdefault(_STEP, at)
        self._row |= {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}

    def finalize(self, status: str) -> None:
        """Write the last row of a run that failed; the test of another one may add to it."""
        if status != "success":
            self.finish()

    def state_dict(self) -> dict[str, Any]:
        """Open row; those before it are on disk."""
        if self.run.metrics_table.exists():
            with self.run.metrics_table.open("rb") as file:
                os.fsync(file.fileno())
        return {"row": dict(self._row)}

    def resume(self, state: Mapping[str, Any]) -> None:
        self._row = dict(state["row"])
        self._columns, rows = self._read()
        self._rewrite([row for row in rows if self._row and int(row[_STEP]) < self._row[_STEP]])

    @rank_zero_only
    def finish(self) -> None:
        if self._row:
            self._write_row()

    def _write_row(self) -> None:
        """Write the open row, after the columns that it adds to the table."""
        if new := self._row.keys() - {_STEP, *self._columns}:
            rows = self._read()[1]
            self._columns = [_STEP, *sorted(new.union(self._columns) - {_STEP})]
            self._rewrite(rows)
        with self.run.metrics_table.open("a", newline="") as file:
            file.write(self._lines([self._row]))
        self._row = {}

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and rows on disk; a line that a kill cut off is none."""
        if not self.run.metrics_table.exists():
            return [], []
        text = self.run.metrics_table.read_text()
        table = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
        return list(table.fieldnames or []), list(table)

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        head = dict(zip(self._columns, self._columns, strict=True))
        write_atomically(self.run.metrics_table, self._lines([head, *rows]).encode())

    def _lines(self, rows: Sequence[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue()
