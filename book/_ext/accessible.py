"""Sphinx extension: HTML that readers of the screen understand, where that of Sphinx and MyST-NB is not.

tests/browser asks axe-core about every page of the book.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx

SIGNATURE = re.compile(r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>")  # a parameter a line, with no terms
# A formula is a box to the browser, which may begin a line with the mark behind it.
MARKED = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([^\s<&]{1,4})(?=[\s<&])')
ROLES = [
    # A list's children must be list items, and doc-biblioentry is deprecated.
    ('role="doc-biblioentry"', 'role="listitem"'),
    # What is read out is what is shown: "Show code cell source".
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
]
# The arrow that unfolds a page's own pages, in the table of contents at the side, says nothing by itself.
ARROW, NAMED_ARROW = (f'<summary{name}><span class="toctree-toggle"' for name in ("", ' aria-label="Its pages"'))
LAST = 900  # after the theme, which puts the table of contents into the context


def lines(found: re.Match[str]) -> str:
    """A signature's parameters as lines of text."""
    return found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>").rstrip("\n")


def mend(body: str) -> str:
    """The HTML of a page's content: lists are lists, names are what is shown, and marks stay with their formulas."""
    for wrong, right in ROLES:
        body = body.replace(wrong, right)
    body = MARKED.sub(r'<span class="with-mark">\1\2</span>', body)
    return SIGNATURE.sub(lines, body)


def with_named_arrows(contents: Callable[..., Any]) -> Callable[..., Any]:
    """The theme's function for the table of contents at the side, whose arrows have names then."""

    def made(*args: Any, **options: Any) -> Any:
        found = contents(*args, **options)  # as it was asked for, to the order: by that the theme keeps what it made
        return str(found).replace(ARROW, NAMED_ARROW) if "sidebar" in (*args, options.get("kind")) else found

    return made


def page(app: Sphinx, name: str, template: str, context: dict[str, Any], document: Any) -> None:
    """Mend a page before it is put into the theme's template."""
    if "body" in context:
        context["body"] = mend(context["body"])
    if contents := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = with_named_arrows(contents)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("html-page-context", page, priority=LAST)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
