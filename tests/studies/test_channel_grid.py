"""The channel grid summed up: means of logarithms, dead runs, factors that multiply, and predictions."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from paperlib import cifar
from paperlib.channel_grid import MIDDLE_VARIANTS, VARIANTS, Cell, GridConfig, run, train_cell
from paperlib.energy import relative_sd
from paperlib.studies import channel_grid as studies


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    config = GridConfig(preset="smoke", in_channels="2 4", out_channels="2 8", seeds=3, stages="0 2")
    return run(config, root=tmp_path_factory.mktemp("grid"), quiet=True).measurements


def made(logs, **more):
    rows = {"variant": "conv-relu", "c": 2, "d": 4, "seed": range(len(logs)), "step": 5, "log_ratio": logs} | more
    return pd.DataFrame(rows)


def test_ratios_are_geometric_means_of_the_living():
    cell = studies.ratios(made([math.log(2), math.log(0.5), math.inf, math.nan])).iloc[0]
    assert cell.ratio == pytest.approx(1)
    assert cell.spread == pytest.approx(math.exp(math.sqrt(2) * math.log(2)))
    assert (cell.alive, cell.dead) == (2, 2)
    cell = studies.ratios(made([math.inf, math.inf])).iloc[0]
    assert math.isnan(cell.ratio) and (cell.alive, cell.dead) == (0, 2)
    assert studies.ratios(made([0.1])).spread.isna().all()


def test_ratios_take_one_stage(table):
    for step, expected in ((None, 2), (0, 0), (2, 2)):
        found = studies.ratios(table, step)
        assert len(found) == 4 * len(MIDDLE_VARIANTS)
        part = table[(table.step == expected) & (table.variant == "free") & (table.c == 4) & (table.d == 8)]
        cell = found[(found.variant == "free") & (found.c == 4) & (found.d == 8)].iloc[0]
        assert math.log(cell.ratio) == pytest.approx(part.log_ratio.mean())


def test_ratios_at_every_stage(table):
    found = studies.courses(table, batch_size=25, images=100)
    assert found.groupby("step").epoch.unique().map(list).to_dict() == {0: [0.0], 2: [0.5]}
    for step in (0, 2):
        alone = studies.ratios(table, step)
        assert found[found.step == step].ratio.tolist() == alone.ratio.tolist()


def test_held_against_free():
    """Dead runs are left out of a ratio, and the cell is not whole."""
    free, held = ([math.log(r) for r in ratios] for ratios in ((4.0, 1.0), (0.25, 0.25)))
    rows = [made(free, variant="free"), made(held)]
    rows += [made([math.log(1.5), math.inf], d=8, variant="free"), made([math.log(3)] * 2, d=8)]
    found = studies.compare(pd.concat(rows))
    assert found.loc[(2, 4)].tolist() == pytest.approx([2, 0.25, 2, 4, False, True])
    assert found.loc[(2, 8)].tolist() == pytest.approx([1.5, 3, 1.5, 3, False, False])
    assert found.nearer.dtype == found.whole.dtype == bool


def test_ratios_by_cell_and_their_distances_from_1(table):
    for step in (0, 2):
        expected = studies.ratios(table, step).query("variant == 'free'").set_index(["c", "d"]).ratio
        pd.testing.assert_series_equal(studies.by_cell(table, "free", step), expected)
    pd.testing.assert_series_equal(studies.by_cell(table, "free"), expected)
    found = studies.from_one(studies.by_cell(pd.concat([made([-1.0, -3.0]), made([math.inf], d=8)]), "conv-relu"))
    assert found[2, 4] == pytest.approx(math.exp(2)) and math.isnan(found[2, 8])


def test_a_small_grid_beside_the_same_networks_of_a_larger_one(table):
    small = table.query("c == 2 and variant == 'conv' and seed < 2 and step == 2")
    found = studies.beside(table.query("variant == 'free'"), small)
    assert found.variant.tolist() == ["free"] * 4 + ["conv"] * 4
    keys = ["c", "d", "seed", "step"]
    assert found[:4][keys].values.tolist() == sorted(found[4:][keys].values.tolist())
    same = table.query("variant == 'free' and c == 2 and d == 8 and seed == 1 and step == 2").log_ratio.item()
    assert found[:4].query("d == 8 and seed == 1").log_ratio.item() == same


def test_distances():
    cells = [
        made([math.log(r)] * 2, d=d, step=s)
        for r, d, s in ((2, 4, 0), (0.5, 8, 0), (4, 16, 0), (1.1, 4, 9), (1, 8, 9), (1, 16, 9))
    ]
    cells.append(made([math.inf] * 2, d=32, step=9))
    found = studies.distances(pd.concat(cells)).set_index("step")
    assert found.distance.to_dict() == pytest.approx({0: 2.0, 9: math.sqrt(1.1)})  # of 1.1, 1, 1, inf
    assert found.dead.to_dict() == pytest.approx({0: 0, 9: 0.25})


@pytest.mark.parametrize("variant", ["conv-relu", "conv", "published"])
def test_factors_multiply_to_the_ratio(table, variant):
    found = studies.factors(table, variant).pivot(index=["c", "d"], columns="assumption", values="ratio")
    assert list(found.columns) == ["ReLU", "crop and border", "row space"]
    ratio = studies.ratios(table).query("variant == @variant").set_index(["c", "d"]).ratio
    for (c, d), row in found.iterrows():
        # What σ itself makes of the assumed energies.
        own = math.sqrt(2 * d / min(c, d)) / VARIANTS[variant].sigma(c, d)
        assert row.prod() * own == pytest.approx(ratio[c, d], rel=1e-9)
        assert (c < d) or row["row space"] == pytest.approx(1)


def test_factors_need_a_sigma(table):
    with pytest.raises(ValueError, match="'free' is not projected"):
        studies.factors(table, "free")
    assert studies.factors(table, "conv", step=1).empty  # not measured


def test_dead_runs_stay_in_the_energy_table_without_a_share(table):
    broken = table.copy()
    row = broken[(broken.variant == "conv-relu") & (broken.d == 8)].index[0]
    broken.loc[row, ["log_ratio", "energy_fraction", "effective_rank", "white_fraction"]] = [
        math.inf,
        math.nan,
        math.nan,
        math.nan,
    ]
    found = studies.energy_shares(broken)
    assert len(found) == len(studies.energy_shares(table))
    assert found.share.isna().sum() == found.correlated.isna().sum() == 1


def test_energy_takes_the_cells_that_lose_something(table):
    found = studies.energy_shares(table)
    assert sorted(set(zip(found.c, found.d, strict=True))) == [(2, 8), (4, 8)]
    row = found.iloc[0]
    source = table[(table.variant == "conv-relu") & (table.c == row.c) & (table.d == row.d)]
    source = source[(source.seed == row.seed) & (source.step == row.step)].iloc[0]
    assert row.share == pytest.approx(source.energy_fraction * row.d / row.c)
    assert row.white == pytest.approx(1, rel=0.05)
    assert row.correlated == pytest.approx(relative_sd(8, int(row.c), source.effective_rank))
    assert 0.005 < row["small space"] < 0.03


def test_the_small_space_prediction_is_what_uncorrelated_gradients_do():
    """One image's white gradient in a row space of c·n² of d·n² dimensions: Monte Carlo against the formula."""
    from paperlib.energy import energy_fraction

    c, d, n = 2, 6, 8
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(d, c, 3, 3, generator=generator)
    shares = energy_fraction(kernel, torch.randn(4000, d, n, n, generator=generator)) * d / c
    assert shares.std().item() == pytest.approx(relative_sd(d * n * n, c * n * n), rel=0.05)


