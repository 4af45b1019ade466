"""pyproject.toml, the lock (requirements.txt) and environment.yml say the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from review_dependencies import locked as lock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the lock has it for 3.10

ROOT = Path(__file__).resolve().parent.parent
MINORS = range(10, 15)
PLATFORMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
CONDA_ONLY = {"python", "pip", "nodejs"}
FOREIGN = {"lightning", "transformers"}  # extras for other libraries' trainers: not locked


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def direct() -> dict[str, Requirement]:
    """What pyproject.toml asks for, all extras but the foreign ones included."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    assert extras.keys() >= FOREIGN
    lines = [*project["dependencies"], *(line for name in extras.keys() - FOREIGN for line in extras[name])]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def version(r: Requirement) -> str:
    (spec,) = r.specifier
    assert spec.operator == "==", f"the lock does not pin {r}"
    return spec.version


def conda() -> dict[str, str]:
    """environment.yml's conda packages, name to version range."""
    lines = [d for d in yaml.safe_load(read("environment.yml"))["dependencies"] if isinstance(d, str)]
    return dict(re.fullmatch(r"([\w.-]+?)\s*([<>=!~].*)?", d).groups("") for d in lines)


def pip_lines() -> list[str]:
    (pip,) = (d["pip"] for d in yaml.safe_load(read("environment.yml"))["dependencies"] if isinstance(d, dict))
    return pip


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("minor", MINORS)
def test_lock_satisfies_pyproject(minor, platform):
    env = {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.7",
        "sys_platform": platform,
        "platform_system": PLATFORMS[platform],
        "platform_machine": "arm64" if platform == "darwin" else "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    locked = lock()
    for name, wanted in direct().items():
        if wanted.marker is not None and not wanted.marker.evaluate(env):
            continue
        pins = [r for r in locked.get(name, []) if r.marker is None or r.marker.evaluate(env)]
        assert len(pins) == 1, f"{name}: {len(pins)} versions in the lock for Python 3.{minor} on {platform}"
        assert wanted.specifier.contains(version(pins[0])), f"{pins[0]} is not {wanted}"


def test_supported_minors_are_those_tested():
    python = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"]
    for spec in (SpecifierSet(python), SpecifierSet(conda()["python"])):
        assert f"3.{MINORS[0]}" in spec
        assert f"3.{MINORS[0] - 1}" not in spec
        assert f"3.{MINORS[-1]}" in spec


def test_lock_names_no_machine_and_no_private_index():
    text = read("requirements.txt")
    assert "\n-" not in f"\n{text}", "options (an index, an editable path) do not belong in the lock"
    assert not re.search(r"https?://|file:|\s@\s|(?<![\w.])(?:/|~/|[A-Za-z]:\\)\w", text)


def test_conda_takes_python_from_its_channel_and_the_rest_from_the_lock():
    assert set(conda()) == CONDA_ONLY
    assert pip_lines() == ["--require-hashes", "-r requirements.txt"]


def test_binder_has_the_locked_torch_and_a_tested_python():
    script = read("binder/postBuild")
    assert dict(re.findall(r"(torch\w*)==(\S*)\+cpu", script)) == {
        name: version(lock()[name][0]) for name in ("torch", "torchvision")
    }
    minor = re.fullmatch(r"python-3\.(\d+)\n", read("binder/runtime.txt")).group(1)
    assert int(minor) in MINORS
