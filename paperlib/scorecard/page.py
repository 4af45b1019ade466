"""The scorecard as HTML for the book: the summary, and one table with a click for each rule.

The look is in ``book/_static/custom.css``.  Every string is escaped here, where HTML is made, for a record may hold
anything.
"""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from urllib.parse import quote

from paperlib import _checks
from paperlib.claims.cards import CHAPTERS
from paperlib.claims.claim import UNTESTED
from paperlib.scorecard.data import Evidence, Row, Ruled, Scorecard
from paperlib.scorecard.text import SHOWN, pointed, sentences

# A verdict has a word, a sign and a colour, so that no reader depends on the colour.
KINDS = {
    "reproduced": ("yes", "✓"),
    "reproduced with a correction": ("corrected", "≈"),
    "not reproduced": ("no", "✗"),
    UNTESTED: ("untested", "○"),
}
COLUMNS = ("Claim", "The paper", "Measured here", "Verdict")
RESULTS = "../results/"  # from a page of notebooks/, in the checkout and in the built book


def quotable(scorecard: Scorecard) -> str:
    """The summary: three paragraphs."""
    return f"<div class='scorecard-says'>{''.join(f'<p>{escape(s)}</p>' for s in sentences(scorecard))}</div>"


def table(scorecard: Scorecard, pages: Collection[str] = ()) -> str:
    """The table of all claims.

    Parameters
    ----------
    scorecard : Scorecard
        The claims.
    pages : collection of str
        The pages that there are, without suffixes; to these there are links.

    Returns
    -------
    str
        HTML without scripts, styles and outside addresses.

    Examples
    --------
    >>> import tempfile
    >>> from paperlib.scorecard import build
    >>> "<details>" in table(build(tempfile.mkdtemp()))
    True
    """
    head = "".join(f"<th scope='col'>{name}</th>" for name in COLUMNS)
    _checks.instance("scorecard", scorecard, Scorecard, "a Scorecard")
    pages = [_checks.instance("pages", page, str, "names of pages") for page in _checks.items("pages", pages, "names")]
    parts, group = [f"<table class='scorecard'><thead><tr>{head}</tr></thead><tbody>"], ""
    for row in scorecard.rows:
        if row.group != group:
            group = row.group
            parts.append(f"<tr class='scorecard-group'><th colspan='4' scope='rowgroup'>{escape(group)}</th></tr>")
        parts.append(_row(row, pages))
    return "\n".join([*parts, "</tbody></table>"])


def _row(row: Row, pages: Collection[str]) -> str:
    claim = f"<b>{escape(row.claim)}</b> <i>{escape(row.where)}</i><br>{escape(row.statement)}"
    cells = [_cell(COLUMNS[1], escape(row.says)), _cell(COLUMNS[2], _measured(row)), _cell(COLUMNS[3], _verdict(row))]
    return (
        f"<tr id='claim-{escape(row.claim)}'><th scope='row'>{claim}</th>{''.join(cells)}</tr>"
        f"<tr class='scorecard-more'><td colspan='4'><details><summary>{escape(row.claim)}: the rule, the record, what "
        f"would change the verdict</summary><dl>{_details(row, pages)}</dl></details></td></tr>"
    )


def _cell(label: str, content: str) -> str:
    """A cell; on a narrow screen its label stands in front of it."""
    return f"<td data-label='{label}'>{content}</td>"


def _verdict(row: Row) -> str:
    kind, sign = KINDS[row.verdict]
    shown = f"<span class='verdict verdict-{kind}'><span aria-hidden='true'>{sign}</span> {escape(row.verdict)}</span>"
    if not row.evidence:
        return f"{shown}<small>no data</small>"
    first = row.evidence[0]
    brief = first.brief.removeprefix(first.outcome).lstrip(", ") if first.decides else first.brief
    lines = [brief if first.decides else f"at {first.preset}: {brief}", first.remark, pointed(first), row.after]
    return shown + "".join(f"<small>{escape(_sentence(line))}</small>" for line in lines if line)


def _sentence(words: str) -> str:
    """Words with a capital, unless they begin with a lower-case name, and a full stop."""
    return f"{words[0].upper()}{words[1:].removesuffix('.')}."


def _measured(row: Row) -> str:
    if not row.evidence:
        return "<span class='scorecard-none'>nothing yet</span>"
    first = row.evidence[0]
    others = len(first.compared) - SHOWN
    more = f"<li>and {others} more</li>" if others > 0 else ""
    parts = [(n.name, *n.text.partition(" (n = ")) for n in first.compared[:SHOWN]]
    items = "".join(
        f"<li>{escape(name)}: <b>{escape(said)}</b>{escape(n + left)}</li>" for name, said, n, left in parts
    )
    return f"<ul>{items}{more}</ul>"


def _numbers(found: Evidence) -> str:
    items = (f"<li>{escape(n.name)}: <b>{escape(n.text)}</b> (n = {n.n})</li>" for n in found.numbers)
    return f"<ul>{''.join(items)}</ul>"


def _made(found: Evidence) -> str:
    return f"{escape(found.device)}, commit <code>{escape(found.commit)}</code>, <time>{escape(found.date)}</time>"


def _details(row: Row, pages: Collection[str]) -> str:
    entries = [("Rule", escape(row.rule))]
    for found in row.evidence:
        path = f"{RESULTS}{quote(found.record)}"
        link = f"<a href='{escape(path)}'>{escape(found.record)}</a>"
        entries.append((f"Measured at {escape(found.preset)}", f"{escape(found.said)}{_numbers(found)}{_made(found)}"))
        entries.append(("Record", f"{link}, made by <code>{escape(found.command)}</code>"))
        if found.rule_then:
            entries.append(("The rule when it was measured", _ruled(found.rule_then)))
        elif not found.ruled:
            entries.append(("The rule when it was measured", "not in the record, which is from before rules were kept"))
    entries += [(f"Rule until {escape(former.until)}", _ruled(former)) for former in row.former]
    entries += [("What would change the verdict", escape(row.changes)), ("Cost", escape(row.cost))]
    entries.append(("Shown in", _chapter(row.page, pages)))
    return "".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in entries)


def _ruled(rule: Ruled) -> str:
    why = f" Replaced because: {escape(rule.reason)}" if rule.reason else ""
    return f"{escape(rule.sentence)}. It said: {escape(rule.outcome)}.{why}"


def _chapter(page: str, pages: Collection[str]) -> str:
    name = escape(CHAPTERS.get(page, page))
    if page not in pages:
        return f"{name}, which is not written yet"
    return f"<a href='{escape(quote(page.rpartition('/')[2]))}.html'>{name}</a>"
