"""What the tests of faults tried and what came of it.

They are long with ``PAPERLIB_TORTURE`` set, and then keep it in the file that this names, if it names one: in
``results/torture.json`` for ``make torture``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from paperlib.store import Provenance
from paperlib.store.files import write_atomically
from paperlib.store.stored import sealed

LONG = bool(os.environ.get("PAPERLIB_TORTURE"))


class Tally:
    """The rows of one session: ``rows`` has one for each call of :meth:`add`."""

    def __init__(self) -> None:
        self.made = Provenance.here("make torture")
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, began: float, **outcomes: int) -> None:
        """Note that ``what`` was done, and how many times each outcome was seen."""
        assert sum(outcomes.values()) > 0, f"nothing was tried: {what}"
        seconds = round(time.monotonic() - began, 1)
        self.rows.append({"what": what, "tries": sum(outcomes.values()), "outcomes": outcomes, "seconds": seconds})

    def save(self, path: Path) -> None:
        """Write all rows, with where and how they were made."""
        content = {"provenance": self.made.model_dump(mode="json"), "rows": self.rows}
        write_atomically(path, (json.dumps(sealed(content), indent=1) + "\n").encode())
