"""The front door: the few names that users come for, loaded when they are used."""

import subprocess
import sys

import pytest

import paperlib


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
