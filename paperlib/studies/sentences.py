"""Chapter 5's findings in words, taken from its tables.

Each function returns Markdown.  What a table does not have is said to be missing, with the command that makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import pandas as pd

from paperlib._text import markdown
from paperlib.config import RunConfig
from paperlib.models import TITLES, Arch, network_name, title
from paperlib.paper import TABLE_I
from paperlib.records import Record
from paperlib.studies.interventions import all_held
from paperlib.studies.section4 import GRID_DEPTHS, RUN, WINDOW, by_block, failed, spread

BLOCKS = {"residual": "block of constant width", "transition": "transition"}
CHOICES = ("schedule", "dataset", "erase_relu", "project", "projector", "project_every")
GRID = "the nine networks of Figures 3 and 4 at a constant rate"
"""What most of the chapter is about. Records of other networks and schedules may be there without one of these."""
RATES = {"steps": "falling", "constant": "constant"}
DEV = "size of ln r"
WHY = {
    "F3a": f"asks that Plain's median block has at first a {DEV} of at most {{limit}}, and soon at least twice what it "
    "had. At the three depths it begins at {0}, and its largest value in the first ten epochs is {1}.",
    "F3e": f"asks of a ProcResNet's first transition a {DEV} of at least {{limit}} times the next transition's, and "
    "that no other block is farther from 1. At the three depths the first transition has {0}, the next one {1}, and "
    "the farthest block of constant width {2}.",
    "F3f": "asks that each of a ResNet's transitions is nearer to 1 in the last ten epochs than in the first ten, at "
    "every depth. {tally}",
    "F3g": "asks that the geometric mean over all blocks stays within a factor of {limit} of 1 in every epoch. At the "
    "three depths the largest factor is, for Plain, {0}; for ResNet, {1}; for ProcResNet, {2}.",
}
"""What a rule of Figure 3 asks, and the numbers that it compares, in the order in which the claim gives them."""
FEW = 4
STILL = 0.1
"""A mean log ratio that moves by less hardly moves, since a factor of an intervention moves it by about 0.2."""
SUFFIXES = {"eraserelu": "EraseReLU", "noproject": "free", "published": "as published"}
ASKED = "the rule asks for a higher error on both sides of the target"
ANSWERS = {
    "reproduced": f"supported at this scale: {ASKED}, and it is there",
    "reproduced with a correction": f"supported in part at this scale: {ASKED}, and it is there on one side alone",
    "not reproduced": f"not confirmed at this scale: {ASKED}, which {{seen}}",
}
"""What each outcome of the rule of I1 says of the question behind it; any other leaves it open."""
CAVEAT = "A factor also changes how near to 1 the other blocks are, so that it does not test norm preservation alone."
# Whether a first group of seeds lies below a second one beyond the scatter: the test of the claims' rules.
Below = Callable[[pd.Series, pd.Series], bool]


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
    moved = [f"in {_and(names)} it {way}" for way, names in parts.items()]
    return (
        f"At the `{preset}` preset, the median block of constant width has these factors away from 1 at the depths "
        f"{_and([str(depth) for depth in depths])} (means over the epochs): {'; '.join(moved)}."
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
            without = f"without its {runs} that stopped in epoch {_listed(epochs)}"
            parts.append(f" {title(arch, depth)} has {_factor(whole):.2f} {without}.")
    return "".join(parts)


def cut_short(ratios: pd.DataFrame) -> str:
    """Of which networks the figures show fewer runs after some epoch, from ``section4.ratios``; empty of none."""
    seeds = ratios.groupby(["arch", "depth"]).seed.nunique()
    return " ".join(
        f"From epoch {epochs.max() + 1} on the figures of this page show {seeds[arch, depth] - len(epochs)} of the "
        f"{seeds[arch, depth]} runs of {title(arch, depth)}, since {len(epochs)} stopped in epoch {_listed(epochs)}."
        for (arch, depth), epochs in _cut_short(ratios).items()
    )


def _listed(epochs: pd.Series) -> str:
    return _and([str(epoch) for epoch in sorted(set(epochs))])


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


def extent(records: Sequence[Record]) -> str:
    """How long runs were trained: ``6 epochs of 3,500 images``; each size once."""
    sizes = [f"{c.epochs} epochs of {c.train_images:,} images" for c in (record.config for record in records)]
    return " or ".join(dict.fromkeys(sizes))


def by_size(parts: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """How large the runs behind some parts of a page are: one row for each part and size.

    Returns
    -------
    DataFrame
        Columns: ``shown in`` (the part), ``depths``, ``epochs``, ``training images``, ``test images``, ``rate`` (the
        schedule) and ``n`` (seeds of a network).
    """
    rows = []
    for part, records in parts.items():
        groups: dict[tuple[Any, ...], list[Record]] = {}
        for record in records:
            c = record.config
            groups.setdefault((c.epochs, c.train_images, c.test_images, RATES.get(c.schedule, c.schedule)), []).append(
                record
            )
        for size, of_one in sorted(groups.items()):
            depths = ", ".join(map(str, sorted({record.config.depth for record in of_one})))
            rows.append((part, depths, *size, seeds(of_one).removeprefix("n = ")))
    columns = ["shown in", "depths", "epochs", "training images", "test images", "rate", "n"]
    return pd.DataFrame(rows, columns=columns)


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


def trend(groups: Sequence[pd.Series], below: Below) -> str:
    """Whether groups of seeds fall or rise, and whether beyond their scatter, as a verb.

    Examples
    --------
    >>> groups = [pd.Series([mean - 0.1, mean + 0.1]) for mean in (3, 2, 1)]
    >>> def below(a, b):
    ...     return a.max() < b.min()
    >>> trend(groups, below), trend(groups[::-1], below), trend([groups[0]] * 2, below)
    ('falls', 'rises', 'does not change beyond the scatter')
    """
    for verb, ordered in (("falls", groups[::-1]), ("rises", groups)):
        means = [float(group.mean()) for group in ordered]
        if all(below(a, b) for a, b in pairwise(ordered)):
            return verb
        if means == sorted(means) and below(ordered[0], ordered[-1]):
            return f"{verb}, though not in every step beyond the scatter"
    apart = any(below(a, b) or below(b, a) for a, b in combinations(groups, 2))
    return "neither falls nor rises throughout" if apart else "does not change beyond the scatter"


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
    runs = _n(pd.Series([len(group) for groups in found.values() for group in groups.values()]))
    said = f"**How far the median {BLOCKS[kind]} is from 1**, as a factor ({runs}{few}): {'; '.join(parts)}."
    return said + _without(ratios, found)


def with_depth(what: str, groups: Mapping[Arch, Mapping[int, pd.Series]], below: Below) -> str:
    """How a number goes with depth in each architecture, from its groups of seeds by depth."""
    parts = []
    for arch, by_depth in groups.items():
        means = ", ".join(f"{group.mean():.2f}" for group in by_depth.values())
        parts.append(f"{means} in {TITLES[arch]}, where it {trend(list(by_depth.values()), below)}")
    depths = dict.fromkeys(str(depth) for by_depth in groups.values() for depth in by_depth)
    return f"In these runs {what} at the depths {_and(list(depths))} is {'; '.join(parts)}." if parts else ""


def beside(table: pd.DataFrame, value: str, pairs: Iterable[tuple[str, str]], below: Below) -> pd.DataFrame:
    """The first network of each pair beside the second, from the columns ``network``, ``seed`` and ``value``.

    Returns
    -------
    DataFrame
        One row per pair of which both networks are there.  Columns: ``first``, ``second``, ``difference`` (of the
        means, first minus second) and ``beyond`` (whether it is one beyond the scatter).
    """
    groups = {network: part.set_index("seed")[value].astype(float) for network, part in table.groupby("network")}
    rows = []
    for first, second in pairs:
        if {first, second} <= {*groups}:
            a, b = groups[first], groups[second]
            rows.append((first, second, a.mean() - b.mean(), below(a, b) or below(b, a)))
    return pd.DataFrame(rows, columns=["first", "second", "difference", "beyond"])


def differences(table: pd.DataFrame) -> str:
    """The rows of :func:`beside`, in points, as a list; empty without a row."""
    lines = [
        f"* {titled(row.first)} against {titled(row.second)}: {row.difference:+.1f} points, "
        f"{'beyond' if row.beyond else 'within'} the scatter"
        for row in table.itertuples()
    ]
    return "In these runs the mean errors differ:\n\n" + ";\n".join(lines) + "." if lines else ""


def gaps(table: pd.DataFrame, below: Below) -> str:
    """How often ProcResNet's gap is smaller than its ResNet's, from ``section4.gaps``; empty without both."""
    pairs = [(network_name("procresnet", depth), network_name("resnet", depth)) for depth in GRID_DEPTHS]
    table = table.assign(excess=table.largest - table["mean"]).dropna(subset="mean")
    parts = []
    for column, words in (("mean", "mean gap"), ("excess", "largest gap minus its mean")):
        found = [beside(part, column, pairs, below) for _, part in table.groupby("training", sort=False)]
        rows = pd.concat(found) if found else pd.DataFrame()
        if len(rows):
            less = rows[rows.difference < 0]
            beyond = int(less.beyond.sum())
            parts.append(f"ProcResNet's {words} lies below its ResNet's in {len(less)} of {len(rows)} comparisons, "
                         f"beyond the scatter in {beyond}")  # fmt: skip
    return f"In these runs {'; '.join(parts)}." if parts else ""


def against_the_paper(table: pd.DataFrame, below: Below) -> str:
    """Where the mean gaps of Plain-20 and ResNet-20 stand in another order than the paper's, from ``section4.gaps``."""
    plain, resnet = names = [network_name(arch, GRID_DEPTHS[0]) for arch in ("plain", "resnet")]
    parts = []
    for training, part in table.dropna(subset="mean").groupby("training", sort=False):
        rows = beside(part, "mean", [(plain, resnet)], below)
        means = part.groupby("network")["mean"].mean()
        if len(rows) and rows.difference.iloc[0] < 0:
            scatter = "beyond" if rows.beyond.iloc[0] else "within"
            parts.append(
                f"{means[plain]:.1f} against {means[resnet]:.1f} points by the {training} error, {scatter} the scatter"
            )
    ours, theirs = (TABLE_I[name][0] for name in names)
    return (
        f"In another order than in the paper, {titled(plain)} has a smaller mean gap here than {titled(resnet)}: "
        f"{'; '.join(parts)}. The paper has {ours} against {theirs}."
        if parts
        else ""
    )


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
            f"width has the ratio {_between(there)} where {_between(asked)} is predicted."
        )
    later = accuracy[(accuracy.blocks == "later transitions") & accuracy.network.str.startswith("plain")]
    worse = later[later.off > later.off_unmeasured]
    if len(worse):
        names = _and([f"{titled(r.network)} ({r.off:.3f} against {r.off_unmeasured:.3f})" for r in worse.itertuples()])
        parts.append(
            f"The measured variance does not always help: for the later transitions of {names} theory alone is nearer."
        )
    return " ".join(parts)


