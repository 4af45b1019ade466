"""Where stored things lie: the runs of this machine, and the records that are committed."""

from __future__ import annotations

import os
from pathlib import Path

RUNS_VARIABLE = "PAPERLIB_RUNS"


def _home() -> Path:
    """The checkout that holds the package, else the current folder."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "_toc.yml").exists() else Path.cwd()


def runs_root() -> Path:
    """Where runs go: ``PAPERLIB_RUNS``, else ``runs/`` in the checkout that holds the package, else in this folder."""
    if given := os.environ.get(RUNS_VARIABLE):
        return Path(given).expanduser()
    return _home() / "runs"


def results_root() -> Path:
    """The committed records: ``results/`` in the checkout that holds the package, else in the current folder."""
    return _home() / "results"
