"""Tests of faults have two sizes: a short one in every test run, and a long one in ``make torture``."""

from __future__ import annotations

import os
import time
from pathlib import Path

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
    record = Path(os.environ.get("PAPERLIB_TORTURE", ""))
    if made and record.suffix == ".json" and exitstatus == 0 and not session.config.option.keyword:
        made.save(record)
