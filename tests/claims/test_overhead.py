"""The rules of Section 4's cost: what each says of tables that mean yes, no and too little, and where they decide."""

from typing import get_args

import pandas as pd
import pytest
from verdicts import check_the_threshold

from paperlib import claims, evidence, published
from paperlib.claims import CLAIMS, overhead
from paperlib.claims.claim import UNTESTED, Outcome
from paperlib.errors import ConfigError
from paperlib.studies.overhead import METHODS, STEPS

NAMES = ("O1a", "O1b", "O1c", "O1d")


def seconds(**changed):
    """Three rounds that say yes to all: the iteration takes 4 % of two steps, the library 1 %, an SVD ten times it."""
    times = {"step": 1.0, "library": 0.02, "iteration": 0.08, "svd": 0.8} | {
        "iteration, shortcuts": 0.03, "svd, shortcuts": 0.3,
    }  # fmt: skip
    return {"seconds": pd.DataFrame({"round": range(3), "load": 2.0} | times | changed)}


def deep(shallow=1.0, deeper=6.0, rounds=3):
    """The training steps' seconds at two depths, and an iteration of 0.08 s."""
    steps = {164: shallow, 1001: deeper}
    rows = [
        {"round": i, "depth": d, "load": 2.0, "recomputed": True, "step": s, "iteration": 0.08}
        for i in range(rounds)
        for d, s in steps.items()
    ]
    return {"seconds": pd.DataFrame(rows)}


@pytest.mark.parametrize(
    ("name", "tables", "outcome"),
    [
        ("O1a", seconds(), "reproduced"),
        ("O1a", seconds(iteration=0.17), "not reproduced"),
        ("O1a", seconds(library=9.0, svd=0.01), "reproduced"),  # neither is its business
        ("O1b", deep(), "reproduced"),
        ("O1b", deep(deeper=0.9), "not reproduced"),
        ("O1c", seconds(), "reproduced"),
        ("O1c", seconds(**{"svd, shortcuts": 0.05}), "reproduced with a correction"),
        ("O1c", seconds(**{"svd, shortcuts": 0.05, "svd": 0.1}), "not reproduced"),
        ("O1d", seconds(), "reproduced"),
        ("O1d", seconds(library=0.2), "not reproduced"),
    ],
)
def test_the_rules_say_yes_and_no(name, tables, outcome):
    assert CLAIMS[name].judge(tables) == outcome
    assert CLAIMS[name].missing(tables) == ""


@pytest.mark.parametrize("name", NAMES)
def test_too_few_rounds_decide_nothing(name):
    few = deep(rounds=2) if name == "O1b" else {"seconds": seconds()["seconds"][:2]}
    assert CLAIMS[name].judge(few) == "undecided"
    assert CLAIMS[name].missing(few) == "three rounds or more, of which 2 are there"


def test_one_depth_says_nothing_of_two():
    table = deep()["seconds"]
    one = {"seconds": table[table.depth == 164]}
    assert CLAIMS["O1b"].judge(one) == "undecided"
    assert CLAIMS["O1b"].missing(one) == "two depths"


def test_the_median_round_counts():
    """One disturbed round of three turns nothing."""
    for column in ("iteration", "iteration, shortcuts"):
        table = seconds()
        table["seconds"].loc[1, column] = 100.0
        assert [CLAIMS[name].judge(table) for name in ("O1a", "O1c")] == ["reproduced"] * 2


@pytest.mark.parametrize(
    ("name", "constant", "value", "written", "outcome"),
    [
        ("O1a", "PER_CENT", 3, "less than 3 % of", "not reproduced"),
        ("O1a", "EVERY", 1, "once in one steps", "not reproduced"),
        ("O1c", "FAR_LESS", 0.05, "at most 0.05 times", "not reproduced"),
        ("O1d", "PER_CENT", 0.5, "less than 0.5 % of", "not reproduced"),
        ("O1d", "ROUNDS", 4, "median of 4 rounds", "undecided"),
    ],
)
def test_each_threshold_is_in_the_rule_and_decides(name, constant, value, written, outcome):
    check_the_threshold(name, constant, value, written, seconds(), outcome)


