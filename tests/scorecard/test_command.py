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


def test_a_root_without_findings_is_refused(tmp_path, capsys):
    for root in (tmp_path / "nowhere", tmp_path):
        assert command.main(["scorecard", "--root", str(root)]) == 1
        printed = capsys.readouterr()
        assert printed.err.startswith(f"error: there are no findings in {root}: name a folder that has claims/")
        assert printed.out == "" and [*tmp_path.iterdir()] == []


def test_nothing_is_printed_where_it_cannot_be_written(tmp_path, capsys):
    assert command.main(["scorecard", "--json", str(tmp_path / "a" / "b.json")]) == 1
    printed = capsys.readouterr()
    assert f"there is no folder {tmp_path / 'a'}" in printed.err
    assert printed.out == "" and not (tmp_path / "a").exists()


def test_a_folder_of_a_finding_that_has_none_is_not_passed_over(measured, tmp_path, capsys):
    claims.save(measured("C1"), tmp_path)
    (tmp_path / "claims" / "T1" / "desk" / "finding.json").mkdir(parents=True)
    assert command.main(["scorecard", "--root", str(tmp_path)]) == 1
    assert "there is no file finding.json in" in capsys.readouterr().err


def test_a_table_that_lacks_a_column_is_one_sentence(measured, tmp_path, capsys):
    frames = {name: table.drop(columns="measured", errors="ignore") for name, table in measured("C1").frames.items()}
    claims.save(measured("C1").model_copy(update={"frames": frames}), tmp_path)
    assert command.main(["scorecard", "--root", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: the finding of C1 at the smoke preset has") and err.count("\n") == 1
    assert "'measured'" in err and "measure the claim again" in err
