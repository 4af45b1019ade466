"""Sphinx extension: a name of the library that stands as code in a chapter is a link to its description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import paperlib

CALL = re.compile(r"(\w+)(?:\(.*\))?", re.DOTALL)  # a name, or a call of it

WITHOUT = (nodes.title, nodes.reference, addnodes.pending_xref, addnodes.download_reference)


def parents(node: nodes.Node) -> Iterator[nodes.Node]:
    """What a node is part of, from the inside."""
    while node := node.parent:
        yield node


def home(code: str) -> str | None:
    """Where what a piece of code names is described; None if it is not one of the names that users come for."""
    found = CALL.fullmatch(code)
    if found is None or found[1] not in paperlib.__all__:
        return None
    module = getattr(paperlib, found[1]).__module__.split(".")
    return ".".join([*module[:2], found[1]])  # a package's names are described on its page


def link(app: Sphinx, doctree: nodes.document) -> None:
    """Make links of the names in a chapter's text; titles and what is a link already stay as they are."""
    page = app.env.docname
    if not page.startswith("notebooks/"):
        return
    for literal in list(doctree.findall(nodes.literal)):
        target = home(literal.astext())
        if target is None or any(isinstance(above, WITHOUT) for above in parents(literal)):
            continue
        options: dict[str, Any] = {"refdomain": "py", "reftype": "obj", "refexplicit": True, "refwarn": True}
        literal.replace_self(addnodes.pending_xref("", literal.deepcopy(), reftarget=target, refdoc=page, **options))


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
