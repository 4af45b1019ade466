"""The loop over the cells of a channel grid: resumable cell by cell, on as many processes as the machine has room for.

While a grid is under way its folder holds ``plan.json``, which says whose cells these are, and in ``cells/`` one sealed
table for each finished cell and variant.  At the end they become the record's one table.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import io
import json
import os
import shutil
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydantic import BaseModel, ConfigDict, Field

from paperlib import _checks, cifar
from paperlib.channel_grid.cell import train_cell
from paperlib.channel_grid.grid import GridConfig, GridRecord, ResolvedGrid
from paperlib.channel_grid.networks import VARIANTS
from paperlib.errors import PaperlibError, RecordError
from paperlib.interrupts import end_with, sigterm_raises
from paperlib.machine import keep_freed_memory, settings
from paperlib.progress import Progress
from paperlib.records import Data
from paperlib.sources import Source
from paperlib.store import Provenance, Session, files, results_root
from paperlib.store.stored import parquet, sealed, unsealed

PLAN = "plan.json"
DEVICE_ERRORS: tuple[type[Exception], ...] = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
_STORED_ONLY = contextvars.ContextVar("stored_only", default=False)
Key = tuple[int, int, str]
Tables = dict[Key, pd.DataFrame]


def run(config: GridConfig, root: str | Path | None = None, quiet: bool = False) -> GridRecord:
    """Train every cell of a grid and return its record, which is also saved in the grid's folder below ``root``.

    A finished grid is read back at once.  An interrupted one goes on with the cells that are missing.

    Parameters
    ----------
    config : GridConfig
        What to run.
    root : str or Path, optional
        The folder that holds all runs; by default ``PAPERLIB_RUNS``, else ``runs/`` in the checkout.
    quiet : bool
        Show no progress.

    Returns
    -------
    GridRecord
        Its :attr:`~paperlib.store.Stored.folder` is where it was saved.

    Raises
    ------
    ConfigError, DataError, RecordError, PaperlibError
        Each with one sentence that says what to do.
    KeyboardInterrupt, SystemExit
        After SIGINT or SIGTERM; finished cells are kept.

    Examples
    --------
    >>> import tempfile
    >>> tiny = GridConfig(preset="smoke", in_channels=2, out_channels="2 4", variants="conv-relu", seeds=1)
    >>> record = run(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> record.measurements[["c", "d", "step"]].values.tolist()
    [[2, 2, 0], [2, 2, 6], [2, 4, 0], [2, 4, 6]]
    """
    _checks.flag("quiet", quiet)
    resolved = GridConfig.checked(config).resolve()
    folder = resolved.folder(root)
    if record := _finished(folder, resolved):
        if (folder / PLAN).exists():  # it was killed just after its record was saved
            with contextlib.suppress(PaperlibError), files.locked(folder, "grid"):
                _clear(folder)
        return record
    if (resolved.stored or _STORED_ONLY.get()) and (record := _committed(resolved)):
        return record
    if _STORED_ONLY.get():
        raise RecordError(f"there is no record of the grid {folder.name}: train it with `paperlib grid`")
    with files.locked(folder, "grid"):
        if record := _finished(folder, resolved):  # another process finished it meanwhile
            return record
        with sigterm_raises(), _explained(folder):
            return _run(resolved, folder, quiet)


@contextlib.contextmanager
def stored_only() -> Iterator[None]:
    """Within it :func:`run` reads grids that are on record, and raises ``RecordError`` rather than train one."""
    before = _STORED_ONLY.set(True)
    try:
        yield
    finally:
        _STORED_ONLY.reset(before)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Within it, what the machine can refuse is said in one sentence."""
    kept = "finished cells are kept"
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, TerminatedWorkerError) as e:
        raise PaperlibError(
            f"a process of the grid died or found no memory ({type(e).__name__}): run it again with fewer workers; "
            f"{kept}"
        ) from e
    except DEVICE_ERRORS as e:
        raise PaperlibError(f"the device failed ({str(e).splitlines()[0]}); {kept}") from e
    except torch.linalg.LinAlgError as e:
        raise PaperlibError(f"a singular value decomposition failed ({str(e).splitlines()[0]}); {kept}") from e
    except OSError as e:
        raise RecordError(
            f"{folder} could not be written ({e.strerror or e}): make room and run it again; {kept}"
        ) from e


