"""The scorecard as data: one row for each claim, made from findings, and kept as JSON.

The JSON has sorted keys and no time of its own, so that the same findings give the same bytes.  Its schema is that of
:class:`Scorecard`, which ``Scorecard.model_json_schema()`` writes out, with a seal (``paperlib.store.stored``).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from paperlib import _checks, claims
from paperlib.claims import Finding
from paperlib.claims._wording import written
from paperlib.claims.cards import CARDS, GROUPS, Card
from paperlib.claims.claim import UNTESTED, Direction
from paperlib.errors import RecordError
from paperlib.scorecard import price
from paperlib.store import files
from paperlib.store.stored import sealed, unsealed

FILE = "scorecard.json"
VERDICTS = ("reproduced", "reproduced with a correction", "not reproduced", UNTESTED)
STRICT = ConfigDict(extra="forbid", frozen=True)


class Number(BaseModel):
    """A measured number: mean and standard deviation over ``n`` seeds.

    Attributes
    ----------
    name : str
        What was measured, with its unit where it has one.
    mean, sd : float or None
        None where it is not finite; ``sd`` also where there is one seed.
    n : int
        How many seeds; of a time, how many rounds.
    text : str
        Mean ± sd as the page writes it.
    """

    model_config = STRICT

    name: str
    mean: float | None
    sd: float | None
    n: int
    text: str


class Compared(BaseModel):
    """A number that a rule compares, in the statistic that it takes.

    Attributes
    ----------
    name, text : str
        What it is, and the number with its n.
    """

    model_config = STRICT

    name: str
    text: str


class Ruled(BaseModel):
    """A rule that is no longer the claim's, and what it said.

    Attributes
    ----------
    until : str
        The day on which it was replaced; empty for the rule of the time of a finding.
    sentence, outcome, reason : str
        The rule, what it said of the findings of its time, and why it was replaced.
    """

    model_config = STRICT

    until: str = ""
    sentence: str
    outcome: str
    reason: str = ""


class Evidence(BaseModel):
    """What one finding says about a claim.

    Attributes
    ----------
    preset : str
        The size at which it was measured.
    outcome, said : str
        What today's rule says of it; and in words, with its precision, and with what is missing or few.
    brief, remark : str
        The outcome in fewer words; and what is to be said beside it, as the correction.
    direction : str
        Why a rule is not met: the numbers go ``"against"`` the claim, lie in its ``"order"`` but scatter too much, or
        lie both ways within the scatter, ``"mixed"``; else empty.
    tally : str
        The comparisons behind it, counted.
    decides : bool
        Whether this size decides the claim.
    compared : list of Compared
        The numbers that the rule compares, those that decide first.
    numbers : list of Number
        All that were measured.
    n : int
        How many seeds the numbers are over, at most; of times, how many rounds.
    device, commit, date, command, record : str
        Where it was measured, from which code, when, what measures it again, and its file below the root.
    ruled : bool
        Whether the finding keeps the rule that was in force when it was measured; the oldest do not.
    rule_then : Ruled or None
        That rule, where it was another one than today's.
    """

    model_config = STRICT

    preset: str
    outcome: str
    said: str
    brief: str
    remark: str
    direction: Direction
    tally: str
    decides: bool
    compared: list[Compared]
    numbers: list[Number]
    n: int
    device: str
    commit: str
    date: str
    command: str
    record: str
    ruled: bool
    rule_then: Ruled | None


class Row(BaseModel):
    """One claim.

    Attributes
    ----------
    claim, title, group, where, statement, says : str
        Its name, what it is about, its part of the scorecard, its place in the paper, what it is, and the paper's
        figure.
    verdict : str
        One of ``VERDICTS``.
    evidence : list of Evidence
        The finding that counts first, then those of smaller presets; empty where there is no data.
    rule, after : str
        How the verdict is drawn, and what is to be said of a rule that is younger than its data.
    former : list of Ruled
        The rules that it had before, the oldest first.
    page : str
        The page that shows it, without a suffix.
    changes, cost : str
        What would change the verdict, and what a test at the paper's scale takes.
    """

    model_config = STRICT

    claim: str
    title: str
    group: str
    where: str
    statement: str
    says: str
    verdict: Literal[
        "reproduced", "reproduced with a correction", "not reproduced", "not yet tested at the paper's scale"
    ]
    evidence: list[Evidence]
    rule: str
    after: str
    former: list[Ruled]
    page: str
    changes: str
    cost: str


class Scorecard(BaseModel):
    """All claims, in the order of ``GROUPS`` and, in each, of ``paperlib.claims.CLAIMS``.

    Attributes
    ----------
    schema_version : int
        Of this form: 2.
    rows : list of Row
        The claims.
    cost, hours : str
        What all training runs of the paper's scale take, and that in a few words.
    """

    model_config = STRICT

    schema_version: Literal[2] = 2
    rows: list[Row]
    cost: str
    hours: str

    def json_text(self) -> str:
        """The scorecard as JSON, always the same for the same content."""
        content = sealed(self.model_dump(mode="json"))
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def build(root: str | Path) -> Scorecard:
    """Make the scorecard from the findings below ``root``.

    Parameters
    ----------
    root : str or Path
        The folder that has ``claims/``, such as ``results``.

    Returns
    -------
    Scorecard
        A claim without a finding is in it, too.

    Raises
    ------
    RecordError
        A finding cannot be read, or is about a claim that there is not.

    Examples
    --------
    >>> import tempfile
    >>> empty = build(tempfile.mkdtemp())
    >>> empty.rows[0].claim, empty.rows[0].verdict, empty.rows[0].evidence
    ('T1', "not yet tested at the paper's scale", [])
    """
    findings = claims.read_all(root)
    if unknown := [f.claim for f in findings if f.claim not in claims.CLAIMS]:
        raise RecordError(f"there is a finding about {unknown[0]!r}, which is no claim here: move it out of {root}")
    prices = price.here(root)
    rows = [_row(name, [f for f in findings if f.claim == name], prices) for name in claims.CLAIMS]
    rows.sort(key=lambda row: GROUPS.index(row.group))
    return Scorecard(rows=rows, cost=prices.sentence(), hours=prices.briefly())


def _row(name: str, findings: list[Finding], prices: price.Prices) -> Row:
    claim, card = claims.CLAIMS[name], CARDS[name]
    found = [_evidence(finding) for finding in findings]
    verdict = claims.verdict(findings[0]) if findings else UNTESTED
    return Row(
        claim=name,
        title=card.title,
        group=card.group,
        where=claim.where,
        statement=claim.statement,
        says=card.says,
        # What the rule cannot decide for lack of runs is not tested yet.
        verdict=UNTESTED if verdict == "undecided" else verdict,
        evidence=found,
        rule=claim.rule,
        after=claim.after,
        former=[Ruled(**former._asdict()) for former in claim.former],
        page=card.page,
        changes=_changes(card, verdict, found[0] if found else None),
        cost=card.cost or prices.of(claim, card.runs),
    )


def _changes(card: Card, verdict: str, found: Evidence | None) -> str:
    """What would change the verdict: what is still to be seen, and not what the record already shows."""
    outcome = found.outcome if found else ""
    if found and outcome == "undecided" and found.remark:
        return f"What is missing. With the runs on record only “not reproduced” can follow: {found.remark}."
    said = {"reproduced": card.refutes, "not reproduced": card.confirms}.get(
        outcome, f"For “reproduced”: {card.confirms} For “not reproduced”: {card.refutes}"
    )
    if verdict != UNTESTED:
        return said
    both = outcome not in ("reproduced", "not reproduced")
    return f"To be seen at the scale that decides{'.' if both else ':'} {said if both else _after_colon(said)}"


def _after_colon(sentence: str) -> str:
    """A sentence as it goes on after a colon: in lower case, unless it begins with a network's name."""
    return sentence if sentence.startswith(("Plain", "ProcResNet", "ResNet")) else sentence[0].lower() + sentence[1:]


