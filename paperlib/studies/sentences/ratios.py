"""What the gradient-norm ratios do, in words: Figure 3, their beginning, and what goes with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from paperlib._text import markdown
from paperlib.models import TITLES, Arch, network_name, title
from paperlib.studies.section4 import RUN, WINDOW, by_block
from paperlib.studies.sentences.words import GRID, Below, between, listed, n_of, per_cent, short, titled, trend

BLOCKS = {"residual": "block of constant width", "transition": "transition"}
DEV = "size of ln r"
WHY = {
    "F3a": f"asks that Plain's median block has at first a {DEV} of at most {{limit}}, and at least twice its first "
    "one within ten epochs. At the three depths it begins at {0}, and its largest in the first ten epochs is {1}.",
    "F3d": f"asks at depth 20 that the {DEV} of Plain's and ResNet's median block lie within a factor of {{limit}} of "
    "each other, and that ProcResNet's is below both. Plain's is {0}, ResNet's {1}, and ProcResNet's {2}.",
    "F3e": f"asks of a ProcResNet's first transition a {DEV} of at least {{limit}} times the next transition's, and "
    "that no other block is farther from 1. At the three depths the first transition has {0}, the next one {1}, and "
    "the farthest block of constant width {2}.",
    "F3f": "asks that each of a ResNet's transitions is nearer to 1 in the last ten epochs than in the first ten, at "
    "every depth. {tally}",
    "F3g": "asks that the geometric mean over all blocks stays within a factor of {limit} of 1 in every epoch. At the "
    "three depths the largest factor is, for Plain, {0}; for ResNet, {1}; for ProcResNet, {2}.",
}
"""What a rule of Figure 3 asks, and the numbers that it compares, in the order in which the claim gives them."""


def nearer(ratios: pd.DataFrame, preset: str, below: Below) -> str:
    """How the distance from 1 of the median block of constant width goes with depth."""
    found = _distances(ratios, "residual")
    parts: dict[str, list[str]] = {}
    for arch, groups in found.items():
        if len(groups) > 1:
            factors = ", ".join(f"{_factor(group):.2f}" for group in groups.values())
            parts.setdefault(trend(list(groups.values()), below), []).append(f"{TITLES[arch]} ({factors})")
    if not parts:
        return f"How the ratios go with depth cannot be said yet: there is no ratio of {GRID} on record."
    depths = sorted({depth for groups in found.values() for depth in groups})
    moved = [f"in {listed(names)} it {way}" for way, names in parts.items()]
    return (
        f"At the `{preset}` preset, the median block of constant width has these factors away from 1 at the depths "
        f"{listed([str(depth) for depth in depths])} (means over the epochs): {'; '.join(moved)}."
        f"{_without(ratios, found)}"
    )


def _cut_short(ratios: pd.DataFrame) -> dict[tuple[Arch, int], pd.Series]:
    """By architecture and depth, the last epochs of the seeds whose run stopped before others of the table."""
    trained = ratios[ratios.epoch > 0]
    last = trained.groupby(["arch", "depth", "seed"]).epoch.max()
    cut = last[last < trained.epoch.max()]
    return {key: part.droplevel([0, 1]) for key, part in cut.groupby(level=[0, 1])}


def _without(ratios: pd.DataFrame, found: Mapping[Arch, Mapping[int, pd.Series]]) -> str:
    """What the mean of a network would be without its runs that stopped early; empty where none did.

    Such a run counts in the mean with the few epochs that it lived, as the rule of F3b has it.
    """
    parts = []
    for (arch, depth), epochs in _cut_short(ratios).items():
        group = found[arch][depth]
        whole = group.drop(epochs.index)
        if len(whole):
            runs = "run" if len(epochs) == 1 else f"{len(epochs)} runs"
            without = f"without its {runs} that stopped in epoch {_epochs_of(epochs)}"
            parts.append(f" {title(arch, depth)} has {_factor(whole):.2f} {without}.")
    return "".join(parts)


def cut_short(ratios: pd.DataFrame) -> str:
    """Of which networks the figures show fewer runs after some epoch, from ``section4.ratios``; empty of none."""
    seeds = ratios.groupby(["arch", "depth"]).seed.nunique()
    return " ".join(
        f"From epoch {epochs.max() + 1} on the figures of this page show {seeds[arch, depth] - len(epochs)} of the "
        f"{seeds[arch, depth]} runs of {title(arch, depth)}, since {len(epochs)} stopped in epoch {_epochs_of(epochs)}."
        for (arch, depth), epochs in _cut_short(ratios).items()
    )


def _epochs_of(epochs: pd.Series) -> str:
    return listed([str(epoch) for epoch in sorted(set(epochs))])


def _distances(ratios: pd.DataFrame, kind: str) -> dict[Arch, dict[int, pd.Series]]:
    """By architecture and depth, how far the median block is from 1: the size of its log, by seed, as F3b takes it."""
    table = ratios[(ratios.epoch > 0) & (ratios.kind == kind)]
    table = table.assign(dev=table.log_ratio.astype(float).abs())
    medians = table.groupby(["arch", "depth", "seed", "epoch"]).dev.median()
    means = medians.groupby(["arch", "depth", "seed"]).mean()
    return {
        arch: {depth: group.droplevel("depth") for depth, group in means[arch].groupby("depth")}
        for arch in TITLES
        if arch in set(table.arch)
    }


def _factor(group: pd.Series) -> float:
    """The mean of some logarithms, as a factor."""
    return math.exp(group.mean())


def norms(ratios: pd.DataFrame, below: Below, kind: str = "residual") -> str:
    """How the distance from 1 of the median block goes with depth, from ``section4.ratios``.

    It is the mean over the epochs from 1 on and over the seeds, as in the rule of F3b.  ``kind`` chooses the blocks.
    """
    found = _distances(ratios, kind)
    parts = []
    for arch, groups in found.items():
        steps = ", ".join(f"{_factor(group):.2f} at depth {depth}" for depth, group in groups.items())
        way = f" it {trend(list(groups.values()), below)}" if len(groups) > 1 else ""
        parts.append(f"in {TITLES[arch]}{way} ({steps})")
    if not parts:
        return f"How the ratios go with depth cannot be said yet: there is no ratio of {GRID} on record."
    few = "; a network has three transitions, so that this is the middle one" if kind == "transition" else ""
    runs = n_of(pd.Series([len(group) for groups in found.values() for group in groups.values()]))
    said = f"**How far the median {BLOCKS[kind]} is from 1**, as a factor ({runs}{few}): {'; '.join(parts)}."
    return said + _without(ratios, found)


def why(compared: Mapping[str, Sequence[str]], limits: Mapping[str, str], tallies: Mapping[str, str]) -> str:
    """What the rules of Figure 3 ask and what the runs have, a line a claim; empty without one.

    Parameters
    ----------
    compared : mapping
        By claim, the numbers that its rule compares, as the scorecard writes them.
    limits : mapping
        By claim, the rule's limit.
    tallies : mapping
        By claim, its comparisons, counted in a sentence.
    """
    parts = []
    for name, template in WHY.items():
        if name in compared:
            told = template.format(*compared[name], limit=limits.get(name, ""), tally=tallies.get(name, ""))
            parts.append(f"* **{name}** {told}")
    return "\n".join(parts)


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
    where = f"It is the block farthest from 1 in {listed(leads)}." if leads else "In none is it the farthest from 1."
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
            parts.append(f"{per_cent(off.min(), off.max())} for {words}")
    if not parts:
        return f"There is no ratio before the first update of {GRID} on record yet."
    return (
        f"**With the variance of each block's input measured, the theory's median error is** ({n_of(table.runs)}) "
        + "; ".join(parts)
        + "."
    )


def hidden(accuracy: pd.DataFrame, start: pd.DataFrame) -> str:
    """What the medians of ``beginning.accuracy`` hide, from it and ``beginning.beginnings``; empty without networks.

    These are the first blocks of a ProcResNet, and the later transitions of a Plain network.
    """
    parts = []
    table = start[(start.arch == "procresnet") & (start.kind == "residual")].dropna(subset=["log_ratio", "prediction"])
    if len(table):
        first = table[table.block == table.groupby("network").block.transform("min")]
        means = first.assign(**first[["log_ratio", "prediction"]].astype(float)).groupby("network")
        there, asked = (means[column].mean().map(math.exp) for column in ("log_ratio", "prediction"))
        parts.append(
            "The medians hide the first blocks of a ProcResNet, which lie below the theory: the first one of constant "
            f"width has the ratio {between(there)} where {between(asked)} is predicted."
        )
    later = accuracy[(accuracy.blocks == "later transitions") & accuracy.network.str.startswith("plain")]
    worse = later[later.off > later.off_unmeasured]
    if len(worse):
        names = listed(
            [f"{titled(r.network)} ({r.off:.3f} against {r.off_unmeasured:.3f})" for r in worse.itertuples()]
        )
        parts.append(
            f"The measured variance does not always help: for the later transitions of {names} theory alone is nearer."
        )
    return " ".join(parts)


def left(table: pd.DataFrame, depth: int) -> str:
    """How far the blocks of one depth end from the prediction for the beginning, from ``explanation.left``."""
    parts = []
    for arch in TITLES:
        rows = table[table.network == network_name(arch, depth)] if len(table) else table
        if len(rows):
            first, last = (float(rows.iloc[0][name]) for name in (table.columns[2], table.columns[-1]))
            parts.append(f"from {math.exp(first):.2f} to {math.exp(last):.2f} in {title(arch, depth)}")
    if not parts:
        return ""
    names = f"{table.columns[2]} to {table.columns[-1]}"
    return (
        f"From {names} the median distance of a block of constant width from its prediction goes, as a factor, "
        f"{listed(parts)}."
    )


def cause(correlations: pd.DataFrame) -> str:
    """How the error goes with the distance from 1 where only the seed differs, from ``explanation.correlations``."""
    rows = correlations[correlations.runs.str.startswith("within")] if len(correlations) else correlations
    if rows.empty:
        return f"Whether the error goes with the distance from 1 cannot be said yet: there are too few runs of {GRID}."
    said = " and ".join(f"{row.rho:+.2f} for the {row.blocks} (p = {row.p:.2f})" for row in rows.itertuples())
    return (
        "Among runs that differ in their seed alone, the rank correlation of the test error with the distance from 1 "
        f"is {said}, {n_of(rows.n)}."
    )


def shallow(distances: Mapping[str, float], n: int) -> str:
    """What F3d compares: how far a network's median block is from 1, by the network's name, nearest first."""
    ordered = sorted(distances.items(), key=lambda item: item[1])
    said = listed([f"{math.exp(value):.2f} in {name}" for name, value in ordered])
    return (
        f"**At depth 20 the median block is off 1 by a factor of {said}** (mean over the epochs, n = {n}). The paper "
        "says that Plain and ResNet behave alike there, and that ProcResNet is nearest to 1."
    )


def two_scales(small: pd.DataFrame, large: pd.DataFrame, preset: str) -> str:
    """The ratio of the first transitions at two scales, over the last ``WINDOW`` epochs, from ``section4.ratios``.

    Of the networks that are on record at both; empty where there is none.
    """
    here, there = (_first_at_the_end(table) for table in (small, large))
    both = [network for network in there if network in here]
    if not both:
        return ""
    said = listed([f"{here[n]:.2f} and {there[n]:.2f} in {titled(n)}" for n in both])
    crossed = [titled(n) for n in both if (here[n] - 1) * (there[n] - 1) < 0]
    sides = f" In {listed(crossed)} the two lie on different sides of 1." if crossed else ""
    return (
        f"**The first transitions end otherwise than at the `{preset}` preset.** Their ratios there and here, "
        f"geometric means over the last {WINDOW} epochs, are {said}.{sides} What the smaller runs show of these "
        "blocks need not hold at the paper's scale."
    )


def _first_at_the_end(ratios: pd.DataFrame) -> dict[str, float]:
    """By network, the ratio of the first block over the last epochs, a geometric mean over them and the runs."""
    first = ratios[ratios.block == 1]
    late = first[first.epoch > first.groupby(RUN).epoch.transform("max") - WINDOW]
    return late.assign(log=late.log_ratio.astype(float)).groupby("network").log.mean().map(math.exp).to_dict()


def made_again(repeated: pd.DataFrame) -> str:
    """How far one run differs between two machines, on :func:`paperlib.studies.section4.repeated`; or nothing."""
    said = []
    for (network, seed), rows in repeated.drop_duplicates(["network", "seed", "device"]).groupby(["network", "seed"]):
        if len(rows) > 1:
            each = [f"{math.exp(row.dev):.2f} on {markdown(row.device)}" for row in rows.itertuples()]
            said.append(
                f"{titled(network)} with seed {seed} was trained on {len(rows)} kinds of machine, and is off by a "
                f"factor of {listed(each)}: the machine and the versions of its libraries change the number, too."
            )
    return " ".join(said)


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
