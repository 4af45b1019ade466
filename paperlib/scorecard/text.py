"""The scorecard in words: three paragraphs to quote, and a table for a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter

from paperlib import _checks
from paperlib._text import plain
from paperlib.claims._wording import spelled
from paperlib.claims.cards import OURS
from paperlib.claims.claim import UNTESTED, Direction
from paperlib.scorecard.data import VERDICTS, Evidence, Row, Scorecard

WIDTH = 116  # columns of a terminal
SHOWN = 4  # numbers of a claim; all of them are in its record
DIRECTIONS: dict[Direction, str] = {
    "against": "the numbers go against the claim",
    "order": "the numbers lie in the claim's order but scatter too much for the rule",
    "mixed": "some numbers lie the other way than claimed, none of them beyond the scatter",
}
SUMMED: dict[Direction, str] = {
    "against": "some numbers go against the paper",
    "order": "the order is the paper's, but the scatter is too large for the rule",
    "mixed": "some numbers lie the other way, within the scatter",
}


def sentences(scorecard: Scorecard) -> list[str]:
    """What the scorecard says, in three paragraphs: how many verdicts of each kind, which, and what is open.

    Parameters
    ----------
    scorecard : Scorecard
        Its claims that are not the paper's are not counted.

    Returns
    -------
    list of str
        Plain text.
    """
    _checks.instance("scorecard", scorecard, Scorecard, "a Scorecard")
    rows = [row for row in scorecard.rows if row.group != OURS]
    return [_counted(rows), _named(rows), _open(rows, scorecard.hours)]


def _counted(rows: list[Row]) -> str:
    reproduced, corrected, refuted, untested = (sum(row.verdict == v for row in rows) for v in VERDICTS)
    return (
        f"Of the paper's {spelled(len(rows))} claims that this book can test, {_are(reproduced)} reproduced, "
        f"{_are(corrected)} reproduced with a correction, and "
        f"{spelled(refuted) if refuted else 'none'} came out as not reproduced at a scale that decides; "
        f"{_are(untested)} not yet tested at the paper's scale."
    )


def _named(rows: list[Row]) -> str:
    parts = []
    for verdict in ("reproduced", "reproduced with a correction", "not reproduced"):
        if found := [_titled(row) for row in rows if row.verdict == verdict]:
            parts.append(f"{_capital(verdict)}: {listed(found) if verdict == 'reproduced' else '; '.join(found)}.")
    return " ".join(parts) or "No claim has a verdict yet."


def _open(rows: list[Row], hours: str) -> str:
    untested = [row for row in rows if row.verdict == UNTESTED]
    if not untested:
        return "No claim is left to be tested."
    small = [row.evidence[0] for row in untested if row.evidence]
    there = f"{spelled(len(small)) if small else 'none'} of the {spelled(len(untested))} open claims"
    said = [
        f"{_capital(there)} {'was' if len(small) < 2 else 'were'} measured at a smaller size, "
        "or on a CPU where a GPU decides; that settles nothing."
    ]
    if missed := [found for found in small if found.outcome == "not reproduced"]:
        ways = Counter(found.direction for found in missed)
        told = "; ".join(f"in {spelled(ways[way])}, {words}" for way, words in SUMMED.items() if ways[way])
        said.append(f"Of these, {spelled(len(missed))} came out as not reproduced: {told}.")
    others = Counter(found.outcome for found in small if found.outcome != "not reproduced")
    if others:
        said.append(
            _capital(f"{listed([f'{spelled(n)} came out as {outcome}' for outcome, n in others.most_common()])}.")
        )
    return " ".join([*said, *([f"The paper's scale asks for {hours}."] if hours else [])])


def _titled(row: Row) -> str:
    """What a claim is about, with its place in the paper, its name, and what must be said beside it.

    A claim that is not reproduced is spelt out: what it is about does not tell what is denied.
    """
    denied = row.verdict == "not reproduced"
    title, _, place = (f"that {row.statement} ({row.where})" if denied else row.title).partition(" (")
    remark = row.evidence[0].remark if row.evidence and row.verdict != "reproduced" else ""
    named = "; ".join(filter(None, [place.removesuffix(")"), row.claim]))
    return f"{title} ({named}{': ' * bool(remark)}{remark})"


def _are(count: int) -> str:
    return f"{spelled(count) if count else 'none'} {'are' if count > 1 else 'is'}"


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def listed(words: list[str]) -> str:
    """Words as a list in a sentence.

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def describe(scorecard: Scorecard) -> str:
    """The scorecard as text: the sentences, then for each claim its verdict, the paper's figure and ours."""
    lines = [*map(_wrapped, sentences(scorecard))]
    group = ""
    for row in scorecard.rows:
        if row.group != group:
            group = row.group
            lines += ["", group]
        lines += _described(row)
    return "\n".join(lines)


def pointed(found: Evidence) -> str:
    """Which way a finding points whose rule is not met, with its comparisons counted, as sentences; else empty."""
    if not found.direction:
        return ""
    words = DIRECTIONS[found.direction]
    if found.direction == "against" and found.tally:  # the comparisons have a scatter, which tells them apart
        words = "some numbers go against the claim, beyond the scatter"
    return f"{_capital(words)}. {found.tally}".strip()


def _described(row: Row) -> list[str]:
    lines = [f"  {row.claim:5}{row.verdict}: {row.statement}", f"       paper: {row.says}"]
    for found in row.evidence:
        lines.append(f"       {found.preset}: {found.said} ({found.device}, commit {found.commit})")
        lines += [f"         {said}" for said in (found.remark, pointed(found), row.after) if said]
        lines += [f"         {number.name}: {number.text}" for number in found.compared[:SHOWN]]
    if not row.evidence:
        lines.append(f"       no data. {row.cost}")
    return [_wrapped(line) for line in lines]


def _wrapped(line: str) -> str:
    line = plain(line)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True)) or line
