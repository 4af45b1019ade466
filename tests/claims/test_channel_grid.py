"""The rules of Figure 2 and equation 7, on tables made for them: yes, no, what lies between, and too little to say."""

import itertools
import math

import pandas as pd
import pytest
from verdicts import check_the_threshold

from paperlib import claims
from paperlib.channel_grid import GridConfig, read, run
from paperlib.claims import CLAIMS
from paperlib.claims import channel_grid as module
from paperlib.store import results_root
from paperlib.studies import channel_grid as studies

CHANNELS = (2, 4, 8, 16, 32)
CELLS = list(itertools.product(CHANNELS, repeat=2))
YES, CORRECTED, NO, UNDECIDED = "reproduced", "reproduced with a correction", "not reproduced", "undecided"


def ratios(end=1.0, free=2.4, few=3.0, start=1.0, cells=CELLS, runs=5, steps=100):
    """A grid in which the paper's claim holds: few channels with d > c are off, but nearer to 1 than the free layer."""
    rows = []
    for (c, d), seed in itertools.product(cells, range(runs)):
        off = 0.05 * (seed - (runs - 1) / 2)
        held = few / 2 if d > c and c <= 4 else 1.0
        for variant, (a, b) in {
            "conv-relu": (start, end * held),
            "free": (free, free),
            "free-he-fan-in": (1, 1),
        }.items():
            rows += [(c, d, variant, seed, 0, math.log(a) + off), (c, d, variant, seed, steps, math.log(b) + off)]
    return {"ratios": pd.DataFrame(rows, columns=["c", "d", "variant", "seed", "step", "log_ratio"])}


def energy(end=1.0, start=1.0, cells=CELLS, runs=5, steps=100):
    rows = [
        (rate, c, d, seed, step, share * (1 + 0.1 * (seed - (runs - 1) / 2)), 1.0, d / 3)
        for rate in (0.01, 0.1)
        for (c, d), seed, (step, share) in itertools.product(cells, range(runs), ((0, start), (steps, end)))
        if d > c
    ]
    return {
        "energy": pd.DataFrame(rows, columns=["rate", "c", "d", "seed", "step", "share", "white", "effective_rank"])
    }


def change(tables, value, **where):
    """Put another number into some rows of the one table."""
    (table,) = tables.values()
    chosen = pd.Series(True, table.index)
    for name, one in where.items():
        chosen &= table[name].isin(one if isinstance(one, list) else [one])
    assert chosen.any()
    table.loc[chosen, "share" if "share" in table else "log_ratio"] = value
    return tables


# -- Figure 2 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["F2a", "F2b"])
@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (ratios(), YES),
        (ratios(few=2.0), YES),
        (ratios(end=1.24, few=2.0), YES),
        (ratios(end=1 / 1.24, few=2.0), YES),
        (ratios(end=1.26, few=2.0), CORRECTED),  # the mean decides, whatever the scatter
        (ratios(end=1 / 1.26, few=2.0), CORRECTED),
        (ratios(free=1.0), NO),  # no nearer than without
        (ratios(end=3.0), NO),
        (ratios(end=3.0, start=1.0), NO),  # what holds before the first step is no excuse
        (ratios(start=3.0), YES),
    ],
)
def test_figure_2(name, tables, expected):
    assert CLAIMS[name].judge(tables) == expected


def test_the_cells_that_fail_are_named():
    claim, tables = CLAIMS["F2b"], ratios(few=9.0)
    assert claim.failures(tables["ratios"]) == []  # the exceptions are not asked
    change(tables, 1.0, c=32, d=2, variant="conv-relu", step=100)
    change(tables, -1.0, c=8, d=32, variant="conv-relu", step=100)
    assert claim.failures(tables["ratios"]) == [(8, 32), (32, 2)]
    assert not claim.nearer(tables["ratios"])[32, 2]


def test_one_cell_that_is_off_is_enough_against_the_first_part():
    for c, d in ((2, 2), (8, 2), (8, 32), (32, 32)):
        tables = change(ratios(), 0.5, c=c, d=d, variant="conv-relu", step=100)
        assert CLAIMS["F2a"].judge(tables) == CORRECTED


def test_the_second_part_asks_nine_tenths_of_all_cells():
    """Of 25 cells two may be farther from 1 than the free layer, and not three; the exceptions count here."""
    tables = change(ratios(), 2.0, c=2, d=[4, 8], variant="conv-relu", step=100)
    assert CLAIMS["F2a"].judge(tables) == YES
    assert CLAIMS["F2a"].judge(change(tables, 2.0, c=2, d=16, variant="conv-relu", step=100)) == NO