def _between(values: pd.Series) -> str:
    """The smallest and the largest of some numbers, or the one that they all are once they are written."""
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


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


def seldom(table: pd.DataFrame, sizes: str) -> str:
    """The final test error by how often a network was projected, from ``section4.summed_up``, and what could be seen.

    ``sizes`` says how large the runs are.
    """
    parts = []
    for network, rows in table.groupby("network", sort=False):
        if len(rows) > 1:
            errors = ", ".join(spread(row.mean, row.sd) for row in rows.itertuples(index=False))
            steps = _and([str(every) for every in rows.project_every])
            parts.append(
                f"{titled(str(network))} ({sizes}; {_n(rows.n)}) has test errors of {errors} % if it is projected "
                f"every {steps} steps. {_seen(rows)}"
            )
    return " ".join(parts)


def _seen(rows: pd.DataFrame) -> str:
    """How large a difference between two of some groups would be seen by a t-test at 5 %; empty where n is 1."""
    from scipy.stats import t  # here, because it would take a quarter of every command's start

    n, sd = rows.n.min(), math.sqrt((rows.sd**2).mean())
    if n < 2 or not math.isfinite(sd):
        return ""
    least = t.ppf(0.975, 2 * (n - 1)) * sd * math.sqrt(2 / n)
    return f"With this scatter two of them differ beyond chance only if they are {least:.1f} points apart."


