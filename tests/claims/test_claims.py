"""Claims: measured, stored, read back, judged, and reported."""

import json

import pandas as pd
import pytest
from verdicts import EXPECTED

from paperlib import __main__ as command
from paperlib import claims
from paperlib.claims import Quantity
from paperlib.errors import ConfigError, RecordError
from paperlib.store import results_root
from paperlib.store.stored import sealed


@pytest.mark.parametrize("name", EXPECTED)
def test_each_claim_is_measured_stored_and_read(measured, name, tmp_path):
    finding = measured(name)
    if EXPECTED[name]:
        assert claims.verdict(finding) == claims.outcome(finding) == EXPECTED[name]
        assert claims.spoken(finding).startswith(EXPECTED[name])
    else:
        assert claims.verdict(finding) == claims.UNTESTED
        assert claims.spoken(finding).startswith(f"{claims.UNTESTED} (at the smoke preset: {claims.outcome(finding)}")
    assert (finding.claim, finding.preset, finding.seeds) == (name, "smoke", [0, 1])
    assert finding.provenance.command == f"python -m paperlib measure {name} --preset smoke --seeds 2"
    assert finding.quantities
    folder = claims.save(finding, tmp_path)
    assert folder == tmp_path / "claims" / name / "smoke"
    again = claims.read(folder)
    assert again.quantities == finding.quantities
    assert again == finding
    assert again.frames.keys() == finding.frames.keys()
    for table, frame in finding.frames.items():
        pd.testing.assert_frame_equal(again.frames[table], frame)
    assert claims.verdict(again) == claims.verdict(finding)
    # To be found by its seeds: the tables hold them, or do not depend on them.
    for quantity in finding.quantities.values():
        assert quantity.n in (1, 2) and (quantity.sd is None) == (quantity.n == 1)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_committed_findings_are_whole_and_at_the_desk_preset(name):
    finding = claims.read(claims.place(results_root(), name, "desk"))
    assert claims.verdict(finding) == (EXPECTED[name] or claims.UNTESTED)
    assert finding.preset == "desk"
    assert len(finding.seeds) >= 5 or name in ("TIIp", "O1b")  # which is counted; whose rounds take minutes
    assert all(session.commit and not session.dirty for session in finding.provenance.sessions)
    # Its quantities are what its tables give now.
    for label, values in claims.CLAIMS[name].quantities(finding.frames).items():
        assert finding.quantities[label].mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-18)


def test_former_rules_are_all_there_and_shared_ones_once():
    table = claims.former_rules(claims.CLAIMS)
    said = [rule for claim in claims.CLAIMS.values() for rule in claim.former]
    assert {*table.rule} == {rule.sentence for rule in said} and len(table) < len(said)
    for name, claim in claims.CLAIMS.items():
        rows = table[table.claims.str.split(", ").map(lambda names, name=name: name in names)]
        assert rows.until.tolist() == [rule.until for rule in claim.former]
        for row, rule in zip(rows.itertuples(), claim.former, strict=True):
            assert (row.rule, row[5]) == (rule.sentence, rule.reason) and rule.outcome in row[4]


def test_overview(measured):
    table = claims.overview(map(measured, EXPECTED))
    assert list(table.claim.drop_duplicates()) == list(EXPECTED)
    row = table[table.claim == "C1"].iloc[0]
    assert (row.seeds, row.preset, row.verdict) == (2, "smoke", "reproduced")
    assert "±" in row["mean ± sd"]


def test_report(measured):
    lines = claims.report([measured("T2"), measured("P2")]).splitlines()
    assert lines[0] == f"T2  reproduced with a correction: {claims.CLAIMS['T2'].rule}"
    assert lines[1].strip().startswith("python -m paperlib measure T2 --preset smoke --seeds 2  (")
    assert len(lines) == 4


def test_a_finding_keeps_its_rule_and_a_younger_rule_is_told(measured):
    finding = measured("C1")
    rules = claims.CLAIMS["C1"]
    assert (finding.rule.sentence, finding.rule.outcome) == (rules.rule, "reproduced")
    assert not claims.judged_by_another_rule(finding)
    older = {"digest": "0" * 64, "sentence": "some other rule", "outcome": "not reproduced"}
    other = finding.model_copy(update={"rule": claims.Ruling(**older)})
    assert claims.judged_by_another_rule(other)
    said = "    this rule is younger than the finding; by the one of that time: not reproduced: some other rule"
    assert claims.report([other]).splitlines()[2] == said
    unknown = finding.model_copy(update={"rule": None})
    assert not claims.judged_by_another_rule(unknown)
    assert len(claims.report([unknown]).splitlines()) == 2


