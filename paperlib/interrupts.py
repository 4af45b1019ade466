"""Ctrl-C and SIGTERM, turned into something that work in progress can answer properly."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

PARENT_VARIABLE = "PAPERLIB_PARENT"  # the process without which a job of a sweep has no reason to go on
GRACE = 20.0  # seconds to end in good order
REPEATED = 10.0  # seconds in which another signal beside SIGTERM is taken for the same one, passed on


class Interrupts:
    """Within it SIGINT and SIGTERM only set a flag, so that the step under way is finished and saved.

    The second signal is obeyed at once, unless SIGTERM is one of the two and they come within ``REPEATED`` seconds:
    Slurm sends SIGTERM to every process of a job, and the parent of a notebook's kernel passes it on as SIGINT and
    SIGTERM.  Outside the main thread, which alone gets signals, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # what is to be done
        self._signalled: int | None = None  # the first signal that came here
        self._when = 0.0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        keyboard = number == self._signalled == signal.SIGINT
        repeated = not keyboard and now - self._when < REPEATED
        if self._signalled is not None and not repeated:
            self.received = number
            self.stop()
        if self._signalled is None:
            self.received, self._signalled, self._when = number, number, now

    def adopt(self, number: int) -> None:
        """Do as another process does that was sent a signal; 0 is none.

        A signal that comes afterwards is still the first one here: whoever ends a run sends it to every process.
        """
        if number:
            self.received = number

    def stop(self) -> NoReturn:
        """Do what the signal asked for: raise ``SystemExit`` for SIGTERM, else ``KeyboardInterrupt``."""
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextlib.contextmanager
def delayed() -> Iterator[None]:
    """Within it SIGINT and SIGTERM wait for the end of the block.

    That is for imports: one that was cut off leaves modules by halves, which cannot be imported again.
    """
    with Interrupts() as interrupts:
        yield
    if interrupts.received is not None:
        interrupts.stop()


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it SIGTERM is an exception, so that processes that work for this one do not outlive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with(parent: int, then: Callable[[], None], interval: float = 1.0) -> None:
    """Once the process ``parent`` is no longer the one that started this one, call ``then``, in another thread.

    A process that is killed outright cannot stop those that it started; these find out by themselves.

    Parameters
    ----------
    parent : int
        The process that must be there.
    then : callable
        What to do without it.
    interval : float
        Seconds between two looks.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        then()

    threading.Thread(target=watch, daemon=True).start()


def end_job_with_parent() -> None:
    """End this process, by SIGTERM and then at once, when the one that ``PAPERLIB_PARENT`` names has ended."""

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    if parent := os.environ.get(PARENT_VARIABLE):
        end_with(int(parent), end)
