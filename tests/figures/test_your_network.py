"""Chapter 6's figure draws what its table says."""

import numpy as np
import pandas as pd
import pytest
from drawing import drawn, lines

from paperlib.figures import your_network as draw


def test_before_and_after_draws_means_and_their_spread():
    table = pd.DataFrame(
        {"kind": kind, "seed": seed, "when": when, "layer": layer}
        | {"log_ratio": np.log(layer * factor * 2.0 ** (seed - 1))}
        for kind, factor in (("free", 2.0), ("held", 1.0))
        for seed in (0, 1, 2)
        for when in ("before", "after")
        for layer in (1, 2)
        if (kind, when) != ("held", "after")
    )
    figure = drawn(draw.before_and_after(table, "title"))
    assert [ax.get_title("left") for ax in figure.axes] == ["before training", "after training"]
    before, after = (lines(figure, panel) for panel in (0, 1))
    assert before["free"][1] == pytest.approx([2, 4]) and before["held"][1] == pytest.approx([1, 2])
    assert list(after) == ["free"]
    band = figure.axes[0].collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.5, 4))  # a factor of 2 either way
    assert figure.get_size_inches()[0] <= 7