def test_a_rule_s_digest_depends_on_its_constants():
    rules = claims.CLAIMS["P2"]  # whose sentence does not name this constant
    same, other = (type("P2", (type(rules),), changes)() for changes in ({}, {"SMALL": 1e-7}))
    assert same.digest() == rules.digest()
    assert other.rule == rules.rule and other.digest() != rules.digest()


def test_quantities_are_written_to_three_places_or_in_orders_of_magnitude():
    assert str(Quantity(mean=-1.00043, sd=9e-16, n=5)) == "-1.000 ± 0.000"
    assert str(Quantity(mean=4.6e-15, sd=3e-15, n=3)) == "5e-15 ± 3e-15"
    assert str(Quantity(mean=0.0, sd=None, n=1)) == "0.000"


def test_read_all_is_in_the_order_of_the_paper(measured, tmp_path):
    assert claims.read_all(tmp_path) == []
    for name in ("P2", "T1", "C1"):
        claims.save(measured(name), tmp_path)
    assert [f.claim for f in claims.read_all(tmp_path)] == ["T1", "C1", "P2"]
    assert [f.claim for f in claims.read_all(tmp_path, only=("P2", "T3", "C1"))] == ["C1", "P2"]


def at(finding, preset):
    return finding.model_copy(update={"preset": preset})


def test_findings_of_several_presets_stand_side_by_side_and_the_largest_counts(measured, tmp_path):
    smoke = measured("C1")
    for preset in ("desk", "paper", "smoke"):
        claims.save(at(smoke, preset), tmp_path)
    claims.save(measured("T1"), tmp_path)
    found = claims.read_all(tmp_path)
    assert [(f.claim, f.preset) for f in found] == [("T1", "smoke"), ("C1", "paper"), ("C1", "desk"), ("C1", "smoke")]
    assert [(f.claim, f.preset) for f in claims.counting(found[::-1])] == [("C1", "paper"), ("T1", "smoke")]
    # What a chapter shows is what counts.
    assert {*claims.overview(found[2:]).preset} == {"desk"}
    assert claims.report(found) == claims.report(found[:2])


def test_a_finding_in_another_place_is_refused(measured, tmp_path):
    desk = claims.save(at(measured("C1"), "desk"), tmp_path)
    desk.rename(desk.with_name("paper"))
    with pytest.raises(RecordError, match="has a finding of C1 at the desk preset: move it to .*C1/desk"):
        claims.read_all(tmp_path)
    for file in desk.with_name("paper").iterdir():
        file.rename(desk.parent / file.name)
    with pytest.raises(RecordError, match="C1 has a finding where an earlier paperlib kept it: move what is in it"):
        claims.read_all(tmp_path)


def test_no_smoke_finding_is_committed():
    assert {f.preset for f in claims.read_all(results_root())} <= {"desk", "paper"}


def test_what_is_missing_or_damaged_is_said(measured, tmp_path):
    with pytest.raises(RecordError, match="there is no finding at"):
        claims.read(tmp_path)
    folder = claims.save(measured("C1"), tmp_path)
    file, (table,) = folder / "finding.json", folder.glob("tightness-*.parquet")
    content, stored = file.read_bytes(), table.read_bytes()
    for damaged in (
        b"{",
        b"[]",
        content.replace(b'"tables": {', b'"tables": {}, "x": {'),
        content.replace(b'"seeds"', b'"sedes"'),
        b"\xff\xfe",
    ):
        file.write_bytes(damaged)
        with pytest.raises(RecordError, match="not a readable finding.*measure the claim again"):
            claims.read(folder)
    file.write_bytes(content.replace(b'"threads"', b'"threats"'))
    with pytest.raises(RecordError, match="it was changed after it was saved"):
        claims.read(folder)
    renamed = json.loads(content.replace(b'"threads"', b'"threats"'))
    file.write_text(json.dumps(sealed(renamed)))
    with pytest.raises(RecordError, match=r"malformed at 'provenance\.sessions\.0\.threads': field required"):
        claims.read(folder)
    file.write_text(json.dumps(sealed({k: v for k, v in json.loads(content).items() if k != "tables"})))
    with pytest.raises(RecordError, match="does not name its tables"):
        claims.read(folder)
    file.write_bytes(content)
    lacking = measured("C1").model_copy(update={"frames": {}})
    with pytest.raises(RecordError, match="has no 'tightness'"):
        claims.verdict(lacking)
    table.write_bytes(stored[:-1])
    with pytest.raises(RecordError, match="its checksum is not the recorded one"):
        claims.read(folder)
    table.unlink()
    with pytest.raises(RecordError, match="is missing"):
        claims.read(folder)
    table.write_bytes(stored)
    file.write_text(json.dumps(sealed(json.loads(content) | {"claim": "X9"})))
    with pytest.raises(RecordError, match="'X9', which this paperlib does not know"):
        claims.verdict(claims.read(folder))
    full = tmp_path / "file"
    full.write_text("")
    with pytest.raises(RecordError, match="could not be written"):
        claims.save(measured("C1"), full)


