"""The scorecard in words: three sentences to quote, and a table for a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter

from paperlib import _checks
from paperlib._text import plain
from paperlib.claims._wording import spelled
from paperlib.claims.cards import OURS
from paperlib.claims.claim import UNTESTED
from paperlib.scorecard.data import VERDICTS, Row, Scorecard

WIDTH = 116  # columns of a terminal
SHOWN = 3  # numbers of a claim; all of them are in its record


def sentences(scorecard: Scorecard) -> list[str]:
    """What the scorecard says, in three sentences: how many verdicts of each kind, which, and what is open.

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
    return [_counted(rows), _named(rows), _open(rows, scorecard.cost)]


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
    for words, verdict in zip(("reproduced", "reproduced with a correction", "not reproduced"), VERDICTS, strict=False):
        if found := [_titled(row) for row in rows if row.verdict == verdict]:
            parts.append(f"{words} {'is' if len(found) == 1 else 'are'} {listed(found)}")
    return _capital("; ".join(parts) or "no claim has a verdict yet") + "."


def _open(rows: list[Row], cost: str) -> str:
    untested = [row for row in rows if row.verdict == UNTESTED]
    if not untested:
        return "No claim is left to be tested."
    small = [row for row in untested if row.evidence]
    there = f"{spelled(len(small)) if small else 'none'} of the {spelled(len(untested))} open claims"
    outcomes = Counter(row.evidence[0].outcome for row in small)
    told = ", ".join(f"{spelled(count)} {outcome}" for outcome, count in outcomes.most_common())
    was = "was" if len(small) < 2 else "were"
    return _capital(
        f"{there} {was} measured at a smaller size, which decides nothing{f' ({told})' * bool(told)}, and the "
        f"paper's scale asks for {_clause(cost)}."
    )


def _titled(row: Row) -> str:
    """What a claim is about, with its place in the paper if the title has it, and its name."""
    return f"{row.title.removesuffix(')')}; {row.claim})" if row.title.endswith(")") else f"{row.title} ({row.claim})"


def _clause(cost: str) -> str:
    """A price, to end another sentence; without its second sentence, on a GPU, where that is not estimated."""
    if cost == "Not estimated.":
        return "hours that are not estimated"
    return cost.removesuffix("On a GPU: not estimated.").rstrip(". ")


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


def _described(row: Row) -> list[str]:
    lines = [f"  {row.claim:5}{row.verdict}: {row.statement}", f"       paper: {row.says}"]
    for found in row.evidence:
        lines.append(f"       {found.preset}: {found.said} (n = {found.n}, {found.device}, commit {found.commit})")
        lines += [f"         {number.name}: {number.text}" for number in found.numbers[:SHOWN]]
    if not row.evidence:
        lines.append(f"       no data. {row.cost}")
    return [_wrapped(line) for line in lines]


def _wrapped(line: str) -> str:
    line = plain(line)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True)) or line
