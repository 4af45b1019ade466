"""Keep the notebooks in step with their sources: python tools/notebook_pairs.py {update,check} [FILE ...]

The source of notebooks/NAME.ipynb is notebooks/NAME.py.  ``update`` writes the first from the second, never the other
way; cells that did not change keep their outputs.  ``check`` compares cells, their kinds, tags and captions.  Either
file of a pair may be given; without any, all are taken.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[str], dict[str, Any]]]:
    """What a pair has in common: the kind, the source, the tags, and the caption of each cell."""
    return [(c.cell_type, c.source, c.metadata.get("tags", []), c.metadata.get("mystnb", {})) for c in notebook.cells]


def in_step(source: Path) -> bool:
    """Whether the notebook is there and has the cells of its source."""
    notebook = source.with_suffix(".ipynb")
    return notebook.is_file() and cells(nbformat.read(notebook, as_version=4)) == cells(jupytext.read(source))


def update(source: Path) -> None:
    """Write the notebook anew if it differs from its source."""
    if not in_step(source):
        command = [sys.executable, "-m", "jupytext", "--quiet", "--to", "ipynb", "--update", str(source)]
        subprocess.run(command, check=True)


def main(arguments: list[str]) -> int:
    """Update or check; the exit status is 1 if a pair is not in step."""
    if not arguments or arguments[0] not in ("update", "check"):
        print(__doc__, file=sys.stderr)
        return 2
    named = [Path(a) for a in arguments[1:]] or [*NOTEBOOKS.glob("*.py"), *NOTEBOOKS.glob("*.ipynb")]
    wrong = 0
    for source in sorted({path.with_suffix(".py") for path in named}):
        if not source.is_file():
            print(f"{source.with_suffix('.ipynb')} has no source {source.name}", file=sys.stderr)
            wrong = 1
        elif arguments[0] == "update":
            update(source)
        elif not in_step(source):
            print(f"{source} and its notebook differ: run make notebooks, or update the notebook", file=sys.stderr)
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
