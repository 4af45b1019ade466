"""Section 4, before the first update: each block's ratio beside the one that mean-field theory gives.

The theory is :mod:`paperlib.mean_field`.  It is put to the test twice: with the variance of each block's input as it
was measured (``prediction``), and with the variance that the theory itself gives, so that nothing is measured at all
(``unmeasured``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperlib import mean_field
from paperlib.cifar import load
from paperlib.initial import initial_ratios
from paperlib.models import EXPANSION, WIDTHS, Arch, build
from paperlib.records import Record
from paperlib.studies.section4 import RUN, joined, named

COLUMNS = ["block", "name", "kind", "stage", "variance", "log_ratio", "prediction", "unmeasured"]
IMAGES = 64


def widening(stage: int) -> float:
    """c/n of a stage's first block: its input's channels over those inside it, 1 in the first stage and 2 later."""
    return 1.0 if stage == 1 else EXPANSION * WIDTHS[stage - 2] / WIDTHS[stage - 1]


def beginnings(records: Iterable[Record]) -> pd.DataFrame:
    """Each block's log ratio before the first update, with its predictions.

    Parameters
    ----------
    records : iterable of Record
        Those without a table of first ratios are passed over.

    Returns
    -------
    DataFrame
        One row per run and block.  Columns: those of ``section4.RUN``, ``block``, ``name``, ``kind``, ``stage``,
        ``variance`` (q, measured), ``log_ratio``, ``prediction`` (ln of the theory's ratio at the measured q), and
        ``unmeasured`` (ln of the theory's ratio at the theory's own q; NaN for the first block of a Plain or a ResNet,
        whose input the theory does not know).  Networks with EraseReLU have no predictions: NaN.
    """
    tables = []
    for record in records:
        if record.initial.empty:
            continue
        table = record.initial.assign(stage=_stages(record.initial))
        if "variance" not in table:
            table["variance"] = math.nan
        table["prediction"] = _logs(record, table, table.variance.astype(float))
        table["unmeasured"] = _logs(record, table, _variances(record, table))
        tables.append(named(record, table[COLUMNS]))
    return joined(tables, RUN + COLUMNS)


def followed(ratios: pd.DataFrame, start: pd.DataFrame) -> pd.DataFrame:
    """The ratios of all epochs with the predictions of :func:`beginnings` at epoch 0, NaN at all others.

    Parameters
    ----------
    ratios : DataFrame
        As :func:`paperlib.studies.section4.ratios` makes it.  Its own predictions, of some blocks only, are replaced.
    start : DataFrame
        As :func:`beginnings` makes it.

    Returns
    -------
    DataFrame
        The rows and columns of ``ratios``.
    """
    predicted = start[[*RUN, "block", "prediction"]].assign(epoch=0)
    return ratios.drop(columns="prediction").merge(predicted, how="left", on=[*RUN, "block", "epoch"])


def _stages(table: pd.DataFrame) -> pd.Series:
    return table.name.str.extract(r"(\d)", expand=False).astype(int)


def _held(record: Record) -> bool:
    """Whether the network begins with projected transitions; the published code projects them later."""
    return record.config.project and record.config.projector != "published"


def _logs(record: Record, table: pd.DataFrame, q: pd.Series) -> pd.Series:
    """The logarithms of the predicted ratios at the variances ``q``."""
    arch, transition = record.config.arch, table.kind == "transition"
    if record.config.erase_relu:  # the theory is that of a block with three ReLUs
        return pd.Series(math.nan, index=table.index)
    if arch == "plain":
        return np.log(mean_field.plain(q))
    residual = np.log(mean_field.ratio(q))
    if arch == "resnet":
        return residual.mask(transition, np.log(mean_field.transition(q, table.stage.map(widening))))
    return residual.mask(transition, table.stage.map(lambda stage: _convolution(stage, record)))


def _convolution(stage: int, record: Record) -> float:
    """The log ratio of a ProcResNet's transition: 0 if it is held at the target; -ln(2c/d)/2 at He's start."""
    return -math.log(record.config.factors()[stage - 1] if _held(record) else math.sqrt(2 * _channels(stage)))


def _channels(stage: int) -> float:
    """c/d of a ProcResNet's transition."""
    return (3 if stage == 1 else EXPANSION * WIDTHS[stage - 2]) / (EXPANSION * WIDTHS[stage - 1])


def _variances(record: Record, table: pd.DataFrame) -> pd.Series:
    """The variance of each block's input by the theory, of images with the variance 1; NaN where it has none."""
    arch, q, found = record.config.arch, 1.0 if record.config.arch == "procresnet" else math.nan, []
    for row in table.itertuples():
        found.append(q)
        if arch == "plain":
            q = mean_field.BRANCH
        elif row.kind == "residual":
            q += mean_field.BRANCH
        elif arch == "resnet":
            q = (1 + widening(row.stage)) * mean_field.BRANCH
        elif _held(record):  # at the target it keeps the variance per channel
            q *= record.config.factors()[row.stage - 1] ** 2
        else:
            q *= 2 * _channels(row.stage)
    return pd.Series(found, index=table.index)


def accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """How near the predictions come, from :func:`beginnings`.

    Returns
    -------
    DataFrame
        One row per network, precision and group of blocks.  Columns: ``network``, ``precision``, ``blocks``
        (``"residual"``, ``"first transition"`` or ``"later transitions"``), ``runs`` (how many), ``measured`` and
        ``predicted`` (the median ratio, with the measured variance put in), ``off`` (the median over the blocks of the
        size of the log of measured over predicted, its mean over the runs, as the rule of S0 takes it) and
        ``off_unmeasured`` (the same with the theory's own variance).
    """
    columns = ["network", "precision", "blocks", "runs", "measured", "predicted", "off", "off_unmeasured"]
    group = np.where(table.kind == "residual", "residual",
                     np.where(table.stage == 1, "first transition", "later transitions"))  # fmt: skip
    rows: list[dict[str, Any]] = []
    for key, part in table.assign(blocks=group).groupby(["network", "precision", "blocks"], sort=False):
        logs = part[["log_ratio", "prediction", "unmeasured"]].astype(float)
        numbers = {
            "runs": part.seed.nunique(),
            "measured": math.exp(logs.log_ratio.median()),
            "predicted": math.exp(logs.prediction.median()),
            "off": (logs.log_ratio - logs.prediction).abs().groupby(part.seed).median().mean(),
            "off_unmeasured": (logs.log_ratio - logs.unmeasured).abs().groupby(part.seed).median().mean(),
        }
        rows.append(dict(zip(columns[:3], key, strict=True)) | numbers)
    return pd.DataFrame(rows, columns=columns)


def stems(seeds: Iterable[int], depth: int = 11, arch: Arch = "resnet") -> pd.DataFrame:
    """Why the first block of a ResNet or a Plain network is off: with which mean over channels the theory works.

    Batch normalisation divides each channel's gradient by that channel's own variance, so that q stands for the
    harmonic mean over the channels.  Behind a random block the channels are alike, and no mean differs from another.
    Behind the stem, which sees three correlated colours of smooth images, they are not.

    Parameters
    ----------
    seeds : iterable of int
        One network for each, on a batch of the embedded sample of CIFAR-10.
    depth : int
        The network's depth, 9n+2.
    arch : {"resnet", "plain"}
        The network; a ProcResNet has no stem.

    Returns
    -------
    DataFrame
        One row per seed.  Columns: ``seed``, ``arithmetic`` and ``harmonic`` (means over channels of the variance of
        the first block's input), ``measured``, and the predictions ``by_arithmetic`` and ``by_harmonic`` (ratios).
    """
    sample = load("cifar10", source="sample")
    centred = sample.train_images[:IMAGES].float() / 255 - sample.mean.view(3, 1, 1)
    images, labels = centred / sample.std.view(3, 1, 1), sample.train_labels[:IMAGES]
    rows = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(arch, depth)
        with torch.no_grad():
            q = model.stem(images).var(dim=(0, 2, 3), correction=0)
        first = initial_ratios(model, [(images, labels)], _loss(model))[0]
        means = {"arithmetic": float(q.mean()), "harmonic": float(1 / (1 / q).mean())}
        predicted = {f"by_{name}": _of_the_first(arch, value) for name, value in means.items()}
        rows.append({"seed": seed, "measured": first["ratio"]} | means | predicted)
    return pd.DataFrame(rows)


def _of_the_first(arch: Arch, q: float) -> float:
    """The theory's ratio of the first block of a ResNet or a Plain network, from the variance of its input."""
    return float(mean_field.plain(q)) if arch == "plain" else float(mean_field.transition(q, widening(1)))


def _loss(model: torch.nn.Module) -> Any:
    return lambda images, labels: torch.nn.functional.cross_entropy(model(images), labels)
