"""The paper's claims: what was measured for each, on record, and the verdict that a stated rule draws from it.

A :class:`paperlib.claims.finding.Finding` is to a claim what a :class:`paperlib.records.Record` is to a training run: a
folder ``<root>/claims/<claim>/<preset>/`` with ``finding.json`` (the summary and where it was made) and one
Parquet table for each measurement.  ``python -m paperlib measure T1 C1 T2`` makes some of them.

Each chapter has one module that says what its claims are: ``norm_preservation`` (chapter 1), ``projection`` (2),
``channel_grid`` (3), and two that read training records: ``section4`` (Figures 3 to 5 and Tables I to III) and
``interventions`` (does norm preservation explain the accuracy?).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from paperlib import _checks
from paperlib._checks import whole_number
from paperlib.claims import channel_grid, interventions, norm_preservation, projection, section4
from paperlib.claims.claim import UNTESTED, Claim, Details, Measured, Outcome
from paperlib.claims.finding import (
    Finding,
    Quantity,
    Ruling,
    check_root,
    counting,
    place,
    rank,
    read,
    read_below,
    save,
)
from paperlib.claims.reading import Reading
from paperlib.claims.section4.base import ENOUGH, EVERY_SEED
from paperlib.errors import ConfigError, RecordError
from paperlib.store import Provenance

__all__ = [
    "CLAIMS",
    "Claim",
    "Finding",
    "Measured",
    "Quantity",
    "Ruling",
    "check",
    "check_root",
    "counting",
    "details",
    "device_missing",
    "former_rules",
    "judged_by_another_rule",
    "measure",
    "outcome",
    "overview",
    "place",
    "qualified",
    "read",
    "read_all",
    "report",
    "save",
    "spoken",
    "verdict",
]

QUOTED = 1e-6  # how much a number may be off from its table's: relative, and rounding is less

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for chapter in (
        norm_preservation.CLAIMS,
        projection.CLAIMS,
        channel_grid.CLAIMS,
        section4.CLAIMS,
        interventions.CLAIMS,
    )
    for claim in chapter
}


def check(claim: str, preset: str | None = None, seeds: int | None = None) -> None:
    """Raise ``ConfigError`` for a claim or preset that does not exist, or ``seeds`` that are no number up to 10,000.

    Also for a preset that asks for a GPU where there is none.
    """
    if not isinstance(claim, str) or claim not in CLAIMS:
        near = {name.lower(): name for name in CLAIMS}.get(claim.lower()) if isinstance(claim, str) else None
        hint = f": did you mean {near}?" if near else ""
        raise ConfigError(f"claim {_checks.shown(claim)} is not one of {', '.join(CLAIMS)}{hint}")
    presets = CLAIMS[claim].presets
    if preset is not None and (not isinstance(preset, str) or preset not in presets):
        why = "" if "paper" in presets else f": {claim} needs no GPU and no data"
        raise ConfigError(f"preset {_checks.shown(preset)} is not one of {', '.join(presets)}{why}")
    if preset is not None and (lacks := device_missing(claim, preset)):
        raise ConfigError(lacks)
    if seeds is not None:
        whole_number("seeds", seeds, error=ConfigError, most=EVERY_SEED)


def measure(claim: str, preset: str = "desk", seeds: int | None = None) -> Finding:
    """Measure one claim, here and now.

    Parameters
    ----------
    claim : str
        A key of ``CLAIMS``.
    preset : str
        ``"desk"``, ``"smoke"`` for a few seconds' worth of it, or, for claims about trained networks, ``"paper"``.  The
        claims about the projection's cost have it, too: it is ``"desk"`` on a GPU.
    seeds : int, optional
        How many: 0, 1, …  By default there are 5 or, for claims about trained networks, as many as the preset has or
        as there are records of.

    Returns
    -------
    Finding
        What was measured.  It is not stored yet.

    Raises
    ------
    ConfigError
        For an unknown claim or preset, no seeds, or more than 10,000.
    RecordError
        The claim is about training runs of which there is no record, or one of them cannot be read.

    Examples
    --------
    >>> finding = measure("C1", preset="smoke", seeds=2)
    >>> verdict(finding), finding.seeds
    ('reproduced', [0, 1])
    """
    check(claim, _checks.instance("preset", preset, str, "the name of a preset"), seeds)
    rules = CLAIMS[claim]
    chosen = list(range(seeds or rules.seeds(preset)))
    here = Provenance.here("", "cuda" if rules.accelerated and torch.cuda.is_available() else "cpu")
    tables, source, found = rules.measure(preset, chosen)
    here.last.clock()
    # As many seeds as find the same ones again.
    count = len(chosen) if found is None or seeds else 1 + max(found)
    return Finding(
        claim=claim,
        preset=preset,
        seeds=chosen if found is None else found,
        quantities={name: _quantity(values) for name, values in rules.quantities(tables).items()},
        rule=Ruling(digest=rules.digest(), sentence=rules.rule, outcome=rules.judge(tables)),
        provenance=Provenance(
            command=f"python -m paperlib measure {claim} --preset {preset} --seeds {count}",
            # What was measured on a stored run was made where that was.
            sessions=(here if source is None else source).sessions,
        ),
        frames=tables,
    )


def device_missing(claim: str, preset: str) -> str:
    """Why a claim cannot be measured at a preset on this machine, as a sentence; empty if it can.

    Examples
    --------
    >>> device_missing("O1a", "desk")
    ''
    """
    if CLAIMS[claim].on_gpu and preset == "paper" and not torch.cuda.is_available():
        return f"{claim} at the paper preset is timed on a GPU (CUDA devices found: 0): use the desk preset"
    return ""


def _quantity(values: pd.Series) -> Quantity:
    return Quantity(mean=values.mean(), sd=values.std() if len(values) > 1 else None, n=len(values))


def outcome(finding: Finding) -> Outcome:
    """What the claim's rule says of the finding's tables, at whatever scale they were measured.

    Raises
    ------
    RecordError
        The claim is unknown, or the tables are not such as it has: a table or a column is missing, or of another kind.
    """
    _checks.instance("finding", finding, Finding, "a Finding")
    if finding.claim not in CLAIMS:
        raise RecordError(f"there is a finding about a claim {finding.claim!r}, which this paperlib does not know")
    with _tables_of(finding):
        return CLAIMS[finding.claim].judge(finding.frames)


@contextlib.contextmanager
def _tables_of(finding: Finding) -> Iterator[None]:
    """Within it, whatever a claim's code meets in tables that are not its own becomes one sentence."""
    where = f"the finding of {finding.claim} at the {finding.preset} preset"
    try:
        yield
    except KeyError as e:
        raise RecordError(f"{where} has no {e}: measure the claim again") from e
    except (AttributeError, IndexError, TypeError, ValueError, pd.errors.UndefinedVariableError) as e:
        said = " ".join(str(e).split())
        raise RecordError(f"{where} has tables that its rule cannot read ({said:.200}): measure the claim again") from e


