"""The channel grid as a run: its parameters, the loop over the cells, and the record it leaves.

Layout: ``<root>/channel_grid/<preset>/``.  While a grid is under way the folder holds ``plan.json`` and, in ``cells/``, one table
for each finished cell and variant, so that an interrupted grid goes on where it was.  At the end they become one table,
``measurements.parquet``, and ``grid.json``, which is written last and carries the table's SHA-256.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import filelock
import joblib
import pandas as pd
import torch
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator

from paperlib import cifar, records
from paperlib.channel_grid import VARIANTS, train_cell
from paperlib.config import (
    SIZES,
    Count,
    Parameters,
    Preset,
    Rate,
    resolve_device,
    resolve_preset,
    results_root,
    runs_root,
)
from paperlib.errors import ConfigError, PaperlibError, RecordError
from paperlib.progress import Progress, duration
from paperlib.records import Provenance, short_commit
from paperlib.training import keep_freed_memory

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


def _words(value: Any) -> Any:
    """``"2 4,8"`` as a list of words; anything else as it is, a single number as a list of one."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _numbers(value: Any, info: ValidationInfo) -> Any:
    words = _words(value)
    wrong = ValueError(f"{info.field_name} must be a list of whole numbers, such as '2 4 8', not {value!r}")
    if not isinstance(words, list | tuple) or not words:
        raise wrong
    try:
        return tuple(sorted({int(w) if isinstance(w, str) else w for w in words}))
    except (ValueError, TypeError):
        raise wrong from None


Channels = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...], BeforeValidator(_numbers)]
Stages = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], BeforeValidator(_numbers)]


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
        "auto", description="smoke (seconds, the embedded sample), desk (under an hour on two cores), paper"
    )
    in_channels: Channels | None = Field(None, description="the numbers c of input channels")
    out_channels: Channels | None = Field(None, description="the numbers d of output channels")
    variants: Annotated[tuple[str, ...], BeforeValidator(_words)] | None = Field(
        None, description="keys of :data:`paperlib.channel_grid.VARIANTS`; by default all"
    )
    seeds: Count | None = Field(None, description="how many: 0, 1, …")
    stages: Stages | None = Field(None, description="numbers of steps after which to measure; the largest ends a run")
    batch_size: Count | None = None
    lr: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(0.01, description="constant")
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.9
    weight_decay: Rate = 1e-4
    probe_images: Count | None = Field(None, description="measure on the first so many training images")
    source: Literal["auto", "torchvision", "npm", "sample"] | None = Field(
        None, description="where the images come from"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: Count | None = Field(
        None, description="processes that train cells at the same time, on a CPU; by default its cores"
    )
    stored: Annotated[bool, Field(strict=True)] = Field(
        False,
        description="read the committed record, where ``results/`` has one of this very grid, instead of training",
    )

    @field_validator("variants")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        if unknown := [v for v in value if v not in VARIANTS]:
            raise ValueError(f"variant {unknown[0]!r} is unknown: choose from {', '.join(VARIANTS)}")
        if not value:
            raise ValueError(f"variants must name at least one of {', '.join(VARIANTS)}")
        return tuple(v for v in VARIANTS if v in value)

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
            "workers": 1 if preset == "smoke" or device != "cpu" else joblib.cpu_count(),
        }
        chosen = GridConfig(**values | {name: value for name, value in defaults.items() if values[name] is None})
        name = "sample" if chosen.source == "sample" else "cifar10"
        if chosen.probe_images > SIZES[name][0]:
            raise ConfigError(f"probe_images {chosen.probe_images} is more than there is: {name} has {SIZES[name][0]}")
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

    def digest(self) -> str:
        """SHA-256 of every resolved parameter that changes the numbers."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def overrides(self) -> dict[str, Any]:
        """The parameters in which this grid differs from its preset, by name."""
        mine = self._content()
        plain = GridConfig(preset=mine["preset"], device=self.device)._content()
        return {name: value for name, value in mine.items() if value != plain[name]}

    def folder(self, root: str | Path | None = None) -> Path:
        """``<root>/channel_grid/<preset>``; a grid that overrides its preset has ``<preset>-<hash>`` instead."""
        name = self.resolve().preset
        if changed := self.overrides():
            name += "-" + hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return (runs_root() if root is None else Path(root)) / "channel_grid" / name

    def command(self) -> str:
        """The command that makes this grid again."""
        words = ["python -m paperlib grid", f"-p preset {self.resolve().preset}"]
        for name, value in self.overrides().items():
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"-p {name} '{text}'" if " " in text else f"-p {name} {text}")
        return " ".join(words)


class GridRecord(Provenance):
    """One finished grid: its resolved configuration and where it was made; the table is ``measurements``.

    ``wall_seconds`` is the sum over the cells, which several processes train at the same time."""

    schema_version: Literal[1] = 1
    config: dict[str, Any]
    digest: str
    data: dict[str, Any]
    tables: dict[str, str] = Field(default_factory=dict, description="SHA-256 of the table's file")

    _measurements: pd.DataFrame = PrivateAttr(default_factory=pd.DataFrame)

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
            f"{c['weight_decay']:g}; measured after {', '.join(map(str, c['stages']))} steps on {c['probe_images']} images. "
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
    return record


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
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    plan = {"digest": config.digest(), "config": config._content(), "started": now}
    try:
        found = json.loads(path.read_bytes())
        if found["digest"] == plan["digest"]:
            return found
    except FileNotFoundError:
        records.write_atomically(path, json.dumps(plan, indent=2).encode())
        return plan
    except (ValueError, KeyError, TypeError):
        pass
    raise RecordError(
        f"{folder} holds the cells of another grid, or of another version: move it away, or set PAPERLIB_RUNS"
    )


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
    if config.stored and (config.folder(results_root()) / FILE).exists():
        record = read(config.folder(results_root()))
        if record.digest == config.digest():
            return record
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise PaperlibError(f"another process is working on this grid ({folder}): wait for it or stop it") from None
    except OSError as e:
        raise PaperlibError(
            f"the grid's folder {folder} cannot be written ({e.strerror or e}): set PAPERLIB_RUNS to another one"
        ) from e
    with held:
        if (folder / FILE).exists():  # another process finished it meanwhile
            return _finished(folder, config)
        try:
            return _run(config, chosen, folder, quiet)
        except OSError as e:
            raise RecordError(
                f"{folder} could not be written ({e.strerror or e}): make room and run it again; finished cells are kept"
            ) from e


def _finished(folder: Path, config: GridConfig) -> GridRecord:
    record = read(folder)
    if record.digest != config.digest():
        raise RecordError(
            f"{folder} holds another grid, or one of another version: move it away, or choose another folder with PAPERLIB_RUNS"
        )
    return record


def _cell(path: Path, rows: int) -> pd.DataFrame | None:
    """A finished cell's table; None if it has to be made."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        table = pd.DataFrame()
    if len(table) == rows:
        return table
    warnings.warn(f"{path} is damaged: this cell is trained again", stacklevel=4)
    return None


