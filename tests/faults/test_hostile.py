"""Every public function, called with nonsense: a valid result, or one sentence that names the argument."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import hostile

ROOT = Path(__file__).parents[2]


def test_nonsense_gets_a_result_or_a_sentence_that_names_the_argument(size, tally):
    """In a process of its own, with a limit on its memory, and one on the time of each call."""
    number = size(400, 10**6)
    done = subprocess.run(
        [sys.executable, "-m", "faults.hostile", "0", str(number)],
        capture_output=True, text=True, timeout=900, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    made = list(zip(lines[::2], lines[1::2], strict=False))
    assert done.returncode == 0, (lines[-1:], done.stderr[-500:])
    assert len(made) == min(number, len(hostile.cases())) >= 400
    assert [(*case, said) for case, (kind, said) in made if kind == "confusing"] == []
    kinds = [kind for _, (kind, _) in made]
    assert kinds.count("result") > 10
    tally("a public function was called with nonsense", result=kinds.count("result"), sentence=kinds.count("sentence"))


def test_the_table_has_what_users_come_for():
    import paperlib

    assert set(paperlib.__all__) <= hostile.CALLS.keys()
    assert len(hostile.cases()) >= 10_000


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda size: size.nothing, "confusing"),
        (lambda size: math.nan, "confusing"),
        (lambda size: time.sleep(5), "confusing"),
        (lambda size: hostile.paperlib.config.RunConfig(depth=size), "confusing"),  # it names depth, and not size
        (lambda depth: hostile.paperlib.config.RunConfig(depth=depth), "sentence"),
        (lambda size: size, "result"),
    ],
)
def test_the_judge_is_strict(monkeypatch, function, found):
    (argument,) = function.__code__.co_varnames[:1]
    monkeypatch.setitem(hostile.CALLS, "it", hostile.Call(function, lambda: {argument: 1}))
    monkeypatch.setattr(hostile, "SECONDS", 0.2)
    before = hostile.signal.signal(hostile.signal.SIGALRM, hostile.too_long)
    try:
        assert hostile.outcome("it", argument, "0.5")[0] == found
    finally:
        hostile.signal.signal(hostile.signal.SIGALRM, before)