def verdict(finding: Finding) -> str:
    """The finding's :func:`outcome`, if it was made where that decides the claim; else ``UNTESTED``.

    Raises ``RecordError`` as :func:`outcome` does.
    """
    found = outcome(finding)
    return UNTESTED if _elsewhere(finding) else found


def _elsewhere(finding: Finding) -> str:
    return CLAIMS[finding.claim].elsewhere(finding.preset, finding.provenance.device.type)


def read_all(root: str | Path, only: Iterable[str] | None = None) -> list[Finding]:
    """The findings below ``<root>/claims``, all or ``only`` those of some claims.

    A claim may have several, one for each preset; :func:`paperlib.claims.finding.counting` picks one.

    Parameters
    ----------
    root : str or Path
        Such as ``results``.
    only : iterable of str, optional
        Names of claims.

    Returns
    -------
    list of Finding
        In the order of ``CLAIMS``, and of one claim that of the largest preset first.

    Raises
    ------
    RecordError
        As :func:`paperlib.claims.finding.read_below` does, and for a number that is not that of the finding's tables.
    """
    wanted = None if only is None else _checks.items("only", only, "names of claims")
    order = {claim: i for i, claim in enumerate(CLAIMS)}
    found = [_checked(f) for f in read_below(root) if wanted is None or f.claim in wanted]
    return sorted(found, key=lambda f: (order.get(f.claim, len(order)), f.claim, rank(f.preset)))


def _checked(finding: Finding) -> Finding:
    """The finding, if the numbers that it quotes are those that its tables give; RecordError if not.

    A quantity that is defined in another way than before needs another name.
    """
    if finding.claim in CLAIMS and finding.quantities:
        with _tables_of(finding):
            given = CLAIMS[finding.claim].quantities(finding.frames)
        for name in finding.quantities.keys() & given.keys():
            said, found = finding.quantities[name].mean, given[name].mean()
            if not np.isclose(said, found, rtol=QUOTED, atol=QUOTED * given[name].abs().max(), equal_nan=True):
                raise RecordError(
                    f"the finding of {finding.claim} at the {finding.preset} preset says {said:.6g} where its tables "
                    f"give {found:.6g} ({name}): measure the claim again"
                )
    return finding


