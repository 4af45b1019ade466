"""Sphinx extension: removes from the built book what no page ever loads, three quarters of its files' size.

sphinx-mathjax-offline copies all of MathJax.  A page loads one component, which fetches fonts, and what the menu of a
formula offers: the other output, and speech in English.  Source maps are for who debugs the theme.

The theme's script of icons (half a megabyte as sent, on each page) puts a drawing in the place of each; the theme's
style sheet has the same icons as letters of a font, which is loaded anyway.  The script's file stays, empty.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx

MATHJAX = (
    "tex-chtml.js",
    "output/chtml",
    "output/svg.js",
    "output/svg",
    "input/mml.js",
    "a11y",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
    "sre/mathmaps/nemeth.json",
)
ICONS = "scripts/fontawesome.js"
AFTER_IT_IS_COPIED = 900


def is_loaded(path: str) -> bool:
    """Whether a page may load the file of MathJax, which is named from MathJax's folder."""
    return any(path == kept or path.startswith(f"{kept}/") for kept in MATHJAX)


def prune(static: Path) -> None:
    """Remove what is not loaded from a built book's ``_static``."""
    mathjax = static / "mathjax"
    for path in [p for p in mathjax.rglob("*") if p.is_file()]:
        if not is_loaded(path.relative_to(mathjax).as_posix()):
            path.unlink()
    for folder in sorted((p for p in mathjax.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in list(static.rglob("*.map")):
        path.unlink()
    (static / ICONS).write_text("")
    shutil.rmtree(static / "locales", ignore_errors=True)  # the theme's words in other languages


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Prune a book that was built."""
    if exception is None and app.builder.format == "html":
        prune(Path(app.outdir, "_static"))


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("build-finished", finish, priority=AFTER_IT_IS_COPIED)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
