"""Many trainings in one process take no more memory and no more open files than a few; a leak would be seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).resolve().parents[2]
RUN = tiny.RUN | {"epochs": 1, "train_images": 20, "test_images": 10, "threads": 1}
BETWEEN = 256 * 1024  # bytes a run; the leak is four times that
WARM = 2  # runs until caches are filled

PROGRAM = """
import ctypes, gc, json, os, sys
from paperlib.training import RunConfig, train

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info

def used():
    "Bytes that malloc has given away, and open files."
    gc.collect()
    info = mallinfo()
    return info.uordblks + info.hblkhd, len(os.listdir("/proc/self/fd"))

found, kept = [], []
flat, leaking = map(int, sys.argv[3:])
for seed in range(flat + leaking):
    train(RunConfig(**json.loads(sys.argv[1]), seed=seed), root=sys.argv[2], quiet=True)
    if seed >= flat:
        kept.append((bytearray(2**20), open(os.devnull)))
    found.append(used())
print(json.dumps(found))
"""


def used(flat, leaking, folder):
    """Bytes and open files after each of so many runs, and of so many more that leak on purpose."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(RUN), str(folder), str(flat), str(leaking)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=1200)
    if "mallinfo2" in done.stderr:
        pytest.skip("this C library does not tell what malloc has given away")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == flat + leaking
    return found


def growth(found):
    """Bytes and open files that a run adds."""
    return [(last - first) / (len(found) - 1) for last, first in zip(found[-1], found[0], strict=True)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_many_runs_leave_memory_and_files_as_they_were(tmp_path, size, tally):
    flat, leaking = size(6, 60), size(2, 10)
    found = used(flat, leaking, tmp_path)
    memory, files = growth(found[WARM:flat])
    assert memory < BETWEEN and files == 0, (memory, files)
    leaked, opened = growth(found[flat - 1 :])
    assert leaked > 2 * BETWEEN and opened == 1, (leaked, opened)
    tally("trainings in one process", flat=flat, made_to_leak_and_caught=leaking)