@pytest.mark.parametrize("met", [AttributeError, IndexError, TypeError, ValueError, pd.errors.UndefinedVariableError])
@pytest.mark.parametrize("where", ["judge", "note"])
def test_whatever_a_rule_meets_in_foreign_tables_is_one_sentence(measured, monkeypatch, met, where):
    def fails(self, tables):
        raise met("no\ncolumn")

    finding = measured("C1")
    monkeypatch.setattr(type(claims.CLAIMS["C1"]), where, fails)
    with pytest.raises(RecordError, match="the finding of C1 at the smoke preset has tables that its rule cannot read"):
        claims.qualified(finding)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("T9",), "'T9' is not one of T1, C1, T2"),
        (("f3B",), "'f3B' is not one of .*: did you mean F3b"),
        (("T1", "paper"), "'paper' is not one of smoke, desk: T1 needs no GPU and no data"),
        (("F2a", "papr"), "'papr' is not one of smoke, desk, paper"),
        (("O1a", "papr"), "'papr' is not one of smoke, desk, paper"),
        (("T1", "smoke", 0), "at least 1"),
        (("T1", "smoke", 2.0), "whole number"),
        (("T1", "smoke", True), "whole number"),
        (("T3", "smoke", 10**20), "seeds must be a whole number of at most 10,000, not 1000"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ConfigError, match=said):
        claims.measure(*arguments)


def test_the_default_is_what_does_not_train_with_five_seeds(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(claims, "measure", lambda name, preset, seeds: asked.append((name, preset, seeds)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.main(["measure", "--out", str(tmp_path)])
    assert asked == [("T1", "desk", None)]
    seeds = {name: claims.CLAIMS[name].seeds("desk") for name in EXPECTED}
    assert seeds == dict.fromkeys(EXPECTED, 5) | {"P3": 10, "F2b": 10}
    assert claims.CLAIMS["F2b"].seeds("smoke") == claims.CLAIMS["F2a"].seeds("smoke") == 2
    with pytest.raises(SystemExit):
        command.main(["measure", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "default: all that need no training" in told and "; of these, train networks: P3, F2a, F2b" in told


def test_the_command(tmp_path, capsys, monkeypatch):
    words = "measure C1 P2 --preset smoke --seeds 2 --out".split()
    assert command.main([*words, str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "C1: reproduced  (" in told and "P2: reproduced  (" in told
    assert [f.claim for f in claims.read_all(tmp_path)] == ["C1", "P2"]
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    assert command.main(["measure", "T3", "--preset", "smoke", "--seeds", "1"]) == 0
    assert (tmp_path / "runs" / "claims" / "T3" / "smoke" / "finding.json").exists()
    capsys.readouterr()
    assert command.main(["measure", "T1", "T9", "--preset", "smoke"]) == 1
    assert "error: claim 'T9'" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "claims" / "T1").exists()  # refused before anything was measured
    # A preset that one of them does not have, too.
    assert command.main(["measure", "C1", "F2a", "--preset", "paper"]) == 1
    assert "C1 needs no GPU and no data" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "channel_grid").exists()
    assert command.main(["measure", "T3", "--seeds", "0"]) == 1


@pytest.mark.parametrize("words", [["measure", "T3", "--preset", "smoke"], ["evidence", "T3"]])
def test_a_place_that_is_no_folder_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys, words):
    from paperlib import __main__ as command

    monkeypatch.setattr(claims, "measure", lambda *_: pytest.fail("it was measured"))
    (tmp_path / "file").write_text("")
    assert command.main([*words, "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'file'} is a file: name a folder with --out\n"
