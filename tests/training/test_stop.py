"""Requests to stop one run: which signals make them, when they are obeyed, and which stay ignored."""

import os
import signal
import subprocess
import sys

import pytest

from sparse_ae.training.stop import SIGNALS, Stopped, StopSignals

OTHERS = [number for number in SIGNALS if number != signal.SIGINT]


def kill(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_stops_at_once_outside_training(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals(), pytest.raises(Stopped) as stopped:
        kill(number)
    assert stopped.value.code == 128 + number
    assert stopped.value.reason == ("Ctrl-C" if number == signal.SIGINT else number.name)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_waits_for_the_end_of_a_step(number: signal.Signals) -> None:
    with StopSignals() as stop:
        stop.defer()
        kill(number)
        assert stop.requested == number
        with pytest.raises(Stopped) as stopped:
            stop.resume()
    assert stopped.value.code == 128 + number


@pytest.mark.parametrize("first", SIGNALS)
def test_further_requests_change_nothing(first: signal.Signals) -> None:
    """A terminal and its shell both tell of a lost connection; SIGTERM follows a scheduler's warning."""
    with StopSignals() as stop:
        stop.defer()
        for number in (first, *OTHERS, *OTHERS):
            kill(number)
        assert stop.requested == first


def test_second_ctrl_c_does_not_wait() -> None:
    with StopSignals() as stop:
        stop.defer()
        kill(signal.SIGINT)
        with pytest.raises(Stopped):
            kill(signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """``nohup`` ignores SIGHUP, and a shell SIGINT for what it starts in the background."""
    signal.signal(number, signal.SIG_IGN)
    with StopSignals() as stop:
        kill(number)
        stop.defer()
        kill(number)
        assert stop.requested is None


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_lost_console(number: signal.Signals) -> None:
    """After SIGHUP, nobody reads what is printed, and a pipe that is closed is no error."""
    code = f"""
import os, sys
from sparse_ae.training.stop import StopSignals
with StopSignals() as stop:
    stop.defer()
    print("before", flush=True)
    os.kill(os.getpid(), {int(number)})
    sys.stdin.read()  # until the reader has gone
    print("after", flush=True)
    stop.now()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018
        assert process.stdout.readline() == b"before\n"
        process.stdout.close()
        process.stdin.close()
        is_broken = b"BrokenPipeError" in process.stderr.read()
    assert (process.returncode, is_broken) == ((129, False) if number == signal.SIGHUP else (1, True))
