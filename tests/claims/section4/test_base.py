"""Claims from records: groups compared, precisions, what is missing, and one claim from records to its report."""

import math

import pandas as pd
import pytest
import synthetic_runs as made
import tiny

from paperlib import claims
from paperlib.claims import CLAIMS
from paperlib.claims.section4.base import at_precision, below, names
from paperlib.config import RunConfig
from paperlib.errors import RecordError
from paperlib.records import Divergence
from paperlib.store import results_root


def test_names_are_the_paper_s():
    assert names("procresnet", 20, 164) == ("procresnet-22", "procresnet-166")
    assert names("plain", 83) == ("plain-83",)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([1.0], [1.1], True),  # the order alone
        ([1.1], [1.0], False),
        ([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], False),  # the order is right, and shows nothing
        ([1.0, 1.1, 1.2], [1.5, 1.6, 1.7], True),
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], True),  # no spread, no test
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False),
        ([1.0, math.nan], [2.0, math.inf], True),
        ([], [1.0], False),
        ([math.nan], [1.0], False),
    ],
)
def test_below(low, high, expected):
    assert below(pd.Series(low, dtype=float), pd.Series(high, dtype=float)) is expected


def deeper(precisions):
    """Tables for F3b, with the values that its rule asks for, in some precisions."""
    tables = []
    for precision, archs in precisions.items():
        for a in archs:
            for depth in made.DEPTHS:
                for seed in made.SEEDS:
                    dev = (depth / 100 if a == "plain" else 10 / depth) * made.JITTER[seed]
                    tables.append(
                        made.run(a, depth, seed, precision) | {"epoch": 1, "residual": dev, "all": dev, "mean_log": 0.0}
                    )
    runs = [made.endings(archs, precision=precision) for precision, archs in precisions.items()]
    return {"medians": pd.DataFrame(tables), "endings": pd.concat(runs)}


def test_float32_is_judged_where_it_is_whole_and_else_bfloat16():
    claim = CLAIMS["F3b"]
    whole, part = made.ARCHS, made.ARCHS[:2]
    both = deeper({"float32": whole, "bfloat16": whole})
    assert claim.precision(both) == "float32"
    assert {name.split("(")[-1] for name in claim.quantities(both)} == {"float32)", "bfloat16)"}
    mixed = deeper({"float32": part, "bfloat16": whole})
    assert (claim.precision(mixed), claim.judge(mixed)) == ("bfloat16", "reproduced")
    short = deeper({"float32": part, "bfloat16": part})
    assert claim.judge(short) == "undecided"
    assert claim.missing(short) == "in float32 there is no procresnet-22, procresnet-85, procresnet-166"


# -- from records ------------------------------------------------------------------------------------------------
def record(every, seed, error):
    """A record made by hand of a ProcResNet-22, of the smoke preset."""
    made_by_hand = tiny.record()
    config = RunConfig(preset="smoke", arch="procresnet", depth=20, project_every=every, seed=seed, precision="float32")
    made_by_hand.config = config.resolve()
    made_by_hand.frames["epochs"] = made_by_hand.epochs.assign(test_error=error)
    return made_by_hand


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs for O2, and no committed ones."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("paperlib.studies.section4.results_root", lambda: tmp_path / "results")
    return tmp_path / "runs"


def test_from_records_to_the_report(runs):
    for i, every in enumerate((1, 2, 4, 8)):
        for seed in range(3):
            one = record(every, seed, 50 + 0.1 * i + seed)
            one.provenance.sessions[0].seconds = 2.0
            tiny.fitted(one).save(one.config.folder())
    finding = claims.measure("O2", preset="smoke")
    assert finding.seeds == [0, 1, 2]
    assert finding.provenance.command == "python -m paperlib measure O2 --preset smoke --seeds 3"
    assert len(finding.provenance.sessions) == 1 and finding.provenance.seconds == 24
    folder = claims.save(finding, runs)
    again = claims.read(folder)
    assert again == finding and not claims.judged_by_another_rule(again)
    assert claims.spoken(again) == f"{claims.UNTESTED} (at the smoke preset: reproduced)"
    assert claims.report([again]).startswith("O2  not yet tested")
    # Two seeds are too few for O2.
    fewer = claims.measure("O2", preset="smoke", seeds=2)
    assert fewer.seeds == [0, 1]
    assert claims.outcome(fewer) == "undecided"
    assert "undecided: in float32 there is no ProcResNet projected every 1, 2, 4, 8 steps" in claims.spoken(fewer)


def test_a_run_that_diverged_is_told_by_its_block(runs):
    one = record(2, 0, 50.0)
    one.status = "diverged"
    one.divergence = Divergence(epoch=2, step=1, what="loss", block="transition1")
    tiny.fitted(one).save(one.config.folder())
    table = claims.measure("O2", preset="smoke").frames["endings"]
    told = table[["status", "divergence_epoch", "divergence_block"]].values.tolist()
    assert told == [["diverged", 2.0, "transition1"]]
    assert math.isnan(table.test_error[0])


