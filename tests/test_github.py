"""The workflows on GitHub: actions by their commit, few permissions, and the Pythons that the package names."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    return request.param


def test_actions_are_named_by_their_commit_and_version(workflow):
    lines = [line for line in workflow.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def test_one_commit_for_each_action():
    named = {use for path in WORKFLOWS for use in re.findall(r"uses: (\S+@\S+)", path.read_text(encoding="utf-8"))}
    assert len(named) == len({use.split("@")[0] for use in named})


def test_only_jobs_that_publish_may_write(workflow):
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert content["permissions"] == {"contents": "read"}
    writing = {name for name, job in content["jobs"].items() if "write" in job.get("permissions", {}).values()}
    assert writing <= {"publish", "pypi", "github"}
    for name in writing:  # what runs with such permissions runs no code of the repository
        assert not any("checkout" in step.get("uses", "") for step in content["jobs"][name]["steps"])


def test_the_pythons_are_those_of_the_package():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    assert matrix["python"] == [c.split(" :: ")[-1] for c in named if re.search(r"Python :: 3\.\d+$", c)]
    assert set(matrix["os"]) == {"ubuntu-latest", "macos-latest"}
