"""Executing notebooks and storing what they take."""

from __future__ import annotations

import csv

import execute_notebooks as tool
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


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


CARD = "- **Takes:** about half a minute at `desk`, a run of your own two hours\n- **Run it:** so"


@pytest.mark.parametrize("taken, held", [("14", False), ("15", True), ("30", True), ("60", True), ("61", False)])
def test_a_time_off_the_card_by_more_than_a_factor_of_two_is_said(tmp_path, taken, held):
    page = tmp_path / "04_page.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(CARD)]), page)
    said = tool.off_the_card(page, {"time (s)": taken})
    assert (said is None) == held
    assert held or f'04_page took {taken} s, and its card says "about half a minute at `desk`' in said


def test_a_page_without_a_card_has_no_time_to_hold(tmp_path):
    page = tmp_path / "00_page.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("No card.")]), page)
    assert tool.off_the_card(page, {"time (s)": "1000"}) is None


def test_a_busy_machines_time_ends_with_status_1(place, monkeypatch, capsys):
    monkeypatch.setattr(
        tool, "execute", lambda notebook: dict.fromkeys(tool.HEAD, "") | {"page": "good", "time (s)": "114"}
    )
    nbformat.write(new_notebook(cells=[new_markdown_cell(CARD)]), place / "good.ipynb")
    assert tool.main([str(place / "good.ipynb")]) == 1
    assert "good took 114 s" in capsys.readouterr().err
    assert tool.rows()["good"]["time (s)"] == "114", (
        "the row stays, so that the test of the cards fails until it is mended"
    )


@pytest.mark.parametrize(
    "said, taken",
    [("about 20 seconds for it", 20), ("half an hour", 1800), ("a quarter of an hour", 900), ("a minute or two", 60)],
)
def test_times_in_words(said, taken):
    assert tool.seconds(said) == taken


def test_no_time_in_words():
    with pytest.raises(ValueError, match='"quick", which names no time'):
        tool.seconds("quick")
    with pytest.raises(ValueError, match="names no time"):
        tool.seconds("1.5 minutes")


def test_a_card_that_names_no_time_is_said_and_the_rest_is_executed(place, monkeypatch, capsys):
    monkeypatch.setattr(
        tool, "execute", lambda notebook: dict.fromkeys(tool.HEAD, "") | {"page": notebook.stem, "time (s)": "9"}
    )
    page = new_notebook(cells=[new_markdown_cell("- **Takes:** not long")])
    nbformat.write(page, place / "bad.ipynb")
    assert tool.main([]) == 1
    assert 'bad: its card says "not long", which names no time' in capsys.readouterr().err
    assert tool.rows().keys() == {"bad", "good"}
