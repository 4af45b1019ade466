"""A page's prose and the numbers in it that a reader would take for results."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext

# What is no prose, and the names and references that hold a digit: blanked, in this order.
SKIPPED = [
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for pattern in (
        r"^(`{3,}|~{3,}).*?^\1",  # code, and directives
        r"^:::.*?$|^:\w+:.*?$|^\([\w-]+\)=$",  # the edges of a directive, its options, a label
        r"\$\$.*?\$\$(?: *\([\w-]+\))?|\$[^$\n]+\$",
        r"\{[\w:]+\}`[^`]*`|`[^`]*`",  # roles (citations, references) and code
        r"\]\([^)]*\)|<[^>\n]*>|&\w+;|https?://\S+",  # targets of links, HTML
        r"^\s*\d+\. ",  # a list's own numbers
        r"\b(?:[Cc]hapters?|[Ff]igures?|[Tt]ables?|[Ss]ections?|[Tt]heorems?|[Cc]orollary|[Ll]emma|[Aa]lgorithm"
        r"|[Ee]quations?|[Ss]teps?)[\s\xa0]\(?\d+(?:\.\d+)*\)?(?:(?:, | and | to )\(?\d+\)?)*",
        r"\bpaper's \(\d+\)(?:(?:, | and | to )\(\d+\))*",
        r"\b(?:19|20)\d\d\b|\b(\d)×\1\b",  # years, and the sides of a kernel
    )
]
# Digits, unless they belong to a name such as CIFAR-10, ResNet-164 or float32.  A bare 0 or 1 is no result: it is what
# results are compared with.
DIGITS = r"(?<![\w.])(?<![A-Za-z]-)(?![01](?![\d.,]*\d))(?:\d+(?:[.,]\d+)*|\.\d+)"
COUNT = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|seventeen|twenty|thirty|forty|fifty"
    r"|sixty|seventy|eighty|ninety|hundred|thousand|million)"
)
WORDS = (
    r"\b(?:twice|thrice|double[sd]?|triple[sd]?|halve[sd]?|half|thirds|a third of|quarters?|fifths"
    rf"|{COUNT}(?: \w+)? (?:times|per cent|orders|thousand)|{COUNT}fold)\b"
)
NUMBER = re.compile(f"{DIGITS}|{WORDS}", re.IGNORECASE)


def _texts_of_code(source: str) -> Iterator[str]:
    """What a cell writes on the page by ``Markdown(...)``, with an ellipsis for what is computed."""
    lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Markdown":
            yield "".join(_literal(argument) for argument in node.args)


def _literal(node: ast.AST) -> str:
    """The text of a string that stands in the code; of a formatted one, the parts that are not computed."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.FormattedValue):
        return "…"
    return "".join(_literal(child) for child in ast.iter_child_nodes(node))


def texts(page: Path) -> Iterator[str]:
    """A page's prose, piece by piece.

    Of a chapter's ``.py`` these are its Markdown cells, captions, texts for those who do not see a figure, and the
    written parts of ``Markdown(f"...")``; of a ``.md`` it is the whole.
    """
    if page.suffix == ".md":
        yield page.read_text(encoding="utf-8")
        return
    for cell in jupytext.read(page).cells:
        if cell.cell_type == "markdown":
            yield cell.source
        elif cell.cell_type == "code":
            settings = cell.metadata.get("mystnb", {})
            yield settings.get("figure", {}).get("caption", "")
            yield settings.get("image", {}).get("alt", "")
            yield from _texts_of_code(cell.source)


def prose(text: str) -> str:
    """A text in one line, without code, mathematics, links and names with a digit."""
    for pattern in SKIPPED:
        text = pattern.sub(" ", text)
    return " ".join(text.split())


def numbers(text: str, known: list[str]) -> list[str]:
    """The numbers in a text that stand in none of the ``known`` phrases, each with some words around it."""
    text = prose(text)
    spans = [m.span() for phrase in known for m in re.finditer(re.escape(phrase), text)]
    return [
        text[max(0, m.start() - 40) : m.end() + 25]
        for m in NUMBER.finditer(text)
        if not any(start <= m.start() and m.end() <= end for start, end in spans)
    ]
