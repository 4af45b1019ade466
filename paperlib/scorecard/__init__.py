"""The scorecard: which of the paper's claims hold, from the findings on record alone.

:func:`paperlib.scorecard.data.build` makes it, :func:`paperlib.scorecard.data.write` keeps it as JSON,
:func:`paperlib.scorecard.text.sentences` says it in three sentences, and :mod:`paperlib.scorecard.page` shows it as
HTML.  ``paperlib scorecard`` prints it and renews ``results/scorecard.json``.
"""

from __future__ import annotations

from paperlib.scorecard.data import FILE, VERDICTS, Evidence, Number, Row, Scorecard, build, read, write
from paperlib.scorecard.text import describe, sentences

__all__ = [
    "FILE",
    "VERDICTS",
    "Evidence",
    "Number",
    "Row",
    "Scorecard",
    "build",
    "describe",
    "read",
    "sentences",
    "write",
]
