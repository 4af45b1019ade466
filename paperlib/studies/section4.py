"""Section 4 of the paper: what its figures and tables show, as tables made from training records.

Nothing is judged here; the rules are in :mod:`paperlib.claims.section4`.  ``dev`` is the size of a block's log ratio,
the absolute value of ln r, with r the geometric mean over an epoch's steps.  Epochs count from 1; epoch 0 is before
the first update.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from paperlib import mean_field, paper
from paperlib.config import ResolvedRun, RunConfig
from paperlib.errors import RecordError
from paperlib.models import TITLES, Arch, build, network_name, parameter_count
from paperlib.parameters import Parameters, Preset
from paperlib.records import GAP_EPOCHS, Record, read_all
from paperlib.store import results_root, runs_root

RUN = ["network", "arch", "depth", "seed", "precision"]
"""The columns that tell the runs of one data set and schedule apart."""
# What the grid of Section 4 varies, and what does not change what is asked of a run.
VARIED = (
    "preset", "arch", "depth", "erase_relu", "project", "projector", "dataset", "seed", "schedule", "precision",
    "memory_format", "project_every", "threads",
)  # fmt: skip

GRID_DEPTHS = (20, 83, 164)
"""The depths of Figures 3 and 4 and Table I."""
WINDOW = 10
"""How many epochs count as the beginning of a run, and as its end."""
STUCK = 80.0
"""A run whose test error never fell below this many per cent did not learn; guessing has 90 on CIFAR-10."""


class Choice(Parameters):
    """What chapter 5 shows: the records of a preset, and perhaps those of a folder besides the committed ones."""

    preset: Preset = Field("desk", description="the size of the runs to show")
    runs: str | None = Field(None, description="a folder with further records")


# -- which records -----------------------------------------------------------------------------------------------
def standard(config: ResolvedRun, preset: str, but: Collection[str] = ()) -> bool:
    """Whether a run is of this preset and overrides nothing of it but what the grid of Section 4 varies.

    That is the network, the data set, the seed, the schedule, the precision, the device, the memory format, the number
    of threads, and how often a projection is made; and the parameters ``but``.
    """
    if config.preset != preset:
        return False
    varied = {name: getattr(config, name) for name in VARIED}
    # The smoke preset's own source has no other data set.
    source = {} if config.dataset == "cifar10" else {"source": config.source}
    plain = RunConfig(**varied | source, device="cpu", checkpoint_activations=False).resolve()
    return _protocol(plain, but) == _protocol(config, but)


def _protocol(config: ResolvedRun, but: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in config.content().items() if name != "device" and name not in but}


def everything(
    roots: Iterable[str | Path] | None = None, only: Callable[[ResolvedRun], bool] | None = None
) -> Iterator[Record]:
    """The records below some folders: by default the committed ones, then those in the folder of runs.

    All of them, or ``only`` those whose parameters are wanted.
    """
    folders = dict.fromkeys(Path(root).resolve() for root in roots or (results_root(), runs_root()))
    return (record for folder in folders for record in read_all(folder, only))


def stored(preset: str, roots: Iterable[str | Path] | None = None, but: Collection[str] = ()) -> list[Record]:
    """The standard records of a preset, each run once.

    Parameters
    ----------
    preset : str
        As :func:`standard` takes it.
    roots : iterable of str or Path, optional
        Where to look: by default among the committed records, then in the folder of runs.  Of two records of one run
        the first is taken.
    but : collection of str
        As :func:`standard` takes it.

    Returns
    -------
    list of Record
        Perhaps empty.

    Raises
    ------
    RecordError
        One of the records cannot be read.
    """
    return among(everything(roots, lambda config: standard(config, preset, but)), preset, but)


def among(records: Iterable[Record], preset: str, but: Collection[str] = ()) -> list[Record]:
    """The standard records of a preset among some, as :func:`stored` takes them from folders."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in (record for record in records if standard(record.config, preset, but)):
        found.setdefault(_run(record), record)
    return list(found.values())


