"""Seconds by name: they add up, also when what is timed fails."""

import pytest

from paperlib import stopwatch
from paperlib.stopwatch import Stopwatch


def test_seconds_add_up_by_name(monkeypatch):
    now = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.5])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(now))
    watch = Stopwatch({"a": 100.0})
    with watch("a"):
        pass
    with pytest.raises(ZeroDivisionError), watch("b"):
        1 / 0  # noqa: B018
    with watch("a"):
        pass
    assert watch.seconds == {"a": 104.5, "b": 2.0}
