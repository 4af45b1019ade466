"""Sphinx extension: what a cell prints in columns is marked, so that a phone moves it sideways and keeps the columns.

Everything else that a cell prints is prose, and is wrapped.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

GAP = re.compile(r"\S {2,}\S")


def in_columns(text: str) -> bool:
    """Whether two lines or more have a gap, as the rows of a table do."""
    return sum(bool(GAP.search(line)) for line in text.splitlines()) >= 2


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Give what is printed in columns the class ``columns``."""
    for block in doctree.findall(nodes.literal_block):
        if "output" in block["classes"] and in_columns(block.astext()):
            block["classes"].append("columns")


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
