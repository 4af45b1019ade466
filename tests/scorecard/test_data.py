"""The scorecard as data: which finding counts, what a smaller size may say, and what is committed."""

import json

import pytest

from paperlib import claims, scorecard
from paperlib.claims import CLAIMS
from paperlib.claims.cards import CARDS
from paperlib.claims.claim import UNTESTED, Former
from paperlib.claims.finding import place
from paperlib.errors import RecordError
from paperlib.store import results_root


def row(root, name):
    return next(row for row in scorecard.build(root).rows if row.claim == name)


def at(finding, preset, **changes):
    return finding.model_copy(update={"preset": preset} | changes)


def test_the_committed_scorecard_is_what_the_committed_findings_yield():
    stored = (results_root() / scorecard.FILE).read_text(encoding="utf-8")
    assert stored == scorecard.build(results_root()).json_text(), "renew it: paperlib scorecard"
    assert scorecard.read(results_root() / scorecard.FILE).json_text() == stored


def test_a_row_shows_what_its_rule_compares():
    rows = {row.claim: row for row in scorecard.read(results_root() / scorecard.FILE).rows}
    shown = {name: " | ".join(f"{n.name}: {n.text}" for n in row.evidence[0].compared)
             for name, row in rows.items() if row.evidence}  # fmt: skip
    assert all(shown.values()) and not any("processes" in text for text in shown.values())
    assert "after the best number of passes, the worst shape (8 → 8, 3×3): 0.928 (worst of n = 5 seeds)" in shown["P1"]
    assert shown["O1b"].count("median") == 2 == shown["O1b"].count("(n = 3 rounds)")
    assert "rate 0.1: 7 of 10, 2 of them with c > 4 (n = 5)" in shown["P3"] and "(n = 10)" in shown["P3"]
    assert shown["F2a"].startswith("cells nearer to 1 held than free: 14 of 25 (n = 5 each)")
    assert {name for name, row in rows.items() if row.after} == {"P3", "F2a", "F2b", "F3d", "S0"}
    assert {row.evidence[0].remark for name, row in rows.items() if name in ("T2", "P1")} == {
        "only for targets with a positive determinant",
        "exact before the crop; after it four of the nine kinds of shape stay off for up to 1,000 passes",
    }  # fmt: skip


def test_every_claim_has_a_row_and_without_data_it_says_so(tmp_path):
    card = scorecard.build(tmp_path)
    assert {r.claim for r in card.rows} == {*CLAIMS}
    assert {r.verdict for r in card.rows} == {UNTESTED}
    assert all(r.evidence == [] and r.rule and r.changes and r.cost for r in card.rows)


def test_a_row_tells_what_was_measured_and_where(measured, tmp_path):
    finding = measured("C1")
    claims.save(finding, tmp_path)
    found = row(tmp_path, "C1")
    (evidence,) = found.evidence
    assert found.verdict == "reproduced" == evidence.outcome and evidence.decides
    assert {n.name: n.mean for n in evidence.numbers} == {name: q.mean for name, q in finding.quantities.items()}
    assert [tuple(shown.model_dump().values()) for shown in evidence.compared] == claims.details(finding).compared
    assert evidence.numbers[0].n == evidence.n == 2
    assert (tmp_path / evidence.record).is_file()
    assert evidence.commit == finding.provenance.short_commit and evidence.device == finding.provenance.device.name
    assert evidence.command == finding.provenance.command


@pytest.mark.parametrize("preset", ["smoke", "desk"])
def test_a_smaller_size_never_decides_a_claim_about_training(measured, tmp_path, monkeypatch, preset):
    monkeypatch.setattr(type(CLAIMS["P3"]), "judge", lambda self, tables: "reproduced")
    claims.save(at(measured("P3"), preset), tmp_path)
    found = row(tmp_path, "P3")
    assert found.verdict == UNTESTED and not found.evidence[0].decides
    assert found.evidence[0].outcome == "reproduced"
    claims.save(at(measured("P3"), "paper"), tmp_path)
    found = row(tmp_path, "P3")
    assert found.verdict == "reproduced" and [e.preset for e in found.evidence] == ["paper", preset]


