"""The rules of Figure 3 and of the ratios before the first update say yes, no, and that there is too little."""

import math

import pandas as pd
import pytest
import synthetic_runs as made
import tiny

from paperlib import mean_field
from paperlib.claims import CLAIMS
from paperlib.config import RunConfig

YES, PARTLY, NO = "reproduced", "reproduced with a correction", "not reproduced"


def medians(dev, archs=made.ARCHS, depths=made.DEPTHS, epochs=range(1, 4), seeds=made.SEEDS, mean_log=0.0):
    """``medians`` and ``endings`` of a grid, where ``dev(arch, depth, epoch)`` is the median dev of both kinds."""
    rows = [
        made.run(a, d, s)
        | {"epoch": e, "residual": dev(a, d, e) * made.JITTER[s], "all": dev(a, d, e) * made.JITTER[s]}
        | {"mean_log": mean_log}
        for a in archs
        for d in depths
        for s in seeds
        for e in epochs
    ]
    return {"medians": pd.DataFrame(rows), "endings": made.endings(archs, depths, seeds)}


@pytest.mark.parametrize(
    ("start", "factor", "epoch", "expected"),
    [(0.4, 2.1, 10, YES), (0.6, 2.1, 10, PARTLY), (0.4, 1.9, 10, NO), (0.4, 2.1, 11, NO)],
)
def test_f3a(start, factor, epoch, expected):
    def dev(arch, depth, e):
        return start * (factor if e == epoch else 1)

    tables = medians(dev, ["plain"], epochs=range(13))
    made.check("F3a", tables, expected)
    made.check_small("F3a", tables)


def test_f3a_needs_the_ratios_before_the_first_update():
    tables = medians(lambda a, d, e: 1.0, ["plain"])
    made.check("F3a", tables, "undecided")
    assert "plain-20 before its first update" in CLAIMS["F3a"].missing(tables)


@pytest.mark.parametrize(("plain", "skip", "expected"), [(1, -1, YES), (-1, -1, PARTLY), (1, 1, NO), (0, 0, NO)])
def test_f3b(plain, skip, expected):
    tables = medians(lambda a, d, e: d ** (plain if a == "plain" else skip))
    made.check("F3b", tables, expected)
    if expected != NO:
        made.check_small("F3b", tables)


def unstable(epoch=10, worst="transition", others=1.2, lowest=90.0, precision="float32"):
    """Tables for F3c: the seeds' epochs of divergence, 0 if it finished."""
    rows, runs = [], []
    for seed in made.SEEDS:
        runs.append(made.ending("plain", 83, seed, precision=precision))
        end = made.diverged(epoch) if epoch else {"test_error": 90.0}
        runs.append(made.ending("plain", 164, seed, precision=precision) | end | {"lowest_test_error": lowest})
        for depth, level in ((83, 1.0), (164, others)):
            for block in range(1, 8):
                far = block == 1 and depth == 164
                kind = worst if far else "residual"
                facts = {"block": block, "name": f"b{block}", "kind": kind, "log_ratio": -9.0 if far else level}
                rows += [made.run("plain", depth, seed, precision) | {"epoch": e} | facts for e in (1, 2)]
                # Later epochs of Plain-83 are not compared.
                if depth == 83:
                    rows.append(made.run("plain", depth, seed, precision) | {"epoch": 90} | facts | {"log_ratio": 0.0})
    return {"endings": pd.DataFrame(runs), "ratios": pd.DataFrame(rows)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, YES),
        ({"worst": "residual"}, PARTLY),
        ({"others": 1.3}, PARTLY),
        ({"epoch": 1}, PARTLY),
        ({"epoch": 21}, PARTLY),
        ({"epoch": 0}, PARTLY),  # it is stuck
        ({"epoch": 0, "lowest": 79.0}, NO),
        ({"precision": "bfloat16"}, "undecided"),
    ],
)
def test_f3c(changes, expected):
    tables = unstable(**changes)
    made.check("F3c", tables, expected)
    if not changes:
        made.check_small("F3c", tables)


def test_f3c_shows_bfloat16_apart():
    told = CLAIMS["F3c"].quantities(unstable(precision="bfloat16"))
    assert told["share of Plain-164's runs that are not finite (bfloat16)"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("resnet", "ours", "expected"), [(1.2, 0.5, YES), (1 / 1.2, 0.5, YES), (1.3, 0.5, NO), (1.2, 1.1, NO)]
)
def test_f3d(resnet, ours, expected):
    level = {"plain": 1.0, "resnet": resnet, "procresnet": ours}
    tables = medians(lambda a, d, e: level[a], depths=[20])
    made.check("F3d", tables, expected)
    if expected == YES:
        made.check_small("F3d", tables)


def blocks(arch, first=1.0, next_one=0.4, residual=0.9, late=None):
    rows = []
    for depth in made.DEPTHS:
        for seed in made.SEEDS:
            for i, dev in enumerate((first, next_one, next_one, residual), 1):
                kind = "residual" if i == 4 else "transition"
                dev *= made.JITTER[seed]
                ends = {"epochs": 100, "dev": dev, "early": dev, "late": dev if late is None else late * dev}
                name = f"transition{i}" if kind == "transition" else "stage1_block2"
                rows.append(made.run(arch, depth, seed) | {"block": i, "name": name, "kind": kind} | ends)
    return {"blocks": pd.DataFrame(rows), "endings": made.endings([arch])}


@pytest.mark.parametrize(
    ("changes", "expected"), [({}, YES), ({"next_one": 0.6}, NO), ({"residual": 1.1}, NO), ({"first": 0.1}, NO)]
)
def test_f3e(changes, expected):
    tables = blocks("procresnet", **changes)
    made.check("F3e", tables, expected)
    if expected == YES:
        made.check_small("F3e", tables)


