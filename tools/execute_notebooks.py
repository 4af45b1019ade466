"""Execute the notebooks and store what each takes: python tools/execute_notebooks.py [NOTEBOOK ...]

Outputs are written into the notebooks.  ``results/execution.csv`` gets a row for each: time, processor time, memory,
where, when and from which commit.  The page that shows this table has no row, and is executed last.  A notebook that
fails keeps its outputs and its row.  A chapter's card says how long it takes: if that is off by more than a factor of
two, a line names the chapter, so that a busy machine's time is noticed.  In both cases the exit status is 1.
"""

from __future__ import annotations

import csv
import datetime
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
TABLE = ROOT / "results" / "execution.csv"
SHOWS_IT = NOTEBOOKS / "reproducibility.ipynb"
HEAD = ["page", "preset", "time (s)", "processor time (s)", "memory (GiB)", "machine", "commit", "date"]
PRESETS = {"06_your_network": "smoke"}  # its outputs are those of the embedded sample; the others show what is stored
PARTS = {"half a": 0.5, "half an": 0.5, "a quarter of an": 0.25, "a": 1, "an": 1}
UNITS = {"second": 1, "minute": 60, "hour": 3600}
KIB_PER_GIB = 2**20 if sys.platform != "darwin" else 2**30  # of ru_maxrss


def execute(notebook: Path) -> dict[str, str]:
    """Execute one notebook in place and say what it took; raises CalledProcessError if a cell fails."""
    preset = PRESETS.get(notebook.stem, "desk")
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace"]
    environment = {"PAPERLIB_PRESET": preset, "PAPERLIB_RUNS": str(ROOT / "results"), "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    process = subprocess.Popen([*command, str(notebook)], env=os.environ | environment)
    _, status, used = os.wait4(process.pid, 0)  # with what its kernel used
    wall = time.monotonic() - start
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, command)
    taken = (wall, used.ru_utime + used.ru_stime)
    where = [f"{used.ru_maxrss / KIB_PER_GIB:.1f}", *provenance()]
    return dict(zip(HEAD, [notebook.stem, preset, *(f"{seconds:.0f}" for seconds in taken), *where], strict=True))


def provenance() -> list[str]:
    """The machine, the commit and the day."""
    from paperlib.store.provenance import device_here, git_state  # late: importing torch takes seconds

    commit, dirty = git_state()
    changed = ", with changes" if dirty else ""
    return [device_here("cpu").name, f"{(commit or 'none')[:7]}{changed}", datetime.date.today().isoformat()]


def rows() -> dict[str, dict[str, str]]:
    """The table as it is stored, by page."""
    if not TABLE.is_file():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["page"]: row for row in csv.DictReader(file)}


def write(table: dict[str, dict[str, str]]) -> None:
    """Write the table whole, then rename it."""
    new = TABLE.with_suffix(".tmp")
    with new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEAD, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[page] for page in sorted(table))
    new.replace(TABLE)


def seconds(said: str) -> float:
    """The first time in a text, such as "about half a minute"."""
    found = re.search(r"(?<![\d.])(\d+|half an?|a quarter of an|an?) (second|minute|hour)s?\b", said)
    if not found:
        raise ValueError(f'"{said}", which names no time such as "half a minute"')
    number, unit = found.groups()
    return (PARTS.get(number) or int(number)) * UNITS[unit]


def off_the_card(notebook: Path, taken: dict[str, str]) -> str | None:
    """What is wrong with the time on a chapter's card, if it has one; None if it holds within a factor of two."""
    card = re.search(r'- \*\*Takes:\*\* ([^\n\\"]+)', notebook.read_text(encoding="utf-8"))
    measured = float(taken["time (s)"])
    if card is None or measured / 2 <= seconds(card.group(1)) <= 2 * measured:
        return None
    return (
        f'{notebook.stem} took {measured:.0f} s, and its card says "{card.group(1)}": execute it again with nothing '
        "beside it, or correct the card"
    )


def main(names: list[str]) -> int:
    """Execute the named notebooks, or all; either file of a pair may be given."""
    chosen = [Path(name).resolve().with_suffix(".ipynb") for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    failed, off = [], []
    for notebook in [*(n for n in chosen if n != SHOWS_IT), SHOWS_IT]:
        try:
            taken = execute(notebook)
        except subprocess.CalledProcessError:
            failed.append(notebook.name)
        else:
            if notebook != SHOWS_IT:
                write(rows() | {notebook.stem: taken})
                try:
                    off.append(off_the_card(notebook, taken))
                except ValueError as error:
                    off.append(f"{notebook.stem}: its card says {error}")
    wrong = [f"failed: {', '.join(failed)}; the error stands above"] if failed else []
    wrong += [sentence for sentence in off if sentence]
    for sentence in wrong:
        print(f"execute_notebooks: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
