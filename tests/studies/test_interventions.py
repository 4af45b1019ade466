"""Interventions: which records belong together, and the paired differences of what came out."""

import math

import pandas as pd
import pytest
from scipy.stats import ttest_rel
from synthetic_interventions import diverged, family, record

from paperlib.studies import interventions as studies


def saved(records, root):
    for one in records:
        one.save(one.config.folder(root))
    return root


def test_settings_with_an_intervention_are_found_whole(tmp_path):
    runs = [*family(seeds=(0,)), record(1.0, projector="fixed"), record(2.0, project=False)]
    others = [record(3.0, depth=11), record(3.0, lr=0.05)]  # settings of their own, in which nothing is changed
    saved([*runs, *others, record(4.0, lr=0.05, projector="published")], tmp_path / "runs")
    saved([record(9.0)], tmp_path / "results")
    found = studies.stored("smoke", [tmp_path / "results", tmp_path / "runs"])
    assert len(found) == len(runs)
    assert {r.final["test_error"] for r in found} == {9.0, 52.5, 54.5, 1.0, 2.0}  # of two records of a run the first
    assert studies.stored("desk", [tmp_path / "runs"]) == []


def test_each_way_of_holding_is_told():
    given = [
        ({"hold_at": 0.5}, ("held", "all", 0.5, "× 0.5")),
        ({}, ("held", "all", 1.0, "× 1")),
        ({"hold_at": "1 2 1"}, ("held", "second", 2.0, "second × 2")),
        ({"hold_at": "0.5 2 1"}, ("held", "several", math.nan, "× 0.5, 2, 1")),
        ({"project": False}, ("free", "all", 1.0, "free")),
        ({"projector": "fixed"}, ("fixed", "all", 1.0, "fixed")),
        ({"projector": "fixed", "hold_at": 2}, ("fixed", "all", 2.0, "fixed × 2")),
        ({"projector": "published"}, ("published", "all", 1.0, "as published")),
    ]
    table = studies.runs([record(50.0, **how) for how, _ in given])
    expected = pd.DataFrame([words for _, words in given], columns=["way", "at", "factor", "label"])
    pd.testing.assert_frame_equal(table[list(expected)], expected)


def test_what_came_out_of_a_run():
    table = studies.runs([record(40.0, hold_at="0.5 1 1"), diverged(hold_at=2)])
    one, other = table.iloc[1], table.iloc[0]
    assert (one.test_error, one.train_loss, one.residual) == (40.0, 1.0, 0.1)
    assert (one.transitions, one.log_ratio) == pytest.approx((0.0, math.log(2) / 3))
    assert other.test_error == 90.0 and math.isnan(other.train_loss)  # that of guessing
    assert other.transitions == pytest.approx(math.log(2))


def test_only_the_last_epochs_count(monkeypatch):
    made = record(40.0)
    made.frames["blocks"].loc[made.blocks.epoch == 1, "log_ratio"] = 9.0
    monkeypatch.setattr(studies, "LAST", 1)
    assert studies.runs([made]).residual[0] == pytest.approx(0.1)
    monkeypatch.setattr(studies, "LAST", 2)
    assert studies.runs([made]).residual[0] == pytest.approx(8.9 / 2)
    made.frames["blocks"] = pd.DataFrame()
    assert math.isnan(studies.runs([made]).residual[0])


def test_differences_are_paired_by_setting_and_seed():
    alone = [record(10.0, seed=7, hold_at=2), record(20.0, depth=11, hold_at=2)]  # whose baselines are not there
    deep = [record(30.0, depth=29), record(31.5, depth=29, hold_at=2)]
    pairs = studies.differences(studies.runs([*family(seeds=(0, 1)), *deep, *alone]))
    assert len(pairs) == 5 and set(pairs["depth"]) == {20, 29}
    found = pairs.set_index(["depth", "factor", "seed"]).error
    assert found[20, 0.5, 0] == 2.5 and found[20, 0.5, 1] == 3.0 and found[29, 2.0, 0] == 1.5
    assert pairs[pairs.factor == 2.0]["shift"].tolist() == pytest.approx([-math.log(2)] * 3)


def test_an_effect_is_a_paired_t_test():
    runs = studies.runs(family())
    effect = studies.effects(studies.differences(runs)).set_index("factor")
    errors = {f: runs[runs.factor == f].sort_values("seed").test_error for f in (0.5, 1.0, 2.0)}
    for factor in (0.5, 2.0):
        test = ttest_rel(errors[factor], errors[1.0], alternative="greater")
        assert effect.loc[factor, "above"] == pytest.approx(test.pvalue)
        low, high = ttest_rel(errors[factor], errors[1.0]).confidence_interval(0.95)
        assert (effect.loc[factor, "low"], effect.loc[factor, "high"]) == pytest.approx((low, high))
    assert effect["n"].tolist() == [3, 3] and effect["mean"].tolist() == pytest.approx([3.0, 4.0])


def test_of_one_seed_or_of_equal_ones_there_is_no_test():
    one = studies.effects(studies.differences(studies.runs(family(seeds=(0,)))))
    assert one[["low", "high", "above"]].isna().all(axis=None)
    same = studies.effects(studies.differences(studies.runs(family(low=0.0, spread=0.0)))).set_index("factor")
    assert same["above"].tolist() == [1.0, 0.0] and same["low"].tolist() == same["mean"].tolist() == [0.0, 4.0]


def test_without_records_the_tables_are_empty():
    assert studies.runs([]).empty
    assert studies.differences(studies.runs([])).empty and studies.effects(studies.differences(studies.runs([]))).empty


def test_two_settings_of_one_size_have_two_names():
    table = studies.runs([record(1.0), record(1.0, lr=0.05), record(1.0, depth=11)])
    assert table.setting.nunique() == 3
    assert table.setting.str.startswith("ProcResNet-22, cifar10, 2 epochs of 150 images, steps").sum() == 2


def test_doses_are_means_over_the_seeds_that_have_every_factor():
    records = [*family(2.0, 6.0, spread=0.0), record(99.0, seed=7, hold_at=2.0), record(1.0, hold_at="2 1 1")]
    doses = studies.doses(studies.runs(records))
    assert doses.factor.tolist() == [0.5, 1.0, 2.0] and doses.n.tolist() == [3, 3, 3]
    assert doses.test_error.tolist() == [57.0, 55.0, 61.0] and doses.residual.tolist() == pytest.approx([0.1] * 3)
    two_factors = [r for r in records if r.config.hold_at != 0.5]
    assert studies.doses(studies.runs(two_factors)).empty
    assert studies.doses(studies.runs([])).empty