def test_without_records_there_is_one_sentence(runs):
    with pytest.raises(RecordError, match="no training run for F5 at the paper preset: make some with `paperlib run`"):
        claims.measure("F5", preset="paper")


def test_at_the_paper_s_scale_precision_and_seeds_are_in_the_verdict():
    tables = deeper({"bfloat16": made.ARCHS})
    one = {name: table[table.seed == 0] for name, table in tables.items()}
    finding = tiny.finding("F3b", "paper", tables)
    assert claims.spoken(finding) == "reproduced, in bfloat16"
    assert claims.spoken(tiny.finding("F3b", "paper", one)) == "reproduced, in bfloat16 (n = 1)"
    empty = {name: table[table.network == "plain-20"] for name, table in tables.items()}
    assert claims.verdict(tiny.finding("F3b", "paper", empty)) == "undecided"


# -- why a rule is not met ---------------------------------------------------------------------------------------
def losses(shift):
    """Tables for F4a in the paper's order, with the losses of each network's seeds ``shift`` apart."""
    rows = [
        made.run(arch, depth, seed) | {"epoch": 1, "train_loss": level + shift * seed}
        for arch, levels in (("plain", (1.0, 1.1, 1.2)), ("resnet", (1.2, 1.1, 1.0)), ("procresnet", (1.2, 1.1, 1.0)))
        for depth, level in zip(made.DEPTHS, levels, strict=True)
        for seed in (0, 1, 2)
    ]
    return {"curves": pd.DataFrame(rows), "endings": made.endings()}


def spoilt(**changes):
    """The same with the losses of some networks at another level: in the order, but within the scatter of the rest."""
    tables = losses(0.3)
    for network, level in changes.items():
        arch, depth = network.rsplit("_", 1)
        mine = (tables["curves"].arch == arch) & (tables["curves"].depth == int(depth))
        tables["curves"].loc[mine, "train_loss"] = [level, level + 0.01, level + 0.02]
    return tables


@pytest.mark.parametrize(
    ("tables", "direction", "tally"),
    [
        (losses(0.001), "", "Of 6 comparisons: 6 as claimed, beyond the scatter."),
        (spoilt(), "order", "Of 6 comparisons: 6 as claimed, but within the scatter."),
        (spoilt(plain_20=1.45), "mixed", "Of 6 comparisons: 5 as claimed, but within the scatter; 1 the other way, wi"),
        (
            spoilt(plain_20=9.0),
            "against",
            "Of 6 comparisons: 5 as claimed, but within the scatter; 1 the other way, be",
        ),
    ],
)
def test_a_rule_that_is_not_met_says_which_way_the_numbers_lie(tables, direction, tally):
    claim = CLAIMS["F4a"]
    assert claim.direction(tables) == direction
    assert claim.tally(tables).startswith(tally)


def committed(claim, preset="desk"):
    return claims.read(claims.place(results_root(), claim, preset)).frames


def test_a_limit_that_is_missed_is_against_the_claim():
    assert [CLAIMS[name].direction(committed(name)) for name in ("F3a", "F3e", "F3g", "F2a", "P3")] == ["against"] * 5
    assert CLAIMS["F3g"].tally(committed("F3g")) == ""


@pytest.mark.parametrize(
    ("claim", "direction"),
    [("F3b", ""), ("F3f", "against"), ("F4a", "order"), ("F4b", "against"), ("TI", "mixed")],
)
def test_the_comparisons_are_those_of_the_rule(claim, direction):
    """On record: the rule of a claim that has comparisons alone is met where all of them pass, and only there."""
    tables = committed(claim)
    part = at_precision(tables, CLAIMS[claim].precision(tables))
    passed = [comparison.way == "passed" for comparison in CLAIMS[claim].comparisons(part)]
    assert CLAIMS[claim].direction(tables) == direction
    assert (all(passed) and CLAIMS[claim].limits(part)) == (CLAIMS[claim].judge(tables) == "reproduced")


def test_one_run_of_each_network_is_said():
    said = CLAIMS["F3d"].remark(committed("F3d", "paper"))
    assert said == "one run of each network; another seed, or another machine, could turn it"
    assert CLAIMS["F3d"].remark(committed("F3d")) == ""


def test_what_is_beside_the_outcomes_on_record():
    """The numbers that the rules of these compare, and what is to be said of them."""
    remarks = {name: CLAIMS[name].remark(committed(name)) for name in ("S0", "O2", "F3b", "F3c")}
    assert remarks["S0"] == "ProcResNet-22 (0.079) is beyond the rule's limit of 0.03"
    assert remarks["O2"].startswith("a difference within the scatter passes")
    assert remarks["F3b"] == "it holds for the networks with skips; Plain does not meet the rule"
    assert remarks["F3c"] == "none of the three runs stopped, and none learnt"
    (every, spread) = CLAIMS["O2"].compared(committed("O2"))
    assert every.name.endswith("ProcResNet-22, steps, projected every 1, 2, 4, 8 steps") and every.text.count("±") == 4
    assert spread.text.endswith("0.52 is allowed")
    assert CLAIMS["TII"].briefly(committed("TII")) == "12 of the 16 networks that the rule asks for are not on record"