def _committed(config: ResolvedGrid) -> GridRecord | None:
    """The committed record of this grid, whatever the kind of device it was made on; None if there is none."""

    def content(grid: ResolvedGrid) -> dict[str, Any]:
        return grid.content() | {"device": None}

    for record in GridRecord.read_all(results_root() / "channel_grid"):
        if content(record.config) == content(config):
            return record
    return None


def _finished(folder: Path, config: ResolvedGrid) -> GridRecord | None:
    """The record of this grid, if it has one."""
    if not (folder / GridRecord.FILE).exists():
        return None
    record = GridRecord.read(folder)
    config.check_record(record.config, f"{folder} holds another grid")
    return record


# -- the plan ----------------------------------------------------------------------------------------------------
class Plan(BaseModel):
    """Whose cells a folder holds, and the sessions that trained some of them.

    A session that works under the very conditions of an earlier one is counted with it.
    """

    model_config = ConfigDict(extra="forbid")

    config: dict[str, Any] = Field(description="the grid's parameters")
    sessions: list[Session] = Field(description="in their order")

    def save(self, folder: Path) -> None:
        files.write_atomically(folder / PLAN, json.dumps(sealed(self.model_dump(mode="json")), indent=2).encode())

    def enter(self, session: Session, folder: Path) -> int:
        """The session's number.  If its conditions are new, it is added to the plan in the folder."""
        known = [earlier.environment() for earlier in self.sessions]
        if session.environment() in known:
            return known.index(session.environment())
        self.sessions.append(session)
        self.save(folder)
        return len(known)


def _plan(config: ResolvedGrid, folder: Path) -> Plan:
    """The plan of the grid in this folder, made now if there is none; RecordError for another grid's."""
    path = folder / PLAN
    try:
        plan = Plan.model_validate(unsealed(path.read_bytes()))
    except FileNotFoundError:
        return Plan(config=config.content(), sessions=[])
    except ValueError:  # also a ValidationError
        plan = None
    if plan is None or not config.is_that_of(plan.config):
        raise RecordError(
            f"{folder} holds the cells of another grid, or of another version, or its {path.name} is damaged: move the "
            "folder away, or set PAPERLIB_RUNS"
        )
    return plan


# -- cells -------------------------------------------------------------------------------------------------------
def _cost(c: int, d: int) -> float:
    """About how long a step takes: an overhead and the multiplications."""
    return 6 + (3 * c + c * d) / 40


def _twin(c: int, d: int, variant: str, among: tuple[str, ...]) -> str:
    """The first of ``among`` that is the same experiment for these channels: √(d/c) is √(d/min(d, c)) where c ≤ d."""

    def key(name: str) -> tuple[str, bool, float | None]:
        v = VARIANTS[name]
        return v.start, v.every_layer, None if v.sigma is None else round(v.sigma(c, d), 12)

    return next(name for name in among if key(name) == key(variant))


def _save_cell(path: Path, table: pd.DataFrame, config: ResolvedGrid) -> None:
    """Keep a finished cell's table, sealed together with whose it is."""
    files.write_atomically(path, files.seal(config.digest().encode() + parquet(table)))


def _read_cell(path: Path, key: Key, config: ResolvedGrid, sessions: int) -> pd.DataFrame | None:
    """A finished cell's table; None if it has to be made.

    It must be this grid's and this cell's, from one of so many sessions.
    """
    try:
        payload = files.unseal(path.read_bytes())
    except FileNotFoundError:
        return None
    owner = config.digest().encode()
    if payload is not None and payload.startswith(owner):
        table = pd.read_parquet(io.BytesIO(payload[len(owner) :]))
        if set(zip(table.c, table.d, table.variant, strict=True)) == {key} and table.session.max() < sessions:
            return table
    warnings.warn(f"{path} is damaged: this cell is trained again", stacklevel=4)
    return None


@functools.cache
def _data(source: Source) -> cifar.Cifar:
    return cifar.load("cifar10", source)


@functools.cache
def _end_with(parent: int) -> None:
    """Let this process end within a second or so of its parent."""
    end_with(parent, lambda: os._exit(1))


