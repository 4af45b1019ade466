"""The whole of a sweep by one command: Snakemake makes the runs, and one line says how far they are.

Snakemake is started in a session of its own, so that Ctrl-C reaches this process alone, which then stops it in good
order: the trainings get SIGTERM and write their checkpoints.  Where this process is killed, Snakemake notices and ends,
and so do its jobs (:func:`paperlib.interrupts.end_with`): nothing goes on beside the next attempt.

Where runs fail, Snakemake is started once more for what is made of the others: the findings name those they lack.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from paperlib import progress
from paperlib._text import say
from paperlib.errors import PaperlibError
from paperlib.interrupts import PARENT_VARIABLE, sigterm_raises
from paperlib.store import runs_root
from paperlib.store.files import locked
from paperlib.store.places import RUNS_VARIABLE
from paperlib.sweep import gpus, state
from paperlib.sweep import plan as planning
from paperlib.sweep.command import SNAKEFILE, command, place

PATIENCE = 60.0  # seconds for trainings to write their checkpoints


def drive(file: Path, out: Path, plan: planning.Plan, arguments: list[str] | None = None) -> int:
    """Make every run of a sweep, and what follows from them.

    Parameters
    ----------
    file : Path
        The sweep.
    out : Path
        Its folder.
    plan : Plan
        Its plan.
    arguments : list of str, optional
        More options for Snakemake, such as ``--profile``.

    Returns
    -------
    int
        0 if all was made; 1 if something failed, which is then named.

    Raises
    ------
    PaperlibError
        Snakemake is not here, the sweep is at work already, there is no room, or the jobs would not see the files.
    KeyboardInterrupt, SystemExit
        After SIGINT or SIGTERM, once the trainings have been stopped.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise PaperlibError("snakemake is not installed: pip install -e '.[workflow]' (it needs Python 3.11)")
    if not SNAKEFILE.exists():
        raise PaperlibError("the workflow is no part of the installed package: run this from a checkout")
    planning.check_room(plan)
    words, environment = command(file, out, plan, arguments), _environment(plan, arguments or [])
    with locked(out, "sweep"):
        _forget_logs(plan, out)
        failed, after = _snakemake(words, environment, out, plan), 0
        states = [state.look(job, out) for job in plan.jobs]
        left = [s.job.name for s in states if not s.done]
        # A signal (a negative status) is no run's failure: whoever sent it wants no other Snakemake in its place.
        if failed > 0 and 0 < len(left) < len(states):
            say(f"{len(left)} of {len(states)} runs are missing: the findings are made of the others")
            after = _snakemake(command(file, out, plan, arguments, left), environment, out, plan, "a")
    say(planning.ending(states))
    if after or (failed and not left):
        say(f"error: a step after the runs failed:\n{_complaint(out)}", sys.stderr)
    elif failed < 0 or failed and not any(s.status == "failed" for s in states):
        say(f"error: snakemake ended with status {failed}:\n{_complaint(out)}", sys.stderr)
    return int(failed != 0)


def _snakemake(words: list[str], told: dict[str, str], out: Path, plan: planning.Plan, mode: str = "w") -> int:
    """Let Snakemake work, and show how far it is; its exit status.

    ``told`` are variables for it and its jobs, ``mode`` is that of its log.
    """
    with (out / "snakemake.log").open(mode) as log, sigterm_raises():
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | told,
            start_new_session=True,
        )
        with _stopped(process):
            _watch(process, out, plan)
    return process.returncode


def _environment(plan: planning.Plan, arguments: list[str]) -> dict[str, str]:
    """What Snakemake and its jobs are told: where the runs are, who watches, and which GPUs to share out.

    Where options for Snakemake say where jobs run, a cluster gives each its GPU.
    """
    told = {RUNS_VARIABLE: str(runs_root().resolve()), PARENT_VARIABLE: str(os.getpid())}
    if plan.on_gpus and not place(arguments).given and len(found := gpus.visible()) > 1:
        told[gpus.VARIABLE] = ",".join(found)
    return told


