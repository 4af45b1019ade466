"""Corollary 1 measured: its tightness at random weights, and what training makes of it."""

import pytest
import torch

from paperlib.studies import norm_preservation as studies
from paperlib.theorems import corollary_bound


def test_the_corollary_s_tightness():
    """Known numbers: .51–.61 dense, .42–.60 convolutional, .78 tied; random gradients .20 → .04 of the bound."""
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


def test_a_dead_block_is_a_critical_point_and_no_minimum():
    found = studies.dead_block()
    assert found["gradient"] == 0
    assert 0.1 < found["risk"] < 0.25
    assert found["reachable"] < 1e-20
