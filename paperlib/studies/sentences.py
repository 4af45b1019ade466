"""Chapter 5's findings in words, taken from its tables.

Each function returns Markdown.  What a table does not have is said to be missing, with the command that makes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from paperlib.config import RunConfig
from paperlib.models import TITLES, Arch
from paperlib.records import Record
from paperlib.studies.section4 import GRID_DEPTHS, WINDOW, by_block, spread, told

BLOCKS = {"residual": "block of constant width", "transition": "transition"}
CHOICES = ("schedule", "dataset", "erase_relu", "project", "projector", "project_every")
GRID = "the nine networks of Figures 3 and 4 at a constant rate"
"""What most of the chapter is about. Records of other networks and schedules may be there without one of these."""


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
    return _n(table.groupby("network").seed.nunique())


def _n(counts: pd.Series) -> str:
    """``n = 3``, or ``n = 1 to 3`` where the numbers of runs differ."""
    low, high = counts.min(), counts.max()
    return f"n = {low}" + (f" to {high}" if high > low else "")


def size(preset: str, records: Sequence[Record]) -> str:
    """How large the runs behind a column are: ``desk, 6 epochs``; the preset alone without a record."""
    counts = sorted({r.config.epochs for r in records})
    return preset + (f", {' or '.join(map(str, counts))} epochs" if counts else "")


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
        return f"How the ratios go with depth cannot be said yet: there is no ratio of {GRID} on record."
    runs = _n(table.groupby(["arch", "depth"]).seed.nunique())
    return f"**How far the median {BLOCKS[kind]} is from 1**, as a factor ({runs}): " + "; ".join(parts) + "."


def first_transitions(ratios: pd.DataFrame, arch: Arch = "plain") -> str:
    """The ratio of the first block over the training of some networks, from ``section4.ratios``, and where it leads.

    It leads where no other block's mean log ratio is as large in size.
    """
    table = ratios[(ratios.epoch > 0) & (ratios.arch == arch)]
    logs = table.assign(log=table.log_ratio.astype(float)).groupby(["depth", "network", "block"]).log.mean()
    first = logs[logs.index.get_level_values("block") == 1].dropna()
    if first.empty:
        return f"There is no ratio of a {TITLES[arch]} network's first block at a constant rate on record yet."
    said = ", ".join(f"{math.exp(log):.2g} in {network}" for (_, network, _), log in first.items())
    farthest = logs.abs().dropna().groupby("network").idxmax()
    leads = [network for _, network, _ in first.index if farthest[network][-1] == 1]
    where = f"It is the block farthest from 1 in {', '.join(leads)}." if leads else "In none is it the farthest from 1."
    return f"Its ratio, output over input, is here {said} (geometric mean over the epochs and seeds). {where}"


def theory(accuracy: pd.DataFrame) -> str:
    """How near the theory of the first ratios comes, from ``beginning.accuracy``."""
    table = accuracy.assign(arch=accuracy.network.str.split("-").str[0])
    parts = []
    for arch, blocks, words in (
        ("resnet", "residual", "a ResNet's blocks of constant width"),
        ("resnet", "later transitions", "its second and third transitions"),
        ("procresnet", "residual", "a ProcResNet's blocks of constant width"),
        ("plain", "residual", "a Plain network's blocks of constant width"),
        ("resnet", "first transition", "a ResNet's first transition"),
    ):
        off = table[(table.arch == arch) & (table.blocks == blocks)].off.dropna()
        if len(off):
            parts.append(f"{_per_cent(off.min(), off.max())} for {words}")
    if not parts:
        return f"There is no ratio before the first update of {GRID} on record yet."
    return (
        f"**Before the first update, the median error of a theory without fitted parameters is** ({_n(table.runs)}) "
        + "; ".join(parts)
        + "."
    )


def _per_cent(low: float, high: float) -> str:
    """A range of sizes of log ratios, as per cent."""
    ends = [f"{100 * math.expm1(value):.1f}" for value in (low, high)]
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"


def errors(table: pd.DataFrame) -> str:
    """The final test errors by depth and architecture, from ``section4.final_errors``.

    The number of runs stands in front where it is the same everywhere, else behind each error.
    """
    parts, counts = [], table.groupby(["arch", "depth"]).size()
    same = counts.nunique() == 1
    for depth in GRID_DEPTHS:
        said = []
        for arch, title in TITLES.items():
            values = table[(table.arch == arch) & (table.depth == depth)].test_error.astype(float)
            if len(values):
                known = (values.mean(), values.std())
                said.append(f"{title} {spread(*known) if same else told(*known, len(values))}")
        if said:
            parts.append(f"at depth {depth} {', '.join(said)}")
    if not parts:
        return f"There is no final test error of {GRID} on record yet."
    each = f" ({_n(counts)})" if same else ""
    return f"**Test error of the last epoch**, in per cent{each}: " + "; ".join(parts) + "."


def association(correlations: pd.DataFrame) -> str:
    """What ``explanation.correlations`` says, each group in one clause."""
    if correlations.empty:
        return f"Whether the error goes with the deviation cannot be said yet: there are too few runs of {GRID}."
    parts, same = [], correlations.n.nunique() == 1
    for runs, part in correlations.groupby("runs", sort=False):
        said = " and ".join(f"{row.rho:+.2f} for the {row.blocks} (p = {row.p:.2g})" for row in part.itertuples())
        parts.append(f"{runs}{'' if same else f' ({_n(part.n)})'}: {said}")
    each = f" ({_n(correlations.n)})" if same else ""
    return f"**Rank correlation of the final test error with the distance from 1**{each}, " + "; ".join(parts) + "."


def widths(fluctuation: pd.DataFrame) -> str:
    """How much the test error changes from epoch to epoch, from a table with ``arch``, ``depth`` and ``sd``."""
    if fluctuation.empty:
        return f"There are too few epochs of {GRID} on record to speak of fluctuation."
    parts = []
    for (arch, depth), part in fluctuation.groupby(["arch", "depth"]):
        parts.append((list(TITLES).index(arch), depth, f"{TITLES[arch]} at depth {depth} {part.sd.mean():.1f}"))
    return (
        "**Standard deviation of the test error's change from one epoch to the next**, in points: "
        + "; ".join(text for *_, text in sorted(parts))
        + "."
    )


def unlearnt(errors: pd.DataFrame) -> str:
    """Which networks did not learn, from ``section4.final_errors``: their calm is none.  Empty where all learnt."""
    stuck = errors[errors.stuck.astype(bool)]
    return f"Here this is so in runs of {', '.join(stuck.network.unique())}." if len(stuck) else ""


def at_full_scale(ratios: pd.DataFrame) -> list[str]:
    """What each run at the paper's scale shows of its ratios, from ``section4.ratios``: one text a run.

    The distance from 1 is the mean of the size of ln r, over the first and over the last ``WINDOW`` epochs.  Runs with
    fewer than twice as many epochs are left out.
    """
    blocks = by_block(ratios).dropna(subset=["early", "late"])
    return [_one_run(part) for _, part in blocks.groupby(["network", "seed", "precision"])]


def _one_run(blocks: pd.DataFrame) -> str:
    network, arch, seed, precision = blocks.iloc[0][["network", "arch", "seed", "precision"]]
    transitions, others = (blocks[blocks.kind == kind] for kind in ("transition", "residual"))
    parts = []
    if len(transitions):
        away = int((transitions.late > transitions.early).sum())
        moves = ", ".join(f"{row.early:.2f} → {row.late:.2f}" for row in transitions.itertuples())
        which = "all" if away == len(transitions) else f"{away} of"
        count = f"{which} its {len(transitions)} transitions end farther from 1 than they began"
        parts.append(f"{count} (mean size of ln r, first {WINDOW} epochs → last {WINDOW}: {moves}).")
        if arch == "resnet":
            parts.append("The paper says that a ResNet's transitions come nearer to 1.")
    if len(others):
        worst = others.loc[others.late.idxmax()]
        parts.append(
            f"The block of constant width that ends farthest from 1 is {worst['name']}, at {worst.late:.2f}, "
            f"a factor of {math.exp(worst.late):.1f}."
        )
    return f"**{network}, seed {seed}, in {precision} (n = 1):** " + " ".join(parts)