def test_dead_runs_count_against_it_when_they_are_most():
    tables = change(ratios(), math.inf, c=32, d=2, variant="conv-relu", seed=[0, 1])
    assert CLAIMS["F2a"].judge(tables) == YES
    change(tables, math.nan, c=32, d=2, variant="conv-relu", seed=2)
    assert CLAIMS["F2a"].failures(tables["ratios"]) == [(32, 2)]
    change(tables, math.inf, c=32, d=2, variant="conv-relu")
    assert CLAIMS["F2a"].failures(tables["ratios"]) == [(32, 2)]
    # Without a projection all have died: ours are nearer than that, unless they have, too.
    change(tables, math.inf, c=[2, 32], d=2, variant="free")
    nearer = CLAIMS["F2a"].nearer(tables["ratios"])
    assert nearer[2, 2] and not nearer[32, 2]


# -- equation 7 --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (energy(), YES),
        (energy(end=1.24), YES),
        (energy(end=1.26), NO),
        (energy(end=0.79), NO),
        (energy(start=2.0), YES),
        (energy(end=2.0), NO),  # what holds before the first step is no excuse
        (change(energy(), 2.0, c=4, d=32, rate=0.1), CORRECTED),
        (change(energy(), 2.0, c=[2, 4]), CORRECTED),
        (change(energy(), 2.0, c=8, d=32, rate=0.1), NO),
        (change(energy(), 2.0, c=8, d=32, rate=0.01, step=0), YES),
    ],
)
def test_equation_7(tables, expected):
    assert CLAIMS["P3"].judge(tables) == expected


def test_the_cells_that_fail_equation_7_are_named_by_rate():
    tables = change(energy(), 2.0, c=16, d=32, rate=0.1)
    assert CLAIMS["P3"].failures(tables["energy"]) == {0.01: [], 0.1: [(16, 32)]}


def test_dead_runs_count_against_equation_7_when_they_are_most():
    tables = change(energy(), math.nan, c=16, d=32, seed=[0, 1])
    assert CLAIMS["P3"].judge(tables) == YES
    assert CLAIMS["P3"].judge(change(tables, math.nan, c=16, d=32, seed=2)) == NO
    assert CLAIMS["P3"].judge(change(tables, math.nan, c=16, d=32)) == NO


# -- both --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tables", "missing"),
    [
        (ratios(cells=CELLS[:4]), "it needs 25 cells (there are 4)"),
        (ratios(runs=4), "it needs 5 runs of each (there are 4)"),
        (ratios(steps=99), "it needs 100 steps (there are 99)"),
        (
            {"ratios": ratios()["ratios"][:0]},
            "it needs 25 cells (there are 0), 5 runs of each (there are 0), 100 steps (there are 0)",
        ),
        ({"ratios": ratios()["ratios"].query("variant != 'free' or c != 2")}, "it needs 25 cells (there are 20)"),
        ({"ratios": ratios()["ratios"].query("variant != 'free' or seed")}, "it needs 5 runs of each (there are 4)"),
        (energy(runs=4), "at the rate 0.1 it needs 5 runs of each (there are 4); at the rate 0.01 it needs 5 runs "),
        ({"energy": energy()["energy"].query("rate < 0.1")}, "at the rate 0.1 it needs 10 cells (there are 0), 5 runs"),
        (
            {"energy": energy()["energy"].query("rate < 0.1 or c != 8")},
            "at the rate 0.1 it needs 10 cells (there are 8",
        ),
    ],
)
def test_tables_that_are_too_small_decide_nothing(tables, missing):
    for name in ("F2a", "F2b") if "ratios" in tables else ("P3",):
        assert CLAIMS[name].judge(tables) == UNDECIDED
        assert CLAIMS[name].missing(tables).startswith(missing)


def test_larger_grids_are_judged_with_all_their_cells():
    larger = [*CELLS, (64, 64), (8, 64)]
    for name, tables in (("F2a", ratios(cells=larger)), ("P3", energy(cells=larger))):
        assert CLAIMS[name].judge(tables) == YES and CLAIMS[name].missing(tables) == ""
        (table,) = tables.values()
        where = {"variant": "conv-relu"} if name == "F2a" else {}
        assert CLAIMS[name].judge(change(tables, math.log(9), c=8, d=64, **where)) == (CORRECTED if where else NO)


@pytest.mark.parametrize(
    ("name", "constant", "value", "written", "tables", "outcome"),
    [
        ("F2a", "SMALL", 1, "c ≤ 1 the", ratios(), CORRECTED),
        ("F2a", "NEAR", 2.0, "a factor 2.0 of", ratios(end=1.6, few=2.0), YES),
        ("F2a", "MOST", 0.5, "at least 50 % of", change(ratios(), 2.0, c=[2, 4], variant="conv-relu"), CORRECTED),
        ("F2b", "RUNS", 6, "channels, 6 runs", ratios(), UNDECIDED),
        ("F2b", "STEPS", 200, "and 200 steps", ratios(), UNDECIDED),
        ("F2b", "CHANNELS", (2, 64), "of 2, 64 channels", ratios(), UNDECIDED),
        ("P3", "NEAR", 2.5, "a factor 2.5 of", energy(end=2.0), YES),
        ("P3", "SMALL", 8, "c ≤ 8.", change(energy(), 2.0, c=8), CORRECTED),
        ("P3", "RUNS", 6, "channels, 6 runs", energy(), UNDECIDED),
    ],
)
def test_each_threshold_is_in_the_rule_and_decides(name, constant, value, written, tables, outcome):
    check_the_threshold(name, constant, value, written, tables, outcome)


