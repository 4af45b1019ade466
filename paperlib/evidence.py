"""The committed findings measured again: which outcomes change, and which numbers move by more than they scatter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from paperlib import claims
from paperlib.channel_grid import stored_only
from paperlib.claims import Finding, Quantity
from paperlib.claims.finding import PRESETS
from paperlib.errors import ConfigError, RecordError

SAME = 1e-6  # relative: what another machine's rounding may change
ROUNDING = 1e-12  # absolute: numbers below it are rounding themselves


class Comparison(NamedTuple):
    """A claim measured again, beside its committed finding.

    Attributes
    ----------
    claim, preset : str
        What was measured, and at which size.
    before, now : str
        The outcomes by today's rule; ``before`` is empty where nothing was committed.
    moved : list of str
        The quantities that differ by more than they scatter, as sentences.
    skipped : str
        Why it was not measured again; empty where it was.
    """

    claim: str
    preset: str
    before: str = ""
    now: str = ""
    moved: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def changed(self) -> bool:
        """Whether the outcome is another one."""
        return bool(self.before and self.now and self.before != self.now)


def compare(before: Finding, now: Finding) -> Comparison:
    """Compare two findings about one claim, by today's rule.

    Parameters
    ----------
    before, now : Finding
        The committed one and the new one.

    Returns
    -------
    Comparison
        A quantity has moved where the means differ by more than the larger standard deviation, and by more than
        rounding; and where it is in one of the two only.

    Examples
    --------
    >>> finding = claims.measure("C1", preset="smoke", seeds=2)
    >>> compare(finding, finding).moved
    ()
    """
    names = dict.fromkeys([*before.quantities, *now.quantities])
    moved = [said for name in names if (said := _moved(name, before.quantities.get(name), now.quantities.get(name)))]
    return Comparison(before.claim, before.preset, claims.outcome(before), claims.outcome(now), tuple(moved))


def _moved(name: str, before: Quantity | None, now: Quantity | None) -> str:
    if before is None or now is None:
        return f"{name}: {'new' if before is None else 'no longer there'}"
    if before.mean == now.mean or (math.isnan(before.mean) and math.isnan(now.mean)):
        return ""
    spread = max(before.sd or 0.0, now.sd or 0.0, SAME * abs(before.mean), ROUNDING)
    return "" if abs(now.mean - before.mean) <= spread else f"{name}: {before}, now {now}"


def gather(
    names: Iterable[str], committed: str | Path, out: str | Path, preset: str | None = None
) -> Iterator[Comparison]:
    """Measure claims again where that needs no training, save the findings, and compare them.

    Parameters
    ----------
    names : iterable of str
        Keys of ``paperlib.claims.CLAIMS``.
    committed : str or Path
        The root of the findings to compare with, such as ``results``.
    out : str or Path
        The root of the new ones.
    preset : str, optional
        The size; by default that of the committed finding that counts, else desk.

    Yields
    ------
    Comparison
        One for each claim, as soon as it is there.

    Raises
    ------
    ConfigError
        The preset is none.
    RecordError
        A committed finding cannot be read, or a new one cannot be saved.
    """
    if preset not in (None, *PRESETS):
        raise ConfigError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    known = {(f.claim, f.preset): f for f in claims.read_all(committed)}
    counting = {f.claim: f.preset for f in claims.counting(known.values())}
    for name in names:
        size = preset or counting.get(name, "desk")
        if size not in claims.CLAIMS[name].presets:
            yield Comparison(name, size, skipped=f"it has no {size} preset")
            continue
        yield _again(name, size, known.get((name, size)), out)


def _again(name: str, preset: str, before: Finding | None, out: str | Path) -> Comparison:
    """Measure one claim, with as many seeds as before."""
    sampled = before is not None and not claims.CLAIMS[name].scaled
    seeds = len(before.seeds) if before is not None and sampled else None
    try:
        with stored_only():
            now = claims.measure(name, preset, seeds)
    except RecordError as e:  # what it would take to train
        return Comparison(name, preset, claims.outcome(before) if before else "", skipped=str(e))
    claims.save(now, out)
    return compare(before, now) if before else Comparison(name, preset, now=claims.outcome(now))


def report(comparisons: Iterable[Comparison]) -> str:
    """What changed: outcomes first, then quantities, then what is new and what was not measured.

    Examples
    --------
    >>> print(report([Comparison("T1", "desk", "reproduced", "reproduced")]))
    1 measured again: no outcome changed
    """
    found = list(comparisons)
    again = [c for c in found if c.before and c.now]
    changed = [c for c in again if c.changed]
    count = f"{len(changed)} outcome{'s' * (len(changed) > 1)} changed" if changed else "no outcome changed"
    return "\n".join(
        [
            f"{len(again)} measured again: {count}",
            *_lines(changed, lambda c: [f"{c.claim} at {c.preset}: was {c.before}, is {c.now}"]),
            *_lines(again, lambda c: [f"{c.claim} at {c.preset}: {said}" for said in c.moved]),
            *_lines(found, lambda c: [f"{c.claim} at {c.preset}: new, {c.now}"] if c.now and not c.before else []),
            *_lines(found, lambda c: [f"{c.claim} at {c.preset}: not measured: {c.skipped}"] if c.skipped else []),
        ]
    )


def _lines(comparisons: list[Comparison], said: Callable[[Comparison], list[str]]) -> list[str]:
    return [f"  {line}" for comparison in comparisons for line in said(comparison)]
