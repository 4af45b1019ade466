"""Tests of faults have two sizes: a short one in every test run, and a long one in ``make torture``."""

from __future__ import annotations

import time

import pytest
from faults.tally import LONG, Tally

TALLY = pytest.StashKey[Tally]()


@pytest.fixture
def size():
    """``size(short, long)`` is how many tries this run makes."""
    return lambda short, long: long if LONG else short


@pytest.fixture
def tally(request):
    """``tally("a training was killed", came_back=50)`` notes what was tried; every outcome has its count."""
    session, began = request.config.stash.setdefault(TALLY, Tally()), time.monotonic()
    return lambda what, **outcomes: session.add(what, began, **outcomes)


def pytest_sessionfinish(session, exitstatus):
    """Keep what a long run tried, if all of it went well."""
    made = session.config.stash.get(TALLY, None)
    if LONG and made and exitstatus == 0:
        made.save()
