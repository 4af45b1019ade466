"""Chapter 1's experiments: that they measure what their columns say, against figures known from elsewhere."""

import numpy as np
import pandas as pd
import pytest
import torch

from paperlib.studies import theorems as studies
from paperlib.theorems import corollary_bound

MAPS = studies.example_maps()


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


def test_lemma_1_is_attained_and_loose_where_it_should_be():
    table = studies.lemma1().set_index("M")
    assert ((table.lower <= table.smallest + 1e-12) & (table.largest <= table.upper + 1e-12)).all()
    assert table.largest["a multiple of I"] == pytest.approx(1.6)
    assert table.smallest["a negative multiple of I"] == pytest.approx(0.4)
    assert table.largest["skew-symmetric"] == pytest.approx((1 + 0.36) ** 0.5) == table.smallest["skew-symmetric"]
    assert table.smallest["random, singular"] < 1 < table.largest["random, singular"]


def test_errors_of_composition():
    table = studies.theorem1_errors(MAPS, [4, 16])
    assert len(table) == 2 * 3 * 2
    assert table[["forward", "backward", "jacobian"]].to_numpy().max() < 1e-12


def test_block_spectra_of_equal_arcs_are_alike():
    table = studies.block_spectra(MAPS["twist"], 16, points=24)
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


def test_backward_norms_of_the_blocks_are_the_map_s():
    f = MAPS["twist"]
    table = studies.backward_norms(f, 32, points=16)
    ends = table[table.layer == 0].set_index("network")
    values = torch.linalg.svdvals(f.jacobian(torch.zeros(8, dtype=torch.float64)))
    shear = f.normalised().beta
    assert values[-1] / shear <= ends.lowest["residual blocks"]
    assert ends.highest["residual blocks"] <= values[0] * shear
    assert (table[table.layer == 32][["lowest", "median", "highest"]].to_numpy() == pytest.approx(1)) is True
    assert ends["median"]["plain layers"] < ends["median"]["residual blocks"]


def test_the_corollary_s_tightness():
    """Known figures: .51–.61 dense, .42–.60 convolutional, .78 tied; random gradients .20 → .04 of the bound."""
    table = studies.corollary_tightness(range(3), inputs=2)
    assert (table.measured <= table.bound).all()
    assert table.bound.to_numpy() == pytest.approx(0.25)
    ratio = table.groupby("block").ratio.mean()
    assert ratio[["dense, 64", "dense, 256"]].between(0.45, 0.67).all()
    assert ratio[["conv, 6 channels, circular", "conv, 6 channels, zeros"]].between(0.38, 0.65).all()
    assert ratio["dense, 64, tied"] == pytest.approx(0.78, abs=0.05)
    random = (table.random / table.bound).groupby(table.block).mean()
    assert random["dense, 16"] > random["dense, 64"] > random["dense, 256"]
    # The reshaped kernel's norm is less than what was measured: no bound.
    conv = table[table.block.str.startswith("conv")]
    assert (conv.reshaped < conv.measured).any()


def test_random_blocks_leave_torch_s_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    blocks = studies.two_layer_blocks(3)
    assert torch.equal(torch.rand(1), expected)
    again = studies.two_layer_blocks(3)
    assert all(corollary_bound(b[0], b[1]) == corollary_bound(again[n][0], again[n][1]) for n, b in blocks.items())


def test_weight_decay_is_what_keeps_the_bound():
    table = studies.bound_in_training(steps=150)
    mean = table.groupby(["decay", "when"])[["bound", "delta", "risk"]].mean()
    assert mean.bound[0.0, "after"] > mean.bound[0.0, "before"]
    assert mean.bound[0.01, "after"] < mean.bound[0.0, "after"]
    assert mean.risk[0.0, "after"] < 0.1 * mean.risk[0.0, "before"]
    assert (table.delta <= table.bound).all()


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


def test_a_dead_block_is_a_critical_point_and_no_minimum():
    found = studies.dead_block()
    assert found["gradient"] == 0
    assert 0.1 < found["risk"] < 0.25
    assert found["reachable"] < 1e-20


def test_the_scalar_landscape_has_its_saddle_at_minus_one():
    table = studies.scalar_landscape(side=39, reach=2.4)
    near = table[(table.a1 + 1).abs().lt(1e-6) & (table.a2 + 1).abs().lt(1e-6)]
    assert len(near) == 1 and near.f.item() == pytest.approx(4)
    best = table.loc[table.f.idxmin()]
    assert (1 + best.a1) * (1 + best.a2) == pytest.approx(2, abs=0.2)


def test_gaussian_matrices_have_a_positive_determinant():
    for seed in range(6):
        R = studies.gaussian_matrix(16, seed)
        assert torch.linalg.det(R) > 0
        assert torch.equal(R, studies.gaussian_matrix(16, seed))
