"""Every public function, called with nonsense: a valid result, or one sentence that names the argument."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from faults import hostile

import paperlib

ROOT = Path(__file__).parents[2]


def test_nonsense_gets_a_result_or_a_sentence_that_names_the_argument(size, tally, tmp_path):
    """In a process of its own, with a limit on its memory, and one on the time of each call."""
    number = size(400, 10**6)
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "faults.hostile", "0", str(number)],
        capture_output=True, text=True, timeout=900, check=False,
        env=os.environ | paths | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    made = list(zip(lines[::2], lines[1::2], strict=False))
    assert done.returncode == 0, (lines[-1:], done.stderr[-500:])
    assert len(made) == min(number, len(hostile.cases())) >= 400
    assert [(*case, said) for case, (kind, said) in made if kind == "confusing"] == []
    kinds = [kind for _, (kind, _) in made]
    assert kinds.count("result") > 10
    tally("a public function was called with nonsense", result=kinds.count("result"), sentence=kinds.count("sentence"))


DIRECTIVE = re.compile(r"^\.\. (auto|current)(module|function|class):: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)


def documented():
    """What the library's public pages document: names and functions or classes."""
    listed = (ROOT / "_toc.yml").read_text().partition("file: book/api/inside")[0]
    for page in re.findall(r"file: (book/api/\w+)", listed):
        within = ""
        for _, kind, name, options in DIRECTIVE.findall((ROOT / f"{page}.md").read_text()):
            if kind == "module":
                within = name
                yield from members(import_module(name), dict(re.findall(r":([\w-]+):(.*)", options)))
            else:
                module, _, own = (name if "." in name else f"{within}.{name}").rpartition(".")
                yield own, getattr(import_module(module), own)


def members(module, options):
    """As Sphinx chooses them: those that are named, or in ``__all__``, or made in the module; without the excluded."""
    here = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    named, left_out = (re.findall(r"\w+", options.get(which, "")) for which in ("members", "exclude-members"))
    for name in (named or getattr(module, "__all__", here)) if "members" in options else ():
        value = getattr(module, name)
        if name[0] != "_" and name not in left_out and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def methods(kind):
    """The documented methods of a class that take an argument."""
    for name, value in vars(kind).items():
        method = getattr(value, "__func__", value)
        if name[0] != "_" and name != "model_post_init" and inspect.isfunction(method) and method.__doc__:
            yield from [f"{kind.__name__}.{name}"] * (len(inspect.signature(method).parameters) > 1)


def test_all_that_the_public_pages_document_is_called():
    called = {getattr(call.function, "func", call.function) for call in hostile.CALLS.values()}
    public = [pair for pair in documented() if not (inspect.isclass(pair[1]) and issubclass(pair[1], Exception))]
    assert {*paperlib.__all__} <= {name for name, _ in public}
    own = {method for _, kind in public if inspect.isclass(kind) for method in methods(kind)} - hostile.CALLS.keys()
    uncalled = {name for name, value in public if value not in called}
    uncalled |= {name for name in own if name.partition(".")[0] not in hostile.UNCALLED}
    assert uncalled == hostile.MADE | hostile.UNCALLED.keys()


@pytest.mark.parametrize("name", hostile.CALLS)
def test_a_call_with_its_own_arguments_succeeds(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = hostile.CALLS[name]
    call.function(**call.valid())


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
