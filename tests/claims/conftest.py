"""Each claim measured once at the smoke preset, for all of these tests."""

import functools

import pandas as pd
import pytest

from paperlib import claims
from paperlib.claims import overhead

# The verdict of O1a to O1d would depend on how fast the machine is: they get these seconds.
TIMES = {"round": [0, 1], "load": 1.0, "step": 1.0, "iteration": 0.3}
SECONDS = pd.DataFrame(TIMES | {"library": 0.02, "svd": 0.5, "iteration, shortcuts": 0.1, "svd, shortcuts": 0.05})
DEEP = pd.concat(
    [pd.DataFrame(TIMES | {"depth": d, "step": s, "recomputed": True}) for d, s in ((20, 1.0), (29, 1.4))],
    ignore_index=True,
)


@pytest.fixture(scope="session")
def measured():
    """A function from a claim's name to its finding, with two seeds."""

    @functools.cache
    def measure(name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(overhead, "_seconds", lambda depth, batch_size, rounds: SECONDS[:rounds].copy())
            patch.setattr(overhead, "deepening", lambda depths, batch_size, rounds: DEEP[DEEP["round"] < rounds])
            return claims.measure(name, preset="smoke", seeds=2)

    return measure


@pytest.fixture
def tables(measured):
    """A function from a claim's name to a copy of its tables, which may be spoilt."""
    return lambda name: {table: frame.copy() for table, frame in measured(name).frames.items()}
