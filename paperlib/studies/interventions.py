"""Interventions on norm preservation: ProcResNets that differ only in how their transitions are held.

The paper sees that networks with norm-preserving transitions have lower errors.  Whether they have them *because* of
it can be asked by changing that one thing, with the same seeds.  The transitions' kernels are held at some factor of
the norm-preserving target, all three or one of them; they are not held at all (free); they are set to the target once
and not trained (fixed); or they are held as the authors' code does it (published).  Runs that differ in nothing else
make a *setting*.  In each setting the run that is held at the target is the baseline, and the others are compared with
it, seed by seed.

A factor on the kernel multiplies the activations as well.  Every branch behind it begins with a batch normalisation,
which takes the factor away; on the skip it stays.  So the weight of the skip against the branches changes with the
gradient's norm, and a difference need not come from the latter alone.  With a larger skip the blocks behind it are
nearer to the identity, and keep the norm better: :func:`doses` shows it beside the error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from paperlib.config import ResolvedRun
from paperlib.models import title
from paperlib.records import Record
from paperlib.store.stored import digest
from paperlib.studies.section4 import everything

LAST = 3
"""Over how many epochs at the end the gradient's ratios are averaged."""
CONFIDENCE = 0.95
WAYS = ("held", "free", "fixed", "published")
TRANSITIONS = ("first", "second", "third")
GROUP = ["setting", "label", "way", "at", "factor"]
VARIED = ("seed", "project", "projector", "hold_at")
LABELS = {"free": "free", "fixed": "fixed", "published": "as published"}


# -- which records -----------------------------------------------------------------------------------------------
def _key(config: ResolvedRun) -> str:
    """What runs of one setting have in common, as a digest."""
    return digest({name: value for name, value in config.content().items() if name not in VARIED})


def of_preset(config: ResolvedRun, preset: str) -> bool:
    """Whether a run is of this preset, which it may override; one of the paper's must have the paper's scale.

    Of the paper's protocol it may change what its transitions are held at, and how.
    """
    if config.preset != preset or preset != "paper":
        return config.preset == preset
    return config.model_copy(update={"hold_at": 1.0, "projector": "exact"}).full_scale()


def stored(preset: str, roots: Iterable[str | Path] | None = None) -> list[Record]:
    """The ProcResNets of those settings in which some transitions are held elsewhere than at the target.

    Parameters
    ----------
    preset : str
        The preset, as :func:`of_preset` takes it.
    roots : iterable of str or Path, optional
        Where to look, as in :func:`paperlib.studies.section4.stored`.  Of two records of one run the first is taken.

    Returns
    -------
    list of Record
        Perhaps empty.

    Raises
    ------
    RecordError
        One of the records cannot be read.
    """
    return among(everything(roots, lambda config: _looked_at(config, preset)), preset)


def _looked_at(config: ResolvedRun, preset: str) -> bool:
    return config.arch == "procresnet" and of_preset(config, preset)


def among(records: Iterable[Record], preset: str) -> list[Record]:
    """The same of records that were read already."""
    found: dict[str, Record] = {}
    for record in (record for record in records if _looked_at(record.config, preset)):
        found.setdefault(record.config.digest(), record)
    settings = {_key(record.config) for record in found.values() if record.config.hold_at != 1.0}
    return [record for record in found.values() if _key(record.config) in settings]


# -- their tables ------------------------------------------------------------------------------------------------
def runs(records: Iterable[Record]) -> pd.DataFrame:
    """One row per run of a ProcResNet: how its transitions were held, and what came out.

    Returns
    -------
    DataFrame
        Columns: ``setting`` (text), ``depth``, ``precision``, ``seed``; ``way`` (one of ``WAYS``), ``at`` (``"all"``,
        one of ``TRANSITIONS``, or ``"several"``: where the factor is not 1), ``factor`` (of the target; NaN for
        several), ``label`` (those three in words); ``test_error`` (per cent, of the last epoch; that of guessing where
        the run diverged), ``train_loss`` (of the last epoch; NaN where it diverged), and, over the last ``LAST``
        epochs, ``residual`` and ``transitions`` (median dev of the two kinds of block) and ``log_ratio`` (the mean of
        the transitions' log ratio, with its sign).
    """
    records = list(records)
    names = _settings(record.config for record in records)
    rows = [
        {"setting": names[_key(r.config)], "depth": r.config.depth, "precision": r.config.precision}
        | {"seed": r.config.seed}
        | _held(r.config)
        | _outcome(r)
        for r in records
    ]
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    place = table["way"].map(WAYS.index), table["at"].map(("all", *TRANSITIONS, "several").index)
    ordered = table.assign(_way=place[0], _at=place[1]).sort_values(
        ["depth", "setting", "_way", "_at", "factor", "seed"]
    )
    return ordered.drop(columns=["_way", "_at"]).reset_index(drop=True)


def _settings(configs: Iterable[ResolvedRun]) -> dict[str, str]:
    """A text for each setting; with a part of its digest, where two would have the same."""
    found = {
        _key(c): f"{title(c.arch, c.depth)}{'-eraserelu' * c.erase_relu}, {c.dataset}, {c.epochs} epochs of "
        f"{c.train_images:,} images, {c.schedule}"
        for c in configs
    }
    count = Counter(found.values())
    return {key: text if count[text] == 1 else f"{text} ({key[:6]})" for key, text in found.items()}


