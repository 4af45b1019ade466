"""Claims measured once at the smoke preset, for all of these tests."""

import functools

import pytest

from paperlib import claims


@pytest.fixture(scope="session")
def measured():
    """A function from a claim's name to its finding, with two seeds."""
    return functools.cache(lambda name: claims.measure(name, preset="smoke", seeds=2))
