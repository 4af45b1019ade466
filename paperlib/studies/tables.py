"""Tables as a page shows them: narrow enough for the book's column."""

from __future__ import annotations

import math

import pandas as pd

STYLE = [
    {"selector": "", "props": "font-size: 0.85em; width: auto;"},
    {
        "selector": "th, td",
        "props": "text-align: left; vertical-align: top; white-space: normal; padding: 0.2rem 0.5rem;",
    },
]


def fitted(table: pd.DataFrame, name: str, index: bool = True) -> str:
    """A table as HTML in small letters, whose cells break their lines, with a dash where there is nothing.

    Parameters
    ----------
    table : DataFrame
        Its numbers are written as they are: round them before.
    name : str
        Tells its style apart from those of other tables on a page.
    index : bool
        Whether to show the index.

    Returns
    -------
    str
        HTML, the same for the same table.

    Examples
    --------
    >>> html = fitted(pd.DataFrame({"error, %": [1.5, None]}, index=["<a>", "b"]), "errors")
    >>> "1.5" in html, "–" in html, "&lt;a&gt;" in html
    (True, True, True)
    """
    written = table.reset_index(drop=True) if not index else table
    styler = written.map(_written).style.set_uuid(name).set_table_styles(STYLE).format(escape="html")
    styler = styler.format_index(escape="html").format_index(escape="html", axis="columns")
    return (styler if index else styler.hide(axis="index")).to_html()


def _written(value: object) -> str:
    missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    return "–" if missing else f"{value:,}" if isinstance(value, int) else str(value)
