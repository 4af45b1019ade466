"""book/_ext/chapter_cards.py: a chapter's card says how to get its notebook, and what it found can be styled."""

import re

import nbformat.v4 as nb
from tiny_book import build

CARD = """:::{card} About this chapter
:class-card: chapter-card

- **Shows:** a thing
:::

:::{card} Another
No chapter's.
:::
"""


def book(folder, **config) -> str:
    """A book of a page and a notebook, both with a card; returns the notebook's page."""
    shown = nb.new_output("execute_result", {"text/markdown": "> **Found.** One and two.", "text/plain": "<Markdown>"})
    cells = [
        nb.new_markdown_cell(f"# Chapter\n\n{CARD}\n> Foundations.\n"),
        nb.new_code_cell("found", outputs=[shown]),
    ]
    metadata = {"language_info": {"name": "python", "pygments_lexer": "python3"}}
    chapter = nb.writes(nb.new_notebook(cells=cells, metadata=metadata))
    index = f"# Book\n\n{CARD}\n\n```{{toctree}}\nnotebooks/one\n```\n"
    html = build(
        folder,
        {"index.md": index, "notebooks/one.ipynb": chapter},
        ["myst_nb", "sphinx_design", "chapter_cards"],
        nb_execution_mode="off",
        myst_enable_extensions=["colon_fence"],
        html_sourcelink_suffix="",
        **config,
    )
    assert "chapter-card-links" not in (html / "index.html").read_text()
    assert (html / "_sources" / "notebooks" / "one.ipynb").is_file()
    return (html / "notebooks" / "one.html").read_text()


def links(page: str) -> list[tuple[str, str]]:
    (line,) = re.findall(r'<p class="chapter-card-links">(.*?)</p>', page)
    return re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', line)


def test_a_card_links_to_its_notebook(tmp_path):
    page = book(tmp_path)
    assert links(page) == [("../_sources/notebooks/one.ipynb", "Download the notebook")]
    assert 'download="one.ipynb"' in page
    assert len(re.findall(r"<blockquote", page)) == 2
    assert re.search(r'<blockquote class="found">\s*<div>\s*<p><strong>Found\.', page) and page.count('"found"') == 1


def test_it_can_be_opened_elsewhere_where_the_address_is_known(tmp_path):
    assert links(book(tmp_path, book_repository="https://github.com/owner/name"))[1:] == [
        ("https://colab.research.google.com/github/owner/name/blob/main/notebooks/one.ipynb", "Open in Colab"),
        ("https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/one.ipynb", "Open in Binder"),
    ]
