"""What is installed is what was locked: every package by its hash, wherever it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from review_dependencies import requirements

ROOT = Path(__file__).resolve().parents[2]
INSTALLS = ("Makefile", "environment.yml", "binder/postBuild", "workflow/Containerfile")
# The build of torch for processors is not on PyPI, which the lock's hashes are from; `-e .` is the checkout itself.
BY_VERSION = {"binder/postBuild": "torch==", "workflow/Containerfile": "snakemake-storage-plugin-fs"}


def test_every_line_of_the_lock_has_a_version_and_a_hash(tally):
    found = requirements()
    assert len(found) > 200
    for requirement, hashes in found:
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), requirement
        assert hashes, f"{requirement} has no hash"
        assert [h for h in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", h)] == [], requirement
    tally("a line of the lock was looked at", has_its_hashes=len(found))


def test_the_lock_has_the_hashes_of_every_platforms_torch():
    (hashes,) = (hashes for requirement, hashes in requirements() if requirement.name == "torch")
    assert len(hashes) >= 4 * 4  # Linux on two processors, macOS and Windows, with four versions of Python


def test_every_locked_version_stands_in_the_review_with_a_licence():
    page = (ROOT / "DEPENDENCIES.md").read_text(encoding="utf-8")
    assert re.search(r"made\s+on \d{4}-\d\d-\d\d by", page)
    rows = dict(re.findall(r"^\| (\S+) \| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE))
    reviewed = {(name, version) for name, versions in rows.items() for version in versions.split(", ")}
    assert reviewed - {("package", "versions")} == {(r.name, str(r.specifier).strip("=")) for r, _ in requirements()}
    audit = (ROOT / ".github/workflows/audit.yml").read_text(encoding="utf-8")
    (told,) = re.findall(r"^pipx run .*pip-audit.*$", page, re.MULTILINE)
    assert told in audit and "--require-hashes" in told


def test_whatever_installs_asks_for_the_hashes():
    seen = 0
    for name in INSTALLS:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if re.search(r"pip install|pip download|-r \S*requirements.txt", line) and "#" not in line:
                seen += 1
                checkout = re.search(r"--no-deps --no-build-isolation (-e|--editable) \.$", line)
                by_version = name in BY_VERSION and BY_VERSION[name] in line
                hashed = "--require-hashes" in line or name == "environment.yml"
                assert checkout or by_version or hashed, f"{name}: {line}"
    assert seen >= 2 + 1 + 3 + 3
    assert "--require-hashes" in (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "sha256:$hash" in (ROOT / "workflow/Containerfile").read_text(encoding="utf-8")


def test_a_wheel_with_another_content_than_the_locked_one_is_not_installed(tmp_path):
    (tmp_path / "tiny-1.0-py3-none-any.whl").write_bytes(b"not what was locked")
    (tmp_path / "lock.txt").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", "--find-links", str(tmp_path)]
    command += ["--target", str(tmp_path / "into"), "--require-hashes", "-r", str(tmp_path / "lock.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "into").exists()