def overhead(theirs: tuple[float, float], ours: tuple[float, float], rounds: int, device: str) -> str:
    """What projecting after every second step costs, in per cent of the training time, mean and standard deviation."""
    return (
        f"On {markdown(device)} projecting the three transitions of {titled('procresnet-166')} after every second step "
        f"takes {spread(*theirs)} % of the training time with "
        f"the paper's iteration and {spread(*ours, digits=2)} % with this library's ({rounds} rounds; "
        "`python -m paperlib measure O1a O1d`). The paper says less than 8 % on a GPU; a CPU decides nothing about it."
    )


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
        f"{_and(parts)}."
    )


def cause(correlations: pd.DataFrame) -> str:
    """How the error goes with the distance from 1 where only the seed differs, from ``explanation.correlations``."""
    rows = correlations[correlations.runs.str.startswith("within")] if len(correlations) else correlations
    if rows.empty:
        return f"Whether the error goes with the distance from 1 cannot be said yet: there are too few runs of {GRID}."
    said = " and ".join(f"{row.rho:+.2f} for the {row.blocks} (p = {row.p:.2f})" for row in rows.itertuples())
    return (
        "Among runs that differ in their seed alone, the rank correlation of the test error with the distance from 1 "
        f"is {said}, {_n(rows.n)}."
    )


