"""The channel grid as a run: its parameters, the loop over the cells, and the record it leaves.

Layout: ``<root>/channel_grid/<preset>/``.  While a grid is under way the folder holds ``plan.json`` and, in ``cells/``, one table
for each finished cell and variant, so that an interrupted grid goes on where it was.  At the end they become one table,
``measurements.parquet``, and ``grid.json``, which is written last and carries the table's SHA-256.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import joblib
import pandas as pd
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydantic import Field, PrivateAttr, ValidationError, field_validator

from paperlib import cifar, machine, records
from paperlib.channel_grid import VARIANTS, Head, check_variant, train_cell
from paperlib.config import (
    SIZES,
    Channels,
    Count,
    Lr,
    Momentum,
    Parameters,
    Preset,
    Rate,
    Stages,
    resolve_device,
    resolve_preset,
    results_root,
    runs_root,
    words,
)
from paperlib.errors import ConfigError, PaperlibError, RecordError
from paperlib.machine import keep_freed_memory, settings
from paperlib.progress import Progress, duration
from paperlib.records import Provenance, short_commit

FILE = "grid.json"
PLAN = "plan.json"
TABLE = "measurements"

# Steps an epoch of 50,000 images in batches of 128: at the paper preset the stages are the ends of epochs 1, 2, 5 and 10.
_EPOCH = 391
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"channels": (2, 8), "seeds": 2, "stages": (0, 6), "batch_size": 64, "probe_images": 64},
    "desk": {"channels": (2, 4, 8, 16, 32), "seeds": 10, "stages": (0, 25, 50, 100)},
    "paper": {
        "channels": (2, 4, 8, 16, 32, 64, 128),
        "seeds": 10,
        "stages": (0, _EPOCH, 2 * _EPOCH, 5 * _EPOCH, 10 * _EPOCH),
    },
}


class GridConfig(Parameters):
    """One grid.  ``None`` and ``"auto"`` leave a choice to the preset or the machine; :meth:`resolve` makes it.

    Lists may be given as text, ``"2 4 8"``.  Raises ``ConfigError``, in one sentence, for an unknown name, a wrong type or an
    impossible value.

    Examples
    --------
    >>> GridConfig(preset="desk", in_channels="2 32", device="cpu").resolve().cells()[:3]
    [(2, 2), (2, 4), (2, 8)]
    >>> GridConfig(seed=3)
    Traceback (most recent call last):
    paperlib.errors.ConfigError: unknown parameter 'seed': did you mean 'seeds'?
    """

    preset: Literal["auto", Preset] = Field(
        "auto", description="smoke (seconds, the embedded sample), desk (about an hour on two cores), paper"
    )
    in_channels: Channels | None = Field(None, description="the numbers c of input channels")
    out_channels: Channels | None = Field(None, description="the numbers d of output channels")
    variants: tuple[str, ...] | None = Field(
        None, description="keys of ``paperlib.channel_grid.VARIANTS``; by default all"
    )
    seeds: Count | None = Field(None, description="how many: 0, 1, …")
    stages: Stages | None = Field(None, description="numbers of steps after which to measure; the largest ends a run")
    batch_size: Count | None = None
    lr: Lr = Field(0.01, description="constant")
    momentum: Momentum = 0.9
    weight_decay: Rate = 1e-4
    probe_images: Count | None = Field(None, description="measure on the first so many training images")
    head: Head = Field("mean", description="the logits are the mean over the map, or a linear function of it")
    source: Literal["auto", "torchvision", "npm", "sample"] | None = Field(
        None, description="where the images come from"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: Count | None = Field(
        None,
        description="processes that train cells at the same time, on a CPU; by default its cores, as far as memory allows",
    )
    stored: Annotated[bool, Field(strict=True)] = Field(
        False,
        description="read the committed record, where ``results/`` has one of this very grid, instead of training",
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _known(cls, value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        names = words(value)
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"variants must name some of {', '.join(VARIANTS)}, not {value!r:.80}")
        for name in names:
            check_variant(name)
        return tuple(v for v in VARIANTS if v in names)

    def resolve(self) -> GridConfig:
        """The same grid with every choice made: no ``None``, no ``"auto"`` (but the data source's).  Idempotent."""
        device = resolve_device(self.device)
        preset = resolve_preset(self.preset, device)
        size = _PRESETS[preset]
        values = self.model_dump() | {"preset": preset, "device": device}
        defaults = {
            "in_channels": size["channels"],
            "out_channels": size["channels"],
            "variants": tuple(VARIANTS),
            "seeds": size["seeds"],
            "stages": size["stages"],
            "batch_size": size.get("batch_size", 128),
            "probe_images": size.get("probe_images", 128),
            "source": "sample" if preset == "smoke" else "auto",
            # A smoke grid is over before a second process has started; a CUDA device is not shared.
            "workers": 1 if preset == "smoke" or device != "cpu" else min(joblib.cpu_count(), _room()),
        }
        chosen = GridConfig(**values | {name: value for name, value in defaults.items() if values[name] is None})
        data = "sample" if chosen.source == "sample" else "cifar10"
        for name in ("batch_size", "probe_images"):
            if getattr(chosen, name) > SIZES[data][0]:
                raise ConfigError(
                    f"{name} {getattr(chosen, name)} is more than there is: {data} has {SIZES[data][0]} training images"
                )
        return chosen

    def cells(self) -> list[tuple[int, int]]:
        """All pairs (c, d)."""
        chosen = self.resolve()
        return [(c, d) for c in chosen.in_channels for d in chosen.out_channels]

    def _content(self) -> dict[str, Any]:
        """What determines the numbers.  The full data sets are the same from everywhere, the sample is not."""
        chosen = self.resolve()
        source = "sample" if chosen.source == "sample" else "auto"
        return chosen.model_dump(mode="json", exclude={"workers", "stored"}) | {
            "source": source,
            "device": chosen.device.split(":")[0],
        }

    def digest(self, device: str | None = None) -> str:
        """SHA-256 of every resolved parameter that changes the numbers; ``device`` in the place of this one's."""
        content = self._content() | ({"device": device} if device else {})
        if content["head"] == "mean":  # newer than the first records, which know nothing of it
            del content["head"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def overrides(self) -> dict[str, Any]:
        """The parameters in which this grid differs from its preset, by name."""
        mine = self._content()
        plain = GridConfig(preset=mine["preset"])._content()  # on this machine's own device
        return {name: value for name, value in mine.items() if value != plain[name]}

    def folder(self, root: str | Path | None = None) -> Path:
        """``<root>/channel_grid/<preset>``; a grid that overrides its preset has ``<preset>-<hash>`` instead."""
        name = self.resolve().preset
        if changed := self.overrides():
            name += "-" + hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return (runs_root() if root is None else Path(root)) / "channel_grid" / name

    def command(self) -> str:
        """The command that makes this grid again."""
        parts = ["python -m paperlib grid", f"-p preset {self.resolve().preset}"]
        for name, value in self.overrides().items():
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            parts.append(f"-p {name} '{text}'" if " " in text else f"-p {name} {text}")
        return " ".join(parts)


class GridRecord(Provenance):
    """One finished grid: its resolved configuration and where it was made; the table is ``measurements``.

    ``wall_seconds`` is the sum over the cells, which several processes train at the same time.  ``sessions`` has the provenance of
    each session that trained cells; the record's own is the last one's, but that its ``git`` has no commit if they differ.
    """

    schema_version: Literal[1] = 1
    config: dict[str, Any]
    digest: str
    data: dict[str, Any]
    sessions: list[dict[str, Any]] = []
    tables: dict[str, str] = Field(default_factory=dict, description="SHA-256 of the table's file")

    _measurements: pd.DataFrame = PrivateAttr(default_factory=pd.DataFrame)
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Where the record lies."""
        return self._folder

    @property
    def measurements(self) -> pd.DataFrame:
        """One row a cell, variant, seed and stage: the columns of :func:`paperlib.channel_grid.train_cell`, ``commit``, and
        ``seconds``, the time the cell's variant took with all of its seeds."""
        return self._measurements

    def describe(self) -> str:
        """What was run, and where, in a paragraph of Markdown."""
        c, commit = self.config, self.git.get("commit")
        where = f"commit {self.short_commit}" if commit else "several commits"
        return (
            f"Preset **{c['preset']}**: {len(c['in_channels'])} × {len(c['out_channels'])} pairs of channel numbers, "
            f"{len(c['variants'])} variants, {c['seeds']} seeds (0 to {c['seeds'] - 1}); {max(c['stages'])} steps of {c['batch_size']} images "
            f"({self.data['dataset']}, {self.data['source']}), learning rate {c['lr']:g}, momentum {c['momentum']:g}, weight decay "
            f"{c['weight_decay']:g}; measured after {', '.join(map(str, c['stages']))} steps on {c['probe_images']} images{', linear head' * (c.get('head') == 'linear')}. "
            f"{self.device['name']} ({self.device['type']}), {where}, {self.started[:10]}; {duration(self.wall_seconds)} over all cells. "
            f"`{self.command}` makes it again."
        )


def read(folder: str | Path) -> GridRecord:
    """The grid in ``folder``.  Raises ``RecordError`` if it is missing, malformed, or its table is not the saved one."""
    path = Path(folder) / FILE
    try:
        record = GridRecord.model_validate(json.loads(path.read_bytes()))
        record._measurements = records.read_table(path.with_name(f"{TABLE}.parquet"), record.tables.get(TABLE))
    except FileNotFoundError as e:
        raise RecordError(f"there is no grid at {Path(folder)}: {Path(e.filename).name} is missing") from None
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RecordError(f"{path} is not a readable grid ({where}: {first['msg']}); delete it and run it again") from e
    except (OSError, ValueError) as e:
        raise RecordError(
            f"{path} is not a readable grid ({str(e).splitlines()[0]}); delete it and run it again"
        ) from e
    record._folder = Path(folder)
    return record


def _room() -> int:
    """For how many processes there is memory: each holds the images and torch, some 1.5 GB, and is given twice that."""
    return int(max(1, min(machine.memory() // 3e9, 1024)))


def _units(c: int, d: int) -> float:
    """About how long a step takes: an overhead and the multiplications."""
    return 6 + (3 * c + c * d + 10 * d) / 40


def _twin(c: int, d: int, variant: str, among: tuple[str, ...]) -> str:
    """The first of ``among`` that is the same experiment for these numbers of channels: √(d/c) is √(d/min(d, c)) where c ≤ d."""

    def key(name: str) -> tuple[str, float | None]:
        v = VARIANTS[name]
        return v.start, None if v.sigma is None else round(v.sigma(c, d), 12)

    return next(name for name in among if key(name) == key(variant))


def _planned(config: GridConfig, folder: Path) -> dict[str, Any]:
    """The plan of the grid in this folder, made now if there is none; RecordError for another grid's."""
    path = folder / PLAN
    try:
        plan = json.loads(path.read_bytes())
        known = (
            plan["digest"] == config.digest()
            and isinstance(plan["sessions"], list)
            and isinstance(plan["started"], str)
        )
    except FileNotFoundError:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {"digest": config.digest(), "config": config._content(), "started": now, "sessions": []}
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise RecordError(
            f"{folder} holds the cells of another grid, or of another version: move it away, or set PAPERLIB_RUNS"
        )
    return plan


def run(config: GridConfig, root: str | Path | None = None, quiet: bool = False) -> GridRecord:
    """Train every cell of a grid and return its record, which is also saved in ``config.folder(root)``.

    A finished grid is read back at once.  An interrupted one goes on with the cells that are missing.

    Parameters
    ----------
    config : what to run.
    root : the folder that holds all runs; by default ``PAPERLIB_RUNS``, else ``runs/`` in the checkout.
    quiet : show no progress.

    Raises
    ------
    ConfigError, DataError, RecordError, PaperlibError : each with one sentence that says what to do.
    KeyboardInterrupt, SystemExit : after SIGINT or SIGTERM; finished cells are kept.

    Examples
    --------
    >>> import tempfile
    >>> tiny = GridConfig(preset="smoke", in_channels=2, out_channels="2 4", variants="conv-relu", seeds=1)
    >>> record = run(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> record.measurements[["c", "d", "step"]].values.tolist()
    [[2, 2, 0], [2, 2, 6], [2, 4, 0], [2, 4, 6]]
    """
    chosen, folder = config.resolve(), config.folder(root)
    if (folder / FILE).exists():
        return _finished(folder, config)
    if config.stored and (record := _committed(config)):
        return record
    with records.hold(folder, "grid"):
        if (folder / FILE).exists():  # another process finished it meanwhile
            return _finished(folder, config)
        try:
            with _terminated():
                return _run(config, chosen, folder, quiet)
        except (MemoryError, torch.OutOfMemoryError, TerminatedWorkerError) as e:
            raise PaperlibError(
                f"a process of the grid died or found no memory ({type(e).__name__}): run it again with fewer workers; finished cells are kept"
            ) from e
        except torch.linalg.LinAlgError as e:
            raise PaperlibError(
                f"a singular value decomposition failed ({str(e).splitlines()[0]}); finished cells are kept"
            ) from e
        except OSError as e:
            raise RecordError(
                f"{folder} could not be written ({e.strerror or e}): make room and run it again; finished cells are kept"
            ) from e


def _committed(config: GridConfig) -> GridRecord | None:
    """The committed record of this grid, whatever the kind of device it was made on; None if there is none."""
    wanted = {config.digest("cpu"), config.digest("cuda")}
    for path in sorted((results_root() / "channel_grid").glob(f"*/{FILE}")):
        record = read(path.parent)
        if record.digest in wanted:
            return record
    return None


def _finished(folder: Path, config: GridConfig) -> GridRecord:
    record = read(folder)
    if record.digest != config.digest():
        raise RecordError(
            f"{folder} holds another grid, or one of another version: move it away, or choose another folder with PAPERLIB_RUNS"
        )
    return record


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Within it SIGTERM is an exception, so that the processes that train do not outlive this one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- cells -------------------------------------------------------------------------------------------------------
Key = tuple[int, int, str]


def _save_cell(path: Path, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    records.write_atomically(path, records.seal(buffer.getvalue()))


def _read_cell(path: Path) -> pd.DataFrame | None:
    """A finished cell's table; None if it has to be made."""
    try:
        payload = records.unseal(path.read_bytes())
    except FileNotFoundError:
        return None
    if payload is not None:
        return pd.read_parquet(io.BytesIO(payload))
    warnings.warn(f"{path} is damaged: this cell is trained again", stacklevel=4)
    return None


@functools.cache
def _data(source: str) -> cifar.Cifar:
    return cifar.load("cifar10", source)


def _trained(key: Key, chosen: GridConfig, parent: int | None = None) -> tuple[Key, pd.DataFrame]:
    """One cell's table.  On a CPU with one thread, so that it does not depend on the number of processes.

    ``parent``: the process that waits for it; without that one the work is for nobody.
    """
    if parent is not None and os.getppid() != parent:
        os._exit(1)
    began = time.monotonic()
    if chosen.device == "cpu":
        keep_freed_memory()
    with settings(chosen.device, threads=1 if chosen.device == "cpu" else None):
        table = train_cell(
            *key, range(chosen.seeds), data=_data(chosen.source), stages=chosen.stages, batch_size=chosen.batch_size,
            lr=chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay, probe_images=chosen.probe_images,
            head=chosen.head, device=chosen.device,
        )  # fmt: skip
    return key, table.assign(seconds=time.monotonic() - began)


def _each(missing: list[Key], chosen: GridConfig) -> Iterator[tuple[Key, pd.DataFrame]]:
    """The missing cells' tables as they are done, by several processes if there are to be several."""
    workers = min(chosen.workers, len(missing))
    if workers <= 1:
        yield from (_trained(key, chosen) for key in missing)
        return
    # Cells are independent, and small: a process each, of one thread, is what keeps several cores busy.
    jobs = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    done = jobs(joblib.delayed(_trained)(key, chosen, os.getpid()) for key in missing)
    try:
        # Not `yield from`, which would close the other generator first, in its own time.
        for item in done:  # noqa: UP028
            yield item
    except BaseException:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise
    finally:
        with warnings.catch_warnings():  # joblib warns that what was not finished is thrown away
            warnings.simplefilter("ignore")
            done.close()


def _run(config: GridConfig, chosen: GridConfig, folder: Path, quiet: bool) -> GridRecord:
    plan = _planned(config, folder)
    device = torch.device(chosen.device)
    session = {
        "git": records.git_state(),
        "versions": records.versions(),
        "device": {"type": device.type, "name": records.device_name(device)},
    }
    commit = short_commit(session["git"])
    data = _data(chosen.source)  # fetched here, once, if it is not there yet
    own = [(c, d, v) for c, d in chosen.cells() for v in chosen.variants if _twin(c, d, v, chosen.variants) == v]
    files = {key: folder / "cells" / "c{}_d{}_{}.cell".format(*key) for key in own}
    tables = {key: table for key, file in files.items() if (table := _read_cell(file)) is not None}
    missing = sorted((key for key in own if key not in tables), key=lambda key: -_units(*key[:2]))
    if missing and session not in plan["sessions"]:
        plan["sessions"].append(session)
        records.write_atomically(folder / PLAN, json.dumps(plan, indent=2).encode())
    total, before = (sum(_units(c, d) for c, d, _ in keys) for keys in (own, tables))
    progress, closing = Progress(folder, total, before, quiet), "interrupted: run it again to go on"
    try:
        with contextlib.closing(_each(missing, chosen)) as done:
            for key, table in done:
                tables[key] = table.assign(commit=commit)
                _save_cell(files[key], tables[key])
                progress.advance(_units(*key[:2]), "{} of {} trained, {} → {} {}".format(len(tables), len(own), *key))
        closing = f"channel grid: {len(own)} trained"
    finally:
        progress.close(closing)
    parts = [
        tables[c, d, _twin(c, d, v, chosen.variants)].assign(variant=v)
        for c, d in chosen.cells()
        for v in chosen.variants
    ]
    measurements = pd.concat(parts, ignore_index=True)
    commits = sorted(measurements.commit.unique())
    sessions = [s for s in plan["sessions"] if short_commit(s["git"]) in commits]
    several = {"commit": None, "dirty": None, "several": commits}
    record = GridRecord(
        config=chosen.model_dump(mode="json", exclude={"workers", "stored"}),
        digest=config.digest(),
        data={"dataset": "cifar10", "source": data.source, "checksum": data.checksum},
        sessions=sessions,
        command=config.command(),
        git=sessions[-1]["git"] if len(commits) == 1 else several,
        versions=sessions[-1]["versions"],
        device=sessions[-1]["device"],
        threads=1 if device.type == "cpu" else torch.get_num_threads(),
        started=plan["started"],
        wall_seconds=sum(table.seconds.iloc[0] for table in tables.values()),
    )
    record._measurements, record._folder = measurements, folder
    record.tables = records.write_tables(folder, {TABLE: measurements})
    records.write_atomically(folder / FILE, (record.model_dump_json(indent=2) + "\n").encode())
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)
    return record
