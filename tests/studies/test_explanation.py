"""Errors against norm preservation: what is taken from a record, and what the ranks say."""

import math

import numpy as np
import pandas as pd
import pytest
import section4_tables as tables
import tiny
from scipy.stats import spearmanr

from paperlib.config import RunConfig
from paperlib.records import Divergence
from paperlib.studies import explanation


def record(error=40.0, logs=(0.4, 0.1, -0.3), **parameters):
    made = tiny.record()
    made.config = RunConfig(**{"preset": "smoke", "depth": 20, "precision": "float32"} | parameters).resolve()
    made.frames["epochs"] = made.epochs.assign(test_error=[70.0, error])
    kinds = ("transition", "residual", "residual")
    rows = [
        {"epoch": epoch, "block": block, "name": kind, "kind": kind, "log_ratio": log * epoch}
        for epoch in (1, 2)
        for block, (kind, log) in enumerate(zip(kinds, logs, strict=True), 1)
    ]
    made.frames["blocks"] = pd.DataFrame(rows)
    return made


def test_a_run_has_its_error_and_its_deviations():
    unwatched, gone = record(), record(seed=1)
    unwatched.frames["blocks"] = pd.DataFrame()
    gone.status, gone.divergence = "diverged", Divergence(epoch=2, step=1, what="loss", block="a")
    table = explanation.deviations([record(), unwatched, gone])
    assert table.test_error.tolist() == [40.0, 90.0]
    assert table.residual.tolist() == pytest.approx([0.3, 0.3])  # the median of 0.15 and 0.45
    assert table.transition.tolist() == pytest.approx([0.6, 0.6])
    assert explanation.deviations([]).empty


def runs(n=12, depths=(20, 83)):
    generator = np.random.default_rng(0)
    rows = []
    for depth in depths:
        for seed in range(n // len(depths)):
            x = generator.normal()
            rows.append({"network": f"resnet-{depth}", "arch": "resnet", "depth": depth, "seed": seed} |
                        {"precision": "float32", "status": "finished", "stuck": False} |
                        {"residual": x + depth, "transition": -x, "test_error": x + 10 * depth})  # fmt: skip
    return pd.DataFrame(rows)


def test_ranks_across_runs_and_within_networks():
    table = explanation.correlations(runs()).set_index(["runs", "blocks"])
    names = {"all", "those that learnt", "ResNet", "within networks: seeds only"}
    assert set(table.index.unique("runs")) == names
    residual, transition = explanation.MEASURES.values()
    assert table.loc[("all", residual), "rho"] == pytest.approx(1)
    within = table.loc["within networks: seeds only"]
    assert within.rho.tolist() == pytest.approx([1, -1]) and (within.p < 0.01).all()
    assert abs(table.loc[("all", transition), "rho"]) < 1  # the depths are in the way
    assert within.n.tolist() == [12, 12]


def test_runs_that_did_not_learn_are_in_the_first_row_only():
    table = runs().assign(stuck=[True] * 6 + [False] * 6)
    found = explanation.correlations(table).groupby("runs", sort=False).n.max()
    assert found.to_dict() == {"all": 12, "those that learnt": 6, "ResNet": 12, "within networks: seeds only": 6}


def test_too_few_runs_have_no_correlation():
    assert explanation.correlations(runs().iloc[:3]).empty
    assert explanation.correlations(runs().assign(test_error=50.0)).empty  # nothing varies
    assert explanation.correlations(explanation.deviations([])).empty


def test_the_p_value_is_that_of_permutations():
    generator = np.random.default_rng(1)
    x = generator.normal(size=20)
    y = x + 2 * generator.normal(size=20)
    rho, p = explanation.spearman(x, y)
    known = spearmanr(x, y)
    assert rho == pytest.approx(known.statistic)
    assert p == pytest.approx(known.pvalue, abs=0.02)


def test_within_strata_only_their_members_change_places():
    strata = np.repeat([0, 1], 10)
    x = np.arange(20.0)
    y = np.concatenate([np.arange(10.0)[::-1], 100 + np.arange(10.0)[::-1]])
    assert explanation.spearman(x, y)[1] < 0.05  # the strata's difference alone
    rho, p = explanation.spearman(x, y, strata)
    assert rho > 0 and p > 0.9  # within them the order is the reverse: no arrangement has a smaller correlation


def test_order_does_not_matter():
    table = runs()
    mixed = table.sample(frac=1, random_state=0)
    first, second = (explanation.correlations(t).set_index(["runs", "blocks"]).rho for t in (table, mixed))
    assert second.to_dict() == pytest.approx(first.to_dict())


def test_how_training_leaves_the_prediction():
    table = explanation.left(tables.ratios(epochs=7), tables.beginnings(epochs=7))
    assert list(table) == ["network", "precision", "epoch 0", "epoch 1", "epoch 5", "epoch 7"]
    # The blocks' log ratios are 0.1, -0.1 and -0.1; the prediction is -0.2.
    assert table["epoch 5"].tolist() == pytest.approx([0.1] * 9)
    assert explanation.left(tables.ratios().iloc[:0], tables.beginnings().iloc[:0]).empty


def test_a_ratio_that_was_lost_does_not_count():
    ratios = tables.ratios(archs=("plain",), depths=(20,), seeds=(0,))
    ratios.loc[ratios.block == 2, "log_ratio"] = math.nan
    found = explanation.left(ratios, tables.beginnings(archs=("plain",), depths=(20,), seeds=(0,)))
    assert found["epoch 1"].tolist() == pytest.approx([0.1])
