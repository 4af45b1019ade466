"""What the interventions do to the error, in words."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from paperlib.studies.interventions import all_held
from paperlib.studies.sentences.words import listed, n_of

STILL = 0.1
"""A mean log ratio that moves by less hardly moves, since a factor of an intervention moves it by about 0.2."""
ASKED = "the rule asks for a higher error on both sides of the target"
ANSWERS = {
    "reproduced": f"supported at this scale: {ASKED}, and it is there",
    "reproduced with a correction": f"supported in part at this scale: {ASKED}, and it is there on one side alone",
    "not reproduced": f"not confirmed at this scale: {ASKED}, which {{seen}}",
}
"""What each outcome of the rule of I1 says of the question behind it; any other leaves it open."""
CAVEAT = "A factor also changes how near to 1 the other blocks are, so that it does not test norm preservation alone."


def says(row: Any) -> str:
    """What an interval says of an effect on the error; empty of one seed, which has none."""
    if not math.isfinite(row.low):
        return ""
    return "harm" if row.low > 0 else "help" if row.high < 0 else "may be none"


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
        parts.append(f"the error of {_short(setting)} is {said}, {n_of(rows.n)}")
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
    return listed(parts)


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
            f"* {_short(setting)} ({size}), at {factors} times the target ({n_of(rows.n)}): test errors of {errors} "
            f"%{noise}; training losses of {losses}; the median block of constant width is off by factors of {blocks}."
        )
    if not parts:
        return ""
    network = listed([_short(setting) for setting in rises])
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
        alike = (
            f" With {listed(calm)} the ratio moves as little, and the error does not change beyond chance."
            if calm
            else ""
        )
        parts.append(
            f"In {_short(row.setting)} “{row.label}” changes the error by {row.mean:+.2f} points, although the "
            f"transitions' mean log ratio moves by {row.shift:+.2f} only.{alike} So this mean ratio alone does not "
            "explain the change, unless it is chance."
        )
    return " ".join(parts)
