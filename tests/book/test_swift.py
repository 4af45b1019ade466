"""book/_ext/swift.py: the book is built in less time, and its pages are the same to the byte."""

import gc
import sys

import pytest
from tiny_book import build

PAGES = [f"page{k}" for k in range(9)]  # Sphinx writes in parallel from six
INDEX = "# Home\n\n```{toctree}\n" + "\n".join(PAGES) + "\n```\n"
FILES = {"index.md": INDEX} | {
    f"{page}.md": f"# Title of {page}\n\nSee [the next](page{(k + 1) % 9}.md), $x^{k}$.\n\n## Part\n"
    for k, page in enumerate(PAGES)
}
THEME = {"html_theme": "sphinx_book_theme", "myst_enable_extensions": ["dollarmath"]}
WRITTEN_BY = """import os
from pathlib import Path

ASKED = Path(__file__).with_name("asked.txt")


def note(app, name, template, context, document):
    contents = context["toctree"]

    def counted(**options):
        with ASKED.open("a") as out:
            out.write(f"{name} {os.getpid()}\\n")
        return contents(**options)

    context["toctree"] = counted


def setup(app):
    app.connect("html-page-context", note, priority=100)  # before the others
    return {"parallel_read_safe": True, "parallel_write_safe": True}
"""


def pages(html):
    return {path.relative_to(html).as_posix(): path.read_bytes() for path in sorted(html.rglob("*.html"))}


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """The book without and with the extension: its pages, and who asked for the table of contents, by page."""
    folder, before, made = tmp_path_factory.mktemp("books"), gc.get_threshold(), {}
    for name, extensions in {"plain": ["accessible"], "swift": ["accessible", "swift"]}.items():
        here = folder / name
        here.mkdir()
        (here / f"note_{name}.py").write_text(WRITTEN_BY)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(here)
            html = build(here, FILES, ["myst_parser", f"note_{name}", *extensions], **THEME)
        made[name] = (pages(html), [line.split() for line in (here / "asked.txt").read_text().splitlines()])
    assert gc.get_threshold() == before
    return made


def test_its_pages_are_the_same(books):
    plain, swift = books["plain"][0], books["swift"][0]
    assert len(plain) > len(FILES) and plain.keys() == swift.keys()
    assert [name for name in plain if plain[name] != swift[name]] == []


def test_the_contents_are_made_once_a_page(books):
    names = [name for name, _ in books["swift"][1]]
    assert {page: names.count(page) for page in PAGES} == dict.fromkeys(PAGES, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process writes them")
def test_pages_are_written_by_several_processes(books):
    writers = {name: len({process for _, process in asked}) for name, (_, asked) in books.items()}
    assert writers["plain"] == 1 and writers["swift"] > 2
