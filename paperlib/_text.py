"""What others wrote, in a record or on a server, as text that is harmless where it is shown.

One function for each place: a terminal, Markdown, code within Markdown.  For HTML there is ``html.escape``.
"""

from __future__ import annotations

import unicodedata
from typing import TextIO

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of Unicode: controls, directions, halves, ends of lines
_MARKS = r"\`*_{}[]<>#|~$&!^@:" + '"'  # what Markdown, with the book's extensions, may take for more than itself


def plain(text: str) -> str:
    """Text in one line, without what a terminal would obey.

    Examples
    --------
    >>> plain("red: \x1b[31m, and a\\ttab")
    'red: [31m, and a tab'
    """
    spaced = " ".join(text.replace("\t", " ").splitlines())
    return "".join(char for char in spaced if unicodedata.category(char) not in _OBEYED)


def lines(text: str) -> str:
    """As :func:`plain`, but the ends of lines stay."""
    return "\n".join(map(plain, text.split("\n")))


def say(text: str, stream: TextIO | None = None) -> None:
    """Print text, whoever wrote it, to standard output or to another stream."""
    print(lines(text), file=stream, flush=True)


def markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, in one line.

    Examples
    --------
    >>> print(markdown("an H100 <b> of [us](x)"))
    an H100 \<b\> of \[us\](x)
    """
    return "".join(f"\\{char}" if char in _MARKS else char for char in plain(text))


def code(text: str) -> str:
    """Text as code within Markdown.  What would end the code is replaced by an apostrophe.

    Examples
    --------
    >>> code("make test")
    '`make test`'
    """
    return f"`{plain(text).replace('`', chr(39))}`"
