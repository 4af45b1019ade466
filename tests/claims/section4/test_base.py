"""Claims from records: groups compared, precisions, what is missing, and one claim from records to its report."""

import math

import pandas as pd
import pytest
import synthetic_runs as made
import tiny

from paperlib import claims
from paperlib.claims import CLAIMS
from paperlib.claims.section4.base import below, names
from paperlib.config import RunConfig
from paperlib.errors import RecordError
from paperlib.records import Divergence


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
