"""What every chapter has: a card, its findings first, figures that the prose refers to, lines that fit, an end."""

from __future__ import annotations

import re
from pathlib import Path

import execute_notebooks
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(p for p in (ROOT / "notebooks").glob("0*.ipynb") if not p.name.startswith("00_"))
WITH_EXERCISES = [p for p in CHAPTERS if p.name[:3] in ("01_", "02_", "03_", "04_", "05_", "06_")]
COLUMN = 72  # characters of code in the book's column at 1280 pixels
ENTRIES = ["Shows", "Claims", "Needs", "Fetches", "Takes", "Run it"]


def cells(path: Path, kind: str = ""):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind or not kind]


def prose(path: Path) -> str:
    """Markdown cells, and what code cells wrote as Markdown."""
    written = []
    for cell in cells(path):
        if cell.cell_type == "markdown":
            written.append(cell.source)
        for output in cell.get("outputs", []):
            written.append(output.get("data", {}).get("text/markdown", ""))
    return "\n\n".join("".join(part) for part in written)


@pytest.fixture(params=CHAPTERS, ids=lambda p: p.stem)
def chapter(request):
    return request.param


def test_a_card_opens_the_chapter(chapter):
    opening = cells(chapter)[0].source
    card = re.search(r":::\{card\} About this chapter\n:class-card: chapter-card\n\n(.*?)\n:::", opening, re.DOTALL)
    assert card, "the first cell holds the title, a short introduction and the card"
    entries = re.findall(r"^- \*\*(.+?):\*\* \S", card.group(1), re.MULTILINE)
    assert [entry.replace("Decides", "Claims") for entry in entries] == ENTRIES
    assert chapter.name in card.group(1), "the command names the notebook"


def test_the_time_on_the_card_is_the_one_on_record(chapter):
    assert "**Takes:**" in cells(chapter)[0].source
    assert execute_notebooks.off_the_card(chapter, execute_notebooks.rows()[chapter.stem]) is None


def test_what_was_found_comes_before_the_first_section(chapter):
    text = prose(chapter)
    assert "**Found.**" in text
    assert text.index("**Found.**") < text.index("\n## ")


def test_every_figure_has_a_caption_and_a_description_and_is_referred_to(chapter):
    shown = [c.metadata.get("mystnb", {}) for c in cells(chapter, "code")]
    figures = [m["figure"] for m in shown if "figure" in m]
    text = prose(chapter)
    for figure in figures:
        assert re.match(r"(fig|tab)-", figure["name"])
        assert figure["caption"].rstrip().endswith((".", "."))
        assert f"{{numref}}`{figure['name']}`" in text, f"nothing refers to {figure['name']}"
    names = [figure["name"] for figure in figures]
    assert len(names) == len(set(names))
    for cell in cells(chapter, "code"):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            about = cell.metadata.get("mystnb", {})
            assert about.get("figure"), "every picture is a numbered figure"
            assert about.get("image", {}).get("alt"), "every picture is described"


def test_tables_are_numbered(chapter):
    for cell in cells(chapter, "code"):
        if any("<table" in "".join(o.get("data", {}).get("text/html", "")) for o in cell.outputs):
            name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "")
            assert re.match(r"(fig|tab)-", name), f"a table without a number: {cell.source[:60]!r}"


def test_code_fits_the_column(chapter):
    shown = [c for c in cells(chapter, "code") if "remove-input" not in c.metadata.get("tags", [])]
    assert [line for c in shown for line in c.source.splitlines() if len(line) > COLUMN] == []


def test_cells_that_only_write_text_or_import_are_folded(chapter):
    for cell in cells(chapter, "code"):
        tags = set(cell.metadata.get("tags", []))
        lines = [line for line in cell.source.splitlines() if line and not line.startswith(("%", "#"))]
        writes = lines and lines[-1].startswith("Markdown(")
        imports = all(re.match(r"(import|from) |    |\)", line) for line in lines)
        if "parameters" not in tags and (writes or imports):
            assert tags & {"hide-input", "remove-input", "hide-cell", "remove-cell"}, cell.source[:80]


def test_the_chapter_ends_with_what_follows(chapter):
    last = [line for line in prose(chapter).splitlines() if line.startswith("## ")][-1]
    assert last in ("## What follows", "## Where to go from here")


def test_no_two_figures_of_the_book_have_one_name():
    shown = [c.metadata.get("mystnb", {}) for path in (ROOT / "notebooks").glob("*.ipynb") for c in cells(path, "code")]
    names = [about["figure"]["name"] for about in shown if "figure" in about]
    assert sorted(names) == sorted({*names})


@pytest.mark.parametrize("chapter", WITH_EXERCISES, ids=lambda p: p.stem)
def test_there_are_exercises_with_solutions(chapter):
    text = prose(chapter)
    exercises = re.search(r"^## Exercises\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert exercises
    questions = re.findall(r"^\*\*\d\. ", exercises.group(1), re.MULTILINE)
    solutions = re.findall(r"^:{3,}\{(?:admonition|dropdown)\} Solution", exercises.group(1), re.MULTILINE)
    assert 3 <= len(questions) <= 5
    assert len(solutions) == len(questions)
