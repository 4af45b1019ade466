"""Sphinx extension: pictures as wide as they are meant to be, and tables that are counted as tables.

A PNG says how many dots it has an inch.  A page shows it at 96 an inch, so that twice the dots make it sharper and not
larger.  A cell whose figure has a name that begins with ``tab-`` shows a table: its caption stands above it and says
"Table 1.1".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.transforms import SphinxTransform
from sphinx.writers.html5 import HTML5Translator

INCH = 96  # CSS's pixels
TABLE = "tab-"
AFTER_THE_IMAGES = 600  # which Sphinx collects when this event begins, and notes where they lie


class numbered_table(nodes.figure):
    """A figure that is counted with the tables."""


class table_caption(nodes.caption):
    """Its caption, which comes first."""


class Tables(SphinxTransform):
    """Makes a numbered table of each figure that is named like one."""

    default_priority = 300

    def apply(self, **options: Any) -> None:
        """Replace the figures, in the document and where it keeps them by their names."""
        for figure in list(self.document.findall(nodes.figure)):
            if any(name.startswith(TABLE) for name in figure["names"]):
                table = numbered_table("", **figure.attributes)
                table.source, table.line = figure.source, figure.line
                for child in figure.children:
                    if isinstance(child, nodes.caption):
                        table.insert(0, table_caption(child.rawsource, "", *child.children, **child.attributes))
                    else:
                        table.append(child)
                figure.parent.replace(figure, table)
                self.document.ids.update(dict.fromkeys(table["ids"], table))


def title(node: nodes.Node) -> str | None:
    """A numbered table's caption, for those who refer to it by its words."""
    return next((child.astext() for child in node.children if isinstance(child, table_caption)), None)


def width(path: Path) -> int | None:
    """How wide a page shows the picture, in pixels; None if it says nothing about its resolution."""
    with Image.open(path) as picture:
        dots = picture.info.get("dpi", (0, 0))[0]
        return round(picture.width * INCH / dots) if dots else None


def size(app: Sphinx, document: nodes.document) -> None:
    """Give a width to every PNG that has none, and a box in which it can be moved where a page is narrower."""
    for image in list(document.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"])
        sized = {"width", "height", "scale"} & set(image.attributes)
        if path.suffix == ".png" and path.is_file() and not sized and (shown := width(path)):
            image["width"] = f"{shown}px"
            image["classes"].append("no-scaled-link")  # Sphinx's, to a file with nothing behind its transparent ground
            if not isinstance(image.parent, nodes.TextElement):  # not in the midst of a line
                box = nodes.container(classes=["picture"])
                image.parent.replace(image, box)
                box.append(image)


def begin_table(self: HTML5Translator, node: nodes.Element) -> None:
    """Write what stands before a table."""
    self.body.append(self.starttag(node, "figure", CLASS="numbered-table"))


def end_table(self: HTML5Translator, node: nodes.Element) -> None:
    """Write what stands after it."""
    self.body.append("</figure>\n")


def begin_caption(self: HTML5Translator, node: nodes.Element) -> None:
    """Write its number."""
    self.body.append("<figcaption>\n" + self.starttag(node, "p", ""))
    self.add_fignumber(node.parent)
    self.body.append('<span class="caption-text">')


def end_caption(self: HTML5Translator, node: nodes.Element) -> None:
    """Write the link to it that appears behind a caption."""
    self.body.append("</span>")
    self.add_permalink_ref(node.parent, _("Link to this table"))
    self.body.append("</p>\n</figcaption>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls.  Other builders than HTML's take the new nodes for what they are made from."""
    app.add_enumerable_node(numbered_table, "table", title, html=(begin_table, end_table))
    app.add_node(table_caption, html=(begin_caption, end_caption))
    app.add_transform(Tables)
    app.connect("doctree-read", size, priority=AFTER_THE_IMAGES)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
