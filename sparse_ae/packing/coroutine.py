"""Calls that take turns in one process: each has a thread, of which one runs at a time."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from sparse_ae.training.resume import random_state, set_random_state

THREADS: set[int] = set()
"""Identifiers of the threads of calls that have not ended."""


class Coroutine:
    """A call that runs while ``resume`` waits for it, until it ends or calls ``pause``.

    It has a state of the random generators of its own, and an output: everything that it writes to the standard
    streams goes to a file.
    """

    def __init__(self, call: Callable[[], None], output: int, name: str) -> None:
        """``output`` is a file descriptor. An exception of ``call`` is raised by ``resume``."""
        self._call = call
        self._output = output
        self._random: dict[str, Any] | None = None
        self._error: BaseException | None = None
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._has_begun = False

    def resume(self) -> None:
        """Let the call run until its next pause or its end."""
        before, outputs = random_state(), _replaced_outputs(self._output)
        if self._random is not None:
            set_random_state(self._random)
        try:
            if self._has_begun:
                self._turn.release()
            else:
                self._has_begun = True
                self._thread.start()
            self._back.acquire()
        finally:
            self._random = random_state()
            set_random_state(before)
            _restore_outputs(outputs)
        if (error := self._error) is not None:
            self._error = None
            raise error

    def pause(self) -> None:
        """Let ``resume`` return. To be called by the call."""
        self._back.release()
        self._turn.acquire()

    def _run(self) -> None:
        own = threading.get_ident()
        THREADS.add(own)
        try:
            self._call()
        except BaseException as error:
            self._error = error
        finally:
            THREADS.discard(own)
            self._back.release()


def _replaced_outputs(output: int) -> list[int]:
    _flush()
    before = [os.dup(stream) for stream in (1, 2)]
    for stream in (1, 2):
        os.dup2(output, stream)
    return before


def _restore_outputs(before: list[int]) -> None:
    _flush()
    for stream, own in zip((1, 2), before, strict=True):
        os.dup2(own, stream)
        os.close(own)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