def _forget_logs(plan: planning.Plan, out: Path) -> None:
    """Remove what earlier attempts said about runs that are tried again now."""
    for s in plan.states:
        if not s.done:
            state.log(s.job, out).unlink(missing_ok=True)


def _complaint(out: Path) -> str:
    """The last lines of Snakemake's log."""
    lines = [line for line in (out / "snakemake.log").read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join([*(f"    {line}" for line in lines[-12:]), f"    (all of it: {out / 'snakemake.log'})"])


@contextlib.contextmanager
def _stopped(process: subprocess.Popen) -> Iterator[None]:
    """Whatever ends the block, no process of the sweep outlives it."""
    try:
        yield
    except BaseException:
        say("\nstopping: the trainings write their checkpoints", sys.stderr)
        try:
            process.send_signal(signal.SIGINT)  # Snakemake starts nothing more, and cancels jobs on a cluster
            time.sleep(0.5)
            _to_group(process, signal.SIGTERM)  # its jobs here
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        finally:
            _to_group(process, signal.SIGKILL)
            process.wait()
        raise


def _to_group(process: subprocess.Popen, number: int) -> None:
    """Send a signal to all processes of the session's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


# -- the line --------------------------------------------------------------------------------------------------------
def _watch(process: subprocess.Popen, out: Path, plan: planning.Plan) -> None:
    """Show one line until Snakemake has ended: runs done, running and failed, and the time that is left."""
    clock = Clock(plan)

    def ended() -> bool:
        time.sleep(1.0)
        return process.poll() is not None

    def look() -> tuple[float, str]:
        clock.look(out)
        return clock.share(), clock.text()

    progress.follow(plan.name, ended, look)


class Clock:
    """How far a sweep is and how long it will take.

    A run's share of the work is its predicted time.  What is left is estimated from what this session has done, once
    that is a twentieth of what it had to do, and by the prediction before.

    Parameters
    ----------
    plan : Plan
        The plan at the start of this session.
    """

    def __init__(self, plan: planning.Plan) -> None:
        self._plan = plan
        self._states = list(plan.states)
        known = plan.costs is not None
        self._cost = [plan.seconds(job.config) if known else float(job.config.depth) for job in plan.jobs]
        self._startup = plan.costs.startup if plan.costs else 0.0
        self._began, self._first = time.monotonic(), self._done()

    def _done(self) -> float:
        """The predicted seconds of what is done; of a run under way, without its start and its pages."""
        pairs = zip(self._cost, self._states, strict=True)
        return sum(c if s.done else (c - self._startup) * s.share for c, s in pairs)

    def look(self, out: Path) -> None:
        """Look again at the runs that were not done."""
        for i, before in enumerate(self._states):
            if not before.done:
                now = state.look(before.job, out, quick=True)
                self._states[i] = now._replace(share=max(now.share, before.share))

    def share(self) -> float:
        """The part of the whole work that is done, from 0 to 1."""
        return self._done() / (sum(self._cost) or 1.0)

    def seconds_left(self) -> float | None:
        """The time that is left; None where there is nothing yet to tell it by."""
        new, left = self._done() - self._first, sum(self._cost) - self._done()
        if new > 0.05 * (new + left):
            return (time.monotonic() - self._began) * left / new
        return left / self._plan.workers if self._plan.costs else None

    def text(self) -> str:
        """The line's words."""
        states, left = self._states, self.seconds_left()
        running = [s for s in states if s.running and not s.done]
        failed = sum(s.status == "failed" for s in states)
        words = [f"{sum(s.done for s in states)}/{len(states)} runs"]
        words += [f"{failed} failed"] if failed else []
        words += [progress.left(left)] if left is not None else []
        words += [f"{len(running)} running: {running[0].job.name} {running[0].note}"] if running else []
        return ", ".join(words)
