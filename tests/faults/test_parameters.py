"""What is given to a notebook is a parameter of it, or it is refused: whatever its name, and whatever its value."""

from __future__ import annotations

import atexit
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from paperlib import parameters
from paperlib.__main__ import main
from paperlib.channel_grid import GridConfig
from paperlib.config import RunConfig
from paperlib.errors import ConfigError
from paperlib.studies import section4, your_network

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# The notebooks that take parameters, and who checks them.
CHECKED = {
    "03_channel_grid": GridConfig,
    "04_cifar": RunConfig,
    "05_results": section4.Choice,
    "06_your_network": your_network.Choice,
}
# Names that mean something to a kernel or to a notebook, before or after its parameters.
NAMES = (
    "train", "open", "In", "Out", "_", "__", "__import__", "__name__", "exit", "quit", "get_ipython", "globals",
    "print", "RunConfig", "make_network", "config", "records", "studies", "pd", "math", "float", "channel_grid",
    "dpeth", "Lr", "_private", "lr_", "preset_", "model_fields", "self", "cls", "names", "shell", "namespace", "a.b",
    "In.x",
)  # fmt: skip
VALUES = (5, 0.5, True, None, "x", [1], {}, {"a": 1}, [[{"a": None}]], float("nan"), float("inf"), "'\"\n# lr = 1")


class Kernel(InteractiveShell):
    """IPython's shell without a history on the disk, as far as a notebook's first cells need one."""


@pytest.fixture
def kernel(monkeypatch):
    """A function that gives a new kernel in which a notebook's parameters have been set as papermill sets them.

    Afterwards nothing of the kernels is left: each had a thread, and a collection of garbage when Python ends, which
    took half an hour for some eight hundred of them.
    """
    kernels = []

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # where a shell puts a module of its own

    def begun(notebook, given):
        shell = Kernel(config=Config({"HistoryManager": {"enabled": False}}))
        kernels.append(shell)
        monkeypatch.setattr(parameters, "_notebook", lambda: shell)
        book = load_notebook_node(str(NOTEBOOKS / f"{notebook}.ipynb"))
        book = parameterize_notebook(book, given, kernel_name="python3", language="python")
        cells = [
            c.source for c in book.cells if {"parameters", "injected-parameters"} & set(c.metadata.get("tags", []))
        ]
        for cell in cells:
            shell.run_cell(cell, store_history=True, silent=False)
        # What the notebook imports before its parameters are looked at has the last word on a name.
        shell.user_ns |= {"RunConfig": RunConfig, "channel_grid": parameters, "studies": section4}
        return len(cells)

    yield begun
    for shell in kernels:
        atexit.unregister(shell.atexit_operations)


def test_nothing_of_a_kernel_is_left(kernel, monkeypatch):
    left = []
    monkeypatch.setattr(atexit, "register", lambda function, *rest: left.append(function) or function)
    before = threading.active_count()
    kernel("03_channel_grid", {})
    assert threading.active_count() == before
    assert [function.__name__ for function in left if "atexit" in function.__name__] == ["atexit_operations"]


def test_every_notebook_that_takes_parameters_checks_them_first(size):
    """Before anything that a name in their place could break."""
    with_parameters = set()
    for path in NOTEBOOKS.glob("*.ipynb"):
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        for at in (i for i, c in enumerate(code) if "parameters" in c.metadata.get("tags", [])):
            with_parameters.add(path.stem)
            first = [line for line in code[at + 1].source.splitlines() if line]
            assert first[0].startswith("from paperlib") and "from_namespace()" in first[1], path.stem
            # Nothing else on the page looks like a cell of parameters: it can be run twice.
            assert [i for i, c in enumerate(code) if c.source and parameters._set_in(c.source)] == [at], path.stem
    assert with_parameters == set(CHECKED)


