"""Provenance: the commit and whether it is clean, versions, device, and one entry per session."""

import shutil
import subprocess

import pytest
import torch

import paperlib
from paperlib.store import Provenance, Session, provenance
from paperlib.store.provenance import merged


def test_here_and_now():
    made = Provenance.here("make it", threads=3)
    assert (made.command, made.threads, made.device.type) == ("make it", 3, "cpu")
    assert made.device.name
    assert made.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(made.versions) == {"python", "paperlib", *provenance.PACKAGES}
    assert made.versions["paperlib"] == paperlib.__version__
    assert made.started.endswith("+00:00")
    made.last.clock()
    assert 0 < made.seconds < 60
    assert Provenance.model_validate_json(made.model_dump_json()).model_dump() == made.model_dump()


def test_several_sessions(monkeypatch):
    states = [("a" * 40, False), ("b" * 40, True), ("a" * 40, False)]
    sessions = []
    for i, state in enumerate(states):
        monkeypatch.setattr(provenance, "git_state", lambda state=state: state)
        session = Session.here(threads=i + 1)
        session.seconds = 10.0 * (i + 1)
        sessions.append(session)
    made = Provenance(command="x", sessions=sessions)
    assert made.commits == ["aaaaaaaa", "bbbbbbbb+"]
    assert made.short_commit == "aaaaaaaa, bbbbbbbb+"
    assert made.seconds == 60
    assert made.threads == 3
    assert made.started == sessions[0].started
    assert sessions[0].environment() != sessions[2].environment()  # another number of threads
    assert sessions[0].environment() == sessions[0].model_copy(update={"seconds": 5.0, "started": "x"}).environment()


def test_there_is_at_least_one_session():
    with pytest.raises(ValueError, match="at least 1"):
        Provenance(command="x", sessions=[])


def test_the_commit_and_whether_it_is_dirty(tmp_path, monkeypatch):
    (tmp_path / "paperlib" / "store").mkdir(parents=True)
    module = tmp_path / "paperlib" / "store" / "provenance.py"
    shutil.copy(provenance.__file__, module)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    commit, dirty = provenance.git_state()
    assert len(commit) == 40
    assert dirty is False
    module.write_text("# changed")
    assert provenance.git_state() == (commit, True)


def test_a_package_in_another_projects_checkout_reports_no_commit(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages" / "paperlib" / "store"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
    assert provenance.git_state() == (None, None)
    assert Session.here().short_commit == "none"


def test_a_package_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "surely-not-installed"))
    assert provenance.versions()["surely-not-installed"] == "not installed"


def test_sessions_in_one_environment_are_merged():
    first, other = Session.here(), Session.here(threads=77)
    first.started, first.seconds = "2020-01-02T00:00:00+00:00", 1.0
    again = first.model_copy(update={"started": "2020-01-01T00:00:00+00:00", "seconds": 2.0})
    found = merged([first, other, again])
    assert [(s.started, s.seconds) for s in found[:1]] == [("2020-01-01T00:00:00+00:00", 3.0)]
    assert len(found) == 2 and found[1].threads == 77
    assert (first.seconds, again.seconds) == (1.0, 2.0)
