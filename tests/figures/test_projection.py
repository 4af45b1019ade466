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


def test_zero_padding_draws_its_three_lines():
    sizes = pd.DataFrame({"size": [4, 8], "lowest": [0.5, 0.4], "kept": [0.2, 0.6], "interior": [0.25, 0.56]})
    figure = drawn(draw.zero_padding(sizes))
    assert [y.tolist() for _, y in lines(figure).values()] == [[0.25, 0.56], [0.2, 0.6], [0.5, 0.4]]
    assert figure.axes[0].get_xticks().tolist() == [4, 8]


def test_polar_convergence_ends_at_rounding():
    errors = pd.DataFrame(
        {"method": "qdwh", "step": range(5), "products": [0, 3, 6, 9, 12], "error": [1, 1e-3, 1e-9, 1e-15, 1e-16]}
    )
    figure = drawn(draw.polar_convergence(pd.concat([errors, errors.assign(method="another")])))
    by_step, by_product = (lines(figure, panel)[draw.NAMES["qdwh"]] for panel in (0, 1))
    assert by_step[0].tolist() == [0, 1, 2, 3] and by_product[0].tolist() == [0, 3, 6, 9]
    assert by_step[1].tolist() == [1, 1e-3, 1e-9, 1e-15]
    assert "another" in lines(figure)


def test_alternating_draws_the_larger_distance(ranges):
    found = lines(drawn(draw.alternating(ranges)))
    assert found["near"][1] == pytest.approx([0.5, 0.1, 0.01])
    assert found["far"][1] == pytest.approx([2.0, 1.0, 0.5])


def test_held_draws_a_band_per_kernel(ranges):
    figure = drawn(draw.held(ranges))
    assert [ax.get_title("left") for ax in figure.axes] == ["near", "far"]
    low, high, one = figure.axes[1].lines
    assert low.get_ydata().tolist() == [0.5, 0.9, 1.0] and high.get_ydata().tolist() == [3.0, 2.0, 1.5]
    assert list(one.get_ydata()) == [1, 1]
    (band,) = figure.axes[1].collections
    assert band.get_datalim(figure.axes[1].transData).ymax == 3


def test_transition_ratios_are_ratios_of_transitions():
    blocks = pd.DataFrame(
        {"run": r, "epoch": e, "block": b, "name": f"t{b}", "kind": kind, "log_ratio": np.log(b * e)}
        for r in ("x", "y")
        for e in (1, 2)
        for b, kind in ((5, "transition"), (2, "transition"), (3, "residual"))
    )
    figure = drawn(draw.transition_ratios(blocks))
    assert [ax.get_title("left") for ax in figure.axes] == ["t2", "t5"]
    assert lines(figure, 1)["y"][1] == pytest.approx([5, 10])


def test_energy_spread_draws_measured_and_predicted():
    table = pd.DataFrame(
        {"gradients": "white", "channels": [2, 4], "effective_rank": 7.3, "sd": [0.4, 0.2], "predicted": [0.3, 1e-5]}
    )
    figure = drawn(draw.energy_spread(table))
    assert lines(figure)["white (effective rank 7.3)"][1].tolist() == [0.4, 0.2]
    assert figure.axes[0].lines[1].get_ydata().tolist() == [0.3]


def test_cost_leaves_out_what_was_not_measured():
    table = pd.DataFrame({"channels": [16, 32, 64], "ours": [0.1, 0.2, 0.4], "svd": [1.0, 8.0, None]})
    figure = drawn(draw.cost(table))
    found = lines(figure)
    assert found["svd"][0].tolist() == [16, 32]
    cubics = [
        line.get_ydata() for line in figure.axes[0].lines if line.get_linestyle() == ":" and len(line.get_ydata())
    ]
    assert [c[1] / c[0] for c in cubics] == pytest.approx([64, 64])


@pytest.mark.parametrize("limit", [None, 8.0])
def test_overhead_writes_each_number(limit):
    table = pd.DataFrame({"variant": ["ours", "svd"], "percent": [0.234, 318.2]})
    ax = drawn(draw.overhead(table, limit)).axes[0]
    dots = ax.lines[0]
    assert dots.get_linestyle() == "None" and not ax.patches  # a logarithmic axis has no zero for a bar to begin at
    assert dots.get_xdata().tolist() == [0.234, 318.2]
    assert ax.get_xlabel() == "per cent of the training time"
    written = [t.get_text() for t in ax.texts]
    assert written[:2] == ["0.23 %", "318 %"]
    assert written[2:] == (["the paper's 8 %"] if limit else [])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ours", "svd"]
