"""What losses, errors and their differences are, in words: Figure 4 and Tables I to III."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from paperlib._text import markdown
from paperlib.models import TITLES, Arch, network_name
from paperlib.paper import TABLE_I
from paperlib.studies.section4 import GRID_DEPTHS, failed, spread
from paperlib.studies.sentences.words import Below, listed, n_of, titled, trend


def with_depth(what: str, groups: Mapping[Arch, Mapping[int, pd.Series]], below: Below) -> str:
    """How a number goes with depth in each architecture, from its groups of seeds by depth."""
    parts = []
    for arch, by_depth in groups.items():
        means = ", ".join(f"{group.mean():.2f}" for group in by_depth.values())
        parts.append(f"{means} in {TITLES[arch]}, where it {trend(list(by_depth.values()), below)}")
    depths = dict.fromkeys(str(depth) for by_depth in groups.values() for depth in by_depth)
    return f"In these runs {what} at the depths {listed(list(depths))} is {'; '.join(parts)}." if parts else ""


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


def ended(errors: pd.DataFrame) -> str:
    """Which runs of ``section4.final_errors`` diverged or did not learn, and how many did neither."""
    if errors.empty:
        return ""
    parts = []
    for (network, precision), part in errors.groupby(["network", "precision"], sort=False):
        gone, stuck = part[part.status == "diverged"], int(part.stuck.sum())
        said = [f"{stuck} of {len(part)} did not learn"] if stuck else []
        said += [f"{len(gone)} of {len(part)} diverged in epoch {listed(_epochs(gone))}"] if len(gone) else []
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
            steps = listed([str(every) for every in rows.project_every])
            parts.append(
                f"{titled(str(network))} ({sizes}; {n_of(rows.n)}) has test errors of {errors} % if it is projected "
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
        "`python -m paperlib measure O1a O1d`). The paper says less than 8 %, taken to be on a GPU; a CPU "
        "decides nothing about it."
    )


def unlearnt(errors: pd.DataFrame) -> str:
    """Which networks did not learn, from ``section4.final_errors``: their calm is none.  Empty where all learnt."""
    stuck = errors[errors.stuck.astype(bool)]
    return (
        "A network that does not learn mostly guesses one class, so that its error hardly fluctuates. The calm of "
        f"{listed([titled(n) for n in stuck.network.unique()])} here is of that kind."
        if len(stuck)
        else ""
    )


def guessing(errors: pd.DataFrame) -> str:
    """Whose ratios are those of networks that guess, from ``section4.final_errors``; empty where all learnt."""
    lost = errors[failed(errors)]
    names = listed([titled(n) for n in lost.network.unique()])
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
