"""Chapter 2's figures draw what their tables say."""

import numpy as np
import pandas as pd
import pytest
from drawing import drawn, lines

from paperlib.figures import projection as draw


@pytest.fixture
def ranges():
    """Two kernels on their way to the target."""
    return pd.concat(
        pd.DataFrame({"kernel": k, "passes": [0, 1, 2], "step": [0, 1, 2], "lowest": [0.5, 0.9, 1.0], "highest": high})
        for k, high in (("near", [1.1, 1.05, 1.01]), ("far", [3.0, 2.0, 1.5]))
    )


def test_spectra_are_over_their_unit():
    table = pd.concat(
        pd.DataFrame({"kernel": k, "share": np.linspace(0, 1, 20), "value": np.linspace(top, 0, 20)})
        for k, top in (("He", 2.0), ("projected", 1.0))
    )
    figure = drawn(draw.spectra(table, "title", unit="target"))
    found = lines(figure)
    assert {name: y[0] for name, (_, y) in found.items()} == {"He": 2.0, "projected": 1.0}
    assert figure.axes[0].get_ylabel() == "singular value / target"
    assert figure.axes[0].get_title("left") == "title"


def test_spectrum_maps_have_frequency_zero_in_the_middle_and_white_at_one():
    values = {"a": np.ones((4, 4)), "b": np.full((4, 4), 0.8)}
    values["a"][0, 0] = 1.5
    figure = drawn(draw.spectrum_maps(values, "title"))
    images = [ax.images[0] for ax in figure.axes[:2]]
    assert images[0].get_array()[2, 2] == 1.5
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a", "b"]
    for image in images:
        assert (image.norm.vmin, image.norm.vcenter, image.norm.vmax) == (0.5, 1, 1.5)


def test_a_spectrum_map_that_is_white_all_over_says_so():
    values = {"seen": np.full((4, 4), 0.5), "white": np.full((4, 4), 1.0), "faint": np.full((4, 4), 1.004)}
    figure = drawn(draw.spectrum_maps(values))
    said = [[text.get_text() for text in ax.texts] for ax in figure.axes[:3]]
    assert said == [[], ["1 at every frequency,\nto within 0"], ["1 at every frequency,\nto within 0.004"]]


def test_polar_convergence_ends_at_rounding():
    errors = pd.DataFrame({"method": "qdwh", "step": range(5), "error": [1, 1e-3, 1e-9, 1e-15, 1e-16]})
    figure = drawn(draw.polar_convergence(pd.concat([errors, errors.assign(method="another")])))
    steps, error = lines(figure)[draw.NAMES["qdwh"]]
    assert steps.tolist() == [0, 1, 2, 3]
    assert error.tolist() == [1, 1e-3, 1e-9, 1e-15]
    assert "another" in lines(figure)


def test_alternating_draws_the_larger_distance(ranges):
    found = lines(drawn(draw.alternating(ranges)))
    assert found["near"][1] == pytest.approx([0.5, 0.1, 0.01])
    assert found["far"][1] == pytest.approx([2.0, 1.0, 0.5])


def test_transition_ratios_are_medians_of_the_transitions_over_the_seeds():
    blocks = pd.DataFrame(
        {"held": held, "seed": seed, "epoch": e, "block": b, "kind": kind, "log_ratio": np.log(b * e * seed)}
        for held in (True, False)
        for seed in (1, 2, 4)
        for e in (1, 2)
        for b, kind in ((5, "transition"), (2, "transition"), (3, "residual"))
    )
    figure = drawn(draw.transition_ratios(blocks))
    assert [ax.get_title("left") for ax in figure.axes] == ["first transition", "second transition"]
    found = lines(figure, 1)
    assert found.keys() == {"free", "held"}
    assert found["held"][1] == pytest.approx([10, 20])
    band = figure.axes[1].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((5, 40))


def test_energy_spread_draws_measured_and_predicted():
    table = pd.DataFrame(
        {"gradients": "white", "channels": [2, 4], "effective_rank": 7.3, "sd": [0.4, 0.2], "predicted": [0.3, 1e-5]}
    )
    figure = drawn(draw.energy_spread(table))
    assert lines(figure)["white (effective rank 7.3)"][1].tolist() == [0.4, 0.2]
    assert figure.axes[0].lines[1].get_ydata().tolist() == [0.3]


@pytest.mark.parametrize("limit", [None, 8.0])
def test_overhead_writes_each_number(limit):
    table = pd.DataFrame({"variant": ["ours", "svd"], "percent": [0.234, 318.2]})
    ax = drawn(draw.overhead(table, limit)).axes[0]
    dots = ax.lines[0]
    assert dots.get_linestyle() == "None" and not ax.patches  # a logarithmic axis has no zero for a bar to begin at
    assert dots.get_xdata().tolist() == [0.234, 318.2]
    assert ax.get_xlabel() == "per cent of the training time"
    written = [t.get_text() for t in ax.texts]
    assert written[:2] == ["0.23%", "318%"]
    assert written[2:] == (["the paper's 8%"] if limit else [])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ours", "svd"]
