"""Each claim measured once at the smoke preset, for all of these tests."""

import functools

import pandas as pd
import pytest

from paperlib import claims
from paperlib.claims import projection

# O1's verdict would depend on how fast the machine is: it gets these seconds, of which one projection by Newton-Schulz
# is 15 % of two steps, by the SVD 25 %, and by the library 1 %.
SECONDS = pd.DataFrame({"round": [0, 1], "step": 1.0, "library": 0.02, "svd": 0.5, "newton-schulz": 0.3})


@pytest.fixture(scope="session")
def measured():
    """A function from a claim's name to its finding, with two seeds."""

    @functools.cache
    def measure(name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(projection, "overhead", lambda depth, batch_size, rounds: SECONDS[:rounds].copy())
            return claims.measure(name, preset="smoke", seeds=2)

    return measure


@pytest.fixture
def tables(measured):
    """A function from a claim's name to a copy of its tables, which may be spoilt."""
    return lambda name: {table: frame.copy() for table, frame in measured(name).frames.items()}
