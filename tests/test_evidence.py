"""The committed findings measured again: what is told, and the exit status."""

import functools

import pytest

from paperlib import __main__ as command
from paperlib import claims, evidence
from paperlib.claims import Quantity
from paperlib.errors import ConfigError


@functools.cache
def measured():
    return claims.measure("C1", preset="smoke", seeds=2)


def altered(**changes):
    """The finding with another one of its quantities."""
    quantities = dict(measured().quantities)
    name = next(iter(quantities))
    quantities[name] = quantities[name].model_copy(update=changes)
    return name, measured().model_copy(update={"quantities": quantities})


def test_the_same_is_the_same():
    found = evidence.compare(measured(), measured())
    assert not found.changed and found.moved == ()


def test_a_quantity_moves_by_more_than_it_scatters():
    before = next(iter(measured().quantities.values()))
    _, little = altered(mean=before.mean + 0.9 * before.sd)
    assert evidence.compare(measured(), little).moved == ()
    name, much = altered(mean=before.mean + 1.1 * before.sd)
    (said,) = evidence.compare(measured(), much).moved
    assert said == f"{name}: {before}, now {much.quantities[name]}"


@pytest.mark.parametrize(
    ("before", "now", "moves"),
    [
        (Quantity(mean=1.0, sd=None, n=1), Quantity(mean=1 + 1e-9, sd=None, n=1), False),  # rounding
        (Quantity(mean=1.0, sd=None, n=1), Quantity(mean=1 + 1e-5, sd=None, n=1), True),
        (Quantity(mean=4e-16, sd=None, n=1), Quantity(mean=9e-15, sd=None, n=1), False),
        (Quantity(mean=float("nan"), sd=None, n=1), Quantity(mean=float("nan"), sd=None, n=1), False),
        (Quantity(mean=1.0, sd=0.1, n=3), Quantity(mean=float("nan"), sd=None, n=1), True),
        (Quantity(mean=1.0, sd=0.1, n=3), Quantity(mean=float("inf"), sd=float("nan"), n=3), True),
        (Quantity(mean=float("inf"), sd=float("nan"), n=3), Quantity(mean=float("inf"), sd=float("nan"), n=3), False),
        (None, Quantity(mean=1.0, sd=None, n=1), True),
        (Quantity(mean=1.0, sd=None, n=1), None, True),
    ],
)
def test_what_counts_as_moved(before, now, moves):
    one, other = (measured().model_copy(update={"quantities": {} if q is None else {"x": q}}) for q in (before, now))
    assert bool(evidence.compare(one, other).moved) is moves


def test_the_report_has_outcomes_first():
    found = [
        evidence.Comparison("A", "desk", "reproduced", "reproduced", ("x: 1, now 2",)),
        evidence.Comparison("B", "desk", "reproduced", "not reproduced"),
        evidence.Comparison("C", "desk", now="reproduced"),
        evidence.Comparison("D", "desk", "reproduced", skipped="there is no training run"),
    ]
    assert evidence.report(found).splitlines() == [
        "2 measured again: 1 outcome changed",
        "  B at desk: was reproduced, is not reproduced",
        "  A at desk: x: 1, now 2",
        "  C at desk: new, reproduced",
        "  D at desk: not measured: there is no training run",
    ]


def test_the_command_measures_again_and_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    claims.save(measured(), tmp_path)
    words = ["evidence", "C1", "F5", "P3", "--preset", "smoke", "--against", str(tmp_path), "--out"]
    assert command.main([*words, str(tmp_path / "new")]) == 0
    told = capsys.readouterr().out
    assert "1 measured again: no outcome changed" in told
    assert "F5 at smoke: not measured: there is no training run for F5" in told
    assert "P3 at smoke: not measured: there is no record of the grid" in told and "paperlib grid" in told
    assert [f.claim for f in claims.read_all(tmp_path / "new")] == ["C1"]
    assert not (tmp_path / "runs" / "channel_grid").exists()


def test_another_outcome_is_a_status_of_one(tmp_path, capsys, monkeypatch):
    claims.save(measured(), tmp_path)
    spoilt = {"tightness": measured().frames["tightness"].assign(measured=1e9)}
    monkeypatch.setattr(claims, "measure", lambda *_: measured().model_copy(update={"frames": spoilt}))
    words = ["evidence", "C1", "--preset", "smoke", "--against", str(tmp_path), "--out", str(tmp_path / "new")]
    assert command.main(words) == 1
    assert "C1 at smoke: was reproduced, is not reproduced" in capsys.readouterr().out


def test_the_size_is_that_of_the_finding_on_record(tmp_path):
    claims.save(measured(), tmp_path)
    (found,) = evidence.gather(["C1"], tmp_path, tmp_path / "new")
    assert (found.preset, found.before, found.skipped) == ("smoke", "reproduced", "")
    (found,) = evidence.gather(["C1"], tmp_path, tmp_path / "new", "paper")
    assert found.skipped == "it has no paper preset"
    with pytest.raises(ConfigError, match="'papr' is not one of paper, desk, smoke"):
        next(evidence.gather(["C1"], tmp_path, tmp_path / "new", "papr"))


def test_what_is_unknown_is_refused(tmp_path, capsys):
    assert command.main(["evidence", "T9", "--out", str(tmp_path)]) == 1
    assert "error: claim 'T9'" in capsys.readouterr().err
