"""The compatibility table: stored as JSON, and shown on its page as Markdown between two marks."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from foreign.measure import COLUMNS, Entry

from paperlib.errors import RecordError
from paperlib.store.stored import unsealed

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "results" / "compatibility.json"
PAGE = ROOT / "book" / "compatibility.md"
NO_BREAK = "\N{NO-BREAK SPACE}"
BEGIN, END = "<!-- made by `make compatibility` -->", "<!-- end -->"
TITLES = {
    "torchvision": "torchvision",
    "own": "Small networks of other kinds",
    "timm": "timm",
    "transformers": "transformers",
}


def stored() -> dict[str, Any]:
    try:
        return unsealed(RECORD.read_bytes())
    except ValueError as e:
        raise RecordError(f"{RECORD} is no such table ({e}): make it again with `make compatibility`") from e


def entries(row: dict[str, Any]) -> dict[str, Entry]:
    return {column: Entry(**row["columns"][column]) for column in COLUMNS}


def amount(figure: float | None) -> str:
    """How far something is off: a tick for nothing, a power of ten where that is rounding, else in percent."""
    if not figure:
        return "✓"
    if figure <= 1e-5:
        return f"{figure:.0e}"
    return (f"{100 * figure:.2g} %" if figure < 0.1 else f"{100 * figure:.0f} %").replace(" ", NO_BREAK)


class _Notes:
    """The library's sentences below the tables, each with its number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def marks(self, sentences: dict[str, int]) -> str:
        found = []
        for sentence in sentences:
            same = re.sub(r"\d+ groups", "several groups", sentence)
            found.append(self.numbers.setdefault(same, len(self.numbers) + 1))
        return f"<sup>{','.join(map(str, sorted(set(found))))}</sup>" if found else ""

    def lines(self) -> list[str]:
        return [f"{number}. {_escaped(sentence)}" for sentence, number in self.numbers.items()]


def _escaped(sentence: str) -> str:
    """A sentence as Markdown shows it, word for word; an argument is code, whose quotation marks stay straight."""
    parts = re.split(r'(\w+="[^"]*")', sentence)
    return "".join(f"`{part}`" if i % 2 else re.sub(r"([*_<>\[\]`|])", r"\\\1", part) for i, part in enumerate(parts))


def _cell(column: str, entry: Entry) -> str:
    if entry.outcome != "agrees":
        return entry.outcome
    if column == "hold":
        return f"{entry.counts['held']} of {entry.counts['held'] + _left_out(entry)},<br>{amount(entry.figure)}"
    if column in ("spectrum", "orthogonal"):
        return _layers(column, entry)
    if not entry.counts["blocks"]:
        return "no ratio"
    without, within = (entry.counts.get(f"graphs {how}", 0) for how in ("without", "with"))
    return amount(entry.figure) + f", {without}→{within} graphs" * (without != within)


def _left_out(entry: Entry) -> int:
    return sum(entry.sentences.values())


def _layers(column: str, entry: Entry) -> str:
    kinds = entry.counts["kinds"]
    if not kinds:
        return f"none of {_left_out(entry)}" if entry.sentences else "none there"
    return f"{kinds} ✓" if column == "spectrum" else f"{kinds}, {amount(entry.figure)}"


def markdown(record: dict[str, Any]) -> str:
    """The tables of all packages, and the sentences below them."""
    notes, lines = _Notes(), []
    for package, rows in groupby(record["rows"], key=lambda row: row["package"]):
        version = record["versions"].get(package)
        lines += [f"### {TITLES[package]}{f' {version}' * bool(version)}", "", ":::{container} compact"]
        lines += ["| network | blocks | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
        for row in rows:
            found = entries(row)
            blocks = f"{found['probe'].counts['blocks']}" + r" \*" * row["named"]
            cells = [_cell(column, entry) + notes.marks(entry.sentences) for column, entry in found.items()]
            lines.append(f"| {row['network']} | {blocks} | " + " | ".join(cells) + " |")
        lines += [":::", ""]
    return "\n".join([*lines, "### What the library says", "", *notes.lines()])


def on_page(page: str, record: dict[str, Any]) -> str:
    """The page with this record's tables between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown(record)}\n\n{END}{rest.split(END)[1]}"