def test_whatever_is_no_parameter_is_refused(kernel, size, tally):
    every = [(n, name, value) for n in CHECKED for name in NAMES for value in VALUES]
    tried, refused = random.Random(0).sample(every, size(60, len(every))), 0
    for notebook, name, value in tried:
        assert kernel(notebook, {name: value}) == 2
        with pytest.raises(ConfigError) as e:
            CHECKED[notebook].from_namespace()
        assert f"unknown parameter '{name}'" in str(e.value), (notebook, name, value)
        assert "\n" not in str(e.value)
        refused += 1
    assert refused >= 60
    tally("a name that is no parameter was given to a notebook", refused=refused)


def test_a_value_of_any_type_is_a_parameter_or_refused(kernel, size, tally):
    """A dictionary in the place of a number was passed over, and the default taken in its place."""
    every = [(n, name, value) for n, c in CHECKED.items() for name in c.model_fields for value in VALUES]
    tried, taken, refused = random.Random(0).sample(every, size(60, len(every))), 0, 0
    for notebook, name, value in tried:
        kernel(notebook, {name: value})
        try:
            made = CHECKED[notebook].from_namespace()
        except ConfigError as e:
            assert name.rstrip("s") in str(e) and "\n" not in str(e) and len(str(e)) < 300, (notebook, name, value)
            refused += 1
        else:
            assert made == CHECKED[notebook](**kernel_defaults(notebook) | {name: value})
            taken += 1
    assert taken and refused and taken + refused >= 60
    tally("a parameter of a notebook was given some value", taken=taken, refused=refused)


def kernel_defaults(notebook):
    """What a notebook's own cell of parameters sets."""
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    code = next(c for c in cells if "parameters" in c.metadata.get("tags", []))
    values: dict = {}
    exec(code.source, {}, values)
    return values


def test_what_a_notebook_was_given_is_taken(kernel):
    kernel("04_cifar", {"depth": 20, "lr": 0.5, "arch": "plain"})
    assert RunConfig.from_namespace() == RunConfig(depth=20, lr=0.5, arch="plain")


@pytest.mark.parametrize(
    ("notebook", "options", "said"),
    [
        ("04_cifar", ["-y", "{lr: {a: 1}}"], "ConfigError: lr must be a number, not {'a': 1}"),
        ("04_cifar", ["-p", "train", "5"], "ConfigError: unknown parameter 'train'"),
        ("04_cifar", ["-p", "open", "3"], "ConfigError: unknown parameter 'open'"),
        ("04_cifar", ["-p", "In", "2"], "ConfigError: unknown parameter 'In'"),
        ("04_cifar", ["-p", "__import__", "1"], "ConfigError: unknown parameter '__import__'"),
        ("04_cifar", ["-p", "get_ipython", "1"], "ConfigError: unknown parameter 'get_ipython'"),
        ("03_channel_grid", ["-p", "studies", "1"], "ConfigError: unknown parameter 'studies'"),
        ("05_results", ["-p", "preset", "huge"], "ConfigError: preset 'huge' is unknown"),
        ("06_your_network", ["-p", "seeds", "1000000000"], "ConfigError: seeds must be at most 100, not 1000000000"),
    ],
)
def test_papermill_ends_with_the_sentence(tmp_path, size, notebook, options, said):
    """The whole way, with a kernel; two of them in a short run."""
    if size(not {"{lr: {a: 1}}", "__import__"} & {*options}, False):
        pytest.skip("in make torture")
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / f"{notebook}.ipynb"), str(tmp_path / "out.ipynb")]
    environment = os.environ | {"PAPERLIB_RUNS": str(tmp_path / "runs"), "PAPERLIB_PRESET": "smoke"}
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=tmp_path, timeout=300, env=environment, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr[done.stderr.index("Exception encountered") :]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["train", "In", "__import__"])
def test_the_command_refuses_the_same(tmp_path, capsys, name):
    assert main(["run", "-p", name, "5", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: unknown parameter '{name}'") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
