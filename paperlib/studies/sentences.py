"""Chapter 5's findings in words, taken from its tables.

Each function returns Markdown.  What a table does not have is said to be missing, with the command that makes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from paperlib.config import RunConfig
from paperlib.records import Record
from paperlib.studies.section4 import GRID_DEPTHS, told

BLOCKS = {"residual": "block of constant width", "transition": "transition"}
CHOICES = ("schedule", "dataset", "erase_relu", "project", "projector", "project_every")
TITLES = {"plain": "Plain", "resnet": "ResNet", "procresnet": "ProcResNet"}


def command(preset: str, **parameters: object) -> str:
    """The command that makes one run.

    Examples
    --------
    >>> command("desk", arch="plain", depth=20)
    '`python -m paperlib run -p preset desk -p arch plain -p depth 20`'
    """
    given = " ".join(f"-p {name} {str(value).lower()}" for name, value in ({"preset": preset} | parameters).items())
    return f"`python -m paperlib run {given}`"


def missing(what: str, preset: str, **parameters: object) -> str:
    """That there is no record of something yet, and what makes it: the whole workflow, or one run."""
    return (
        f"*There is no record of {what} at the {preset} preset yet. `make paper PRESET={preset}` makes all of them; "
        f"{command(preset, **parameters)} makes one.*"
    )


def seeds(records: Sequence[Record]) -> str:
    """How many seeds a network has: ``n = 3``, or ``n = 1 to 3`` where networks differ; empty without a record."""
    if not records:
        return ""
    table = pd.DataFrame({"network": r.network, "seed": r.config.seed} for r in records)
    counts = table.groupby("network").seed.nunique()
    return f"n = {counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")


def made(records: Sequence[Record]) -> str:
    """What some runs are, and the commands that make them again."""
    c, default = records[0].config, RunConfig()
    precision = " and ".join(sorted({r.config.precision for r in records}))
    named = {name: getattr(c, name) for name in ("arch", "depth", "seed", "precision")}
    named |= {name: getattr(c, name) for name in CHOICES if getattr(c, name) != getattr(default, name)}
    return (
        f"*Preset {c.preset}: {c.epochs} epochs of {c.train_images:,} training images, {c.test_images:,} test images, "
        f"learning rate by `{c.schedule}`, {precision}; seeds a network: {seeds(records)}. "
        f"`make paper PRESET={c.preset}` makes all of these runs, and {command(c.preset, **named)} one of them.*"
    )


def trend(values: Sequence[float]) -> str:
    """Whether values fall, rise, or do neither, as a verb.

    Examples
    --------
    >>> trend([3, 2, 1]), trend([1, 2]), trend([1, 2, 1])
    ('falls', 'rises', 'neither falls nor rises throughout')
    """
    pairs = list(pairwise(values))
    if pairs and all(b < a for a, b in pairs):
        return "falls"
    return "rises" if pairs and all(b > a for a, b in pairs) else "neither falls nor rises throughout"


def norms(ratios: pd.DataFrame, kind: str = "residual") -> str:
    """How the distance from 1 of the median block goes with depth, from ``section4.ratios``.

    It is the mean over the epochs from 1 on and over the seeds, as in the rule of F3b.  ``kind`` chooses the blocks.
    """
    table = ratios[(ratios.epoch > 0) & (ratios.kind == kind)]
    table = table.assign(dev=table.log_ratio.astype(float).abs())
    medians = table.groupby(["arch", "depth", "seed", "epoch"]).dev.median()
    parts = []
    for arch, title in TITLES.items():
        if arch not in set(table.arch):
            continue
        factors = np.exp(medians[arch].groupby(["depth", "seed"]).mean().groupby("depth").mean())
        steps = ", ".join(f"{factor:.2f} at depth {depth}" for depth, factor in factors.items())
        way = f" it {trend(list(factors))}" if len(factors) > 1 else ""
        parts.append(f"in {title}{way} ({steps})")
    if not parts:
        return "How the ratios go with depth cannot be said yet: there is no record of a ratio."
    return f"**How far the median {BLOCKS[kind]} is from 1**, as a factor: " + "; ".join(parts) + "."


def first_transitions(ratios: pd.DataFrame, arch: str = "plain") -> str:
    """The ratio of the first block of some networks over their training, from ``section4.ratios``."""
    table = ratios[(ratios.epoch > 0) & (ratios.block == 1) & (ratios.arch == arch)]
    if table.empty:
        return f"No ratio of a {TITLES[arch]} network's first block is on record yet."
    logs = table.log_ratio.astype(float).groupby(table.network, sort=False).mean()
    said = ", ".join(f"{math.exp(log):.2g} in {network}" for network, log in logs.items())
    return f"Its ratio, output over input, is here {said} (geometric mean over the epochs)."


def theory(accuracy: pd.DataFrame) -> str:
    """How near the theory of the first ratios comes, from ``beginning.accuracy``."""
    table = accuracy.assign(arch=accuracy.network.str.split("-").str[0])
    parts = []
    for arch, blocks, words in (
        ("resnet", "residual", "a ResNet's blocks with an identity skip"),
        ("resnet", "later transitions", "its second and third transitions"),
        ("procresnet", "residual", "a ProcResNet's blocks with an identity skip"),
        ("plain", "residual", "Plain's blocks"),
        ("resnet", "first transition", "a ResNet's first transition"),
    ):
        off = table[(table.arch == arch) & (table.blocks == blocks)].off.dropna()
        if len(off):
            parts.append(f"{words} by {_per_cent(off.min(), off.max())}")
    if not parts:
        return "No ratio before a first update is on record yet."
    return (
        "**Before the first update**, a theory with no parameter to fit misses the ratio, in the median over blocks of "
        + "; of ".join(parts)
        + "."
    )


def _per_cent(low: float, high: float) -> str:
    """A range of sizes of log ratios, as per cent."""
    ends = [f"{100 * math.expm1(value):.1f}" for value in (low, high)]
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"


def errors(table: pd.DataFrame) -> str:
    """The final test errors by depth and architecture, from ``section4.final_errors``."""
    parts = []
    for depth in GRID_DEPTHS:
        said = []
        for arch, title in TITLES.items():
            values = table[(table.arch == arch) & (table.depth == depth)].test_error.astype(float)
            if len(values):
                said.append(f"{title} {told(values.mean(), values.std(), len(values))}")
        if said:
            parts.append(f"at depth {depth} {', '.join(said)}")
    if not parts:
        return "No final test error is on record yet."
    return "**Test error of the last epoch**, in per cent: " + "; ".join(parts) + "."


def association(correlations: pd.DataFrame) -> str:
    """What ``explanation.correlations`` says, each group in one clause."""
    if correlations.empty:
        return "Whether the error goes with the deviation cannot be said yet: there are too few runs."
    parts = []
    for runs, part in correlations.groupby("runs", sort=False):
        said = " and ".join(f"{row.rho:+.2f} for the {row.blocks} (p = {row.p:.2g})" for row in part.itertuples())
        parts.append(f"{runs} (n = {part.n.max()}): {said}")
    return "**Rank correlation of the final test error with the distance from 1**, " + "; ".join(parts) + "."


def widths(fluctuation: pd.DataFrame) -> str:
    """How much the test error changes from epoch to epoch, from a table with ``arch``, ``depth`` and ``sd``."""
    if fluctuation.empty:
        return "There are too few epochs on record to speak of fluctuation."
    parts = []
    for (arch, depth), part in fluctuation.groupby(["arch", "depth"]):
        parts.append((list(TITLES).index(arch), depth, f"{TITLES[arch]} at depth {depth} {part.sd.mean():.1f}"))
    return (
        "**Standard deviation of the test error's change from one epoch to the next**, in points: "
        + "; ".join(text for *_, text in sorted(parts))
        + "."
    )


def cost(records: Iterable[Record], depths: Sequence[int], epochs: int, seeds: int) -> str:
    """What runs of some depths would take on the device of the paper-scale record, by its time a layer and an epoch.

    Parameters
    ----------
    records : iterable of Record
        Of full scale; the deepest is the measure.  A layer's cost is taken as the same in every network.
    depths : sequence of int
        The networks' depths.
    epochs, seeds : int
        Of each.
    """
    known = list(records)
    if not known:
        return "No run of the paper's scale is on record to judge the cost by."
    measure = max(known, key=lambda record: record.config.depth)
    a_layer = measure.provenance.seconds / len(measure.epochs) / (measure.config.depth - 2)
    hours = sum(depth - 2 for depth in depths) * a_layer * epochs * seeds / 3600
    return (
        f"By the time that the {measure.network} on record took ({measure.provenance.seconds / 3600:.1f} hours for "
        f"{len(measure.epochs)} epochs on {measure.provenance.device.name}, {measure.config.precision}), "
        f"and with a layer taking as long everywhere, the runs would take about {hours:,.0f} hours of that device."
    )