@functools.cache
def _data(source: str) -> cifar.Cifar:
    return cifar.load("cifar10", source)


def _trained(cell: tuple[int, int, str], chosen: GridConfig) -> tuple[tuple[int, int, str], pd.DataFrame]:
    """One cell's table.  On a CPU with one thread, so that it does not depend on the number of processes."""
    began, threads = time.monotonic(), torch.get_num_threads()
    if chosen.device == "cpu":
        keep_freed_memory()
        torch.set_num_threads(1)
    try:
        table = train_cell(
            *cell, range(chosen.seeds), data=_data(chosen.source), stages=chosen.stages, batch_size=chosen.batch_size,
            lr=chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay, probe_images=chosen.probe_images,
            device=chosen.device,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    return cell, table.assign(seconds=time.monotonic() - began)


def _run(config: GridConfig, chosen: GridConfig, folder: Path, quiet: bool) -> GridRecord:
    plan, git = _planned(config, folder), records.git_state()
    device = torch.device(chosen.device)
    data = _data(chosen.source)  # fetched here, once, if it is not there yet
    own = [(c, d, v) for c, d in chosen.cells() for v in chosen.variants if _twin(c, d, v, chosen.variants) == v]
    rows = chosen.seeds * len(chosen.stages)
    tables: dict[tuple[int, int, str], pd.DataFrame] = {}
    for c, d, v in own:
        table = _cell(folder / "cells" / f"c{c}_d{d}_{v}.parquet", rows)
        if table is not None:
            tables[c, d, v] = table
    missing = sorted((cell for cell in own if cell not in tables), key=lambda cell: -_units(*cell[:2]))
    progress = Progress(folder, sum(_units(c, d) for c, d, _ in own), sum(_units(c, d) for c, d, _ in tables), quiet)
    closing = "interrupted: run it again to go on"
    try:
        # Cells are independent, and small: a process each, of one thread, is what keeps several cores busy.
        jobs = joblib.Parallel(
            n_jobs=min(chosen.workers, max(len(missing), 1)), return_as="generator_unordered", batch_size=1
        )
        for (c, d, v), table in jobs(joblib.delayed(_trained)(cell, chosen) for cell in missing):
            table = table.assign(commit=short_commit(git))
            records.write_table(folder / "cells" / f"c{c}_d{d}_{v}.parquet", table)
            tables[c, d, v] = table
            progress.advance(_units(c, d), f"{len(tables)} of {len(own)} cells, {c} → {d} {v}")
        closing = f"channel grid: {len(own)} cells"
    finally:
        progress.close(closing)
    parts = [
        tables[c, d, _twin(c, d, v, chosen.variants)].assign(variant=v)
        for c, d in chosen.cells()
        for v in chosen.variants
    ]
    measurements = pd.concat(parts, ignore_index=True)
    commits = sorted(measurements.commit.unique())
    record = GridRecord(
        config=chosen.model_dump(mode="json", exclude={"workers", "stored"}),
        digest=config.digest(),
        data={"dataset": "cifar10", "source": data.source, "checksum": data.checksum},
        command=config.command(),
        git=git if commits == [short_commit(git)] else {"commit": None, "dirty": None, "several": commits},
        versions=records.versions(),
        device={"type": device.type, "name": records.device_name(device)},
        threads=1 if device.type == "cpu" else torch.get_num_threads(),
        started=plan["started"],
        wall_seconds=sum(table.seconds.iloc[0] for table in tables.values()),
    )
    record._measurements = measurements
    record.tables = records.write_tables(folder, {TABLE: measurements})
    records.write_atomically(folder / FILE, (record.model_dump_json(indent=2) + "\n").encode())
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)
    return record
