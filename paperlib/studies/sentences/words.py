"""Names, numbers and lists as they stand in a sentence, and how a number goes with depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise

import pandas as pd

from paperlib.models import TITLES

GRID = "the nine networks of Figures 3 and 4 at a constant rate"
"""What most of the chapter is about. Records of other networks and schedules may be there without one of these."""
SUFFIXES = {"eraserelu": "EraseReLU", "noproject": "free", "published": "as published"}
FEW = 4
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


def listed(names: Sequence[str]) -> str:
    """Names with commas, and an ``and`` before the last one."""
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + "".join(names[-1:])


def n_of(counts: pd.Series) -> str:
    """``n = 3``, or ``n = 1 to 3`` where the numbers of runs differ."""
    low, high = counts.min(), counts.max()
    return f"n = {low}" + (f" to {high}" if high > low else "")


def between(values: pd.Series) -> str:
    """The smallest and the largest of some numbers, or the one that they all are once they are written."""
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


def per_cent(low: float, high: float) -> str:
    """A range of sizes of log ratios, as per cent."""
    ends = [f"{100 * math.expm1(value):.1f}" for value in (low, high)]
    return f"{ends[0]}%" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}%"


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
            said.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {found}")
    count, lacking = len(verdicts), sum(verdict == untested for verdict in verdicts.values())
    rest = f"{lacking} are {untested}" if lacking else "all have a verdict"
    return f"Of the {count} claims of this chapter, {'; '.join([*said, rest])}."
