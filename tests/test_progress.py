"""Progress: the time left, the file for other processes, and the line of a notebook."""

import json

import pytest

from paperlib import progress
from paperlib.progress import Progress, duration


def test_progress_tells_the_time_left(tmp_path):
    p = Progress(tmp_path, total=10, done=2, quiet=True)
    p._began -= 8.0
    p._reported -= 8.0
    p.advance(4, "epoch 1/2")
    state = json.loads((tmp_path / "progress.json").read_text())
    assert state["seconds_left"] == pytest.approx(8.0, rel=0.1)
    assert state["text"] == "epoch 1/2"
    p.close("done")
    assert not (tmp_path / "progress.json").exists()
    assert duration(187) == "3:07"
    assert duration(7387) == "2:03:07"


def test_reports_are_a_second_apart(tmp_path):
    p = Progress(tmp_path, total=10, done=0, quiet=True)
    p.advance(1, "at once")
    assert not (tmp_path / progress.FILE).exists()
    assert p.state()["done"] == 1


def test_nothing_done_tells_no_time(tmp_path):
    assert Progress(tmp_path, total=10, done=4, quiet=True).state()["seconds_left"] is None


def test_a_notebook_shows_one_line(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    monkeypatch.setattr(progress._Line, "show", lambda self, text: shown.append(text))
    p = Progress(tmp_path, total=4, done=0)
    p._began -= 60.0
    p._reported -= 60.0
    p.advance(2, "epoch 1/2")
    p.close("2 epochs")
    assert shown == [f"{'█' * 10}{'░' * 10}  50%  epoch 1/2  1:00 left", "2 epochs"]


def test_a_quiet_run_shows_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    p = Progress(tmp_path, total=4, done=0, quiet=True)
    p._reported -= 60.0
    p.advance(4, "all")
    p.close("done")
    assert capfd.readouterr() == ("", "")
