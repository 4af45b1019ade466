"""The command for a whole sweep, with another program in Snakemake's place."""

import sys

import pytest

from paperlib import __main__ as main
from paperlib.store.files import locked
from paperlib.sweep import command, drive, plan, state

pytestmark = pytest.mark.skipif(drive.importlib.util.find_spec("snakemake") is None, reason="snakemake is not here")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_sweep_of_one_folder_is_refused_and_changes_nothing(sweep_file, costs, tmp_path, capsys, runs):
    out = tmp_path / "out"
    job = plan.read(sweep_file).jobs()[0]
    for file, text in ((state.log(job, out), "error: of the first sweep\n"), (out / "snakemake.log", "at work\n")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with locked(out, "sweep"):
        before = content(out)
        assert main.main(["sweep", str(sweep_file), "--out", str(out), "--costs", str(costs)]) == 1
        assert content(out) == before and not runs.exists()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err == f"error: another process is working on this sweep ({out}): wait for it or stop it\n"


@pytest.fixture
def instead(monkeypatch, sweep_file, costs, tmp_path):
    """Drive the sweep with programs in Snakemake's place; their words are kept."""
    asked = []
    monkeypatch.setattr(drive.time, "sleep", lambda seconds: None)

    def driven(*programs):
        waiting = list(programs)

        def words(*given):
            asked.append(command.command(*given))
            return [sys.executable, "-c", waiting.pop(0)]

        monkeypatch.setattr(drive, "command", words)
        made = plan.make(sweep_file, tmp_path / "out", costs)
        return drive.drive(sweep_file, tmp_path / "out", made), asked

    return driven


SLOW_TO_STOP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, "
SLOW_TO_STOP += "signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def test_ctrl_c_ends_it_in_good_order_where_a_job_does_not_stop_in_time(instead, monkeypatch):
    def interrupted(process, out, plan):
        while "ready" not in (out / "snakemake.log").read_text():
            process.poll()
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "PATIENCE", 0.1)
    monkeypatch.setattr(drive, "_watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        instead(SLOW_TO_STOP)


FAILS = "print('it went wrong'); raise SystemExit(1)"


@pytest.fixture
def first_done(monkeypatch, sweep_file):
    """The sweep's first run is done, and the others are not; the jobs."""
    jobs = plan.read(sweep_file).jobs()

    def look(job, out, quick=False):
        done = job.name == jobs[0].name
        return state.State(job, "finished" if done else "unfinished", float(done), notebook=done)

    monkeypatch.setattr(state, "look", look)
    return jobs


def test_the_findings_are_made_of_the_runs_that_there_are(first_done, instead, capsys):
    jobs = first_done
    status, asked = instead(FAILS, "")
    assert status == 1 and len(asked) == 2
    assert asked[1][-3:] == [f"without={jobs[1].name},{jobs[2].name}", "--", "conclusions"]
    told = capsys.readouterr()
    assert "2 of 3 runs are missing: the findings are made of the others" in told.out
    assert "a step after" not in told.err


def test_after_a_killed_snakemake_nothing_goes_on(first_done, instead, capsys):
    status, asked = instead("import os; print('its end', flush=True); os.kill(os.getpid(), 9)")
    assert status == 1 and len(asked) == 1
    told = capsys.readouterr()
    assert "error: snakemake ended with status -9:\n    its end" in told.err
    assert "the findings are made" not in told.out


def test_findings_that_cannot_be_made_are_said(first_done, instead, capsys):
    assert instead(FAILS, "print('no rule'); raise SystemExit(1)")[0] == 1
    err = capsys.readouterr().err
    assert "error: a step after the runs failed" in err and "it went wrong" in err and "no rule" in err


def test_without_any_run_there_are_no_findings(instead, capsys):
    status, asked = instead(FAILS)
    assert status == 1 and len(asked) == 1
    assert "error: snakemake ended with status 1:\n    it went wrong" in capsys.readouterr().err
