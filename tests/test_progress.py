"""Progress: the time left, the file for other processes, and the line of a notebook."""

import json

import pytest

from paperlib import progress
from paperlib.progress import Progress, duration


def test_progress_tells_the_time_left(tmp_path):
    """By the time since the first units were done: before them come things that come once."""
    p = Progress(tmp_path, total=11, done=2, quiet=True)
    p._reported -= 100.0
    p.advance(1, "first step")
    assert json.loads((tmp_path / "progress.json").read_text())["seconds_left"] is None
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
    p.advance(1, "first step")
    p._began -= 60.0
    p._reported -= 60.0
    p.advance(1, "epoch 1/2")
    p.close("2 epochs")
    assert shown == [f"{'█' * 10}{'░' * 10}  50%  epoch 1/2  2:00 left", "2 epochs"]


def test_a_quiet_run_shows_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    p = Progress(tmp_path, total=4, done=0, quiet=True)
    p._reported -= 60.0
    p.advance(4, "all")
    p.close("done")
    assert capfd.readouterr() == ("", "")


# -- the work of other processes -------------------------------------------------------------------------------------
def followed(shares):
    """Look at the shares one after another; where one is None there is nothing to tell."""
    left = iter(shares)
    count = iter(range(1, len(shares) + 1))
    progress.follow(
        "work", lambda: next(count) == len(shares), lambda: None if (s := next(left)) is None else (s, "on")
    )


def test_without_a_terminal_there_is_a_line_every_half_minute(monkeypatch, capfd):
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    followed([0.1, None, 0.25, 0.3, 1.0])
    out, err = capfd.readouterr()
    assert out == ""
    assert err == " 25%  on\n100%  on\n"


def test_a_terminal_shows_a_bar(monkeypatch, capfd):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    followed([0.5, 1.0])
    err = capfd.readouterr().err
    assert "work  50%" in err and "work 100%" in err and "on" in err


def test_the_file_of_a_run_is_read(tmp_path):
    file = tmp_path / progress.FILE
    assert progress.read(file) is None
    file.write_text("{")
    assert progress.read(file) is None
    file.write_text(json.dumps({"done": 1, "total": 4, "seconds_left": 187, "text": "epoch 1/4"}))
    assert progress.read(file) == (0.25, "epoch 1/4  3:07 left")
    file.write_text(json.dumps({"done": 9, "total": 4, "seconds_left": None, "text": "epoch 4/4"}))
    assert progress.read(file) == (1.0, "epoch 4/4")
