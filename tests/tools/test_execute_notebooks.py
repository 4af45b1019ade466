"""Executing notebooks and storing what they take."""

from __future__ import annotations

import csv

import execute_notebooks as tool
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two notebooks and a table of one row."""
    for name, code in (("good", "print(2 + 2)"), ("bad", "1 / 0"), ("reproducibility", "print('the table')")):
        nbformat.write(new_notebook(cells=[new_code_cell(code)]), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tool, "TABLE", tmp_path / "execution.csv")
    monkeypatch.setattr(tool, "SHOWS_IT", tmp_path / "reproducibility.ipynb")
    tool.write({"bad": dict.fromkeys(tool.HEAD, "before") | {"page": "bad"}})
    return tmp_path


@pytest.mark.slow
def test_outputs_and_what_they_took_are_stored_and_a_failure_changes_nothing(place, capfd):
    before = (place / "bad.ipynb").read_bytes()
    assert tool.main([]) == 1
    assert "failed: bad.ipynb" in capfd.readouterr().err
    assert (place / "bad.ipynb").read_bytes() == before
    for name in ("good", "reproducibility"):
        (cell,) = nbformat.read(place / f"{name}.ipynb", as_version=4).cells
        assert cell.outputs[0].text.strip() in ("4", "the table")
    with (place / "execution.csv").open() as file:
        bad, good = csv.DictReader(file)
    assert bad["date"] == "before"
    assert good["page"] == "good" and good["preset"] == "desk"
    assert 0 < float(good["processor time (s)"]) < 100 and 0 < float(good["memory (GiB)"]) < 2