@pytest.fixture
def finding(measured):
    """A function from a preset and a type of device to a finding of O1a that says yes."""

    def make(preset, device):
        found = measured("O1a").model_copy(update={"preset": preset, "frames": seconds()})
        session = found.provenance.last
        there = session.model_copy(update={"device": session.device.model_copy(update={"type": device})})
        return found.model_copy(update={"provenance": found.provenance.model_copy(update={"sessions": [there]})})

    return make


def test_only_a_gpu_decides(finding):
    gpu = finding("desk", "cuda")
    assert claims.verdict(gpu) == claims.spoken(gpu) == "reproduced"
    for preset, device, where in (
        ("desk", "cpu", "on a CPU; a GPU decides"),
        ("smoke", "cpu", "at the smoke preset"),
        ("smoke", "cuda", "at the smoke preset"),
        ("paper", "cpu", "on a CPU; a GPU decides"),
    ):
        found = finding(preset, device)
        assert claims.verdict(found) == UNTESTED
        assert claims.spoken(found) == f"{UNTESTED} ({where}: reproduced)"


def test_the_paper_s_scale_is_a_gpu(finding, monkeypatch, tmp_path):
    """Such a finding stands beside the CPU's, and counts; it is not measured where there is no GPU."""
    for preset, device in (("desk", "cpu"), ("paper", "cuda")):
        claims.save(finding(preset, device).model_copy(update={"quantities": {}}), tmp_path)
    both = claims.read_all(tmp_path)
    assert [f.preset for f in both] == ["paper", "desk"]
    assert [claims.verdict(f) for f in claims.counting(both)] == ["reproduced"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"O1a at the paper preset is timed on a GPU \(CUDA devices found: 0\)"):
        claims.measure("O1a", "paper")
    (again,) = evidence.gather(["O1a"], tmp_path, tmp_path / "new")
    assert "is timed on a GPU" in again.skipped and not again.failed
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name in NAMES:
        claims.check(name, "paper")


def test_the_rule_before_stays_in_view():
    (former,) = CLAIMS["O1a"].former
    assert former.until == "2026-11-27" and "less than an SVD at every frequency" in former.sentence
    assert "O1" not in CLAIMS


@pytest.mark.parametrize("name", ["O1a", "O1b", "O1d"])
def test_the_cost_is_measured_on_this_machine(monkeypatch, name):
    """How much it is depends on the machine; that it is measured and judged does not."""
    monkeypatch.setattr(overhead.Cost, "BATCH", 4)
    for method in METHODS:  # the one that takes least
        monkeypatch.setitem(METHODS, method, METHODS["svd, shortcuts"])
    overhead._seconds.cache_clear()
    finding = claims.measure(name, preset="smoke", seeds=1)
    overhead._seconds.cache_clear()
    table = finding.frames["seconds"]
    timed = ["step", "iteration"] if name == "O1b" else ["step", "library", *METHODS]
    others = ["round", "depth", "load", "recomputed"] if name == "O1b" else ["round", "load"]
    assert list(table) == [*others, *timed] and len(table) == (2 if name == "O1b" else 1)
    assert (table[timed] > 0).all(axis=None)
    assert claims.outcome(finding) in get_args(Outcome)
    shares = {"O1a": "the paper's iteration", "O1d": "this library"}
    if name in shares:
        column = {"O1a": "iteration", "O1d": "library"}[name]
        share = 100 * table[column] / (2 * table.step)
        found = finding.quantities[f"per cent of the training time, {shares[name]}"]
        assert found.mean == pytest.approx(share.mean())


def test_claims_that_share_a_table_are_measured_once(monkeypatch):
    asked = []
    monkeypatch.setattr(overhead, "overhead", lambda **sizes: asked.append(sizes) or seconds()["seconds"])
    overhead._seconds.cache_clear()
    for name in ("O1a", "O1c", "O1d"):
        CLAIMS[name].measure("desk", [0, 1, 2])
    overhead._seconds.cache_clear()
    assert asked == [{"depth": 164, "batch_size": 128, "rounds": 3}]


def test_the_number_of_steps_is_the_published_code_s():
    assert published.STEPS == STEPS