def _evidence(finding: Finding) -> Evidence:
    told = claims.details(finding)
    made, then = finding.provenance, finding.rule
    younger = then is not None and claims.judged_by_another_rule(finding)
    return Evidence(
        preset=finding.preset,
        outcome=told.outcome,
        said=told.said,
        decides=told.decides,
        brief=told.brief,
        remark=told.remark,
        direction=told.direction,
        tally=told.tally,
        compared=[Compared(**compared._asdict()) for compared in told.compared],
        numbers=[
            Number(name=name, mean=_finite(q.mean), sd=_finite(q.sd), n=q.n, text=written(q.mean, q.sd))
            for name, q in finding.quantities.items()
        ],
        n=max((q.n for q in finding.quantities.values()), default=0),
        device=made.device.name,
        commit=made.short_commit,
        date=made.started[:10],
        command=made.command,
        record=claims.place("", finding.claim, finding.preset).joinpath(Finding.FILE).as_posix(),
        ruled=then is not None,
        rule_then=Ruled(sentence=then.sentence, outcome=then.outcome) if then and younger else None,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def write(scorecard: Scorecard, path: str | Path) -> None:
    """Write a scorecard as JSON; on any error what was there stays.

    Raises
    ------
    RecordError
        The file cannot be written, or there is no folder for it: a name that was mistyped makes none.
    """
    path = _checks.path("path", path)
    _checks.instance("scorecard", scorecard, Scorecard, "a Scorecard")
    if not path.parent.is_dir():
        raise RecordError(f"the scorecard could not be written to {path}: there is no folder {path.parent}")
    try:
        files.write_atomically(path, scorecard.json_text().encode())
    except OSError as e:
        raise RecordError(
            f"the scorecard could not be written to {path}: {e.strerror or e}; make room, or choose another file"
        ) from e


def read(path: str | Path) -> Scorecard:
    """Read a scorecard that :func:`write` wrote.

    Raises
    ------
    RecordError
        It is missing, was changed, or is no scorecard of this version.
    """
    path = _checks.path("path", path)
    try:
        return Scorecard.model_validate(unsealed(path.read_bytes()))
    except OSError as e:
        raise RecordError(f"the scorecard {path} cannot be read: {e.strerror or e}") from e
    except ValueError as e:  # also a ValidationError
        raise RecordError(
            f"{path} is no scorecard of this paperlib, or was changed: make it again with paperlib scorecard"
        ) from e
