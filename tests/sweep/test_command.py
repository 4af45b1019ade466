"""Snakemake's command line: what jobs here, on a cluster and in pods are told."""

import pytest

from paperlib.errors import ConfigError
from paperlib.sweep import command, plan, state

PODS = ["--executor", "kubernetes", "--kubernetes-persistent-volumes"]


@pytest.fixture
def planned(sweep_file, costs, tmp_path):
    return plan.make(sweep_file, tmp_path / "out", costs, workers=2)


def test_the_place_is_read_off_the_options_and_the_profile(tmp_path):
    profile = tmp_path / "config.yaml"
    profile.write_text("executor: kubernetes\nkubernetes-persistent-volumes: a:/mnt/a\n")
    found = command.place(["--profile", str(tmp_path)])
    assert (found.given, found.executor, [*map(str, found.volumes)]) == (True, "kubernetes", ["/mnt/a"])
    assert command.place([f"--profile={tmp_path}", "-e", "slurm"]).executor == "slurm"
    assert command.place(["-c", "3"]) == (True, "", ())
    assert not command.place(["--config", "a=b"]).given
    assert command.place(["--profile", "found.by.snakemake"]) == (True, "", ())
    profile.write_text("executor: [")
    with pytest.raises(ConfigError, match="the profile .* cannot be read"):
        command.place(["--profile", str(tmp_path)])


def test_jobs_here_see_the_files_where_they_are(planned, sweep_file, tmp_path, runs):
    out = tmp_path / "out"
    words = command.command(sweep_file, out, planned)
    assert words[words.index("--cores") + 1] == "2"
    assert words[words.index("--directory") + 1] == str(out)
    assert words[-2:] == [f"sweep={sweep_file}", f"runs={runs}"]
    assert "--cores" not in command.command(sweep_file, out, planned, ["--executor", "slurm"])


def test_runs_that_failed_are_left_out_of_what_is_made_of_the_others(planned, sweep_file, tmp_path):
    words = command.command(sweep_file, tmp_path / "out", planned, without=["a", "b"])
    assert words[-3:] == ["without=a,b", "--", "conclusions"]
    assert words[words.index("--forcerun") + 1] == "findings"


def test_a_notebook_whose_record_is_gone_is_made_again(planned, sweep_file, tmp_path):
    out = tmp_path / "out"
    stale = planned._replace(states=[state.State(planned.jobs[0], "to do", notebook=True), *planned.states[1:]])
    words = command.command(sweep_file, out, stale)
    assert words[words.index("--forcerun") + 1] == f"notebooks/{planned.jobs[0].name}.ipynb"


def test_nothing_of_this_machine_is_sent_to_pods(planned, tmp_path, monkeypatch, runs):
    monkeypatch.chdir(command.ROOT)
    out, file = tmp_path / "out", command.ROOT / "workflow" / "config" / "smoke.yaml"
    words = command.command(file, out, planned, [*PODS, f"claim:{tmp_path}"])
    assert words[-4:] == ["--default-storage-prefix", str(out), "--config", "sweep=workflow/config/smoke.yaml"]
    assert "--directory" not in words and "--cores" not in words


def test_what_pods_would_not_see_is_said(planned, sweep_file, tmp_path, monkeypatch, runs):
    out, volume = tmp_path / "volume" / "out", f"claim:{tmp_path / 'volume'}"
    with pytest.raises(ConfigError, match="must be given in the checkout"):
        monkeypatch.chdir(tmp_path)
        command.command(sweep_file, out, planned, [*PODS, volume])
    monkeypatch.chdir(command.ROOT)
    with pytest.raises(ConfigError, match=r"PAPERLIB_RUNS .* is on none of the volumes that pods mount"):
        command.command(sweep_file, out, planned, [*PODS, volume])
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "volume" / "runs"))
    with pytest.raises(ConfigError, match=r"--out .* is on none of the volumes"):
        command.command(sweep_file, tmp_path / "out", planned, [*PODS, volume])
    with pytest.raises(ConfigError, match="pods do not see .*tiny.yaml"):
        command.command(sweep_file, out, planned, [*PODS, volume])
