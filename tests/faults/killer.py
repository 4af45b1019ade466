"""What a process does that tries some work again and again: ``killer.py ROOT TRIES``.

The tries are JSON: how many, and of which signals, by the name of the work, as ``{"grid": [20, ["SIGKILL"]]}``.  Each
is a process of its own, forked from this one, which has imported everything and computed nothing.  It gets one of the
signals at a random moment.  Work that ends unharmed was whole, and is begun anew in another folder.  Printed is JSON:
by the name of the work, for each try its folder, the signal, the exit status, and what it said.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import tiny
import torch

from paperlib import __main__ as command
from paperlib.channel_grid import GridConfig, run
from paperlib.training import train

GRID = tiny.GRID | {"stages": "0 2 4"}
WORDS = [word for name, value in (tiny.RUN | {"threads": 1}).items() for word in ("-p", name, str(value))]


def command_line(name):
    """One of the commands, as its process does it."""

    def work(root):
        os.environ["PAPERLIB_RUNS"] = str(root)
        return command.main([name, *WORDS] + (["--out", f"{root}/out"] if name == "run" else []))

    return work


WORKS = {
    "training": lambda root: train(tiny.tiny(threads=1), root=root, quiet=True),
    "grid": lambda root: run(GridConfig(**GRID), root=root, quiet=True),
    "train": command_line("train"),
    "run": command_line("run"),
}


def forked(work, root, said):
    """The process that works."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background jobs of a shell
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = 1
        try:
            done = work(root)
            status = done if isinstance(done, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def tries(work, root, number, draw, signals):
    """Work and end it, so many times."""
    began = time.monotonic()
    child = forked(work, root / "0", root / "said")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (root / "said").read_text()
    span, folder = time.monotonic() - began, 1
    while number:
        child = forked(work, root / str(folder), root / "said")
        time.sleep(draw.uniform(0, 0.9 * span))
        sent = draw.choice(signals)
        os.kill(child, sent)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:  # it was done before it noticed
            folder += 1
            continue
        number -= 1
        yield {"folder": folder, "signal": sent, "status": status, "said": (root / "said").read_text()}


def tried(work, root, number, signals, warm=True):
    """Make the tries, finish what the last one left, and return all of it.

    Unless this process is ``warm``, each try imports torch's compiler, for seconds in which it can be signalled, too.
    """
    if warm:
        torch.use_deterministic_algorithms(False)
    root.mkdir()
    made = list(tries(work, root, number, random.Random(0), [getattr(signal, name) for name in signals]))
    for folder in {one["folder"] for one in made}:
        child = forked(work, root / str(folder), root / "said")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (root / "said").read_text()
    return made


if __name__ == "__main__":
    root, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    print(json.dumps({name: tried(WORKS[name], root / name, *how) for name, how in asked.items()}))