def _held(config: ResolvedRun) -> dict[str, Any]:
    """How a run's transitions are held: ``way``, ``at``, ``factor`` and ``label``."""
    way = "free" if not config.project else "held" if config.projector == "exact" else config.projector
    factors = config.factors()
    other = [i for i, factor in enumerate(factors) if factor != 1.0]
    at = "all" if len(set(factors)) == 1 else TRANSITIONS[other[0]] if len(other) == 1 else "several"
    factor = math.nan if at == "several" else factors[other[0]] if other else 1.0
    times = ", ".join(f"{f:g}" for f in factors) if at == "several" else f"{factor:g}"
    words = [LABELS.get(way, ""), "" if at in ("all", "several") else at]
    words += [f"× {times}"] if way == "held" or factor != 1.0 else []
    return {"way": way, "at": at, "factor": factor, "label": " ".join(filter(None, words))}


def _outcome(record: Record) -> dict[str, float]:
    """What came out of a run."""
    finished, final = record.status == "finished", record.final
    found = {
        "test_error": final["test_error"] if finished else record.config.guessing_error,
        "train_loss": final["train_loss"] if finished else math.nan,
        "residual": math.nan,
        "transitions": math.nan,
        "log_ratio": math.nan,
    }
    blocks = record.blocks
    if len(blocks):
        last = blocks[blocks.epoch > blocks.epoch.max() - LAST]
        mean = last.assign(log_ratio=last.log_ratio.astype(float)).groupby(["kind", "block"]).log_ratio.mean()
        kinds = {kind: mean.xs(kind) for kind in mean.index.unique("kind")}
        for name, kind in (("residual", "residual"), ("transitions", "transition")):
            found[name] = kinds[kind].abs().median() if kind in kinds else math.nan
        found["log_ratio"] = kinds["transition"].mean() if "transition" in kinds else math.nan
    return found


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Each run of :func:`runs` less the baseline of its setting and its seed; runs without one are left out.

    Returns
    -------
    DataFrame
        One row per run that is no baseline.  Columns: ``setting``, ``label``, ``way``, ``at``, ``factor``, ``depth``,
        ``precision``, ``seed``, ``error`` (points of test error), ``loss`` (training loss) and ``shift`` (of the
        transitions' mean log ratio).
    """
    columns = [*GROUP, "depth", "precision", "seed", "error", "loss", "shift"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    values = {"test_error": "error", "train_loss": "loss", "log_ratio": "shift"}
    held = all_held(table)
    baseline = held[held["factor"] == 1.0]
    pairs = table.drop(baseline.index).merge(
        baseline[["setting", "precision", "seed", *values]], on=["setting", "precision", "seed"], suffixes=("", "_0")
    )
    return pairs.assign(**{new: pairs[name] - pairs[f"{name}_0"] for name, new in values.items()})[columns]


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """The mean of the paired differences of test error, by setting and intervention.

    Parameters
    ----------
    table : DataFrame
        As :func:`differences` gives it.

    Returns
    -------
    DataFrame
        Columns: ``setting``, ``label``, ``way``, ``at``, ``factor``, ``n`` (seeds), ``mean`` (points), ``low`` and
        ``high`` (Student's interval of confidence ``CONFIDENCE``), ``above`` (the p-value of the one-sided paired
        t-test for a mean above 0), and ``shift`` (mean).  Of one seed there is neither an interval nor a test.

    Examples
    --------
    >>> rows = [{"setting": "s", "label": "× 2", "way": "held", "at": "all", "factor": 2.0, "error": e, "shift": -0.7}
    ...         for e in (1.0, 2.0, 3.0)]
    >>> effects(pd.DataFrame(rows))[["n", "mean", "low", "high", "above"]].round(3).values.tolist()
    [[3.0, 2.0, -0.484, 4.484, 0.037]]
    """
    from scipy.stats import ttest_1samp  # here, because it would take a quarter of every command's start

    rows = []
    for key, group in table.groupby(GROUP, sort=False, dropna=False):
        error = group["error"].astype(float)
        row = {"n": len(error), "mean": error.mean(), "low": math.nan, "high": math.nan, "above": math.nan}
        if len(error) > 1 and error.std() == 0:  # no spread: the mean is all that there is
            row |= {"low": error.mean(), "high": error.mean(), "above": float(error.mean() <= 0)}
        elif len(error) > 1:
            low, high = ttest_1samp(error, 0.0).confidence_interval(CONFIDENCE)
            row |= {"low": low, "high": high, "above": ttest_1samp(error, 0.0, alternative="greater").pvalue}
        rows.append(dict(zip(GROUP, key, strict=True)) | row | {"shift": group["shift"].astype(float).mean()})
    return pd.DataFrame(rows, columns=[*GROUP, "n", "mean", "low", "high", "above", "shift"])


def all_held(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`runs`, or of what is made of it, in which all transitions are held at a factor."""
    return table[(table["way"] == "held") & (table["at"] == "all")] if len(table) else table


def doses(table: pd.DataFrame) -> pd.DataFrame:
    """What comes of holding all transitions at a factor, by the factor, over the seeds that all its factors have.

    Parameters
    ----------
    table : DataFrame
        As :func:`runs` gives it.

    Returns
    -------
    DataFrame
        One row per setting and factor, sorted; settings with fewer than three factors are left out.  Columns:
        ``setting``, ``factor``, ``n`` (seeds), and the means of ``test_error``, ``train_loss`` and ``residual``.
    """
    values = ["test_error", "train_loss", "residual"]
    rows = []
    held = all_held(table)
    for setting, group in held.groupby("setting", sort=False) if len(held) else ():
        common = group["factor"].nunique() == group.groupby("seed")["factor"].transform("nunique")
        if group["factor"].nunique() >= 3:
            for factor, part in group[common].groupby("factor"):
                means = part[values].astype(float).mean()
                rows.append({"setting": setting, "factor": factor, "n": part["seed"].nunique(), **means})
    return pd.DataFrame(rows, columns=["setting", "factor", "n", *values])
