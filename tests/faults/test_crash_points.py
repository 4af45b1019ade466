"""A process that is killed at any call that touches the disk leaves the old content or the new, and no scraps."""

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import nbconvert
import pandas as pd
import papermill
import pytest
import tiny

from paperlib import _commands as commands
from paperlib import checkpoints, claims, progress, records, scorecard
from paperlib.channel_grid import GridConfig, GridRecord, run, work
from paperlib.errors import PaperlibError
from paperlib.store import results_root
from paperlib.store.provenance import Session, device_here
from paperlib.sweep.cost import Costs, stored

ROOT = Path(__file__).resolve().parents[2]
GRID = GridConfig(**tiny.GRID | {"stages": "0"}).resolve()
KEY = (2, 2, "free")
CELL = "c2_d2_free.cell"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


# -- what is saved: a function that writes content number k into a folder, and one that reads which one is there -------
def a_record():
    made = tiny.fitted(tiny.record())

    def save(folder, k):
        made.frames["epochs"] = made.epochs.assign(test_loss=float(k))
        made.save(folder)

    return save, lambda folder: records.read(folder).epochs.test_loss[0]


def a_grid():
    made = run(GRID, quiet=True)

    def save(folder, k):
        made.model_copy(update={"frames": {"measurements": made.measurements.assign(loss=float(k))}}).save(folder)

    return save, lambda folder: GridRecord.read(folder).measurements.loss[0]


def a_finding():
    made = claims.measure("C1", "smoke", 2)

    def save(folder, k):
        frames = {name: frame.assign(k=k) for name, frame in made.frames.items()}
        made.model_copy(update={"frames": frames}).save(folder)

    return save, lambda folder: next(iter(claims.read(folder).frames.values())).k[0]


def a_checkpoint():
    return lambda f, k: checkpoints.write(f, {"k": k}), lambda f: (checkpoints.read(f, "cpu") or {"k": None})["k"]


def a_cell():
    table = pd.DataFrame({"c": [2], "d": [2], "variant": ["free"], "session": [0]})

    def read(folder):
        found = work._read_cell(folder / CELL, KEY, GRID, sessions=1)
        return None if found is None else found.k[0]

    return lambda f, k: work._save_cell(f / CELL, table.assign(k=k), GRID), read


def a_plan():
    def save(folder, k):
        session = Session.here().model_copy(update={"threads": k})
        work.Plan(config=GRID.content(), sessions=[session]).save(folder)

    return save, lambda folder: [session.threads for session in work._plan(GRID, folder).sessions][:1] or None


def a_progress_file():
    def save(folder, k):
        progress.Progress(folder, total=8, done=k, quiet=True)._report()

    return save, lambda folder: (progress.read(folder / progress.FILE) or [None])[0]


def costs():
    made = Costs(host="a", device=device_here("cpu"), side_by_side=1, startup=1.0, per_image={"float32": (0.1, 0.2)})
    return (
        lambda folder, k: made.model_copy(update={"startup": float(k)}).save(folder / "costs.json"),
        lambda folder: stored(folder / "costs.json").startup,
    )


def a_scorecard():
    card = scorecard.read(results_root() / scorecard.FILE)

    def save(folder, k):
        folder.mkdir(exist_ok=True)
        scorecard.write(card.model_copy(update={"cost": str(k)}), folder / "card.json")

    return save, lambda folder: scorecard.read(folder / "card.json").cost


def a_notebook_and_its_page():
    """As `paperlib run` leaves them, with others in the place of papermill and nbconvert."""

    def save(folder, k):
        def execute(source, target, **options):
            Path(target).write_text(json.dumps([k]))
            return k

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(papermill, "execute_notebook", execute)
            patch.setattr(nbconvert.HTMLExporter, "from_notebook_node", lambda self, node, *a, **o: (f"[{node}]", {}))
            commands._executed({}, folder / "run.ipynb")

    def read(folder):
        page = folder / "run.html"
        assert not page.exists() or json.loads(page.read_text()) in ([1], [2])
        notebook = folder / "run.ipynb"
        return json.loads(notebook.read_text())[0] if notebook.exists() else None

    return save, read


KINDS = (
    a_record, a_grid, a_finding, a_checkpoint, a_cell, a_plan, a_progress_file, costs, a_scorecard,
    a_notebook_and_its_page,
)  # fmt: skip
LOCKS = {".lock", ".save.lock"}
CALLS = ("mkdir", "open", "fdopen", "fsync", "chmod", "replace", "unlink")


def killed_at(point, save, *arguments):
    """Save in a process of its own, which kills itself at its ``point``-th call; its status."""
    child = os.fork()
    if child == 0:
        try:
            count = iter(range(1, 1000))

            def dies(name, function):
                def call(*args, **options):
                    if next(count) == point:
                        if name == "fdopen":  # half of the content
                            os.write(args[0], b"[")
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **options)

                return call

            for name in CALLS:
                setattr(os, name, dies(name, getattr(os, name)))
            save(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.name not in LOCKS) if folder.exists() else []


def there(read, folder):
    with contextlib.suppress(PaperlibError):
        return read(folder)


def not_ignored(left):
    """Those of the names that git would see in a folder of runs or of results."""
    paths = "\n".join(f"results/a/{name}" for name in sorted(left))
    words = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(words, input=paths, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in (0, 1), done.stderr
    return set(left) - {Path(line).name for line in done.stdout.splitlines()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_kill_at_any_call_leaves_the_old_content_or_the_new(kind, tmp_path, size, tally):
    save, read = kind()
    save(tmp_path / "clean", 2)
    clean, new = names(tmp_path / "clean"), read(tmp_path / "clean")
    found, scraps = Counter(), set()
    for begin in size(("old",), ("old", "nothing")):
        status, point = -signal.SIGKILL, 0
        while status == -signal.SIGKILL:
            point += size(2, 1)
            folder = tmp_path / f"{begin}{point}"
            folder.mkdir()
            if begin == "old":
                save(folder, 1)
            old, before = there(read, folder), set(names(folder))
            status = killed_at(point, save, folder, 2)
            now = there(read, folder)
            assert now in (old, new), (point, now)
            found["new_content" if now == new else "old_content"] += 1
            scraps |= {name for name in names(folder) if name not in {*before, *clean}}
            for path in folder.iterdir():
                os.utime(path, (0, 0))  # long ago
            save(folder, 2)  # the next one clears up
            assert read(folder) == new and names(folder) == clean, (point, names(folder))
        assert status == 0
    assert found["old_content"] >= 2 and found["new_content"] >= 1 and scraps
    seen = not_ignored(scraps) if (ROOT / ".git").exists() else set()
    assert all(name.endswith(".parquet") for name in seen), seen  # whole tables, which nothing names yet
    tally(f"killed while saving {kind.__name__.replace('_', ' ')}", **found)
