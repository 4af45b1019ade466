"""Gradient descent on targets and on their mirror images."""

import pytest

from paperlib.studies import norm_preservation as studies


def test_descent_reaches_a_target_and_not_its_mirror_image():
    table = studies.mirrored_descents({"one small": (0.4, 1.0, 1.0), "alike": (0.7, 0.7)}, steps=600)
    assert table.target.tolist() == [f"{name}, det R {sign} 0" for name in ("one small", "alike") for sign in "><"]
    assert table.n.tolist() == [3, 3, 2, 2]
    assert table.determinant.to_numpy() == pytest.approx([0.4, -0.4, 0.49, -0.49])
    assert table.floor.tolist() == pytest.approx([0, 0.16, 0, 0.49])
    positive, negative = table[table.determinant > 0], table[table.determinant < 0]
    assert (positive.excess < 1e-18).all() and (positive.step < 600).all()
    assert (negative.step == 600).all()
    assert (negative.excess > negative.floor).all()
    assert (negative.excess / negative.floor).to_numpy() == pytest.approx([1, 1], abs=0.01)


def test_another_seed_is_another_target():
    """The same spectrum, and so the same floor, along other axes."""
    first, second = (studies.mirrored_descents({"two": (0.5, 1.5)}, steps=3, seed=seed) for seed in (0, 1))
    assert first.floor.tolist() == second.floor.tolist()
    assert (first.excess != second.excess).all()


def test_the_spectra_are_of_several_sizes_and_each_is_of_its_own():
    assert len(studies.SPECTRA) >= 5
    assert len({len(values) for values in studies.SPECTRA.values()}) >= 5
    assert len(set(studies.SPECTRA.values())) == len(studies.SPECTRA)
    assert all(min(values) > 0 for values in studies.SPECTRA.values())
