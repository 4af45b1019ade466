"""Interventions: what the rule says of made-up records, and that it can say no."""

from pathlib import Path

import pytest
from synthetic_interventions import diverged, family, record

from paperlib import claims
from paperlib.claims import CLAIMS
from paperlib.errors import RecordError
from paperlib.studies import interventions as studies
from paperlib.studies import section4
from paperlib.sweep import read, resources

CLAIM = CLAIMS["I1"]


def tables(records):
    return {"endings": section4.endings(records)} | CLAIM.tables(records)


@pytest.mark.parametrize(
    ("worse", "outcome"),
    [
        ({}, "reproduced"),
        ({"high": 0.0}, "reproduced with a correction"),
        ({"low": 0.0}, "reproduced with a correction"),
        ({"low": 0.0, "high": 0.0}, "not reproduced"),
        ({"low": -3.0, "high": -4.0}, "not reproduced"),
        ({"spread": 4.0}, "not reproduced"),  # the same means, but no seed like the other
        ({"low": 1.0, "high": 0.0}, "not reproduced"),  # p = 0.04: enough for one of two, not for one alone
    ],
)
def test_the_rule(worse, outcome):
    assert CLAIM.judge(tables(family(**worse))) == outcome


@pytest.mark.parametrize(
    "records",
    [
        family(seeds=(0, 1)),
        family(follows=0.4),  # the ratios did not move
        [r for r in family() if r.config.hold_at != 2.0],
        [r for r in family() if r.config.hold_at != 1.0],
    ],
)
def test_what_decides_nothing(records):
    made = tables(records)
    assert CLAIM.judge(made) == "undecided"
    said = "in float32 there is no ProcResNet held at 0.5, 1, 2 times the target with 3 seeds"
    assert CLAIM.missing(made).startswith(said)


def test_every_setting_must_agree_and_on_the_same_side():
    deep = {"depth": 29}
    assert CLAIM.judge(tables([*family(), *family(**deep)])) == "reproduced"
    assert CLAIM.judge(tables([*family(), *family(low=0.0, **deep)])) == "reproduced with a correction"
    assert CLAIM.judge(tables([*family(high=0.0), *family(low=0.0, **deep)])) == "not reproduced"
    # A setting without enough of its own does not count.
    assert CLAIM.judge(tables([*family(), *family(low=0.0, seeds=(0, 1), **deep)])) == "reproduced"


def test_a_run_that_diverged_counts_as_guessing():
    finished = [r for r in family() if r.config.hold_at != 2.0]
    assert CLAIM.judge(tables(finished + [diverged(seed, hold_at=2) for seed in range(3)])) == "reproduced"


def test_its_numbers_are_the_differences_by_seed():
    found = CLAIM.quantities(tables([*family(), record(49.0, project=False)]))
    names = [name.split("steps, ")[1] for name in found]
    assert names == ["× 0.5 (float32)", "× 2 (float32)", "free (float32)"]
    assert list(found.values())[0].tolist() == pytest.approx([2.5, 3.0, 3.5])
    assert list(found.values())[2].tolist() == [-1.0]


def test_which_runs_it_is_about():
    base, low, _ = (r.config for r in family(seeds=(0,)))
    assert CLAIM.takes(base) and CLAIM.takes(low)
    assert not CLAIM.counts(base, "smoke") and CLAIM.counts(low, "smoke") and not CLAIM.counts(low, "desk")
    assert not CLAIM.takes(record(1.0, erase_relu=True, hold_at=2).config)
    # No other claim is judged by them.
    others = [name for name, claim in CLAIMS.items() if claim.counts(low, "smoke")]
    assert others == ["I1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("paperlib.studies.section4.results_root", lambda: tmp_path / "results")
    return tmp_path / "runs"


def test_from_records_to_a_finding(folder):
    with pytest.raises(RecordError, match="no training run for I1 at the smoke preset"):
        claims.measure("I1", preset="smoke")
    for one in [*family(), record(60.0, projector="fixed", seed=1)]:
        one.save(one.config.folder())
    finding = claims.measure("I1", preset="smoke")
    assert (claims.outcome(finding), finding.seeds) == ("reproduced", [0, 1, 2])
    assert claims.verdict(finding) == claims.UNTESTED
    again = claims.read(claims.save(finding, folder))
    assert again == finding
    assert len(again.quantities) == 3


def test_the_sweep_makes_what_the_rule_needs():
    """Every group that is compared has seeds enough, and no run is without its baseline."""
    sweep = read(Path(__file__).resolve().parents[2] / "workflow" / "config" / "interventions.yaml")
    assert "I1" in resources.claims_from_records(sweep)
    assert all(CLAIM.takes(job.config) for job in sweep.jobs())
    made = [record(50.0, **dict(job.config)) for job in sweep.jobs()]
    table = studies.runs(made)
    pairs = studies.differences(table)
    assert len(pairs) == (table.label != "× 1").sum()
    assert (pairs.groupby(["setting", "label"]).size() >= CLAIM.SEEDS).all()
    assert pairs.setting.nunique() == 2 and CLAIM.missing(tables(made)) == ""
