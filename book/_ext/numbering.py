"""Sphinx extension: the chapters of the appendix are A, B, …, and so are their sections, figures and equations."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from sphinx import addnodes
from sphinx.environment import BuildEnvironment

CAPTION = "Appendix"
AFTER_THE_NUMBERS = 900  # which Sphinx assigns when this event begins


def appendix(env: BuildEnvironment) -> list[str]:
    """The pages of the part that is called Appendix, in order."""
    trees = env.get_doctree(env.config.root_doc).findall(addnodes.toctree)
    return [page for tree in trees if tree.get("caption") == CAPTION for _, page in tree["entries"]]


def letter(app: Any, env: BuildEnvironment) -> list[str]:
    """Write letters for the numbers of the appendix's chapters, wherever Sphinx keeps them."""
    pages = appendix(env)
    for name, page in zip(ascii_uppercase, pages, strict=False):
        sections = env.toc_secnumbers.get(page, {})
        for anchor, number in sections.items():
            sections[anchor] = (name, *number[1:]) if number else number
        for figures in env.toc_fignumbers.get(page, {}).values():
            for label, number in figures.items():
                figures[label] = (name, *number[1:])
        numbered = env.tocs[page].findall(lambda node: "secnumber" in getattr(node, "attributes", {}))
        for titled in (env.titles[page], *numbered):
            if number := titled.get("secnumber"):
                titled["secnumber"] = [name, *number[1:]]
    return pages


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("env-get-updated", letter, priority=AFTER_THE_NUMBERS)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
