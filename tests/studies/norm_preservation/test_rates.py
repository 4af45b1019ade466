"""Slopes of rates that are known."""

import numpy as np
import pandas as pd
import pytest

from paperlib.studies import norm_preservation as studies


def test_slopes_of_known_rates():
    L = np.array([4, 8, 16, 32, 64, 128])
    table = pd.concat(
        pd.DataFrame({"L": L, "value": value, "of": name})
        for name, value in (("inverse", 3 / L), ("log", 5 * np.log(2 * L) / L))
    )
    fits = studies.slopes(table, "value", ["of"]).set_index("of")
    assert fits["in L"]["inverse"] == pytest.approx(-1)
    assert fits["in log(2L)/L"]["log"] == pytest.approx(1)
    assert len(studies.slopes(table, "value", [])) == 1
    # Known: log(2L)/L itself has slope −0.81 over 16 … 1024.
    deep = 2.0 ** np.arange(4, 11)
    table = pd.DataFrame({"L": deep, "value": np.log(2 * deep) / deep})
    assert studies.slopes(table, "value", [])["in L"].item() == pytest.approx(-0.81, abs=0.005)
