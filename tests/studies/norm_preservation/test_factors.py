"""Theorem 2 measured."""

import pytest
import torch

from paperlib.studies import norm_preservation as studies


def test_slope_of_theorem_2_is_minus_one_where_it_is_asymptotic():
    """Known numbers: for a Gaussian R of 16 dimensions, −0.997 over L ≥ 128."""
    for seed in range(3):
        table = studies.theorem2_rates(studies.gaussian_matrix(16, seed))
        assert studies.slopes(table, "distance", [], start=128)["in L"].item() == pytest.approx(-1, abs=0.01)
        assert table.error.max() < 1e-12
        assert (table.distance <= table.sharp).all()
        assert ((table.distance <= table.published) | table.published.isna()).all()
        assert (table.published / table.distance).iloc[-1] > 5  # the published constant is loose


def test_gaussian_matrices_have_a_positive_determinant():
    for seed in range(6):
        R = studies.gaussian_matrix(16, seed)
        assert torch.linalg.det(R) > 0
        assert torch.equal(R, studies.gaussian_matrix(16, seed))
