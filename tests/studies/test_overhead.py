"""The projections that the library's is compared with: each gives the library's kernel, with shortcuts and without."""

from functools import partial

import pytest
import torch

from paperlib.projection import project
from paperlib.studies import overhead
from paperlib.studies.projection import he_kernel

SHAPES = {"3 → 64, 3×3": (3, 64, 3, 8), "64 → 128, 1×1": (64, 128, 1, 4), "4 → 8, 3×3, odd map": (4, 8, 3, 7)}


ALL = overhead.METHODS | {"as published": overhead.as_published}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_method_gives_the_library_s_kernel(name, shape):
    c, d, k, n = SHAPES[shape]
    weight = he_kernel(d, c, k).float()
    found = ALL[name](weight, n)
    assert (found.shape, found.dtype) == (weight.shape, weight.dtype)
    exact = project(weight, n)
    if "svd" in name:
        assert (found - exact).abs().max() < 1e-5
    else:  # ten steps leave what the smallest singular value still lacks
        assert (found - exact).abs().max() < 1e-2 * exact.abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_iteration_with_steps_enough_gives_it_to_rounding(shape):
    c, d, k, n = SHAPES[shape]
    weight = he_kernel(d, c, k)
    for shortcuts in (False, True):
        found = overhead.project_by(partial(overhead.polar_by_iteration, steps=20), weight, n, shortcuts)
        assert (found - project(weight, n)).abs().max() < 1e-5


@pytest.mark.parametrize(("k", "without", "with_them"), [(1, 8 * 8, 1), (3, 8 * 8, 8 * 5)])
def test_the_shortcuts_are_one_matrix_and_half_of_the_spectrum(k, without, with_them):
    asked = []

    def counting(p):
        asked.append((p.shape[:-2].numel(), p.is_complex()))
        return overhead.polar_by_svd(p)

    weight = he_kernel(6, 4, k)
    for shortcuts in (False, True):
        overhead.project_by(counting, weight, 8, shortcuts)
    assert asked == [(without, True), (with_them, k > 1)]


@pytest.mark.parametrize(("takes", "calls", "counts"), [([0.3], 1, 0.3), ([0.1, *[0.02] * 8, 9.0], 10, 0.02)])
def test_a_short_call_is_timed_as_the_median_of_ten(monkeypatch, takes, calls, counts):
    times = iter(takes)
    monkeypatch.setattr(overhead, "seconds", lambda call: next(times))
    assert overhead.steady(lambda: None) == counts
    assert next(times, None) is None and len(takes) == calls


def test_the_steps_at_several_depths_take_turns(monkeypatch):
    monkeypatch.setitem(overhead.METHODS, "iteration", overhead.METHODS["svd, shortcuts"])  # which takes least
    table = overhead.deepening((11, 20), batch_size=2, rounds=2)
    assert table[["round", "depth"]].to_numpy().tolist() == [[0, 11], [0, 20], [1, 11], [1, 20]]
    assert (table[["step", "iteration"]] > 0).all(axis=None)
    assert table.recomputed.all() or torch.cuda.is_available()
