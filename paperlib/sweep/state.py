"""How far each run of a sweep is, by what lies on the disk: its record, its notebook, its progress file, its log."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal, NamedTuple

from paperlib import checkpoints, progress, records
from paperlib.errors import PaperlibError
from paperlib.sweep.file import Job

Status = Literal["finished", "diverged", "failed", "unfinished", "to do"]
FRESH = 60.0  # seconds after which a progress file is nobody's: a run renews its own each step, or each second
DONE: tuple[Status, ...] = ("finished", "diverged")


class State(NamedTuple):
    """One run's state.

    Attributes
    ----------
    job : Job
        The run.
    status : str
        ``"finished"`` or ``"diverged"`` by its record; ``"failed"`` if its last attempt ended in an error;
        ``"unfinished"`` if it has a checkpoint, and ``"to do"`` otherwise.
    share : float
        The part of its epochs that is done, from 0 to 1.
    note : str
        What went wrong, or what it is doing.
    running : bool
        Whether its progress file was written within the last minute.
    notebook : bool
        Whether its executed notebook is there.
    """

    job: Job
    status: Status
    share: float = 0.0
    note: str = ""
    running: bool = False
    notebook: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: it has its record and its notebook."""
        return self.status in DONE and self.notebook


def notebook(job: Job, out: Path) -> Path:
    """Where a job's executed notebook lies below a sweep's folder."""
    return out / "notebooks" / f"{job.name}.ipynb"


def log(job: Job, out: Path) -> Path:
    """Where a job's log lies."""
    return out / "logs" / f"{job.name}.log"


def look(job: Job, out: Path, quick: bool = False) -> State:
    """The state of one run.

    Parameters
    ----------
    job : Job
        The run.
    out : Path
        The sweep's folder.
    quick : bool
        Open no checkpoint: without a progress file the share of an unfinished run is 0.

    Returns
    -------
    State
        As far as it can be told from files.
    """
    folder, there = job.config.folder(), notebook(job, out).exists()
    if (folder / records.Record.FILE).exists():
        try:
            record = records.read(folder)
        except PaperlibError as e:
            return State(job, "failed", note=str(e), notebook=there)
        if record.config.digest() != job.config.digest():
            return State(job, "failed", note=f"{folder} holds another run", notebook=there)
        return State(job, record.status, 1.0, record.ending() if record.divergence else "", notebook=there)
    share, note, running = _progress(folder)
    error = "" if running else _error(log(job, out))
    if not running and not quick:
        share, damage = _checkpoint(job, folder)
        error = error or damage
    status: Status = "failed" if error else "unfinished" if share or running else "to do"
    return State(job, status, share, error or note, running, there)


def _progress(folder: Path) -> tuple[float, str, bool]:
    """Share, text, and whether it is new, of a run's progress file."""
    path = folder / progress.FILE
    if found := progress.parsed(path):
        share, text, _ = found
        with contextlib.suppress(OSError):  # it may be removed at any time
            return share, text, time.time() - path.stat().st_mtime < FRESH
    return 0.0, "", False


def _checkpoint(job: Job, folder: Path) -> tuple[float, str]:
    """The share of the epochs in a run's checkpoint, and what is wrong with it."""
    try:
        content = checkpoints.read(folder, "cpu")
    except PaperlibError as e:
        return 0.0, str(e)
    return (0.0, "") if content is None else ((content["state"]["epoch"] - 1) / job.config.epochs, "")


def _error(path: Path) -> str:
    """The sentence of the error that ended a job, by its log; empty if there was none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else ""