def repeated(records: Iterable[Record], preset: str) -> pd.DataFrame:
    """The standard runs of a preset that are on record more than once, as where two machines made one run.

    Returns
    -------
    DataFrame
        One row per record: ``network``, ``seed``, ``device``, and ``dev``, the mean over the epochs from 1 on of the
        median over all blocks.
    """
    made: dict[tuple[Any, ...], list[Record]] = {}
    for record in (record for record in records if standard(record.config, preset)):
        made.setdefault(_run(record), []).append(record)
    rows = []
    for record in (record for of in made.values() if len(of) > 1 for record in of):
        medians_of = medians(ratios([record]))
        dev = medians_of[medians_of.epoch > 0]["all"].mean()
        rows.append([record.network, record.config.seed, record.provenance.device.name, dev])
    return pd.DataFrame(rows, columns=["network", "seed", "device", "dev"])


def _run(record: Record) -> tuple[Any, ...]:
    """What two records of one run have in common."""
    c = record.config
    return c.network, c.dataset, c.schedule, c.project_every, c.seed, c.precision


def main_grid(records: Iterable[Record], schedule: str = "constant") -> list[Record]:
    """The records of Figures 3 and 4, by architecture, depth and seed.

    They are of the three architectures at the three depths, with nothing changed, on CIFAR-10 at one schedule.
    """
    order = {network_name(arch, d): (a, d) for a, arch in enumerate(get_args(Arch)) for d in GRID_DEPTHS}
    protocol = (schedule, "cifar10", 2)
    found = [
        record
        for record in records
        if record.network in order
        and (record.config.schedule, record.config.dataset, record.config.project_every) == protocol
    ]
    return sorted(found, key=lambda record: (order[record.network], record.config.precision, record.config.seed))


def trained_on(records: Iterable[Record]) -> str:
    """The lengths and sizes of some trainings, in words: ``"6 epochs of 3,500 or 22,900 images"``.

    Raises
    ------
    RecordError
        There is no training.
    """
    sizes: dict[int, set[int]] = {}
    for record in records:
        sizes.setdefault(record.config.epochs, set()).add(record.config.train_images)
    if not sizes:
        raise RecordError("there is no training of which to say how long it is: make some with `paperlib run`")
    return ", or ".join(
        f"{epochs} epochs of {' or '.join(f'{images:,}' for images in sorted(of))} images"
        for epochs, of in sorted(sizes.items())
    )


def first_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one run per network: the one with the lowest seed."""
    return table[table.seed == table.groupby("network").seed.transform("min")] if len(table) else table


# -- their tables ------------------------------------------------------------------------------------------------
def named(record: Record, table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns that say which run it is of in front."""
    c = record.config
    names = {"network": c.network, "arch": c.arch, "depth": c.depth, "seed": c.seed, "precision": c.precision}
    return pd.concat([pd.DataFrame(names, index=table.index), table], axis=1)


