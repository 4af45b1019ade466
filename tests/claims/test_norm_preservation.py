"""The rules of Theorems 1 and 2 and Corollary 1: what is measured meets them, and each change of it is noticed."""

import math

import pytest
from verdicts import check_that_the_rule_says_no, check_the_threshold

from paperlib import claims
from paperlib.claims import CLAIMS
from paperlib.store import results_root
from paperlib.studies import norm_preservation as studies


# One change of the measurements that each rule must notice.
def t1(t):
    t["rates"].loc[t["rates"].schedule == "geometric", "distance"] *= 1000


def t1_other_schedule(t):
    t["rates"].loc[t["rates"].schedule == "uniform", "distance"] *= 1000


def t1_lower(t):
    t["rates"]["delta"] *= 0.1


def t1_rate(t):
    t["rates"].loc[t["rates"].schedule == "geometric", "delta"] = 2 * t["rates"].L ** -0.5


def t1_inverse(t):
    t["errors"].loc[1, "backward"] = 1e-9


def t1_composition(t):
    t["errors"].loc[0, "forward"] = 1e-9


def c1(t):
    t["tightness"].loc[3, "measured"] = 0.26


def c1_nothing(t):
    t["tightness"] = t["tightness"][:0]


def t2_rate(t):
    t["rates"].loc[t["rates"].L == 1024, "distance"] *= 1.2


def t2_bound(t):
    t["rates"]["published"] = 0.5 * t["rates"].distance


def t2_no_bound(t):
    t["rates"]["published"] = math.nan


def t2_one_target_elsewhere(t):
    t["mirrored"].loc[1, "excess"] *= 1.02


def t2_one_target_reached(t):
    t["mirrored"].loc[1, "excess"] = 0.0


def t2_diverged(t):
    t["mirrored"].loc[1, "excess"] = math.nan


def t2_contrast_not_reached(t):
    t["mirrored"].loc[0, "excess"] = 1e-4


def t2_contrast_diverged(t):
    t["mirrored"].loc[0, "excess"] = math.nan


def t2_product(t):
    t["rates"].loc[0, "error"] = 1e-11


SPOILT = [
    t1, t1_other_schedule, t1_lower, t1_rate, t1_composition, t1_inverse, c1, c1_nothing, t2_rate, t2_bound,
    t2_no_bound, t2_one_target_elsewhere, t2_one_target_reached, t2_diverged, t2_contrast_not_reached,
    t2_contrast_diverged, t2_product,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
def test_the_rules_can_say_no(tables, spoil):
    check_that_the_rule_says_no(tables, spoil)


@pytest.mark.parametrize(
    ("name", "constant", "value", "written", "outcome"),
    [
        ("T1", "COMPOSITION", 1e-20, "to 1e-20;", "not reproduced"),
        ("T1", "SLOPE", 1.5, "at least 1.5 for", "not reproduced"),
        ("T2", "SLOPE_MARGIN", 1e-09, "within 1e-09 of −1", "not reproduced"),
        ("T2", "PRODUCT", 1e-30, "to 1e-30 of", "not reproduced"),
        ("T2", "EXCESS_MARGIN", 1e-15, "within 1e-13 % of", "not reproduced"),
        ("T2", "REACHED", 1e-30, "below 1e-30;", "not reproduced"),
        ("T2", "TARGETS", 99, "at least 99 targets", "undecided"),
    ],
)
def test_each_threshold_is_in_the_rule_and_decides(tables, name, constant, value, written, outcome):
    check_the_threshold(name, constant, value, written, tables(name), outcome)


def test_theorem_2_needs_no_correction_where_all_targets_are_reached(tables):
    reached = tables("T2")
    reached["mirrored"]["excess"] = 0.0
    assert CLAIMS["T2"].judge(reached) == "reproduced"


@pytest.mark.parametrize(
    ("sign", "said"), [(-1, "4 targets with det R < 0 and 14"), (1, "14 targets with det R < 0 and 4")]
)
def test_theorem_2_is_undecided_with_too_few_targets_of_either_sign(tables, sign, said):
    few, claim = tables("T2"), CLAIMS["T2"]
    assert claim.missing(few) == ""
    of_sign = few["mirrored"].index[sign * few["mirrored"].determinant > 0]
    few["mirrored"] = few["mirrored"].drop(of_sign[claim.TARGETS - 1 :])
    assert claim.judge(few) == "undecided"
    assert said in claim.missing(few)
    few["mirrored"].loc[of_sign[0], "excess"] = 50.0
    assert claim.judge(few) == "undecided"


def test_the_former_rule_of_theorem_2_stays_in_view():
    (former,) = CLAIMS["T2"].former
    assert former.sentence != CLAIMS["T2"].rule
    assert "one matrix" in former.reason and former.outcome == "reproduced with a correction (desk)"


def test_the_stored_training_says_what_the_page_says_of_weight_decay():
    """The page's sentences are computed; these are their signs, and a finding that turned them would need new prose."""
    training = claims.read(claims.place(results_root(), "C1", "desk")).frames["training"]
    state = training.groupby(["decay", "step"])[["bound", "risk"]].mean()
    bound, risk = state.bound, state.risk
    none, paper, strong = bound.index.unique("decay")
    assert (none, paper, strong) == (0.0, studies.PAPER_DECAY, 100 * studies.PAPER_DECAY)
    start, early, late = bound.index.unique("step")
    for decay in (none, paper):
        assert min(bound[decay, early], bound[decay, late]) > 1.5 * bound[decay, start]
    assert bound[strong, early] < bound[strong, start]
    assert bound[strong, late] < bound[paper, late] and risk[strong, late] > risk[none, late]
    assert (training.delta <= training.bound).all()


def test_the_stored_targets_are_more_than_the_rule_asks_for_and_all_as_in_theory():
    mirrored = claims.read(claims.place(results_root(), "T2", "desk")).frames["mirrored"]
    negative = mirrored[mirrored.determinant < 0]
    assert len(negative) == len(mirrored) - len(negative) >= CLAIMS["T2"].TARGETS
    assert negative[["n", "floor"]].drop_duplicates().shape[0] >= CLAIMS["T2"].TARGETS
    assert (negative.excess / negative.floor).to_numpy() == pytest.approx([1] * len(negative), abs=1e-3)