def test_what_the_rule_cannot_decide_is_not_tested(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(type(CLAIMS["P3"]), "judge", lambda self, tables: "undecided")
    monkeypatch.setattr(type(CLAIMS["P3"]), "missing", lambda self, tables: "there is no cell")
    claims.save(at(measured("P3"), "paper"), tmp_path)
    found = row(tmp_path, "P3")
    assert found.verdict == UNTESTED and found.evidence[0].said == "undecided: there is no cell"


def test_what_would_change_a_verdict_is_not_what_is_on_record(measured, tmp_path, monkeypatch):
    card = CARDS["C1"]
    claims.save(measured("C1"), tmp_path)
    assert row(tmp_path, "C1").changes == card.refutes
    monkeypatch.setattr(type(CLAIMS["C1"]), "judge", lambda self, tables: "not reproduced")
    assert row(tmp_path, "C1").changes == card.confirms
    monkeypatch.setattr(type(CLAIMS["C1"]), "judge", lambda self, tables: "undecided")
    assert card.confirms in (changes := row(tmp_path, "C1").changes) and card.refutes in changes
    monkeypatch.setattr(type(CLAIMS["C1"]), "remark", lambda self, tables: "too far")
    assert "only “not reproduced” can follow: too far." in row(tmp_path, "C1").changes


def test_former_rules_stay_in_view(measured, tmp_path, monkeypatch):
    former = Former("2026-01-01", "any number", "reproduced", "it could not say no")
    monkeypatch.setattr(type(CLAIMS["C1"]), "former", (former,))
    then = claims.Ruling(digest="0" * 64, sentence="some number", outcome="not reproduced")
    claims.save(measured("C1").model_copy(update={"rule": then}), tmp_path)
    found = row(tmp_path, "C1")
    assert [tuple(rule.model_dump().values()) for rule in found.former] == [former]
    assert found.evidence[0].rule_then.outcome == "not reproduced"


def test_numbers_that_are_not_finite_are_none(measured, tmp_path):
    odd = {"loss": claims.Quantity(mean=float("inf"), sd=float("nan"), n=3)}
    claims.save(measured("C1").model_copy(update={"quantities": odd}), tmp_path)
    number = json.loads(scorecard.build(tmp_path).json_text())["rows"][1]["evidence"][0]["numbers"][0]
    assert (number["mean"], number["sd"]) == (None, None)


def test_the_json_is_the_same_each_time_and_is_read_back(measured, tmp_path):
    claims.save(measured("C1"), tmp_path)
    card, path = scorecard.build(tmp_path), tmp_path / "there" / "scorecard.json"
    with pytest.raises(RecordError, match="there is no folder .*there"):
        scorecard.write(card, path)
    path.parent.mkdir()
    scorecard.write(card, path)
    first = path.read_bytes()
    scorecard.write(scorecard.build(tmp_path), path)
    assert path.read_bytes() == first
    assert scorecard.read(path) == card
    assert [*json.loads(first)] == sorted(json.loads(first))
    assert [p.name for p in path.parent.iterdir()] == ["scorecard.json"]


def test_what_is_wrong_is_said(measured, tmp_path):
    path = tmp_path / "scorecard.json"
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        scorecard.read(path)
    path.write_text('{"rows": []}')
    with pytest.raises(RecordError, match="make it again with paperlib scorecard"):
        scorecard.read(path)
    with pytest.raises(RecordError, match="could not be written"):
        scorecard.write(scorecard.build(tmp_path), path / "below")
    claims.save(measured("C1").model_copy(update={"claim": "X9"}), tmp_path)
    with pytest.raises(RecordError, match="a finding about 'X9', which is no claim here: move it out of"):
        scorecard.build(tmp_path)
    assert place(tmp_path, "X9", "smoke").exists()
