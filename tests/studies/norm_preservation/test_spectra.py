"""The table of spectra: what the record holds is what the study measures, by the command that it names."""

import pandas as pd
import pytest

from paperlib import __main__ as command
from paperlib.errors import RecordError
from paperlib.studies import norm_preservation as studies


def test_all_blocks_of_each_chain_are_there(tmp_path):
    found = studies.measure_spectra(depths=[2, 8], points=8)
    assert found.blocks.groupby(["schedule", "L"]).block.apply(list).to_dict() == {
        (schedule, L): list(range(1, L + 1)) for schedule in ("geometric", "uniform", "arc") for L in (2, 8)
    }
    found.save(studies.spectra_folder(tmp_path))
    assert studies.read_spectra(tmp_path) == found


@pytest.mark.parametrize("L", [2, 32])
def test_the_record_is_what_is_measured(L):
    """The committed numbers, to the last digits that another machine may change."""
    stored = studies.read_spectra()
    again = studies.block_spectra(studies.example_maps()[stored.map], L, points=stored.points)
    table = stored.blocks[stored.blocks.L == L].drop(columns="L").reset_index(drop=True)
    pd.testing.assert_frame_equal(table, again, rtol=1e-9)


def test_the_record_has_the_deltas_of_the_rates():
    """Two ways to the same number: the spectra's ends, and the study of the rates."""
    record = studies.read_spectra()
    table = record.blocks
    rates = studies.theorem1_rates({record.map: studies.example_maps()[record.map]}, [16], points=record.points)
    for row in rates.itertuples():
        part = table[(table.schedule == row.schedule) & (table.L == row.L)]
        assert max(part.highest.max() - 1, 1 - part.lowest.min()) == pytest.approx(row.delta, rel=1e-9)


def test_the_command_saves_it(tmp_path, monkeypatch, capsys):
    made = studies.measure_spectra(depths=[2], points=4)
    monkeypatch.setattr(studies, "measure_spectra", lambda: made)
    assert command.main(["spectra", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("6 blocks")
    words = studies.read_spectra(tmp_path).provenance.command.removeprefix("python -m paperlib ").split()
    assert command._parsed(words).command == "spectra"


def test_without_a_record_it_names_the_command(tmp_path):
    with pytest.raises(RecordError, match="there is no table of spectra"):
        studies.read_spectra(tmp_path)
