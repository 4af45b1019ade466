"""How far a run is: a bar on a terminal, a line that renews itself in a notebook, a small file for anyone else."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paperlib._text import plain
from paperlib.store.files import write_atomically

FILE = "progress.json"
INTERVAL = 1.0  # seconds between two reports
SPOKEN = 30.0  # seconds between two lines where there is no terminal


def duration(seconds: float) -> str:
    """A time in whole seconds, as text.

    Unlike ``tqdm.format_interval`` it rounds, and writes no zero before the minutes: stored pages show times so.

    Examples
    --------
    >>> duration(186.9), duration(7387)
    ('3:07', '2:03:07')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


def left(seconds: float | None) -> str:
    """The time that is left, in words; nothing where it is not known.

    Examples
    --------
    >>> left(187), left(None)
    ('3:07 left', '')
    """
    return "" if seconds is None else f"{duration(seconds)} left"


def follow(name: str, ended: Callable[[], bool], look: Callable[[], tuple[float, str] | None]) -> None:
    """Show how far the work of other processes is until it has ended.

    On a terminal that is a bar on stderr, else a line every half minute.

    Parameters
    ----------
    name : str
        What stands before the bar.
    ended : callable
        Waits about a second, and says whether the work has ended.
    look : callable
        Gives the part that is done, from 0 to 1, and a text; None where there is nothing to tell.
    """
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    # disable=None: no bar where stderr is no terminal.
    with tqdm(total=1.0, desc=name, bar_format=form, disable=None, file=sys.stderr) as bar:
        spoken, over = time.monotonic(), False
        while not over:
            over = ended()
            if (found := look()) is None:
                continue
            share, text = found
            bar.n = round(share, 4)
            bar.set_postfix_str(text, refresh=True)
            if bar.disable and time.monotonic() - spoken > SPOKEN:
                spoken = time.monotonic()
                print(f"{share:4.0%}  {text}", file=sys.stderr, flush=True)


def read(file: Path) -> tuple[float, str] | None:
    """What a run's progress file says, for :func:`follow`; None where there is none (yet, or any more).

    Parameters
    ----------
    file : Path
        The ``progress.json`` in the run's folder.

    Returns
    -------
    tuple of float and str, or None
        The part that is done, from 0 to 1, and a text with the time left.
    """
    if (found := parsed(file)) is None:
        return None
    share, *words = found
    return share, "  ".join(filter(None, words))


def parsed(file: Path) -> tuple[float, str, str] | None:
    """The share, the text and the time left in words of a run's progress file; None where it is none."""
    try:
        state = json.loads(file.read_text())
        share = min(state["done"] / state["total"], 1.0)
        return share, plain(state["text"]), left(state["seconds_left"])
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError):
        return None


class _Line:
    """What a notebook shows: one line of text, replaced in place."""

    def __init__(self) -> None:
        self.text = ""
        self._handle: Any = None  # IPython's, once the line is shown

    def __repr__(self) -> str:
        return self.text

    def show(self, text: str) -> None:
        from IPython.display import display

        self.text = text
        if self._handle is None:
            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


class Progress:
    """Reports on the work of one run, at most once a second.

    The time left is estimated from what this session has done.

    Parameters
    ----------
    folder : Path or None
        Where ``progress.json`` is written; :meth:`close` removes it.  None writes none.
    total : float
        All units of work.
    done : float
        The units that were done in earlier sessions.
    quiet : bool
        Show nothing.  The file is still written.
    """

    def __init__(self, folder: Path | None, total: float, done: float, quiet: bool = False) -> None:
        self._file = folder and folder / FILE
        self._total, self._done, self._first = total, done, done
        self._reported = time.monotonic()
        self._began: float | None = None  # when the first units were done, which what comes only once had delayed
        self._text = ""
        self._line = _Line() if not quiet and _in_notebook() else None
        bar = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        # disable=None: no bar where the output is no terminal (a log file, a notebook).
        self._bar = tqdm(total=total, initial=done, disable=True if quiet else None, bar_format=bar, dynamic_ncols=True)

    def advance(self, units: float, text: str) -> None:
        """Count ``units`` more as done; ``text`` says what is going on (epoch, loss, error)."""
        self._done += units
        self._text = text
        if self._began is None:
            self._began, self._first = time.monotonic(), self._done
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(units)
        if time.monotonic() - self._reported >= INTERVAL:
            self._report()

    def state(self) -> dict[str, Any]:
        """What ``progress.json`` holds: ``done``, ``total``, ``seconds_left`` (None at first) and ``text``."""
        elapsed = 0.0 if self._began is None else time.monotonic() - self._began
        new = self._done - self._first
        left = elapsed / new * (self._total - self._done) if new else None
        return {"done": self._done, "total": self._total, "seconds_left": left, "text": self._text}

    def _report(self) -> None:
        self._reported = time.monotonic()
        state = self.state()
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk must not end the run here: the checkpoint says so properly
                write_atomically(self._file, json.dumps(state).encode())
        if self._line is not None:
            share = min(self._done / self._total, 1.0)
            bar = f"{'█' * round(20 * share):░<20}"
            text = "  ".join(filter(None, (self._text, left(state["seconds_left"]))))
            self._line.show(f"{bar} {share:4.0%}  {text}")

    def close(self, text: str) -> None:
        """Show ``text`` as the last line and remove the file."""
        self._bar.set_postfix_str(text)
        self._bar.close()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
        if self._line is not None:
            self._line.show(text)