def test_the_rate_is_part_of_the_rule():
    assert "at the rate 0.1," in CLAIMS["F2a"].rule and "at the rate 0.01," in CLAIMS["F2b"].rule
    assert CLAIMS["F2a"].digest() != CLAIMS["F2b"].digest()


def test_the_quantities_are_one_value_per_seed():
    found = CLAIMS["F2a"].quantities(ratios(end=1.2, few=2.0)) | CLAIMS["P3"].quantities(energy(end=2.0))
    assert all(list(values.index) == [0, 1, 2, 3, 4] for values in found.values())
    assert found["single runs, median factor from 1, projected, at the end"][2] == pytest.approx(1.2)
    assert found["single runs, median factor from 1, not projected, at the end"][2] == pytest.approx(2.4)
    for rate in ("0.1", "0.01"):
        assert found[f"share over c/d, rate {rate}, at the end"][2] == pytest.approx(2.0)
        assert found[f"share over c/d, rate {rate}, at the start"][2] == pytest.approx(1.0)


def test_the_rules_that_they_had_before_stay_in_view():
    """What each said is what the first registered rule and the loosened one say of the committed grids."""
    for name in ("P3", "F2a", "F2b"):
        first, loosened = CLAIMS[name].former
        assert (first.until, loosened.until) == ("2026-11-26", "2026-11-27")
        assert first.outcome.startswith(f"{NO} (desk grid") and loosened.outcome.startswith(f"{CORRECTED} (desk grid")
        assert "1.25" in first.sentence and "interval" not in first.sentence and "interval" in loosened.sentence


@pytest.mark.parametrize("folder", ["desk", "desk-b4f34ff4"])
def test_the_first_registered_rules_say_no_of_the_committed_grids(folder):
    """Before the first step as well as after the last, so that there was no correction either."""
    table = read(results_root() / "channel_grid" / folder).measurements
    for step in (table.step.min(), table.step.max()):
        cells = studies.ratios(table, step).query("variant == 'conv-relu' and not (d > c and c <= 4)")
        assert not cells.ratio.between(1 / 1.25, 1.25).all()
        shares = studies.energy_shares(table).query("step == @step").groupby(["c", "d"]).share.mean()
        assert not shares.between(1 / 1.25, 1.25).all()


def test_the_committed_grids_are_read_and_not_trained(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    monkeypatch.setattr("paperlib.channel_grid.work._run", lambda *a: pytest.fail("a grid is trained"))
    for name, count in (("F2a", 5), ("F2b", 10), ("P3", 10)):
        finding = claims.measure(name, preset="desk")
        assert finding.seeds == list(range(count)) and claims.outcome(finding) != UNDECIDED
    assert finding.frames["energy"].groupby("rate").seed.nunique().to_dict() == {0.01: 10, 0.1: 5}


@pytest.mark.parametrize("rate", module.RATES)
def test_the_paper_s_grids_have_what_the_rules_ask_for(rate):
    claim, grid = CLAIMS["F2a"], module._config(rate, "paper").resolve()
    assert set(grid.in_channels) == set(grid.out_channels) == set(claim.CHANNELS)
    assert grid.seeds >= claim.RUNS and max(grid.stages) >= claim.STEPS and grid.lr == rate
    assert set(grid.variants) == {"conv-relu", "free"}


def test_only_the_papers_scale_decides(tmp_path, monkeypatch):
    """And a finding says where its grid was made, not where it was read."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    made = run(GridConfig(preset="smoke", seeds=1), quiet=True)
    made.provenance.last.started = "2026-01-01T00:00:00+00:00"
    made.save(made.folder)
    finding = claims.measure("F2b", preset="smoke", seeds=1)
    assert finding.provenance.started == "2026-01-01T00:00:00+00:00"
    assert [s.model_dump() for s in finding.provenance.sessions] == [s.model_dump() for s in made.provenance.sessions]
    assert finding.provenance.command == "python -m paperlib measure F2b --preset smoke --seeds 1"
    assert claims.verdict(finding) == claims.UNTESTED == "not yet tested at the paper's scale"
    paper = finding.model_copy(update={"preset": "paper"})
    assert claims.verdict(paper) == claims.outcome(finding)
    assert claims.overview([finding]).verdict.unique().tolist() == [claims.UNTESTED]
    assert f"F2b  {claims.UNTESTED} (at the smoke preset: undecided: it needs 25 cells" in claims.report([finding])
