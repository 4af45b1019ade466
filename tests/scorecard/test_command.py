"""``paperlib scorecard``: what it prints and what it writes."""

from paperlib import __main__ as command
from paperlib import claims, scorecard
from paperlib.store import results_root


def test_it_prints_the_scorecard_and_writes_it(measured, tmp_path, capsys):
    claims.save(measured("C1"), tmp_path)
    assert command.main(["scorecard", "--root", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "one is reproduced" in told and "C1   reproduced: δ of a two-layer block" in told
    assert f"written to {tmp_path / 'scorecard.json'}" in told
    assert scorecard.read(tmp_path / "scorecard.json") == scorecard.build(tmp_path)


def test_another_file_may_be_named(tmp_path, capsys):
    before = (results_root() / scorecard.FILE).read_bytes()
    assert command.main(["scorecard", "--json", str(tmp_path / "a.json")]) == 0
    assert scorecard.read(tmp_path / "a.json") == scorecard.build(results_root())
    assert (results_root() / scorecard.FILE).read_bytes() == before
    assert "written to" in capsys.readouterr().out


def test_a_damaged_finding_is_one_sentence_and_a_status(measured, tmp_path, capsys):
    folder = claims.save(measured("C1"), tmp_path)
    (folder / "finding.json").write_text("{")
    assert command.main(["scorecard", "--root", str(tmp_path)]) == 1
    assert "is not a readable finding" in capsys.readouterr().err
    assert not (tmp_path / "scorecard.json").exists()
