"""What others wrote, in a record or on a server, as text that is harmless where it is shown."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Text as one line without what a terminal would obey.

    Examples
    --------
    >>> plain("red: \x1b[31m, and a\\ttab")
    'red: [31m, and a tab'
    """
    kinds = [(char, unicodedata.category(char)) for char in text]
    return "".join(
        " " if char in "\t\n\r" else "" if kind in ("Cc", "Cf", "Zl", "Zp", "Cs") else char for char, kind in kinds
    )