def test_the_correlated_prediction_is_what_untrained_networks_do():
    """The row space's share in 30 networks at their start varies as the effective rank of their gradients says."""
    cell = Cell(c=2, d=8, seeds=range(30), stages=[0], probe_images=32)
    found = train_cell(cell, cifar.load("cifar10", "sample"))
    shares = found.energy_fraction * 4
    predicted = np.mean([relative_sd(8, 2, m) for m in found.effective_rank])
    assert shares.std() == pytest.approx(predicted, rel=0.35)
    # Not 1 quite: which units are active, and what the network says, depends on the kernel.
    assert 0.9 < shares.mean() < 1.4


def test_a_grid_without_these_cells_gives_empty_tables(table):
    free = table[table.variant == "free"]
    assert list(studies.factors(free, "conv-relu").columns) == ["assumption", "c", "d", "ratio"]
    assert studies.factors(free, "conv-relu").empty and studies.energy_shares(free).empty
    none = studies.energy_shares(table[table.c >= table.d])
    assert none.empty and studies.misfit(none).empty and studies.energy_summary(none, 0).empty
    assert list(studies.misfit(none)) == ["step", "correlated", "small space"]
    assert set(studies.distances(free).variant) == {"free"}


def shares(rows):
    return pd.DataFrame(rows, columns=["c", "d", "seed", "step", "share", "correlated", "small space"]).assign(
        white=1.0, effective_rank=2.0
    )


