"""The front door: the few names that users come for, loaded when they are used."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import paperlib

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the lock has it for 3.10

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", paperlib.__all__)
def test_every_public_name_is_there_and_documented(name):
    found = getattr(paperlib, name)
    assert found.__doc__
    assert name in dir(paperlib)
    assert getattr(__import__(f"paperlib.{paperlib._HOMES[name]}", fromlist=[name]), name) is found


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="module 'paperlib' has no attribute 'nothing'"):
        paperlib.nothing  # noqa: B018


def test_the_import_itself_loads_nothing_heavy():
    """Torch takes over a second; somebody who only asks for the version does not wait for it."""
    code = "import sys, paperlib; print(paperlib.__version__, *(m for m in ('torch', 'pandas') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [paperlib.__version__]


def test_modules_are_there_without_an_import_of_their_own():
    code = "import paperlib as p; print(p.errors.ConfigError.__name__, 'training' in dir(p), 'Any' in dir(p))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ConfigError", "True", "False"]


BARE = "import sys; sys.modules.update(dict.fromkeys({missing}))\n"
LIBRARY = """
import torch
from paperlib import GradientNorms, NormPreserving, corollary_bound, delta_orthogonal, linear_factors
from paperlib import near_identity_path, operator_norm, orthogonal, project, singular_values, spread, target

model = torch.nn.Sequential(*(torch.nn.Conv2d(3 + i, 4 + i, 3, padding=1) for i in range(3)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
held = NormPreserving(model, every=1, example=torch.zeros(1, 3, 8, 8))
with held.attach(optimizer), GradientNorms(model, blocks=model) as probe:
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
print(len(held.convs), len(probe.ratios()))
"""


@pytest.fixture(scope="module")
def bare():
    """A process that has what a plain `pip install` brings: nothing of the extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lines = [line for extra in extras.values() for line in extra]
    imported = {"pillow": "PIL", "pyyaml": "yaml"}
    names = [Requirement(line).name for line in lines]
    missing = {imported.get(name, name.replace("-", "_")) for name in names} - {"packaging"}

    def run(code):
        code = BARE.format(missing=sorted(missing)) + code
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    return run


def test_the_library_needs_nothing_of_the_extras(bare):
    done = bare(LIBRARY)
    assert done.stdout.split() == ["3", "3"], done.stderr


@pytest.mark.parametrize("name", ["train", "RunConfig", "records", "claims", "cifar"])
def test_what_needs_an_extra_says_which(bare, name):
    done = bare(f"import paperlib; paperlib.{name}")
    assert "pip install 'norm-preservation[training]'" in done.stderr.splitlines()[-1]


def test_the_command_says_what_it_needs(bare):
    start = "import runpy, sys; sys.argv = ['paperlib', '{}']; runpy.run_module('paperlib', run_name='__main__')"
    done = bare(start.format("scorecard"))
    assert done.returncode == 1 and done.stderr.startswith("error: paperlib's commands need ")
    assert done.stderr.endswith(": pip install 'norm-preservation[training]'\n") and done.stderr.count("\n") == 1
    assert bare(start.format("--help")).stdout.startswith("usage: paperlib")
    assert bare(start.format("measure', '--help")).stderr == done.stderr
