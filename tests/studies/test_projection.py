"""Chapter 2's experiments: that they measure what their columns say, against values known from elsewhere."""

import pytest
import torch

from paperlib.figures import projection as draw
from paperlib.projection import delta_orthogonal, project, target
from paperlib.studies import projection as studies


def test_sorted_spectra_are_sorted_and_complete():
    table = studies.sorted_spectra({"a": studies.he_kernel(6, 3, 3), "b": studies.he_kernel(4, 3, 1)}, 4, unit=2.0)
    for _, part in table.groupby("kernel"):
        assert len(part) == 4 * 4 * 3
        assert part.value.is_monotonic_decreasing
        assert part.share.between(0, 1).all()
    draw.spectra(table)


def test_zero_padding_keeps_the_interior():
    exact = project(studies.he_kernel(12, 3, 3), 16, passes=3000) / target((12, 3, 3, 3))
    table = studies.zero_padding(exact, [4, 6, 8])
    assert table.kept.tolist() == pytest.approx(table.interior.tolist())
    assert table.highest.max() < 1 + 1e-9
    assert (table.lowest < 0.9).all()


def test_iterations_reach_the_polar_factor_in_the_known_number_of_steps():
    table = studies.polar_convergence(0.05)
    error = table.set_index(["method", "step"]).error
    assert error["newton-schulz", 10] == pytest.approx(4.7e-4, rel=0.02)
    assert error["scaled-newton-schulz", 6] == pytest.approx(2.4e-6, rel=0.02)
    assert error["quintic", 4] == pytest.approx(1.8e-7, rel=0.05)
    assert error["qdwh", 3] < 1e-12
    draw.polar_convergence(table)


def test_the_products_of_a_step_are_those_of_its_formula():
    """x (a + b xᴴx + c (xᴴx)²) takes two, and one for the square; (9) takes M = zy, y p(M), p(M) z, and the square."""
    found = studies.products()
    assert found.matrix.to_dict() == {"newton-schulz": 2, "scaled-newton-schulz": 2, "quintic": 3, "qdwh": 2}
    assert found.coupled.dropna().to_dict() == {"newton-schulz": 3, "scaled-newton-schulz": 3, "quintic": 4}
    table = studies.polar_convergence(0.5, steps=3)
    assert (table["products"] == table.step * table.method.map(found.matrix)).all()


def test_alternating_projections_approach_and_square_ones_stall():
    starts = {"3→64": studies.he_kernel(64, 3, 3), "16→16": studies.he_kernel(16, 16, 3)}
    table = studies.alternating(starts, 16, [0, 1, 10, 50]).set_index(["kernel", "passes"])
    assert table.lowest["3→64", 10] > 0.985
    assert table.highest["3→64", 50] < 1.0001
    assert table.lowest["16→16", 50] < 0.2
    plain = studies.alternating({"3→64": starts["3→64"]}, 16, [1, 10], relaxed=False).set_index(["kernel", "passes"])
    assert plain.lowest["3→64", 1] == pytest.approx(table.lowest["3→64", 1])
    assert plain.lowest["3→64", 10] < table.lowest["3→64", 10]
    draw.alternating(table.reset_index())


def test_one_projection_repairs_a_part_or_all_but_second_order():
    generator = torch.Generator().manual_seed(0)
    delta = delta_orthogonal((16, 16, 3, 3), dtype=torch.float64, generator=generator)
    exact = project(studies.he_kernel(64, 3, 3), 16, passes=300)
    table = studies.repair({"3→64": exact, "delta": delta}, 16, [1e-2, 1e-3]).set_index(["kernel", "noise"])
    left = table.projected / table.disturbed
    assert left["3→64", 1e-2] == pytest.approx(left["3→64", 1e-3], rel=0.1)  # first order
    assert 0.3 < left["3→64", 1e-3] < 0.9
    assert left["delta", 1e-3] < 0.2 * left["delta", 1e-2] < 0.01  # second order


def test_held_kernels_stay():
    start = delta_orthogonal((16, 16, 3, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table = studies.noisy_steps({"16→16": start}, 8, steps=100)
    assert len(table) == 11
    assert table.lowest[0] == pytest.approx(1)
    assert table.lowest.min() > 0.99
    assert table.highest.max() < 1.01


def test_energy_varies_as_predicted():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(1, 32, 1, 1, generator=generator)
    gradients = {
        "isotropic": torch.randn(300, 32, 4, 4, generator=generator),
        "one": torch.randn(300, 1, 4, 4, generator=generator) * direction,
        "four": torch.einsum(
            "nrhw,rd->ndhw",
            torch.randn(300, 4, 4, 4, generator=generator),
            torch.randn(4, 32, generator=generator),
        ),
    }
    table = studies.energy_by_channels(gradients, [2, 8], kernels=400).set_index(["gradients", "channels"])
    assert table["mean"].to_numpy() == pytest.approx(1, abs=0.15)
    assert table.sd.to_numpy() == pytest.approx(table.predicted.to_numpy(), rel=0.2, abs=0.005)
    assert table.effective_rank["one"].iloc[0] == pytest.approx(1)
    draw.energy_spread(table.reset_index())
