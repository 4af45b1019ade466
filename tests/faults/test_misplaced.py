"""What was copied, linked or laid somewhere else is found out, or is read as what it is."""

import json
import os
import re
import shutil

import pytest
import tiny

from paperlib import __main__ as command
from paperlib import records, scorecard
from paperlib.errors import ConfigError, RecordError
from paperlib.store import files, results_root, runs_root
from paperlib.sweep import cost


@pytest.fixture
def saved(tmp_path):
    """A record of seed 0 in the folder seed0."""
    folder = tmp_path / "runs" / "network" / "seed0"
    records.save(tiny.fitted(tiny.record()), folder)
    return folder


def test_a_run_in_another_seeds_folder_is_not_counted_as_one(saved):
    shutil.copytree(saved, saved.with_name("seed7"))
    with pytest.raises(RecordError, match="it is the run of seed 0, and lies in seed7"):
        records.read_all(saved.parent)
    shutil.move(saved.with_name("seed7"), saved.with_name("mine"))  # any other name is the user's
    assert len(records.read_all(saved.parent)) == 2


def test_folders_that_are_links_are_read_and_a_link_that_leads_nowhere_is_told(saved, tmp_path):
    shutil.move(saved.parent, tmp_path / "elsewhere")
    saved.parent.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(records.read_all(tmp_path / "runs")) == 1
    (tmp_path / "elsewhere" / "seed0" / "record.json").unlink()
    (tmp_path / "elsewhere" / "seed0" / "record.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecordError, match="there is no record at"):
        records.read_all(tmp_path / "runs")


def test_a_key_that_stands_twice_is_refused(saved):
    path = saved / "record.json"
    path.write_text(path.read_text().replace('"status": ', '"status": "diverged", "status": ', 1))
    with pytest.raises(RecordError, match="a key stands twice"):
        records.read(saved)


def test_the_costs_of_another_kind_of_device_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    shutil.copytree(results_root() / "costs", tmp_path / "costs")
    shutil.copy(tmp_path / "costs" / "h200.json", cost.file_here("cpu"))
    with pytest.raises(ConfigError, match="holds the costs of NVIDIA H200, which is no cpu: move it away"):
        cost.costs_here("cpu", {"bfloat16"}, 1)
    shutil.copy(tmp_path / "costs" / "two-cores.json", tmp_path / "costs" / "h200.json")
    with pytest.raises(ConfigError, match=r"h200.json holds the costs of AMD EPYC: put back those of a cuda"):
        scorecard.price.here(tmp_path)


@pytest.mark.parametrize("host", ["a/b", "../../x", "a\nb", "x" * 300, ""])
def test_any_name_of_a_machine_makes_a_file_in_the_folder_of_costs(host, monkeypatch):
    monkeypatch.setattr(cost.platform, "node", lambda: host)
    path = cost.file_here("cpu")
    assert path.parent == runs_root() / "costs" and re.fullmatch(r"[\w.-]{5,120}", path.name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="something else than an ordinary file"):
        files.write_atomically(pipe, b"content")
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]


def test_an_unknown_users_home_is_said(monkeypatch, capsys):
    monkeypatch.setenv("PAPERLIB_RUNS", "~no-such-user-here/x")
    assert command.main(["train", "-p", "preset", "smoke"]) == 1
    assert "PAPERLIB_RUNS is '~no-such-user-here/x', and there is no user of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["measure", "T1", "--out", ""], ["scorecard", "--root", " "], ["scorecard", "--json", ""]]
)
def test_an_empty_path_is_not_the_current_folder(words, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2 and "a path is empty: name a file or a folder" in capsys.readouterr().err


def test_a_factor_has_an_upper_bound():
    with pytest.raises(ConfigError, match="hold_at must be one number above 0 and at most 1000"):
        tiny.tiny(arch="procresnet", hold_at=1e300)


def test_the_record_says_what_it_said(saved):
    """The control: what is untouched is read."""
    assert records.read(saved).config.seed == 0 and json.loads((saved / "record.json").read_text())["seal"]