def joined(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    whole = [table for table in tables if len(table)]
    return pd.concat(whole, ignore_index=True) if whole else pd.DataFrame(columns=columns)


def ratios(records: Iterable[Record]) -> pd.DataFrame:
    """Each block's log ratio in each epoch.

    Returns
    -------
    DataFrame
        Columns: those of ``RUN``, ``epoch`` (0 is before the first update, where that was recorded), ``block``,
        ``name``, ``kind``, ``log_ratio`` (mean over steps, NaN where no step's was finite), and ``prediction`` (the log
        ratio of :mod:`paperlib.mean_field` at epoch 0, for blocks that do not change the width; else NaN).
    """
    columns = ["epoch", "block", "name", "kind", "log_ratio", "prediction"]
    tables = []
    for record in records:
        initial = record.frames.get("initial", pd.DataFrame())  # older records have none
        parts = [record.blocks.assign(prediction=math.nan)] if len(record.blocks) else []
        if len(initial):
            parts.insert(0, initial.assign(epoch=0, prediction=_predictions(record, initial)))
        tables += [named(record, part[columns]) for part in parts]
    return joined(tables, RUN + columns)


def _predictions(record: Record, initial: pd.DataFrame) -> pd.Series:
    """The log ratios that mean-field theory gives for a run's blocks before the first update."""
    predicted = pd.Series(math.nan, index=initial.index)
    if record.config.erase_relu:  # the theory is that of a block with three ReLUs
        return predicted
    if record.config.arch == "plain":
        predicted[:] = math.log(mean_field.PLAIN)
    elif "variance" in initial:
        predicted = np.log(mean_field.ratio(initial.variance.astype(float)))
    return predicted.where(initial.kind != "transition")


def medians(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run and epoch of :func:`ratios`.

    Returns
    -------
    DataFrame
        Columns: those of ``RUN``, ``epoch``, ``residual`` (median dev of the blocks that do not change the width),
        ``all`` (of all blocks), and ``mean_log`` (the mean of the log ratio over all blocks).
    """
    dev = table.log_ratio.astype(float).abs()
    table = table.assign(log_ratio=table.log_ratio.astype(float), all=dev, residual=dev.where(table.kind == "residual"))
    return (
        table.groupby([*RUN, "epoch"])
        .agg(residual=("residual", "median"), all=("all", "median"), mean_log=("log_ratio", "mean"))
        .reset_index()
    )


def by_block(table: pd.DataFrame, window: int = WINDOW) -> pd.DataFrame:
    """One row per run and block of :func:`ratios`, from epoch 1 on.

    Returns
    -------
    DataFrame
        Columns: those of ``RUN``, ``block``, ``name``, ``kind``, ``epochs`` (their number), ``dev`` (mean over all
        epochs), ``early`` and ``late`` (over the first and the last ``window`` epochs; NaN below twice as many).
    """
    columns = ["epochs", "dev", "early", "late"]
    rows = []
    for key, part in table[table.epoch > 0].groupby([*RUN, "block", "name", "kind"]):
        dev = part.sort_values("epoch").log_ratio.astype(float).abs()
        apart = len(dev) >= 2 * window
        ends = (dev[:window].mean(), dev[-window:].mean()) if apart else (math.nan, math.nan)
        rows.append((*key, len(dev), dev.mean(), *ends))
    return pd.DataFrame(rows, columns=[*RUN, "block", "name", "kind", *columns])


def curves(records: Iterable[Record]) -> pd.DataFrame:
    """Loss and errors of each epoch.

    Returns
    -------
    DataFrame
        Columns: those of ``RUN``, ``epoch``, ``train_loss``, ``train_error`` (per cent, running, of augmented images),
        ``clean_train_error`` (at the epoch's end, not augmented; NaN in older records), ``test_error``.
    """
    columns = ["epoch", "train_loss", "train_error", "clean_train_error", "test_error"]
    tables = [named(record, record.epochs.reindex(columns=columns)) for record in records]
    return joined(tables, RUN + columns)


def endings(records: Iterable[Record]) -> pd.DataFrame:
    """One row per run: what it is, and how it ended.

    Returns
    -------
    DataFrame
        Columns: those of ``RUN``, ``erase_relu``, ``project``, ``projector``, ``project_every``, ``dataset``,
        ``schedule``, ``preset``, ``status``, ``epochs`` (their number), ``divergence_epoch`` (NaN if it finished),
        ``divergence_block``, ``parameters``, ``test_error`` (per cent, of the last epoch; NaN if it diverged) and
        ``lowest_test_error`` (of all epochs).
    """
    names = ("erase_relu", "project", "projector", "project_every", "dataset", "schedule", "preset")
    rows = []
    for record in records:
        finished, where = record.status == "finished", record.divergence
        row = {name: getattr(record.config, name) for name in names} | {
            "status": record.status,
            "epochs": len(record.epochs),
            "divergence_epoch": float(where.epoch) if where else math.nan,
            "divergence_block": where.block if where else "",
            "parameters": record.parameters,
            "test_error": record.final.get("test_error", math.nan) if finished else math.nan,
            "lowest_test_error": record.epochs.test_error.min(),
        }
        rows.append(named(record, pd.DataFrame([row])))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


# -- what follows from them --------------------------------------------------------------------------------------
def gaps(table: pd.DataFrame) -> pd.DataFrame:
    """The generalisation gaps of Table I, from :func:`curves`: test error less training error, in points.

    Returns
    -------
    DataFrame
        One row per run and training error.  Columns: those of ``RUN``, ``training`` (``"running"`` or ``"clean"``),
        ``mean`` and ``largest`` over the first 100 epochs (NaN where that error was not recorded).
    """
    first = table[table.epoch <= GAP_EPOCHS]
    parts = []
    for training, column in (("running", "train_error"), ("clean", "clean_train_error")):
        gap = first.assign(gap=first.test_error.astype(float) - first[column].astype(float))
        part = gap.groupby(RUN).gap.agg(mean="mean", largest="max").reset_index()
        part.insert(len(RUN), "training", training)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def usual_precision(records: Iterable[Record]) -> str:
    """The precision in which most of the records were made (of two as frequent ones float32); empty without any."""
    counts = Counter(record.config.precision for record in records)
    return max(sorted(counts, reverse=True), key=counts.__getitem__, default="")


def final_errors(records: Iterable[Record]) -> pd.DataFrame:
    """The final test error of each run, in per cent; one that diverged counts with the error of guessing.

    Returns
    -------
    DataFrame
        One row per run.  Columns: those of :func:`endings`, ``test_error`` without NaN, and ``stuck`` (whether it
        finished, but its test error never fell below ``STUCK`` per cent).
    """
    records = list(records)
    table = endings(records)
    if table.empty:
        columns = [
            *RUN,
            "dataset",
            "schedule",
            "project_every",
            "status",
            "epochs",
            "parameters",
            "test_error",
            "stuck",
        ]
        return pd.DataFrame(columns=columns)
    guessing = pd.Series([record.config.guessing_error for record in records], index=table.index)
    stuck = (table.status == "finished") & (table.lowest_test_error >= STUCK)
    return table.assign(test_error=table.test_error.where(table.status == "finished", guessing), stuck=stuck)


def failed(table: pd.DataFrame) -> pd.Series:
    """Which runs of :func:`final_errors` diverged or did not learn."""
    return table.stuck.astype(bool) | (table.status == "diverged")


def summed_up(table: pd.DataFrame, by: list[str], value: str = "test_error") -> pd.DataFrame:
    """Mean, standard deviation and number of runs of a column of :func:`final_errors`, by group.

    Returns
    -------
    DataFrame
        One row per group in the order of the table.  Columns: those of ``by``, ``n``, ``mean``, ``sd`` (NaN for one
        run), ``diverged`` and ``stuck`` (how many of them).
    """
    columns = [*by, "n", "mean", "sd", "diverged", "stuck"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    table = table.assign(value=table[value].astype(float), gone=table.status == "diverged")
    groups = table.groupby(by, sort=False)
    found = groups.agg(
        n=("value", "count"), mean=("value", "mean"), sd=("value", "std"), diverged=("gone", "sum"),
        stuck=("stuck", "sum"),
    )  # fmt: skip
    return found.reset_index()[columns]


def told(mean: float, sd: float, n: int, digits: int = 1) -> str:
    """A mean with its spread and the number of runs behind it, as the pages write it.

    Examples
    --------
    >>> told(54.25, 1.21, 3), told(54.25, float("nan"), 1)
    ('54.2 ± 1.2 (n = 3)', '54.2 (n = 1)')
    """
    return f"{spread(mean, sd, digits)} (n = {n})"


def spread(mean: float, sd: float, digits: int = 1) -> str:
    """A mean with its standard deviation, which is left out where there is none."""
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if math.isfinite(sd) else "")


def beside(table: pd.DataFrame, printed: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Final test errors beside those that the paper prints.

    Parameters
    ----------
    table : DataFrame
        As :func:`final_errors` makes it, of one precision and schedule.
    printed : dict
        The paper's error in per cent, by network and data set.

    Returns
    -------
    DataFrame
        One row per printed figure.  Columns: ``network``, ``dataset``, ``paper``, ``here`` (as :func:`told` writes it;
        empty without a run), ``failed`` (how many of the runs diverged or stayed at the error of guessing).
    """
    rows = []
    for network, errors in printed.items():
        for dataset, error in errors.items():
            runs = table[(table.network == network) & (table.dataset == dataset)]
            values = runs.test_error.astype(float)
            here = told(values.mean(), values.std(), len(values)) if len(values) else ""
            row = {"network": network, "dataset": dataset, "paper": error, "here": here}
            rows.append(row | {"failed": int(failed(runs).sum())})
    return pd.DataFrame(rows)


def by_depth(errors: pd.DataFrame, fluctuation: pd.DataFrame) -> pd.DataFrame:
    """The final test error and its fluctuation, one row per architecture and one column per depth.

    Parameters
    ----------
    errors : DataFrame
        As :func:`final_errors` makes it.
    fluctuation : DataFrame
        Columns ``arch``, ``depth`` and ``sd``: the standard deviation, over a run, of the test error's change from one
        epoch to the next, in points.

    Returns
    -------
    DataFrame
        Indexed by the architecture's title, with two levels of columns: what, and the depth.  Errors are written as
        :func:`spread` does; an empty text stands where there is no run.
    """
    quantities = {
        "test error, %": (errors, "test_error", True),
        "change from epoch to epoch, points": (fluctuation, "sd", False),
    }
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for what, (table, column, spreads) in quantities.items():
        for (arch, depth), part in table.groupby(["arch", "depth"]) if len(table) else ():
            values = part[column].astype(float)
            text = spread(values.mean(), values.std() if spreads else math.nan)
            cells.setdefault((what, depth), {})[TITLES[arch]] = text
    order = sorted(cells, key=lambda cell: (list(quantities).index(cell[0]), cell[1]))
    rows = [name for arch, name in TITLES.items() if len(errors) and arch in set(errors.arch)]
    columns = pd.MultiIndex.from_tuples(order, names=[None, "depth"]) if order else None
    return pd.DataFrame([[cells[cell].get(row, "") for cell in order] for row in rows], index=rows, columns=columns)


def remarks(table: pd.DataFrame) -> dict[tuple[str, int], str]:
    """How runs of :func:`final_errors` failed, in words, by architecture and depth; runs that learnt have none."""
    found = {}
    for row in table.itertuples():
        if row.status == "diverged":
            found[row.arch, row.depth] = f"diverged in epoch {row.divergence_epoch:.0f}"
        elif row.stuck:
            found[row.arch, row.depth] = "did not learn"
    return found


def table_1(records: Iterable[Record]) -> pd.DataFrame:
    """Table I: mean and largest generalisation gap, by either training error, beside the paper's.

    Returns
    -------
    DataFrame
        One row per network and precision, in the paper's order: by depth, then Plain, ResNet, ProcResNet.  Columns:
        ``network``, ``precision``, ``n`` (runs with a gap), and for ``mean`` and
        ``largest`` each ``… paper`` (NaN where nothing is printed), ``… running`` and ``… clean`` (as :func:`spread`
        writes them; empty where that error was not recorded).
    """
    rows = []
    found = gaps(curves(records))
    found = found.assign(order=found.arch.map({arch: i for i, arch in enumerate(get_args(Arch))}))
    for (*_, network, precision), part in found.groupby(["depth", "order", "network", "precision"]):
        # A run that diverged before its first test has no gap, and is not counted among those that the mean is of.
        runs = part.dropna(subset="mean").seed.nunique()
        row: dict[str, Any] = {"network": network, "precision": precision, "n": runs}
        for i, column in enumerate(("mean", "largest")):
            row[f"{column} paper"] = paper.TABLE_I.get(network, (math.nan, math.nan))[i]
            for training in ("running", "clean"):
                values = part[part.training == training][column].dropna()
                row[f"{column} {training}"] = spread(values.mean(), values.std()) if len(values) else ""
        rows.append(row)
    names = [f"{column} {kind}" for column in ("mean", "largest") for kind in ("paper", "running", "clean")]
    return pd.DataFrame(rows, columns=["network", "precision", "n", *names])


def sizes() -> pd.DataFrame:
    """The numbers of parameters of Table II's networks.

    Returns
    -------
    DataFrame
        Columns: ``depth``, ``erase_relu``, ``classes``, ``resnet``, ``procresnet``.
    """
    rows = []
    for depth in (164, 1001):
        for erase_relu in (False, True):
            for classes in (10, 100):
                counts = {arch: _parameters(arch, depth, classes, erase_relu) for arch in ("resnet", "procresnet")}
                rows.append({"depth": depth, "erase_relu": erase_relu, "classes": classes} | counts)
    return pd.DataFrame(rows)


@cache
def _parameters(arch: Arch, depth: int, classes: int, erase_relu: bool) -> int:
    with torch.device("meta"):  # shapes without numbers
        return parameter_count(build(arch, depth, classes, erase_relu, project=False))