def _threads(config: ResolvedGrid) -> int:
    """Of each process.  On a CPU it is one, so that a cell does not depend on the number of processes."""
    return 1 if config.device == "cpu" else max(1, joblib.cpu_count() // (config.workers or 1))


def _trained(key: Key, config: ResolvedGrid, parent: int | None = None) -> tuple[Key, pd.DataFrame]:
    """One cell's table.

    ``parent``: the process that waits for it; without that one the work is for nobody.
    """
    if parent is not None:
        _end_with(parent)
    began = time.monotonic()
    keep_freed_memory()
    with settings(config.device, threads=_threads(config)):
        table = train_cell(config.cell(*key), _data(config.source))
    return key, table.assign(seconds=time.monotonic() - began)


def _each(missing: list[Key], config: ResolvedGrid) -> Generator[tuple[Key, pd.DataFrame], None, None]:
    """The missing cells' tables as they are done, by several processes if there are to be several."""
    workers = min(config.workers or 1, len(missing))
    if workers <= 1:
        yield from (_trained(key, config) for key in missing)
        return
    # Cells are independent, and small: a process each, of one thread, is what keeps several cores busy.
    jobs = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    done = jobs(joblib.delayed(_trained)(key, config, os.getpid()) for key in missing)
    try:
        # Not `yield from`, which would close the other generator first, in its own time.
        for item in done:  # noqa: UP028
            yield item
    except BaseException:
        # The very executor: for another one this would wait for the cells under way, which wait for this.
        get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)
        raise
    finally:
        with warnings.catch_warnings():  # joblib warns that what was not finished is thrown away
            warnings.simplefilter("ignore")
            done.close()


# -- the whole ---------------------------------------------------------------------------------------------------
def _clear(folder: Path) -> None:
    """Remove what only an unfinished grid needs; the plan last, because it says that there is something left."""
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)


def _run(config: ResolvedGrid, folder: Path, quiet: bool) -> GridRecord:
    plan = _plan(config, folder)
    session = Session.here(config.device, _threads(config))
    data = _data(config.source)  # fetched here, once, if it is not there yet
    own = [(c, d, v) for c, d in config.cells() for v in config.variants if _twin(c, d, v, config.variants) == v]
    paths = {key: folder / "cells" / "c{}_d{}_{}.cell".format(*key) for key in own}
    found = {key: _read_cell(path, key, config, len(plan.sessions)) for key, path in paths.items()}
    tables = {key: table for key, table in found.items() if table is not None}
    missing = sorted((key for key in own if key not in tables), key=lambda key: -_cost(*key[:2]))
    marks = {}
    if missing:
        marks = {"commit": session.short_commit, "session": plan.enter(session, folder)}
    total, before = (sum(_cost(c, d) for c, d, _ in keys) for keys in (own, tables))
    progress, closing = Progress(folder, total, before, quiet), "interrupted: run it again to go on"
    try:
        with contextlib.closing(_each(missing, config)) as done:
            for key, table in done:
                tables[key] = table.assign(**marks)
                _save_cell(paths[key], tables[key], config)
                progress.advance(_cost(*key[:2]), "{} of {} trained, {} → {} {}".format(len(tables), len(own), *key))
        closing = f"channel grid: {len(own)} trained"
    finally:
        progress.close(closing)
    record = GridRecord(
        config=config,
        provenance=Provenance(command=config.command(), sessions=_timed(plan, tables)),
        data=Data.of(data),
        frames={"measurements": _together(config, tables)},
    )
    record.save(folder)
    _clear(folder)
    return record


def _timed(plan: Plan, tables: Tables) -> list[Session]:
    """The sessions that trained the cells, each with the time that its cells took."""
    seconds: dict[int, float] = {}
    for table in tables.values():
        first = table.iloc[0]
        seconds[first.session] = seconds.get(first.session, 0.0) + first.seconds
    return [plan.sessions[i].model_copy(update={"seconds": seconds[i]}) for i in sorted(seconds)]


def _together(config: ResolvedGrid, tables: Tables) -> pd.DataFrame:
    """One table of all cells and variants; a variant that is another one's twin has its rows."""
    parts = [
        tables[c, d, _twin(c, d, v, config.variants)].assign(variant=v)
        for c, d in config.cells()
        for v in config.variants
    ]
    return pd.concat(parts, ignore_index=True).drop(columns="session")
