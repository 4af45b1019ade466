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


def test_weight_decay_keeps_the_bound_only_where_it_is_strong():
    """In so few steps the paper's value changes little; a hundred times it keeps the bound down."""
    table = studies.bound_in_training(at=(0, 150))
    mean = table.groupby(["decay", "step"])[["bound", "delta", "risk"]].mean()
    assert mean.bound[0.0, 150] > 1.5 * mean.bound[0.0, 0]
    assert mean.bound[studies.PAPER_DECAY, 150] == pytest.approx(mean.bound[0.0, 150], rel=0.05)
    assert mean.bound[studies.PAPER_DECAY, 150] < mean.bound[0.0, 150]
    assert mean.bound[0.01, 150] < 0.7 * mean.bound[0.0, 150]
    assert mean.risk[0.0, 150] < 0.1 * mean.risk[0.0, 0]
    assert (table.delta <= table.bound).all()


def test_the_states_of_one_training_do_not_depend_on_where_it_is_looked_at():
    often = studies.bound_in_training(decays=(1e-2,), at=(0, 2, 5), width=4, depth=2)
    once = studies.bound_in_training(decays=(1e-2,), at=(5,), width=4, depth=2)
    assert often[often.step == 5].reset_index(drop=True).equals(once)
    assert often.step.drop_duplicates().tolist() == [0, 2, 5]


def test_the_paper_s_weight_decay_is_among_those_that_are_tried():
    assert studies.PAPER_DECAY == 1e-4
    assert 1e-4 in studies.bound_in_training(at=(0,), width=2, depth=1).decay.to_numpy()


def test_accumulated_decay_is_what_sgd_does_to_a_weight_without_another_gradient():
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(2000):
        weight.grad = torch.zeros_like(weight)
        sgd.step()
    expected = studies.accumulated_decay(1e-3, [0.1] * 2000, 0.9)
    assert expected == pytest.approx(2)
    assert -weight.log().item() == pytest.approx(expected, rel=0.01)


def test_a_dead_block_is_a_critical_point_and_no_minimum():
    found = studies.dead_block()
    assert found["gradient"] == 0
    assert 0.1 < found["risk"] < 0.25
    assert found["reachable"] < 1e-20
