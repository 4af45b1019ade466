"""The committed findings measured again: what is told, and the exit status."""

import functools

import pytest

from paperlib import __main__ as command
from paperlib import claims, evidence
from paperlib.claims import Quantity
from paperlib.errors import ConfigError, RecordError


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
        evidence.Comparison("E", "desk", "reproduced", "reproduced", ("y: 1, now 2", "z: new"), stored=True),
    ]
    assert evidence.report(found).splitlines() == [
        "2 measured again, 1 judged again from the stored records: 1 outcome changed, 3 numbers differ",
        "  B at desk: was reproduced, is not reproduced",
        "  A at desk: x: 1, now 2",
        "  E at desk: y: 1, now 2",
        "  E at desk: z: new",
        "  C at desk: new, reproduced",
        "  D at desk: not measured: there is no training run",
    ]


def test_the_command_measures_again_and_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    claims.save(measured(), tmp_path)
    words = ["evidence", "C1", "F5", "P3", "--preset", "smoke", "--against", str(tmp_path), "--out"]
    assert command.main([*words, str(tmp_path / "new")]) == 1  # F5 and P3 were asked for
    told, err = capsys.readouterr()
    assert err.endswith("error: not compared with a finding on record: F5, P3; the lines above say why\n")
    assert "1 measured again: no outcome changed, no number differs" in told
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


def test_a_number_that_was_counted_may_not_differ(tmp_path, capsys):
    counted = claims.measure("TIIp", preset="smoke")
    words = ["evidence", "TIIp", "--against", str(tmp_path), "--out", str(tmp_path / "new")]
    claims.save(counted, tmp_path)
    assert command.main(words) == 0
    name, quantity = next(iter(counted.quantities.items()))
    other = counted.quantities | {name: quantity.model_copy(update={"mean": quantity.mean + 1e-7})}
    claims.save(counted.model_copy(update={"quantities": other}), tmp_path)
    capsys.readouterr()
    assert command.main(words) == 1
    told = capsys.readouterr().out
    assert "1 measured again: no outcome changed, 1 number differs" in told
    assert f"{quantity.mean + 1e-7!r}, now {quantity.mean!r}" in told


def test_what_is_on_record_is_not_replaced(tmp_path, capsys):
    folder = claims.save(measured(), tmp_path / "old")
    before = (folder / "finding.json").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "old")
    for out in ("old", "link"):
        words = ["evidence", "C1", "--against", str(tmp_path / "old"), "--out", str(tmp_path / out)]
        assert command.main(words) == 1
        assert "error: the new findings would replace those on record" in capsys.readouterr().err
    assert (folder / "finding.json").read_bytes() == before


def test_there_must_be_something_to_compare_with(tmp_path):
    with pytest.raises(RecordError, match="there are no findings in"):
        next(evidence.gather(["C1"], tmp_path, tmp_path / "new"))
    (tmp_path / "claims").mkdir()
    with pytest.raises(RecordError, match="there is no finding in"):
        next(evidence.gather(["C1"], tmp_path, tmp_path / "new"))


def test_a_claim_that_is_new_is_told_by_the_status_where_it_was_named(tmp_path, capsys):
    claims.save(measured(), tmp_path)
    words = ["evidence", "P2", "--preset", "smoke", "--against", str(tmp_path), "--out", str(tmp_path / "new")]
    assert command.main(words) == 1
    told, err = capsys.readouterr()
    assert "P2 at smoke: new, reproduced" in told and "not compared with a finding on record: P2" in err