def answer(outcome: str, effects: pd.DataFrame, briefly: bool = False) -> str:
    """What the interventions say by the rule of I1: does norm preservation explain the accuracy?

    ``briefly``: without the effects themselves.
    """
    if outcome not in ANSWERS:
        return (
            "Whether norm preservation explains the accuracy is open: the interventions that could decide it are not "
            "on record in full."
        )
    sides = "; ".join(_sides(effects)) if not briefly else ""
    seen = f" Compared with the target, by the factor: {sides}." if sides else ""
    found = ANSWERS[outcome].format(seen=_how_many(effects))
    return f"That norm preservation explains the accuracy is {found}.{seen} {CAVEAT}"


def _how_many(effects: pd.DataFrame) -> str:
    """In how many of the settings both the smallest and the largest factor raise the error beyond chance."""
    both = []
    for _, rows in all_held(effects).groupby("setting", sort=False):
        ends = rows.sort_values("factor").iloc[[0, -1]]
        both.append(all(says(row) == "harm" for row in ends.itertuples(index=False)))
    if any(both):
        return f"is seen in {sum(both)} of {len(both)} settings alone"
    return {1: "is not seen in the one setting", 2: "is seen in neither setting"}.get(
        len(both), "is seen in no setting"
    )


def _sides(effects: pd.DataFrame) -> list[str]:
    """Whether the error is higher or lower at the smallest and the largest factor, for each setting."""
    words = {"harm": "higher", "help": "lower", "may be none": "within chance"}
    parts = []
    for setting, rows in all_held(effects).groupby("setting", sort=False):
        ends = rows.sort_values("factor").iloc[[0, -1]].itertuples(index=False)
        said = " and ".join(f"{words[says(row)]} at {row.factor:g} ({row.mean:+.1f} points)" for row in ends)
        parts.append(f"the error of {_short(setting)} is {said}, {_n(rows.n)}")
    return parts


def as_published(effects: pd.DataFrame, intervals: bool = False) -> str:
    """How the error differs where the transitions are held as the authors' code does it, network by network.

    ``effects`` is that of the interventions; the difference is to the paper's projection.  Empty without such runs.
    """
    words = {"harm": "is higher", "help": "is lower", "may be none": "differs within chance", "": "differs"}
    parts = []
    for row in effects[effects["way"] == "published"].itertuples():
        interval = f", 95 % interval {row.low:+.2f} to {row.high:+.2f}" if intervals and row.n > 1 else ""
        parts.append(f"{words[says(row)]} in {_short(row.setting)} ({row.mean:+.2f} points{interval}, n = {row.n})")
    return _and(parts)


def _short(setting: str) -> str:
    """The network of a setting."""
    return setting.partition(",")[0]


def rising(effects: pd.DataFrame) -> list[str]:
    """The settings in which every factor below 1 lowers the error and every one above 1 raises it, beyond chance."""
    return [
        setting
        for setting, rows in all_held(effects).groupby("setting", sort=False)
        if len(rows) > 1 and all(says(row) == ("harm" if row.factor > 1 else "help") for row in rows.itertuples())
    ]


