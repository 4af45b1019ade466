"""The hooks of .pre-commit-config.yaml exist, download nothing, and refuse what they are there for."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
(REPO,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
HOOKS = {hook["id"]: hook for hook in REPO["hooks"]}
BIN = Path(sys.executable).parent


def command(hook: dict, *files: str) -> list[str]:
    """The hook's command as pre-commit gives it, with this environment's tools."""
    tool, *rest = hook["entry"].split()
    found = sys.executable if tool == "python" else shutil.which(tool, path=str(BIN)) or shutil.which(tool)
    assert found, f"{tool} is not in the environment"
    return [found, *rest, *files]


def test_everything_is_local():
    assert REPO["repo"] == "local"
    assert {hook["language"] for hook in HOOKS.values()} == {"system"}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_the_command_is_there(hook):
    _, *rest = command(hook)
    if hook["entry"].startswith("python tools/"):
        assert (ROOT / rest[0]).is_file()
        assert f"{{{rest[1]}" in (ROOT / rest[0]).read_text() or f",{rest[1]}}}" in (ROOT / rest[0]).read_text()


@pytest.mark.parametrize("hook", [h for h in HOOKS.values() if "files" in h], ids=lambda h: h["id"])
def test_the_pattern_finds_files(hook):
    assert [p for p in ROOT.glob("*/*") if re.search(hook["files"], p.relative_to(ROOT).as_posix())]


WRONG_NAME = '''"""A module."""


def f(x):
    """Do.

    Parameters
    ----------
    y : int
        A number.
    """
'''
# Each example is wrong in one way only.
EXAMPLES = {
    "ruff": ("x.py", "import os\n"),
    "ruff-format": ("x.py", "x = {  'a':1 }\n"),
    "docstrings": ("x.py", WRONG_NAME),
    "notebook-pair": ("x.py", "# %%\na = 1\n"),
    "file-sizes": ("x.bin", "x" * 1_000_001),
    "machine-paths": ("x.md", "see /ho" + "me/ada/notes\n"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_bad_example_is_refused(tmp_path, name):
    file, content = EXAMPLES[name]
    (tmp_path / file).write_text(content)
    done = subprocess.run(
        command(HOOKS[name], str(tmp_path / file)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert file.split(".")[0] in done.stdout + done.stderr


def test_the_make_targets_run_the_same_checks():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("ruff", "file-sizes", "machine-paths"):
        assert HOOKS[name]["entry"].split()[-2 if "tools" in HOOKS[name]["entry"] else 0] in makefile
