"""The plan: predictions, states, and the table."""

import json
import shutil
from collections import namedtuple

import pytest

from paperlib import __main__ as command
from paperlib import checkpoints, progress
from paperlib.errors import PaperlibError
from paperlib.sweep import cost, drive, plan, state


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_plan_predicts_and_counts(sweep_file, costs, tmp_path):
    made = plan.make(sweep_file, tmp_path / "out", costs, workers=2)
    table = plan.table(made).set_index("group")
    assert table.runs.to_dict() == {"depths": 2, "seeds": 1, "all": 3}
    # 2 epochs of 100 images and 0.3 × (50 + 50) evaluated ones, and 100 images before: at 0.001 s, and 10 s each.
    assert table.hours["all"] * 3600 == pytest.approx(3 * (10 + 0.001 * (2 * 130 + 100)))
    assert table.left["all"] == table.hours["all"] and table.done["all"] == 0
    assert "3 runs, 2 at a time" in plan.describe(made)


def test_states_are_read_off_the_files(sweep_file, costs, tmp_path, runs, put):
    out = tmp_path / "out"
    first, second, third = plan.make(sweep_file, out, costs).jobs
    record = put(first)
    assert state.look(first, out).status == "finished" and not state.look(first, out).done
    written(state.notebook(first, out), "")
    assert state.look(first, out).done
    assert state.look(second, out) == state.State(second, "to do")
    # A checkpoint after the first of two epochs; its own folder's, so that nothing else is asked of it.
    content = checkpoints.read(record.folder, "cpu")
    content["state"]["epoch"] = 2
    second.config.folder().mkdir(parents=True)
    checkpoints.write(second.config.folder(), content)
    assert state.look(second, out)[1:3] == ("unfinished", 0.5)
    assert state.look(second, out, quick=True).status == "to do"
    written(state.log(second, out), "100%\nerror: the disk is full\n")
    assert state.look(second, out)[1:4] == ("failed", 0.5, "the disk is full")
    content = {"done": 1, "total": 4, "seconds_left": 3, "text": "epoch 1/2"}
    written(third.config.folder() / progress.FILE, json.dumps(content))
    assert state.look(third, out) == state.State(third, "unfinished", 0.25, "epoch 1/2", running=True)
    made = plan.make(sweep_file, out, costs)
    assert plan.table(made).set_index("group").begun["all"] == 2
    assert made.left() == pytest.approx(10.36 * (0.5 + 0.75))
    assert "failed: " + second.name + ": the disk is full" in plan.describe(made)
    said = plan.ending(made.states)
    assert said.startswith("1 finished, 1 failed, 1 unfinished")


def test_a_damaged_record_and_another_runs_record_are_failures(sweep_file, tmp_path, runs, put):
    jobs = plan.read(sweep_file).jobs()
    record = put(jobs[0])
    record.save(jobs[1].config.folder())
    assert state.look(jobs[1], tmp_path).note.endswith("holds another run")
    written(jobs[2].config.folder() / "record.json", "{")
    assert "not a readable record" in state.look(jobs[2], tmp_path).note


def test_the_time_that_is_left_follows_what_was_done(sweep_file, costs, tmp_path, runs, put):
    made = plan.make(sweep_file, tmp_path, costs, workers=1)
    clock = drive.Clock(made)
    assert clock.share() == 0 and clock.seconds_left() == pytest.approx(made.left())
    record = put(made.jobs[0])
    written(state.notebook(made.jobs[0], tmp_path), "")
    clock.look(tmp_path)
    assert clock.share() == pytest.approx(1 / 3)
    assert clock.seconds_left() < made.left()  # this session was quicker than ten seconds a run
    assert clock.text().startswith("1/3 runs")
    assert record.status == "finished"


def test_workers_are_what_cores_and_memory_allow(sweep_file, monkeypatch):
    jobs = plan.read(sweep_file).jobs()
    need = max(cost.memory_bytes(job.config) for job in jobs)
    monkeypatch.setattr(plan.joblib, "cpu_count", lambda: 8)
    for memory, workers in ((100 * need, 8), (4 * need / plan.MEMORY_SHARE, 4), (need / 2, 1)):
        monkeypatch.setattr(plan.machine, "memory", lambda memory=memory: memory)
        assert plan.room(jobs) == workers


def test_a_full_disk_is_said_before_anything_is_started(sweep_file, costs, tmp_path, monkeypatch, capsys, runs):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1))
    words = ["sweep", str(sweep_file), "--out", str(tmp_path / "out"), "--costs", str(costs)]
    assert command.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: the runs that are left need about") and err.count("\n") == 1
    assert not (tmp_path / "out").exists() and not runs.exists()


def test_a_folder_that_cannot_be_written_is_said(sweep_file, costs, tmp_path, capsys):
    written(tmp_path / "file", "")
    words = ["sweep", str(sweep_file), "--out", str(tmp_path / "file" / "out"), "--costs", str(costs)]
    assert command.main(words) == 1
    err = capsys.readouterr().err
    assert "cannot be written" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["plan", "sweep"])
def test_a_wrong_file_is_one_sentence(name, tmp_path, capsys):
    file = written(tmp_path / "x.yaml", "preset: smoke\ngroups: {a: {depth: 21}}")
    assert command.main([name, str(file), "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {file}: groups: a: depth 21") and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]


def test_costs_are_kept_and_checked(tmp_path, costs, sweep_file, runs):
    assert cost.stored(costs).startup == 10.0
    with pytest.raises(PaperlibError, match="holds no costs"):
        cost.stored(written(tmp_path / "bad.json", "{}"))
    with pytest.raises(PaperlibError, match="cannot be read"):
        cost.stored(tmp_path / "none.json")


def test_a_device_that_is_not_here_is_not_timed(tmp_path, runs, monkeypatch):
    monkeypatch.setattr(cost.torch.cuda, "is_available", lambda: False)
    assert cost.costs_here("cuda", {"float32"}, 1) is None
    made = plan.make(plan.Path(__file__).parents[2] / "workflow" / "config" / "paper.yaml", tmp_path)
    assert "the hours are not known" in plan.describe(made)


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_at_least_one(workers, sweep_file, costs, tmp_path, capsys):
    words = ["plan", str(sweep_file), "--out", str(tmp_path / "out"), "--costs", str(costs), f"--workers={workers}"]
    assert command.main(words) == 1
    assert capsys.readouterr().err == f"error: workers must be a whole number of at least 1, not {workers}\n"


@pytest.mark.parametrize("below", ["", "out"])
def test_a_file_is_no_sweep_s_folder(below, sweep_file, tmp_path, capsys):
    file = written(tmp_path / "file", "")
    assert command.main(["plan", str(sweep_file), "--status", "--out", str(file / below)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and f"since {file} is a file: name another with --out" in printed.err


def test_the_hours_that_are_left_are_told_for_one_run_at_a_time_first(sweep_file, costs, tmp_path):
    made = plan.make(sweep_file, tmp_path / "out", costs, workers=2)
    hours = made.left() / 3600
    assert cost.in_words(hours, 2) in plan.describe(made)
    assert cost.in_words(hours) in plan.describe(made._replace(workers=1))