def overview(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row per quantity: what was measured, its mean ± sd, where it was measured, and the claim's verdict.

    Of several findings of a claim only the one that counts is shown (:func:`paperlib.claims.finding.counting`).

    Columns: ``claim``, ``measured``, ``mean ± sd``, ``seeds`` (how many), ``preset``, ``device``, ``commit``,
    ``verdict``.
    """
    return pd.DataFrame(
        {
            "claim": f.claim,
            "measured": name,
            "mean ± sd": str(quantity),
            "seeds": quantity.n,
            "preset": f.preset,
            "device": f.provenance.device.name,
            "commit": f.provenance.short_commit,
            "verdict": verdict(f),
        }
        for f in counting(findings)
        for name, quantity in f.quantities.items()
    )


def former_rules(names: Iterable[str]) -> pd.DataFrame:
    """The rules that some claims had before, one row for each; claims that shared a rule share its row.

    Parameters
    ----------
    names : iterable of str
        Keys of ``CLAIMS``.

    Returns
    -------
    DataFrame
        Columns: ``claims`` (names, in words), ``until`` (the day on which the rule was replaced), ``rule``, ``it said``
        (of the findings of its time) and ``replaced because``.

    Examples
    --------
    >>> former_rules(["F2a", "F2b"])[["claims", "until"]].values.tolist()
    [['F2a, F2b', '2026-11-26'], ['F2a, F2b', '2026-11-27']]
    """
    shared: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in names:
        for rule in CLAIMS[name].former:
            shared.setdefault((rule.until, rule.sentence, rule.reason), {})[name] = rule.outcome
    return pd.DataFrame(
        {
            "claims": ", ".join(said),
            "until": until,
            "rule": sentence,
            "it said": "; ".join(f"{name}: {outcome}" if len(said) > 1 else outcome for name, outcome in said.items()),
            "replaced because": reason,
        }
        for (until, sentence, reason), said in shared.items()
    )


def judged_by_another_rule(finding: Finding) -> bool:
    """Whether today's rule is another than that of the time when the finding was made.

    False for findings from before rules were kept: of them nobody knows.
    """
    _checks.instance("finding", finding, Finding, "a Finding")
    return finding.rule is not None and finding.rule.digest != CLAIMS[finding.claim].digest()


def spoken(finding: Finding) -> str:
    """The verdict in words.

    Where the scale does not decide the claim, the outcome at this scale stands beside it.  An outcome says in which
    precision it is found if that is not the paper's, what is missing where nothing is decided, and how many seeds there
    are where they are too few to compare groups.
    """
    found, said = verdict(finding), qualified(finding)
    return f"{found} ({_elsewhere(finding)}: {said})" if found == UNTESTED else said


def qualified(finding: Finding) -> str:
    """The finding's :func:`outcome` in words, at whatever scale: with its precision, and what is missing or few."""
    return _qualified(finding, outcome(finding))


def _qualified(finding: Finding, found: Outcome) -> str:
    rules = CLAIMS[finding.claim]
    with _tables_of(finding):
        if found == "undecided":
            return f"{found}: {rules.missing(finding.frames)}"
        n, note = rules.smallest(finding.frames), rules.note(finding.frames)
        precision = rules.precision(finding.frames)
    where = f", in {precision}" if precision not in ("", "float32") else ""
    return found + where + (f" (n = {n})" if n is not None and n < ENOUGH else "") + (f" ({note})" if note else "")


def details(finding: Finding) -> Details:
    """What the scorecard says of a finding: its outcome, what was compared, which way it points, and a remark.

    Raises ``RecordError`` as :func:`outcome` does.

    Examples
    --------
    >>> details(measure("C1", preset="smoke", seeds=2)).direction
    ''
    """
    _checks.instance("finding", finding, Finding, "a Finding")
    finding = finding.model_copy(update={"frames": Reading(finding.frames)})
    found = outcome(finding)
    rules, tables = CLAIMS[finding.claim], finding.frames
    with _tables_of(finding):
        remark, n, precision = rules.remark(tables), rules.smallest(tables), rules.precision(tables)
        if found == "undecided":
            brief = f"{found}: {rules.briefly(tables)}"
        else:
            few = (
                f", with only {n} run{'s' * (n > 1)} of a network"
                if n and n < ENOUGH and "one run" not in remark
                else ""
            )
            brief = found + (f", in {precision}" if precision not in ("", "float32") else "") + few
        return Details(
            outcome=found,
            said=_qualified(finding, found),
            decides=found != "undecided" and not _elsewhere(finding),
            compared=rules.compared(tables),
            direction=rules.direction(tables),
            tally=rules.tally(tables),
            brief=brief,
            remark=remark,
        )


def report(findings: Iterable[Finding]) -> str:
    """The verdict with the rule behind it, and the command, device and commit: two lines per finding.

    A third line tells what the rule said when the finding was made, where it was another one.  Of several findings of a
    claim only the one that counts is shown (:func:`paperlib.claims.finding.counting`).
    """
    return "\n".join(_reported(finding) for finding in counting(findings))


def _reported(f: Finding) -> str:
    lines = [f"{f.claim}  {spoken(f)}: {CLAIMS[f.claim].rule}", f"    {_made(f.provenance)}"]
    if f.rule and judged_by_another_rule(f):
        lines.append(f"    this rule is younger than the finding; by the one of that time: {f.rule.outcome}: "
                     f"{f.rule.sentence}")  # fmt: skip
    return "\n".join(lines)


def _made(p: Provenance) -> str:
    commits = dict.fromkeys((s.commit or "none")[:7] + "+" * bool(s.dirty) for s in p.sessions)
    return f"{p.command}  ({p.device.name}, {p.threads} threads, commit {', '.join(commits)})"