def dose(doses: pd.DataFrame, effects: pd.DataFrame) -> str:
    """How error, loss and blocks go with the factor, from ``interventions.doses`` and ``effects``."""
    rises, parts = rising(effects), []
    for setting, rows in doses.groupby("setting", sort=False):
        factors = ", ".join(f"{f:g}" for f in rows.factor)
        errors, losses = (", ".join(f"{x:.{k}f}" for x in rows[c]) for c, k in (("test_error", 1), ("train_loss", 3)))
        blocks = ", ".join(f"{math.exp(x):.2f}" for x in rows.residual)
        noise = "" if setting in rises else ", whose order may be chance"
        size = setting.split(", ")[2]
        parts.append(
            f"* {_short(setting)} ({size}), at {factors} times the target ({_n(rows.n)}): test errors of {errors} "
            f"%{noise}; training losses of {losses}; the median block of constant width is off by factors of {blocks}."
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


def unmoved(effects: pd.DataFrame) -> str:
    """Where transitions that are not held at a factor change the error, though their ratios hardly move; else empty."""
    rows = [row for row in effects.itertuples() if row.way != "held" and abs(row.shift) < STILL]
    parts = []
    for row in rows:
        if says(row) not in ("harm", "help"):
            continue
        calm = [
            f"“{other.label}” ({other.shift:+.2f}, {other.mean:+.2f} points)"
            for other in rows
            if other.setting == row.setting and says(other) == "may be none"
        ]
        alike = f" With {_and(calm)} it moves as little, and the error not beyond chance." if calm else ""
        parts.append(
            f"In {_short(row.setting)} “{row.label}” changes the error by {row.mean:+.2f} points, although the "
            f"transitions' mean log ratio moves by {row.shift:+.2f} only.{alike} What changes the error there is not "
            "this mean ratio alone, or it is chance."
        )
    return " ".join(parts)


def left_out(records: Sequence[Record]) -> str:
    """What interventions' baselines leave out of the paper's protocol: a sentence for each network and size."""
    baselines = [c for c in (r.config for r in records) if (c.hold_at, c.project, c.projector) == (1.0, True, "exact")]
    said = (f"{title(c.arch, c.depth)}: {c.left_out(several=True)}" for c in baselines if c.left_out())
    return " ".join(dict.fromkeys(said))


def says(row: Any) -> str:
    """What an interval says of an effect on the error; empty of one seed, which has none."""
    if not math.isfinite(row.low):
        return ""
    return "harm" if row.low > 0 else "help" if row.high < 0 else "may be none"


def unlearnt(errors: pd.DataFrame) -> str:
    """Which networks did not learn, from ``section4.final_errors``: their calm is none.  Empty where all learnt."""
    stuck = errors[errors.stuck.astype(bool)]
    return (
        "A network that does not learn mostly guesses one class, so that its error hardly fluctuates. The calm of "
        f"{_and([titled(n) for n in stuck.network.unique()])} here is of that kind."
        if len(stuck)
        else ""
    )


def guessing(errors: pd.DataFrame) -> str:
    """Whose ratios are those of networks that guess, from ``section4.final_errors``; empty where all learnt."""
    lost = errors[failed(errors)]
    names = _and([titled(n) for n in lost.network.unique()])
    whole = len(lost) == errors.network.isin(lost.network).sum()
    runs = f"No run of {names} learnt" if whole else f"Runs of {names} did not learn"
    return f"{runs}: these are the ratios of networks that guess." if len(lost) else ""


def uncertain(errors: pd.DataFrame, images: int) -> str:
    """What the number of test images alone does to an error, from ``section4.final_errors``; empty without a run."""
    learnt = errors[~failed(errors)].test_error.astype(float)
    if learnt.empty:
        return ""
    share = learnt.median() / 100
    sd = 100 * math.sqrt(share * (1 - share) / images)
    return (
        f"The test set has {images:,} images here. On so many an error of {100 * share:.0f} % has a standard deviation "
        f"of {sd:.1f} points from the choice of the images alone."
    )


def shallow(distances: Mapping[str, float], n: int) -> str:
    """What F3d compares: how far a network's median block is from 1, by the network's name, nearest first."""
    ordered = sorted(distances.items(), key=lambda item: item[1])
    said = _and([f"{math.exp(value):.2f} in {name}" for name, value in ordered])
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
    said = _and([f"{here[n]:.2f} and {there[n]:.2f} in {titled(n)}" for n in both])
    crossed = [titled(n) for n in both if (here[n] - 1) * (there[n] - 1) < 0]
    sides = f" In {_and(crossed)} the two lie on different sides of 1." if crossed else ""
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
                f"factor of {_and(each)}: another machine, with other versions of the libraries, changes it by as much."
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
