"""The committed findings measured again: which outcomes change, and which numbers move by more than they scatter.

Claims about trained networks are not measured again, which would be to train again: they are judged again from the
stored records.
"""

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
    stored : bool
        Whether the claim was judged again from stored records, and nothing was measured.
    exact : bool
        Whether its numbers are counted, so that they may not differ at all.
    """

    claim: str
    preset: str
    before: str = ""
    now: str = ""
    moved: tuple[str, ...] = ()
    skipped: str = ""
    stored: bool = False
    exact: bool = False

    @property
    def changed(self) -> bool:
        """Whether the outcome is another one."""
        return bool(self.before and self.now and self.before != self.now)

    @property
    def compared(self) -> bool:
        """Whether there are an old and a new finding."""
        return bool(self.before and self.now)

    @property
    def failed(self) -> bool:
        """Whether the outcome is another one, or a number that was counted."""
        return self.changed or (self.exact and bool(self.moved))


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
        rounding; where it was counted, by more than the last digits; and where it is in one of the two only.

    Examples
    --------
    >>> finding = claims.measure("C1", preset="smoke", seeds=2)
    >>> compare(finding, finding).moved
    ()
    """
    was, outcome = claims.outcome(before), claims.outcome(now)
    rules = claims.CLAIMS[before.claim]
    pairs = {name: (before.quantities.get(name), now.quantities.get(name)) for name in before.quantities}
    pairs |= {name: (None, quantity) for name, quantity in now.quantities.items() if name not in pairs}
    moved = tuple(said for name, pair in pairs.items() if (said := _moved(name, *pair, rules.exact)))
    return Comparison(before.claim, before.preset, was, outcome, moved, stored=rules.scaled, exact=rules.exact)


def _moved(name: str, before: Quantity | None, now: Quantity | None, exact: bool) -> str:
    if before is None or now is None:
        return f"{name}: {'new' if before is None else 'no longer there'}"
    if before.mean == now.mean or (math.isnan(before.mean) and math.isnan(now.mean)):
        return ""
    spread = max(before.sd or 0.0, now.sd or 0.0, SAME * abs(before.mean))
    if abs(now.mean - before.mean) <= max(0.0 if exact else spread, ROUNDING):
        return ""
    if str(before) == str(now):  # the difference is behind the digits that are written
        return f"{name}: {before.mean!r}, now {now.mean!r}"
    return f"{name}: {before}, now {now}"


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
        The preset is none, or the new findings would replace those on record.
    RecordError
        There is no committed finding, one cannot be read, or a new one cannot be saved.
    """
    if preset not in (None, *PRESETS):
        raise ConfigError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    claims.check_root(committed)
    old, new = (Path(root) / "claims" for root in (committed, out))
    if new.exists() and new.samefile(old):
        raise ConfigError(f"the new findings would replace those on record in {old}: name another folder for them")
    known = {(f.claim, f.preset): f for f in claims.read_all(committed)}
    if not known:
        raise RecordError(f"there is no finding in {old}: name a folder that has some to compare with, such as results")
    counting = {f.claim: f.preset for f in claims.counting(known.values())}
    for name in names:
        size = preset or counting.get(name, "desk")
        if size not in claims.CLAIMS[name].presets:
            yield Comparison(name, size, skipped=f"it has no {size} preset")
            continue
        if lacks := claims.device_missing(name, size):
            yield Comparison(name, size, skipped=lacks)
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
    1 measured again: no outcome changed, no number differs
    """
    found = list(comparisons)
    again = [c for c in found if c.compared]
    changed = [c for c in again if c.changed]
    return "\n".join(
        [
            _headline(again, len(changed)),
            *_lines(changed, lambda c: [f"{c.claim} at {c.preset}: was {c.before}, is {c.now}"]),
            *_lines(again, lambda c: [f"{c.claim} at {c.preset}: {said}" for said in c.moved]),
            *_lines(found, lambda c: [f"{c.claim} at {c.preset}: new, {c.now}"] if c.now and not c.before else []),
            *_lines(found, lambda c: [f"{c.claim} at {c.preset}: not measured: {c.skipped}"] if c.skipped else []),
        ]
    )


def _headline(again: list[Comparison], changed: int) -> str:
    """How many were compared, measured or only judged, and what became of their outcomes and numbers."""
    judged, moved = sum(c.stored for c in again), sum(len(c.moved) for c in again)
    how = [f"{len(again) - judged} measured again"] * (len(again) > judged or not judged)
    how += [f"{judged} judged again from the stored records"] * bool(judged)
    outcomes = f"{changed} outcome{'s' * (changed > 1)} changed" if changed else "no outcome changed"
    numbers = f"{moved} number{'s differ' if moved > 1 else ' differs'}" if moved else "no number differs"
    return f"{', '.join(how)}: {outcomes}, {numbers}"


def _lines(comparisons: list[Comparison], said: Callable[[Comparison], list[str]]) -> list[str]:
    return [f"  {line}" for comparison in comparisons for line in said(comparison)]
