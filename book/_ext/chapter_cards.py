"""Sphinx extension: how to get a chapter's notebook, as the last line of its card; and what a chapter found, marked.

Colab and Binder open notebooks from GitHub, so their links need the repository's address (``address``).
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from address import BINDER, BRANCH, COLAB, owner_and_name, repository
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

CARD = "chapter-card"
FOUND = "Found."


def mark(app: Sphinx, document: nodes.document) -> None:
    """Give the class ``found`` to the quotes that begin with that word, for the style sheet."""
    for quote in document.findall(nodes.block_quote):
        if quote.astext().startswith(FOUND):
            quote["classes"].append("found")


def services(address: str, path: str) -> dict[str, str]:
    """Where the notebook can be run in the browser, by the services' names."""
    name = owner_and_name(address)
    return {
        "Colab": f"{COLAB}/github/{name}/blob/{BRANCH}/{path}",
        "Binder": f"{BINDER}/v2/gh/{name}/{BRANCH}?urlpath=lab/tree/{path}",
    }


def line(app: Sphinx, page: str) -> str:
    """The HTML of a card's links, for a page that is a notebook."""
    path = f"{page}.ipynb"
    source = relative_uri(app.builder.get_target_uri(page), f"_sources/{path}")
    links = [f'<a href="{escape(source)}" download="{escape(Path(path).name)}">Download the notebook</a>']
    if address := repository(app):
        links += [f'<a href="{escape(url)}">Open in {name}</a>' for name, url in services(address, path).items()]
    return f'<p class="chapter-card-links">{" ".join(links)}</p>\n'


def link(app: Sphinx, document: nodes.document, page: str) -> None:
    """Add the links to a page's cards."""
    if app.builder.format == "html" and app.env.doc2path(page).endswith(".ipynb"):
        for card in document.findall(lambda node: isinstance(node, nodes.container) and CARD in node["classes"]):
            body = next(part for part in card.children if "sd-card-body" in part["classes"])
            body.append(nodes.raw("", line(app, page), format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.setup_extension("address")
    app.connect("doctree-read", mark)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
