"""Requests to stop a sweep: the file that its jobs see, and what a second request does."""

import os
import signal
from pathlib import Path

import pytest

from sparse_ae.sweeps.process import JobSpec, StopFile, StopWaitingError, run_isolated
from sparse_ae.training.stop import SIGNALS


def job(folder: Path, stop: StopFile) -> JobSpec:
    """A job that could not be built."""
    return JobSpec("no.such.job", {}, folder / "run", {}, stop.path)


@pytest.mark.parametrize("number", SIGNALS)
def test_request_lasts_as_long_as_the_sweep(tmp_path: Path, number: signal.Signals) -> None:
    with StopFile(tmp_path) as stop:
        assert not job(tmp_path, stop).is_to_stop
        os.kill(os.getpid(), number)
        assert stop.signal == number
        assert job(tmp_path, stop).is_to_stop
        run_isolated([job(tmp_path, stop)])  # which does not begin
    assert list(tmp_path.iterdir()) == []


def test_request_is_kept_for_jobs_in_a_queue(tmp_path: Path) -> None:
    """The sweep does not wait for them; they end as soon as they begin."""
    with StopFile(tmp_path) as stop:
        stop.breaks_off = True
        with pytest.raises(StopWaitingError):
            os.kill(os.getpid(), signal.SIGINT)
    assert job(tmp_path, stop).is_to_stop


@pytest.mark.parametrize("first", SIGNALS)
def test_ctrl_c_after_a_request_interrupts_and_is_kept(tmp_path: Path, first: signal.Signals) -> None:
    with StopFile(tmp_path) as stop:
        os.kill(os.getpid(), first)
        for number in SIGNALS:
            if number != signal.SIGINT:  # as a scheduler's SIGTERM after its warning
                os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop.signal == first
    assert job(tmp_path, stop).is_to_stop


def test_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with StopFile(tmp_path) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not job(tmp_path, stop).is_to_stop


def test_stale_requests_are_removed(tmp_path: Path) -> None:
    """Those of more than a week ago."""
    old, new = tmp_path / ".stop-old", tmp_path / ".stop-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    with StopFile(tmp_path):
        assert not old.exists()
    assert new.exists()
