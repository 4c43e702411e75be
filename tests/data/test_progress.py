"""Progress where no terminal shows a bar."""

import pytest

from sparse_ae.data import progress
from sparse_ae.data.progress import Progress


def test_a_line_at_intervals_and_none_for_short_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0.0, 20.0, 40.0, 50.0, 400.0])  # at the start, and at each step
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with Progress("harvesting", 1_000) as done:
        for rows in (100, 150, 50, 600):
            done(rows)
    monkeypatch.undo()
    # By hand: 250 rows in 40 s, so 750 in 120 s; 900 in 400 s, so 100 in 44 s. 50 s is within 30 s of the last line.
    assert capsys.readouterr().out.splitlines() == [
        "harvesting: 250 of 1,000 (25%), about 2 min 00 s to go",
        "harvesting: 900 of 1,000 (90%), about 44 s to go",
    ]


def test_nothing_to_do(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0)
    with Progress("making", 0) as done:
        done(0)
    assert capsys.readouterr().out == ""
