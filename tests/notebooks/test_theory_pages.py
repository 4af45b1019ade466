"""Chapters 1 and 2: their solutions run, and what they say in words is so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pages import Page

from paperlib import claims, records
from paperlib.store import results_root

PAGES = ("01_norm_preservation", "02_projection")
COUNT = 5  # exercises of each


@pytest.fixture(scope="module", params=PAGES)
def page(request):
    """A page, and what its imports leave behind."""
    chapter = Page(request.param)
    exec(chapter.cell("import torch"), names := {})
    return chapter, names


@pytest.fixture(scope="module")
def solutions(page):
    return page[0].blocks("## Exercises")


@pytest.mark.parametrize("number", range(COUNT))
def test_the_solutions_hold(number, page, solutions):
    assert len(solutions) == COUNT and "assert" in solutions[number]
    for earlier in solutions[:number]:  # a later one may go on from an earlier one
        exec(earlier, page[1])
    exec(solutions[number], page[1])


def found(name: str):
    return claims.read(claims.place(results_root(), name, "desk")).frames


def test_random_blocks_use_about_half_of_the_corollary_s_bound_or_more():
    tight = found("C1")["tightness"]
    assert tight.ratio.between(0.45, 1).all()
    assert (tight.random / tight.bound).max() < 0.2


def test_only_the_strongest_weight_decay_keeps_the_bound_near_its_start():
    mean = found("C1")["training"].groupby(["decay", "step"]).bound.mean().unstack()
    over = mean[mean.columns.max()] / mean[0]
    assert over.iloc[-1] < 1.1 and (over.iloc[:-1] > 1.5).all()


def test_held_transitions_end_nearer_to_one_and_the_first_begins_there():
    runs = [
        r
        for r in records.read_all(results_root())
        if r.network in ("procresnet-166", "procresnet-166-noproject")
        and (r.config.preset, r.config.schedule) == ("desk", "steps")
    ]
    table = pd.concat(r.blocks.assign(held=r.config.project) for r in runs)
    transitions = table[table.kind == "transition"]
    median = transitions.groupby(["epoch", "block", "held"]).log_ratio.median().unstack("held").abs()
    assert (median.loc[median.index.levels[0].max()].pipe(lambda t: t[True] < t[False])).all()
    begin = median.loc[1].iloc[0]
    assert begin[True] < np.log(1.05) and begin[False] > np.log(1.5)


def test_the_shortcuts_count_and_not_what_computes_the_projection():
    seconds = found("O1a")["seconds"]
    for shortcuts in ("", ", shortcuts"):
        assert 0.5 < (seconds[f"iteration{shortcuts}"] / seconds[f"svd{shortcuts}"]).median() < 2
    for method in ("iteration", "svd"):
        assert (seconds[method] / seconds[f"{method}, shortcuts"]).median() > 20
