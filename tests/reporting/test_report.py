"""The report command on real runs: its files, its output, and runs that are damaged or unfinished."""

import csv
import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparse_ae.commands.report import report
from sparse_ae.reporting.collect import collect, to_csv
from sparse_ae.run.directory import Run
from tests.helpers import Cli

TIMES = ["wall_seconds", "fit_seconds", "encode_microseconds"]


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _set_status(run: Path, **changes: Any) -> None:
    path = run / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_summary_holds_what_the_runs_say(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    outcome = cli("sparse-ae-report", "sweep")
    assert (outcome.code, outcome.err) == (0, "")
    rows = _rows(sweep)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    names = [name for name in metrics[0] if name.startswith("test/")]
    assert len(names) == 8
    assert list(rows[0]) == ["run", "sparsity", "sparsity.coefficient", *names, *TIMES, "state"]
    assert [row["run"] for row in rows] == [run.name for run in runs]
    assert [row["sparsity"] for row in rows] == ["kl", "kl", "l1", "l1"]
    assert [row["sparsity.coefficient"] for row in rows] == ["0.001", "0.1", "0.001", "0.1"]
    assert [row["state"] for row in rows] == ["finished"] * 4
    for run, row, values in zip(runs, rows, metrics, strict=True):
        status = json.loads((run / "status.json").read_text())
        assert [float(row[name]) for name in TIMES] == [status[name] for name in TIMES]
        assert status["wall_seconds"] >= status["fit_seconds"] > 0
        assert status["encode_microseconds"] > 0
        assert [float(row[name]) for name in names] == [values[name] for name in names]
    assert f"{metrics[0]['test/mse']:.5f}" in outcome.out
    assert "4 finished" in outcome.out
    assert "partial" not in outcome.out


def test_what_is_written_and_nothing_else(cli: Cli, tmp_path: Path, sweep: Path, runs: list[Path]) -> None:
    for run in runs:
        _set_status(run, fit_seconds=1.0, encode_microseconds=2.0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (sweep / "report").mkdir()
    (sweep / "report" / "units.png").write_bytes(b"of an earlier report")
    assert cli("sparse-ae-report", "sweep").code == 0
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    new = {str(path.relative_to(sweep)) for path in after.keys() - before.keys()}
    page = (sweep / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert new == {"summary.csv", "report.html", "report/weights.png", "report/fronts.png", "report/curves.png"}


def test_times_are_drawn_where_they_differ_by_more_than_a_machine_does(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    for run in runs:
        _set_status(run, fit_seconds=1.0, encode_microseconds=2.0)
    _set_status(runs[1], encode_microseconds=5.0)
    _set_status(runs[2], fit_seconds=None, encode_microseconds=None)
    assert cli("sparse-ae-report", "sweep").code == 0
    assert (sweep / "report" / "times.png").is_file()
    rows = _rows(sweep)
    assert [row["encode_microseconds"] for row in rows] == ["2.0", "5.0", "", "2.0"]


def test_runs_below_several_folders_and_into_another(cli: Cli, tmp_path: Path, sweep: Path, runs: list[Path]) -> None:
    other = tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    shutil.copytree(runs[0], other / runs[0].name)
    shutil.move(runs[3], other / "renamed")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "other")  # no way to walk in circles
    outcome = cli("sparse-ae-report", "sweep", "other", "--into", "both")
    assert outcome.code == 0, outcome.err
    names = {row["run"] for row in _rows(tmp_path / "both")}
    assert names == {f"deep/{runs[0].name}", f"sweep/{runs[0].name}", runs[1].name, runs[2].name, "renamed"}
    assert not (sweep / "summary.csv").exists()


def test_a_sweep_under_way(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    _set_status(runs[0], state="running")
    (runs[0] / "metrics.json").unlink()
    _set_status(runs[1], state="failed", error="kl became nan at step 7")
    (runs[2] / "status.json").unlink()
    with Run(runs[0]).lock():
        outcome = cli("sparse-ae-report", "sweep")
    assert outcome.code == 0, outcome.err
    verdict = "partial: 1 finished, 1 running, 1 not started, 1 failed"
    assert verdict in outcome.out
    assert f"failed: {runs[1].name}: kl became nan at step 7" in outcome.out
    page = (sweep / "report.html").read_text()
    assert f'class="partial" role="status">{verdict}<' in page
    assert "kl became nan at step 7" in page
    rows = _rows(sweep)
    assert [row["state"] for row in rows] == ["running", "failed", "not started", "finished"]
    assert [bool(row["test/mse"]) for row in rows] == [False, False, False, True]


def test_nothing_finished_yet(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    for run in runs:
        _set_status(run, state="running")
    with Run(runs[0]).lock():  # the others died
        outcome = cli("sparse-ae-report", "sweep")
    assert outcome.code == 0, outcome.err
    assert "partial: 0 finished, 1 running, 3 interrupted" in outcome.out
    assert not (sweep / "report").exists()
    assert "<figure>" not in (sweep / "report.html").read_text().partition("<template")[0]


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _list(path: Path) -> None:
    path.write_text("[1, 2]")


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(128, 228)))


def _gone(path: Path) -> None:
    path.unlink()


def _nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def _text_for_a_number(path: Path) -> None:
    path.write_text('{"test/mse": "<b>0.1</b>", "state": "finished"}')


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in ("status.json", "metrics.json") for damage in (_half, _list, _binary, _nested)]
    + [
        ("metrics.json", _text_for_a_number),
        (".hydra/config.yaml", _gone),
        (".hydra/config.yaml", _list),
        (".hydra/config.yaml", _binary),
        (".hydra/hydra.yaml", _list),
    ],
)
def test_a_damaged_run_is_told_apart(sweep: Path, runs: list[Path], name: str, damage: Callable[[Path], None]) -> None:
    damage(runs[1] / name)
    found = collect([sweep])
    assert found.verdict == "partial: 3 finished, 1 damaged"
    (entry,) = found.unfinished
    assert (entry.name, entry.metrics) == (runs[1].name, {})
    assert re.search("damaged|cannot be read|has no test metrics|holds no configuration", entry.error)


def test_damaged_runs_are_listed_with_the_reason(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    _half(runs[0] / "status.json")
    _list(runs[1] / "metrics.json")
    _gone(runs[2] / ".hydra" / "config.yaml")
    outcome = cli("sparse-ae-report", "sweep")
    assert outcome.code == 0, outcome.err
    assert "partial: 1 finished, 3 damaged" in outcome.out
    page = (sweep / "report.html").read_text()
    for run, reason in zip(runs, ("status.json: is damaged", "holds no mapping", "cannot be read"), strict=False):
        assert re.search(f"damaged: {run.name}: .*{reason}", outcome.out)
        assert reason in page
    assert [row["state"] for row in _rows(sweep)].count("damaged") == 3


def test_damaged_event_files_and_figures_only_leave_a_gap(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    for path in runs[0].glob("events.out.tfevents.*"):
        _binary(path)
    (runs[1] / "analysis" / "overview" / "features.png").write_text("<svg onload=alert(1)>")
    secret = sweep.parent / "secret"
    secret.write_text("of the reader")
    (runs[2] / "analysis" / "overview" / "secret.png").symlink_to(secret)
    (runs[2] / "analysis" / "overview" / "nowhere.png").symlink_to(sweep / "nowhere")
    assert cli("sparse-ae-report", "sweep").code == 0
    page = (sweep / "report.html").read_text()
    assert page.count("<h3>overview: features</h3>") == 3
    assert page.count("<h3>overview: reconstructions</h3>") == 4
    assert "overview: secret" not in page
    assert (sweep / "report" / "curves.png").exists()


def test_undefined_metrics_are_empty(sweep: Path, runs: list[Path]) -> None:
    path = runs[0] / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test/fvu": None}))
    rows = csv.DictReader(to_csv(collect([sweep])).splitlines())
    assert [bool(row["test/fvu"]) for row in rows] == [False, True, True, True]


def test_text_from_a_run_steers_neither_the_terminal_nor_the_page(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    _set_status(runs[0], state="failed", error="\x1b[2J[bold red]</pre><script>alert('1')</script>")
    _set_status(runs[1], state="<i>odd</i>")
    runs[2].rename(sweep / "<img src=x onerror=alert(2)>")
    outcome = cli("sparse-ae-report", "sweep")
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    assert "[bold red]" in outcome.out
    page = (sweep / "report.html").read_text()
    assert page.count("<script>") == 1
    assert "<img src=x" not in page
    assert "<i>odd" not in page
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;" in page


def test_reports_at_the_same_time(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            report([sweep], sweep)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(_rows(sweep)) == 4
    assert (sweep / "report.html").read_text().endswith("</html>\n")
    assert [path.name for path in sweep.rglob(".*") if path.name not in (".hydra", ".lock")] == []


def test_the_same_run_named_twice_is_one_run(finished_sweep: Path) -> None:
    first = next(path for path in sorted(finished_sweep.iterdir()) if path.is_dir())
    assert len(collect([finished_sweep, first]).entries) == 4
