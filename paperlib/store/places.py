"""Where stored things lie: the runs of this machine, and the records that are committed."""

from __future__ import annotations

import os
from pathlib import Path

from paperlib.errors import ConfigError, RecordError

RUNS_VARIABLE = "PAPERLIB_RUNS"
DISTRIBUTION = "norm-preservation"  # the name on PyPI
PACKAGE = Path(__file__).resolve().parents[1]


def _checkout() -> Path | None:
    """The checkout that holds the package, if one does."""
    return PACKAGE.parent if (PACKAGE.parent / "_toc.yml").exists() else None


def at_home(name: str, path: Path) -> Path:
    """``path`` with a leading ``~`` replaced; ``ConfigError`` where there is no such user.  ``name`` is what has it."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError(f"{name} is {str(path)!r:.200}, and there is no user of that name: give the folder") from None


def runs_root() -> Path:
    """Where runs go: ``PAPERLIB_RUNS``, else ``runs/`` in the checkout that holds the package, else in this folder."""
    if given := os.environ.get(RUNS_VARIABLE):
        return at_home(RUNS_VARIABLE, Path(given))
    return (_checkout() or Path.cwd()) / "runs"


def results_root() -> Path:
    """The committed records: ``results/`` in the checkout that holds the package, else the copy installed with it.

    Beside it lie the benchmarks' results and the workflow's files, as in the repository.

    Raises
    ------
    RecordError
        The package was copied without them.
    """
    root = (_checkout() or PACKAGE / "committed") / "results"
    if not root.is_dir():
        raise RecordError(
            f"the book's records are not at {root}: they come with the package (pip install {DISTRIBUTION}) and with a "
            "checkout of the repository"
        )
    return root
