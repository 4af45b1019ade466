"""Theorem 1 measured: rates, errors and spectra, against numbers known from elsewhere."""

import numpy as np
import pytest
import torch
from smooth_map_cases import EXAMPLES

from paperlib.studies import norm_preservation as studies

# Known numbers: slopes of ‖J − I‖ in L and in log(2L)/L, and of δ in L, over L = 16 … 1024.
SLOPES = {
    ("twist", "geometric"): (-0.741, 0.913, -0.754),
    ("twist", "uniform"): (-0.989, 1.216, -0.992),
    ("twist", "arc"): (-1.001, 1.232, -1.008),
    ("tanh", "geometric"): (-0.806, 0.991, -0.811),
    ("tanh", "uniform"): (-1.009, 1.241, -1.020),
    ("tanh", "arc"): (-1.005, 1.235, -1.009),
}


@pytest.fixture(scope="module")
def rates():
    return studies.theorem1_rates(EXAMPLES, points=32)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_lemma_s_two_lipschitz_bounds(name):
    for scales in ([0.1, 0.3, 0.6, 1.0], [0.01, 1.0], [1.0]):
        table = studies.lemma_lipschitz(EXAMPLES[name], scales, pairs=2000)
        assert (table.measured <= table.bound).all()
        assert table.measured.iloc[-1] > 0.04 * table.bound.iloc[-1]


def test_the_slopes_are_the_known_ones(rates):
    distance, delta = (
        studies.slopes(rates, value, ["map", "schedule"]).set_index(["map", "schedule"])
        for value in ("distance", "delta")
    )
    for which, (in_l, in_log, of_delta) in SLOPES.items():
        found = (distance["in L"][which], distance["in log(2L)/L"][which], delta["in L"][which])
        assert found == pytest.approx((in_l, in_log, of_delta), abs=0.03), which


def test_delta_halves_with_each_doubling(rates):
    deltas = rates[(rates.schedule == "arc") & (rates.L >= 64)].sort_values("L").groupby("map").delta
    for _, delta in deltas:
        assert (delta.to_numpy()[:-1] / delta.to_numpy()[1:]).tolist() == pytest.approx([2] * 4, abs=0.03)


def test_bounds_hold_at_every_depth(rates):
    assert (rates.distance <= rates.bound * (1 + 1e-9)).all()
    assert (rates.delta <= rates.distance * (1 + 1e-9)).all()
    assert (rates.delta >= rates.lower * (1 - 1e-9)).all()
    # The lower bound is not empty: equal arcs are within a factor of two of it.
    arcs = rates[(rates.schedule == "arc") & (rates.L >= 16)]
    assert (arcs.delta <= 2 * arcs.lower).all()


def test_the_two_constructions_differ_by_the_logarithm(rates):
    scaled = rates[rates.L.isin([16, 1024])].assign(scaled=rates.L * rates.delta)
    grown = scaled.pivot_table(index=["map", "schedule"], columns="L", values="scaled")
    grown = (grown[1024] / grown[16]).unstack()
    assert (grown["geometric"] > 2).all()
    assert grown[["uniform", "arc"]].to_numpy() == pytest.approx(1, abs=0.1)


def test_errors_of_composition():
    table = studies.theorem1_errors(EXAMPLES, [4, 16])
    assert len(table) == 2 * 3 * 2
    assert table[["forward", "backward", "jacobian"]].to_numpy().max() < 1e-12


def test_block_spectra_of_equal_arcs_are_alike():
    table = studies.block_spectra(EXAMPLES["twist"], 16, points=24)
    size = (table.highest - table.lowest).groupby(table.schedule)
    assert size.max()["arc"] / size.min()["arc"] < 1.6
    assert size.max()["geometric"] > 1.5 * size.max()["uniform"]
    assert (table.lowest <= 1).all() and (table.highest >= 1).all()


def test_carried_grid_starts_as_a_grid_and_ends_at_the_map():
    maps = studies.plane_maps()
    table = studies.carried_grid(maps, [0.0, 1.0], lines=5, samples=9)
    for name, f in maps.items():
        start, end = (table[(table["map"] == name) & (table.t == t)] for t in (0.0, 1.0))
        points = torch.tensor(start[["x", "y"]].to_numpy())
        assert points.norm(dim=1).max() <= 1 + 1e-12
        flat = start[start.direction == 0].groupby("line").y.std()
        assert (flat < 1e-12).all()
        assert np.abs(f(points).numpy() - end[["x", "y"]].to_numpy()).max() < 1e-12


def test_pure_scaling_needs_its_logarithm():
    table = studies.pure_scaling((2.0, 100.0), L=16)
    assert (table.alpha == 0).all()
    assert table.beta.tolist() == pytest.approx([0.5, 0.01])
    assert table.delta.tolist() == pytest.approx([2 ** (1 / 16) - 1, 100 ** (1 / 16) - 1])
    assert table.delta.tolist() == pytest.approx(table.lower.tolist())


def test_two_layers_need_width_and_biases():
    table = studies.two_layer_fit().set_index("width")
    assert table["with biases"].is_monotonic_decreasing
    assert table["with biases"][1024] < 0.03
    assert table["without"][1024] > 0.1  # homogeneous of degree one, which a twist is not: width does not help
