"""Chapter 5's findings in words, taken from its tables.

Each function returns Markdown.  What a table does not have is said to be missing, with the command that makes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from paperlib._text import markdown
from paperlib.config import RunConfig
from paperlib.models import TITLES, Arch, network_name, title
from paperlib.records import Record
from paperlib.studies.interventions import all_held
from paperlib.studies.section4 import by_block, failed, spread

BLOCKS = {"residual": "block of constant width", "transition": "transition"}
CHOICES = ("schedule", "dataset", "erase_relu", "project", "projector", "project_every")
GRID = "the nine networks of Figures 3 and 4 at a constant rate"
"""What most of the chapter is about. Records of other networks and schedules may be there without one of these."""
FEW = 4
SUFFIXES = {"eraserelu": "EraseReLU", "noproject": "free", "published": "as published"}
ANSWERS = {
    "reproduced": "held away from the target on either side, the networks do worse, as they should if norm "
    "preservation is what helps",
    "reproduced with a correction": "held away from the target, the networks do worse on one side alone, which is not "
    "what norm preservation alone would do",
    "not reproduced": "if it did, both sides of the target would do harm, which is not seen in all settings",
}
"""What each outcome of the rule of I1 says of the interventions."""
WORDS = {
    "reproduced": "answered at this scale",
    "reproduced with a correction": "answered in part at this scale",
    "not reproduced": "not confirmed at this scale",
}
"""What becomes of the question behind I1 by each outcome; any other leaves it open."""


def titled(network: str) -> str:
    """A network's name as it stands in a text.

    Examples
    --------
    >>> titled("procresnet-166-published"), titled("procresnet-22-at0.5-1-1")
    ('ProcResNet-166, as published', 'ProcResNet-22, held at 0.5, 1, 1')
    """
    arch, depth, *changes = network.split("-")
    name = f"{next((title for key, title in TITLES.items() if key == arch), arch)}-{depth}"
    words = (f"held at {c[2:]}" if c.startswith("at") else SUFFIXES.get(c, c) for c in changes)
    return ", ".join([name, *words])


def short(value: float, digits: int = 2) -> str:
    r"""A number with few digits, and with a power of ten where it is below a thousandth.

    Examples
    --------
    >>> print(short(0.0153), short(7e-8, 1))
    0.015 $7 \cdot 10^{-8}$
    """
    if not 0 < abs(value) < 1e-3:
        return f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"


def decided(verdicts: Mapping[str, str], untested: str, titles: Mapping[str, str]) -> str:
    """Which claims have a verdict, by their names, and how many have none.

    ``untested`` is what the verdict of those is called.  ``titles`` say what each claim is about; they are left out
    where more than ``FEW`` claims have a verdict.
    """
    few = sum(verdict != untested for verdict in verdicts.values()) <= FEW
    named = {name: f"{name} ({titles[name]})" if few else name for name in verdicts}
    said = []
    for found in dict.fromkeys(verdicts.values()):
        names = [named[name] for name, verdict in verdicts.items() if verdict == found]
        if found != untested:
            said.append(f"{_and(names)} {'is' if len(names) == 1 else 'are'} {found}")
    count, lacking = len(verdicts), sum(verdict == untested for verdict in verdicts.values())
    rest = f"{lacking} are {untested}" if lacking else "all have a verdict"
    return f"Of the {count} claims of this chapter, {'; '.join([*said, rest])}."


def _and(names: Sequence[str]) -> str:
    """Names with commas, and an ``and`` before the last one."""
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + "".join(names[-1:])


def nearer(ratios: pd.DataFrame, preset: str) -> str:
    """How the distance from 1 of the median block of constant width changes from the smallest depth to the largest."""
    factors = _factors(ratios, "residual")
    parts: dict[str, list[str]] = {"nearer to": [], "farther from": []}
    for arch, values in factors.items():
        if len(values) > 1:
            way = "nearer to" if values.iloc[-1] < values.iloc[0] else "farther from"
            parts[way].append(f"{TITLES[arch]} ({values.iloc[0]:.2f} → {values.iloc[-1]:.2f})")
    if not any(parts.values()):
        return f"How the ratios go with depth cannot be said yet: there is no ratio of {GRID} on record."
    depths = sorted({depth for values in factors.values() for depth in values.index})
    moved = [f"moves {way} 1 in {_and(names)}" for way, names in parts.items() if names]
    return (
        f"At the `{preset}` preset, from depth {depths[0]} to {depths[-1]}, the median block of constant width "
        f"{' and '.join(moved)} (factors away from 1, means over the epochs)."
    )


def _factors(ratios: pd.DataFrame, kind: str) -> dict[Arch, pd.Series]:
    """By architecture, and then by depth, the factor by which the median block is away from 1, as F3b takes it."""
    table = ratios[(ratios.epoch > 0) & (ratios.kind == kind)]
    table = table.assign(dev=table.log_ratio.astype(float).abs())
    medians = table.groupby(["arch", "depth", "seed", "epoch"]).dev.median()
    return {
        arch: np.exp(medians[arch].groupby(["depth", "seed"]).mean().groupby("depth").mean())
        for arch in TITLES
        if arch in set(table.arch)
    }


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
        f"schedule `{c.schedule}`, {precision}; seeds a network: {seeds(records)}. "
        f"`make paper PRESET={c.preset}` makes all of these runs, and {command(c.preset, **named)} one of them.*"
    )


def origin(record: Record) -> str:
    """Which run this is, and where it was made, in Markdown."""
    c, device = record.config, markdown(record.provenance.device.name)
    return f"{titled(record.network)}: seed {c.seed}, {c.precision}, {device}, commit {record.commit}"


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
    parts = []
    for arch, factors in _factors(ratios, kind).items():
        steps = ", ".join(f"{factor:.2f} at depth {depth}" for depth, factor in factors.items())
        way = f" it {trend(list(factors))}" if len(factors) > 1 else ""
        parts.append(f"in {TITLES[arch]}{way} ({steps})")
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
    said = ", ".join(f"{short(math.exp(log))} in {titled(network)}" for (_, network, _), log in first.items())
    farthest = logs.abs().dropna().groupby("network").idxmax()
    leads = [titled(network) for _, network, _ in first.index if farthest[network][-1] == 1]
    where = f"It is the block farthest from 1 in {_and(leads)}." if leads else "In none is it the farthest from 1."
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
        f"**With the variance of each block's input measured, the theory's median error is** ({_n(table.runs)}) "
        + "; ".join(parts)
        + "."
    )


def _per_cent(low: float, high: float) -> str:
    """A range of sizes of log ratios, as per cent."""
    ends = [f"{100 * math.expm1(value):.1f}" for value in (low, high)]
    return f"{ends[0]}%" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}%"


def ended(errors: pd.DataFrame) -> str:
    """Which runs of ``section4.final_errors`` diverged or did not learn, and how many did neither."""
    if errors.empty:
        return ""
    parts = []
    for (network, precision), part in errors.groupby(["network", "precision"], sort=False):
        gone, stuck = part[part.status == "diverged"], int(part.stuck.sum())
        said = [f"{stuck} of {len(part)} did not learn"] if stuck else []
        said += [f"{len(gone)} of {len(part)} diverged in epoch {_and(_epochs(gone))}"] if len(gone) else []
        parts += [f"{titled(network)} in {precision}: {' and '.join(said)}"] if said else []
    fine = int((~failed(errors)).sum())
    return f"**{fine} of the {len(errors)} runs finished and learnt.** " + "; ".join(parts) + "." * bool(parts)


def _epochs(diverged: pd.DataFrame) -> list[str]:
    return [f"{epoch:.0f}" for epoch in sorted(set(diverged.divergence_epoch))]


def seldom(table: pd.DataFrame) -> str:
    """The final test error by how often a network was projected, from ``section4.summed_up``."""
    parts = []
    for network, rows in table.groupby("network", sort=False):
        if len(rows) > 1:
            said = ", ".join(
                f"{spread(row.mean, row.sd)} at {row.project_every} (n = {row.n})"
                for row in rows.itertuples(index=False)
            )
            parts.append(f"{titled(str(network))}, in per cent by the number of steps between projections: {said}.")
    return " ".join(parts)


def overhead(theirs: tuple[float, float], ours: tuple[float, float], rounds: int, device: str) -> str:
    """What projecting after every second step costs, in per cent of the training time, mean and standard deviation."""
    return (
        f"On {markdown(device)} projecting after every second step takes {spread(*theirs)} % of the training time with "
        f"the paper's iteration, where the paper has less than 8 % on a GPU, and {spread(*ours, digits=2)} % with this "
        f"library's ({rounds} rounds; `python -m paperlib measure O1a O1d`). A CPU decides nothing about this claim."
    )


def left(table: pd.DataFrame, depth: int) -> str:
    """How far the blocks of one depth end from the prediction for the beginning, from ``explanation.left``."""
    parts = []
    for arch in TITLES:
        rows = table[table.network == network_name(arch, depth)] if len(table) else table
        if len(rows):
            first, last = (float(rows.iloc[0][name]) for name in (table.columns[2], table.columns[-1]))
            parts.append(f"{title(arch, depth)} {math.exp(first):.2f} → {math.exp(last):.2f}")
    if not parts:
        return ""
    names = f"{table.columns[2]} to {table.columns[-1]}"
    return f"From {names} the median block of constant width leaves it, as a factor: {', '.join(parts)}."


def cause(correlations: pd.DataFrame) -> str:
    """How the error goes with the distance from 1 where only the seed differs, from ``explanation.correlations``."""
    rows = correlations[correlations.runs.str.startswith("within")] if len(correlations) else correlations
    if rows.empty:
        return f"Whether the error goes with the distance from 1 cannot be said yet: there are too few runs of {GRID}."
    said = " and ".join(f"{row.rho:+.2f} for the {row.blocks} (p = {row.p:.2g})" for row in rows.itertuples())
    return (
        "Among runs that differ in their seed alone, the rank correlation of the test error with the distance from 1 "
        f"is {said}, {_n(rows.n)}."
    )


def answer(outcome: str, effects: pd.DataFrame) -> str:
    """What the interventions say by the rule of I1: does norm preservation explain the accuracy?"""
    found = ANSWERS.get(outcome, "the interventions that could decide it are not on record in full")
    sides = f" ({said})" if outcome in ANSWERS and (said := _sides(effects)) else ""
    return f"Whether norm preservation explains the accuracy is {WORDS.get(outcome, 'open')}: {found}{sides}."


def _sides(effects: pd.DataFrame) -> str:
    """Whether the error is higher or lower at the smallest and the largest factor, for each setting."""
    words = {"harm": "higher", "help": "lower", "may be none": "within chance"}
    parts = []
    for setting, rows in all_held(effects).groupby("setting", sort=False):
        ends = rows.sort_values("factor").iloc[[0, -1]].itertuples(index=False)
        said = " and ".join(f"{words[_says(row)]} at {row.factor:g}" for row in ends)
        parts.append(f"{_short(setting)}: the error is {said} times the target, {_n(rows.n)}")
    return "; ".join(parts)


def _short(setting: str) -> str:
    """The network of a setting."""
    return setting.partition(",")[0]


def intervened(effects: pd.DataFrame) -> str:
    """The change of the test error where all transitions are held at a factor, from ``interventions.effects``."""
    parts = []
    for setting, part in all_held(effects).groupby("setting", sort=False):
        said = ", ".join(f"{row.mean:+.1f} at {row.factor:g} {_interval(row)}" for row in part.itertuples(index=False))
        parts.append(f"{setting}: {said}")
    if not parts:
        return ""
    return "**Test error less that at the target**, in points by the factor on the target: " + "; ".join(parts) + "."


def others(effects: pd.DataFrame) -> str:
    """The other interventions whose interval does not hold 0; empty where there is none."""
    rest = effects.drop(all_held(effects).index)
    parts = [
        f"{row.label} {row.mean:+.1f} {_interval(row)} in {_short(row.setting)}"
        for row in rest.itertuples(index=False)
        if _says(row) in ("harm", "help")
    ]
    return (
        f"Of the other interventions these differ from the target beyond chance: {'; '.join(parts)}." if parts else ""
    )


def rising(effects: pd.DataFrame) -> list[str]:
    """The settings in which every factor below 1 lowers the error and every one above 1 raises it, beyond chance."""
    return [
        setting
        for setting, rows in all_held(effects).groupby("setting", sort=False)
        if len(rows) > 1 and all(_says(row) == ("harm" if row.factor > 1 else "help") for row in rows.itertuples())
    ]


def dose(doses: pd.DataFrame, effects: pd.DataFrame) -> str:
    """How error, loss and blocks go with the factor, from ``interventions.doses`` and ``effects``."""
    rises, parts = rising(effects), []
    for setting, rows in doses.groupby("setting", sort=False):
        factors = ", ".join(f"{f:g}" for f in rows.factor)
        errors, losses = (", ".join(f"{x:.{k}f}" for x in rows[c]) for c, k in (("test_error", 1), ("train_loss", 3)))
        blocks = ", ".join(f"{math.exp(x):.2f}" for x in rows.residual)
        noise = "" if setting in rises else ", whose order may be chance"
        parts.append(
            f"* {setting}, at {factors} times the target ({_n(rows.n)}): test errors of {errors} %{noise}; training "
            f"losses of {losses}; the median block of constant width is off 1 by the factors {blocks}."
        )
    if not parts:
        return ""
    network = _and([_short(setting) for setting in rises])
    opening = (
        f"**In {network} the error is not lowest at the target: it rises with the factor.** This was seen in the data, "
        "and no rule was set for it beforehand."
        if rises
        else "**By the factor**, means over the seeds:"
    )
    return "\n\n".join([opening, "\n".join(parts)])


def left_out(records: Sequence[Record]) -> str:
    """What interventions' baselines leave out of the paper's protocol: a sentence for each network and size."""
    baselines = [c for c in (r.config for r in records) if (c.hold_at, c.project, c.projector) == (1.0, True, "exact")]
    return " ".join(dict.fromkeys(f"{title(c.arch, c.depth)}: {c.left_out()}" for c in baselines if c.left_out()))


def _interval(row: Any) -> str:
    """In brackets: the interval, what it says, and the number of seeds; of one seed that there is none."""
    if not math.isfinite(row.low):
        return f"(n = {row.n}, hence no interval)"
    return f"({row.low:+.1f} to {row.high:+.1f}, n = {row.n}: {_says(row)})"


def _says(row: Any) -> str:
    """What an interval says of an effect on the error."""
    return "harm" if row.low > 0 else "help" if row.high < 0 else "may be none"


def unlearnt(errors: pd.DataFrame) -> str:
    """Which networks did not learn, from ``section4.final_errors``: their calm is none.  Empty where all learnt."""
    stuck = errors[errors.stuck.astype(bool)]
    return (
        f"The calm of {_and([titled(n) for n in stuck.network.unique()])} here is of that kind: they did not learn."
        if len(stuck)
        else ""
    )


def guessing(errors: pd.DataFrame) -> str:
    """Whose ratios are those of networks that guess, from ``section4.final_errors``; empty where all learnt."""
    lost = errors[failed(errors)]
    names = _and([titled(n) for n in lost.network.unique()])
    return f"Runs of {names} did not learn, and have the ratios of networks that guess." if len(lost) else ""


def at_full_scale(ratios: pd.DataFrame) -> list[str]:
    """What each run at the paper's scale shows of its ratios, from ``section4.ratios``: one text a run.

    The distance from 1 is a factor: the mean of the size of ln r, over the first and over the last ``WINDOW`` epochs,
    as a power of e.  Runs with fewer than twice as many epochs are left out.
    """
    blocks = by_block(ratios).dropna(subset=["early", "late"])
    return [_one_run(part) for _, part in blocks.groupby(["network", "seed", "precision"])]


def _one_run(blocks: pd.DataFrame) -> str:
    network, arch, seed, precision = blocks.iloc[0][["network", "arch", "seed", "precision"]]
    transitions, others = (blocks[blocks.kind == kind] for kind in ("transition", "residual"))
    parts = []
    if len(transitions):
        away = int((transitions.late > transitions.early).sum())
        moves = ", ".join(f"{math.exp(row.early):.2f} → {math.exp(row.late):.2f}" for row in transitions.itertuples())
        parts.append(f"{away} of its {len(transitions)} transitions end farther from 1 than they began ({moves}).")
        if arch == "resnet":
            parts.append("The paper says that a ResNet's transitions come nearer to 1.")
    if len(others):
        worst = math.exp(others.late.max())
        parts.append(f"The block of constant width that ends farthest from 1 is a factor of {worst:.1f} away.")
    return f"**{titled(network)}**, seed {seed}, in {precision} (n = 1): " + " ".join(parts)
