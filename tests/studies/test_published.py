"""Appendix A's experiments: that they measure what their columns say, against values known from elsewhere."""

import math

import pytest
import torch

from paperlib.figures import published as draw
from paperlib.polar import polar_factor
from paperlib.published import Projector, project
from paperlib.studies import published as studies


def test_the_identity_vanishes_and_a_he_kernel_goes_to_its_corner():
    """Values known from an independent computation."""
    identity, start = studies.centre_tap(16), studies.initial_kernel(64, 3, 3)
    assert studies.tap_energy(project(identity, 32)).sum() < 1e-9
    out = studies.summary(project(start, 32), 32)
    assert (out["lowest"], out["highest"]) == pytest.approx((0.316, 0.401), abs=1e-3)
    assert out["corner"] == pytest.approx(0.99, abs=5e-3)
    mended = studies.summary(project(start, 32, conjugated=False), 32)
    assert mended["energy"] == pytest.approx(64, rel=0.01)  # 3 singular values of σ² = 64/3 at each frequency
    assert 1 / 9 < out["energy"] / mended["energy"] < 1 / 7  # about an eighth, and more than before
    assert out["energy"] > studies.summary(start, 32)["energy"]
    assert (mended["lowest"], mended["highest"]) == pytest.approx((0.864, 1.134), abs=1e-3)
    table = studies.taps({"k": {"before": start, "after": project(start, 32)}})
    assert len(table) == 18
    assert table[table.stage == "before"].energy.sum() == pytest.approx(start.square().sum().item())
    draw.tap_energy(table)


def test_blocks_read_with_the_wrong_sign_give_the_conjugate():
    a = torch.randn(5, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    u = polar_factor(a)
    assert torch.allclose(studies.polar_from_blocks(a, 1), u, atol=1e-12)
    assert torch.allclose(studies.polar_from_blocks(a, -1), u.conj(), atol=1e-12)


def test_repeated_calls_recover():
    table = studies.repeated_calls(studies.initial_kernel(64, 3, 3), 16, (0, 0.05), (1, 5)).set_index(
        ["noise", "calls"]
    )
    assert (table.highest[:, 1] < 0.45).all()
    assert ((table.lowest[:, 5] > 0.98) & (table.highest[:, 5] < 1.02)).all()
    assert (table.corner[:, 5] > 0.99).all()


def test_in_training_projects_when_the_published_code_would():
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    table = studies.in_training(4)
    assert torch.equal(torch.rand(1), expected)  # the caller's generator is left alone
    assert torch.get_default_dtype() == torch.float32
    assert table.projected.tolist() == [Projector().due(i, 2) for i in range(1, 5)]
    first = table.projected.tolist().index(True)
    assert (table.corner[:first] < 0.2).all() and table.corner[first] > 0.98


def test_the_larger_side_blows_up():
    table = studies.gram_sides(studies.initial_kernel(48, 24, 1)[:, :, 0, 0], steps=45)
    error = table.set_index(["side", "precision", "steps"]).error
    for precision, small in (("float32", 1e-5), ("float64", 1e-13)):
        assert error["input side", precision, 45] < small
    assert error["output side", "float32", 10] < 2 * error["input side", "float32", 10] + 1e-5
    assert not error["output side", "float32", 35] < 1
    growth = (error["output side", "float64", 40] / error["output side", "float64", 25]) ** (1 / 15)
    assert growth == pytest.approx(1.5, abs=0.2)
    draw.gram_sides(table, taken=10)


def test_work_counts():
    table = studies.work().set_index("layer")
    assert table["matrices needed"].tolist() == [514, 1, 1]  # 32·32/2 + 2: four frequencies are their own mirror images
    assert table["matrices used"].tolist() == [1024, 256, 64]
    assert table["side used"].tolist() == [128, 256, 512]
    assert table["work needed"]["64 → 128, 1×1"] == 3 * 64**3


def test_targets_differ_only_where_channels_are_reduced():
    table = studies.targets([(64, 128, 1, 2, 4), (16, 4, 1, 1, 4)])
    assert table.published.tolist() == pytest.approx([math.sqrt(2), 0.5])
    assert table["the paper's (7)"].tolist() == pytest.approx([math.sqrt(2), 1.0])
    assert table["gradient, the paper's (7)"].tolist() == pytest.approx([1, 1], abs=0.03)
    assert table["gradient, published"].tolist() == pytest.approx([1, 0.5], abs=0.03)


def test_a_relu_halves_the_energy():
    kernel = project(studies.initial_kernel(32, 4, 1), 8)
    plain, behind = (studies.backward_ratio(kernel, 8, relu=relu) for relu in (False, True))
    assert plain == pytest.approx(1, abs=0.05)
    assert behind == pytest.approx(plain / math.sqrt(2), rel=0.05)


def test_small_weights_are_not_brought_to_the_target():
    table = studies.small_weights([(64, 128, 1, 2, 4)]).set_index("factor")
    assert table.scaled.tolist() == [1, 0, 0]
    assert table.lowest[1] > 0.99 and table.lowest[0.01] < 0.5


def test_waits_are_geometric():
    table = studies.waits(4000)
    drawn = table[table.schedule == "with probability 1/2"]
    assert drawn.share.sum() == pytest.approx(1)
    assert drawn["count"].sum() == pytest.approx(2000, abs=150)
    assert drawn.share.iloc[0] == pytest.approx(drawn.expected.iloc[0], abs=0.05)
    fixed = table[table.schedule == "every 2 steps"]
    assert (fixed.wait.item(), fixed.share.item()) == (1, 1)
    draw.waiting_times(table)