def test_f3f():
    tables = blocks("resnet", late=0.8)
    made.check("F3f", tables, YES)
    made.check_small("F3f", tables)
    made.check("F3f", blocks("resnet", late=1.0), NO)
    spoilt = blocks("resnet", late=0.8)
    of_one = (spoilt["blocks"].depth == 83) & (spoilt["blocks"].block == 2)
    spoilt["blocks"].loc[of_one, "late"] = 1.0
    made.check("F3f", spoilt, NO)


def test_f3f_treats_a_run_that_diverged_as_one_that_did_not_change():
    tables = blocks("resnet", late=0.99)
    made.check("F3f", tables, NO)  # 1 % in a spread of 1 %
    tables = blocks("resnet", late=0.5)
    runs = tables["endings"]
    runs.loc[(runs.depth == 20) & (runs.seed > 0), ["status", "epochs"]] = "diverged", 5
    made.check("F3f", tables, NO)


def test_f3f_needs_twenty_epochs():
    tables = blocks("resnet", late=0.8)
    tables["endings"]["epochs"] = 19
    made.check("F3f", tables, "undecided")


def test_f3g():
    tables = medians(lambda a, d, e: 1.0, mean_log=0.2)
    made.check("F3g", tables, YES)
    made.check_small("F3g", tables)
    table = tables["medians"]
    table.loc[table.index[-1], "mean_log"] = -0.23  # ln 1.25 is 0.223
    made.check("F3g", tables, NO)
    table.loc[table.index[-1], "mean_log"] = math.nan
    made.check("F3g", tables, NO)
    # Runs that diverged do not count, but one of each network must have finished.
    runs = tables["endings"]
    runs.loc[(runs.network == "procresnet-166") & (runs.seed == 2), "status"] = "diverged"
    made.check("F3g", tables, YES)
    runs.loc[runs.arch == "plain", "status"] = "diverged"
    made.check("F3g", tables, "undecided")


def beginning(off=0.02, plain=0.6, seeds=made.SEEDS):
    rows = []
    for network in CLAIMS["S0"].NETWORKS:
        arch, depth = network.split("-")[0], int(network.split("-")[1])
        depth -= 2 * (arch == "procresnet")
        predicted = math.log(mean_field.PLAIN) if arch == "plain" else -0.1
        here = math.log(plain) if arch == "plain" else predicted - off
        facts = {"epoch": 0, "kind": "residual", "log_ratio": here, "prediction": predicted}
        rows += [made.run(arch, depth, s) | {"block": b, "name": f"b{b}"} | facts for s in seeds for b in (1, 2, 3)]
    return {"initial": pd.DataFrame(rows), "endings": made.endings(depths=CLAIMS["S0"].DEPTHS, seeds=seeds)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, YES), ({"off": 0.04}, NO), ({"off": -0.04}, NO), ({"plain": 0.66}, NO), ({"seeds": (0, 1)}, "undecided")],
)
def test_s0(changes, expected):
    made.check("S0", beginning(**changes), expected)


def test_s0_looks_at_the_blocks_whose_gradient_is_finite():
    tables = beginning()
    table = tables["initial"]
    table.loc[(table.network == "plain-1001") & (table.block < 3), "log_ratio"] = math.nan
    made.check("S0", tables, YES)
    table.loc[table.network == "plain-1001", "log_ratio"] = math.nan
    made.check("S0", tables, "undecided")
    assert CLAIMS["S0"].missing(tables) == "in float32 there is no plain-1001 with 3 seeds"


def test_s0_needs_no_long_training():
    """Nothing is trained before the first update: the desk preset decides it, unlike the claims about training."""
    s0, trained = CLAIMS["S0"], CLAIMS["F3a"]
    assert [s0.elsewhere(preset, "cpu") for preset in ("smoke", "desk", "paper")] == ["at the smoke preset", "", ""]
    assert trained.elsewhere("desk", "cpu") == "at the desk preset"


def test_s0_takes_runs_of_any_length(tmp_path, monkeypatch):
    """What comes after the first update is nothing to it; how many images are measured is."""
    s0, trained = CLAIMS["S0"], CLAIMS["F3a"]
    short, other = ({"preset": "smoke", "arch": "plain", "schedule": "constant"} | p for p in ({}, {"seed": 1}))
    short |= {"epochs": 1, "test_images": 10}
    other |= {"train_images": 140}
    runs = [RunConfig(**parameters, device="cpu", depth=20).resolve() for parameters in (short, other)]
    assert [s0.counts(run, "smoke") for run in runs] == [True, False]
    assert not any(trained.counts(run, "smoke") for run in runs)
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    one = tiny.record()
    one.frames["epochs"] = one.epochs[:1]
    data = one.data.model_copy(update={"test_images": 10})
    one = tiny.fitted(one.model_copy(update={"config": runs[0], "epoch_seconds": [0.7], "data": data}))
    one.save(runs[0].folder(tmp_path))
    assert [r.config.epochs for r in s0.stored("smoke")] == [1] and trained.stored("smoke") == []


def test_s0_counts_the_seeds_of_a_network_in_all_its_schedules():
    tables = beginning()
    runs = tables["endings"]
    tables["endings"] = pd.concat([runs, runs[runs.seed == 0].assign(schedule="steps")], ignore_index=True)
    assert CLAIMS["S0"].smallest(tables) == len(made.SEEDS)
    assert CLAIMS["S0"].smallest(beginning(seeds=(0, 1))) is None
