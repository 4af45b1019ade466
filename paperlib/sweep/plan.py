"""The plan of a sweep: how many runs, hours, memory and disk, and how much of it is done."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import joblib
import pandas as pd
import torch

from paperlib import machine
from paperlib._checks import whole_number
from paperlib.config import ResolvedRun
from paperlib.errors import ConfigError, PaperlibError
from paperlib.store import runs_root
from paperlib.sweep import cost, state
from paperlib.sweep.file import Job, Sweep, read

MEMORY_SHARE = 0.9  # of the machine's, for all jobs together
DOING = ("unfinished", "failed")


class Plan(NamedTuple):
    """A sweep with everything that is known before it starts.

    Attributes
    ----------
    name : str
        The file's name without its suffix.
    sweep : Sweep
        What the file says.
    states : list of State
        One for each run.
    costs : Costs or None
        What was timed; None where the runs' device is not here, and no file of costs was given.
    workers : int
        How many runs are made at the same time on this machine.
    """

    name: str
    sweep: Sweep
    states: list[state.State]
    costs: cost.Costs | None
    workers: int

    @property
    def jobs(self) -> list[Job]:
        """The runs."""
        return [s.job for s in self.states]

    @property
    def on_gpus(self) -> bool:
        """Whether its runs take GPUs."""
        return _on_gpus(self.jobs)

    def seconds(self, config: ResolvedRun) -> float:
        """The predicted time of a run; NaN where it is unknown."""
        return self.costs.seconds(config) if self.costs else math.nan

    def left(self) -> float:
        """The predicted seconds of all that is left, on one worker."""
        return sum(self.seconds(s.job.config) * (1 - s.share) for s in self.states if not s.done)

    def disk_left(self) -> float:
        """The bytes that the runs that are left will need."""
        return sum(cost.disk_bytes(s.job.config) for s in self.states if s.status == "to do")


def folder(file: Path, out: Path | None = None) -> Path:
    """The folder of a sweep's notebooks and logs: ``out``, or ``out/<name>`` where the command is given.

    It need not be there.  Raises ``ConfigError`` where a file is in its place.
    """
    found = (out or Path("out") / file.stem).resolve()
    there = next(place for place in (found, *found.parents) if place.exists())
    if not there.is_dir():
        raise ConfigError(f"the folder {found} cannot be written, since {there} is a file: name another with --out")
    return found


def make(file: Path, out: Path, costs: Path | None = None, workers: int | None = None) -> Plan:
    """Read a sweep, look how far its runs are, and predict what is left.

    Parameters
    ----------
    file : Path
        The sweep.
    out : Path
        Its folder.
    costs : Path, optional
        Costs that were measured on the machine that will run it; by default those of this machine.
    workers : int, optional
        How many runs at the same time; by default as many as cores and memory allow.

    Returns
    -------
    Plan
        Nothing is started.

    Raises
    ------
    ConfigError
        The file or the costs are damaged, or ``workers`` is no number of runs.
    """
    sweep = read(file)
    jobs = sweep.jobs()
    workers = room(jobs) if workers is None else whole_number("workers", workers, error=ConfigError)
    precisions = {job.config.precision for job in jobs}
    device = jobs[0].config.device if jobs else "cpu"
    # Runs at the same time share a processor; a GPU is each one's own.
    together = 1 if _on_gpus(jobs) else workers
    known = cost.stored(costs) if costs else cost.costs_here(device, set(precisions), together)
    if known and not precisions <= known.per_image.keys():
        raise ConfigError(f"{costs} has no costs for {', '.join(sorted(precisions - known.per_image.keys()))}")
    return Plan(file.stem, sweep, [state.look(job, out) for job in jobs], known, workers)


def room(jobs: list[Job]) -> int:
    """How many runs this machine can make at the same time: one a core, as far as memory goes; one a GPU."""
    if not jobs:
        return 1
    if _on_gpus(jobs):
        return max(1, torch.cuda.device_count())
    largest = max(cost.memory_bytes(job.config) for job in jobs)
    threads = max(job.config.threads if "threads" in job.given else 1 for job in jobs)
    fits = MEMORY_SHARE * machine.memory() / largest
    return int(max(1, min(joblib.cpu_count() // threads, fits)))


def _on_gpus(jobs: list[Job]) -> bool:
    return any(job.config.device.startswith("cuda") for job in jobs)


def table(plan: Plan) -> pd.DataFrame:
    """One row per group, and one for all of it.

    Columns: ``group``, ``runs``, ``done``, ``begun`` (unfinished or failed), ``images`` (millions of a training
    step's), ``hours`` (of one worker, in all), ``left`` (hours of one worker), ``memory`` (GB, of the largest run),
    ``disk`` (GB).  A run that several groups name counts with the first.
    """
    groups = dict.fromkeys(name for s in plan.states for name in s.job.groups[:1])
    rows = [_row(plan, name, [s for s in plan.states if s.job.groups[0] == name]) for name in groups]
    return pd.DataFrame([*rows, _row(plan, "all", plan.states)])


def _row(plan: Plan, name: str, states: list[state.State]) -> dict[str, object]:
    configs = [s.job.config for s in states]
    hours = [plan.seconds(c) / 3600 for c in configs]
    left = [h * (1 - s.share) for h, s in zip(hours, states, strict=True) if not s.done]
    return {
        "group": name,
        "runs": len(states),
        "done": sum(s.done for s in states),
        "begun": sum(s.status in DOING for s in states),
        "images": sum(map(cost.images, configs)) / 1e6,
        "hours": sum(hours),
        "left": sum(left),
        "memory": max(map(cost.memory_bytes, configs), default=0.0) / 1e9,
        "disk": sum(map(cost.disk_bytes, configs)) / 1e9,
    }


def describe(plan: Plan) -> str:
    """The plan as text: the table, and what it means on this machine."""
    shown = table(plan).to_string(index=False, float_format=lambda x: "?" if math.isnan(x) else f"{x:.3g}")
    where = f"{plan.workers} at a time" if plan.workers > 1 else "one after another"
    grid = " and a channel grid" * (plan.sweep.channel_grid is not None)
    lines = [f"{plan.name}: {len(plan.states)} runs{grid}, {where}", shown]
    if plan.costs:
        lines.append(
            f"left: {cost.in_words(plan.left() / 3600, plan.workers)}, by what was timed on {plan.costs.host} "
            f"({plan.costs.device.name}){'; the channel grid comes on top' * bool(grid)}"
        )
    else:
        lines.append("the hours are not known: the device of these runs is not here (--costs FILE takes measured ones)")
    lines += [f"{s.status}: {s.job.name}{': ' * bool(s.note)}{s.note}" for s in plan.states if s.status in DOING]
    return "\n".join(lines)


def check_room(plan: Plan) -> None:
    """Raise PaperlibError where the disk that holds the runs is too small for what is left."""
    where = runs_root()
    while not where.exists():
        where = where.parent
    free = shutil.disk_usage(where).free
    if plan.disk_left() > free:
        raise PaperlibError(
            f"the runs that are left need about {plan.disk_left() / 1e9:.2g} GB below {runs_root()}, and "
            f"{free / 1e9:.2g} GB are free: make room, or set {'PAPERLIB_RUNS'} to another folder"
        )
    if not os.access(where, os.W_OK):
        raise PaperlibError(f"{where} cannot be written: set PAPERLIB_RUNS to another folder")


def ending(states: list[state.State]) -> str:
    """What became of the runs, in lines: how many of each kind, and the failed and the diverged ones by name."""
    counts = {status: sum(s.status == status for s in states) for status in dict.fromkeys(s.status for s in states)}
    lines = [", ".join(f"{n} {status}" for status, n in counts.items()) or "no runs"]
    for status in ("diverged", "failed", "unfinished"):
        lines += [f"{status}: {s.job.name}{': ' * bool(s.note)}{s.note}" for s in states if s.status == status]
    return "\n".join(lines)