def test_energy_summary_and_misfit():
    table = shares(
        [
            (2, 4, 0, 0, 1.3, 0.3, 0.01),
            (2, 4, 1, 0, 0.7, 0.3, 0.01),
            (2, 8, 0, 0, 1.0, 0.3, 0.01),
            (2, 4, 0, 9, 4.0, 0.3, 0.1),
        ]
    )
    first = studies.energy_summary(table, 0).iloc[0]
    assert (first.c, first.d, first.share) == (2, 4, pytest.approx(1.0))
    assert first.sd == pytest.approx(0.3 * math.sqrt(2)) and first.correlated == pytest.approx(0.3)
    found = studies.misfit(table).set_index("step")
    assert found.correlated.to_dict() == pytest.approx({0: math.sqrt(2 / 3), 9: 10})
    assert found["small space"].to_dict() == pytest.approx({0: 30 * math.sqrt(2 / 3), 9: 30})


def test_energy_means(table):
    shares = studies.energy_shares(table)
    found = studies.energy_means(shares)
    assert list(found.columns) == [(what, step) for what in ("share", "fresh", "white") for step in (0, 2)]
    part = shares[(shares.c == 2) & (shares.d == 8) & (shares.step == 2)]
    assert found.loc[(2, 8), ("fresh", 2)] == pytest.approx(part.fresh.mean())
    assert studies.energy_shares(table.drop(columns="fresh_fraction")).fresh.isna().all()


def test_activity_is_that_of_the_living_at_the_end(table):
    found = studies.activity({"here": table}).set_index("variant")
    last = table[(table.step == 2) & (table.variant == "free")]
    assert found.loc["free", "active"] == pytest.approx(last.active.mean())
    assert found.loc["free", "dead"] == 0
    broken = table.copy()
    broken.loc[last.index[:3], "log_ratio"] = math.inf
    found = studies.activity({"here": broken}).set_index("variant")
    assert found.loc["free", "dead"] == pytest.approx(3 / len(last))
    assert found.loc["free", "relu_share"] == pytest.approx(last.relu_share[3:].mean())


def test_all_alive_leaves_out_a_cell_with_one_dead_run_of_any_variant():
    rows = [
        {"variant": v, "c": c, "d": 4, "seed": s, "step": step, "log_ratio": 0.1}
        for v in ("free", "conv-relu") for c in (2, 8) for s in range(2) for step in (0, 9)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    assert studies.all_alive(table).tolist() == [(2, 4), (8, 4)]
    one = (table.variant == "free") & (table.c == 8) & (table.seed == 1) & (table.step == 9)
    table.loc[one, "log_ratio"] = math.inf
    assert studies.all_alive(table).tolist() == [(2, 4)]
    assert studies.all_alive(table, step=0).tolist() == [(2, 4), (8, 4)]


def test_ratios_over_rates_are_those_of_each_grid_and_stage():
    one = pd.DataFrame({"variant": "free", "c": 2, "d": 4, "step": [0, 9], "log_ratio": [0.0, 1.0]})
    found = studies.over_rates({0.1: one, 0.01: one.assign(log_ratio=[2.0, math.inf])})
    assert list(found.columns[:3]) == ["lr", "step", "variant"]
    assert found[["lr", "step"]].values.tolist() == [[0.1, 0], [0.1, 9], [0.01, 0], [0.01, 9]]
    assert found.ratio[:3].tolist() == pytest.approx([1.0, math.e, math.e**2])
    assert found[["alive", "dead"]].iloc[3].tolist() == [0, 1]
