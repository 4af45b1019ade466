"""Section 4's tables: which records count, and what is taken from them."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny

from paperlib import mean_field, paper
from paperlib.config import RunConfig
from paperlib.errors import RecordError
from paperlib.records import Divergence
from paperlib.store import results_root
from paperlib.studies import section4, sentences


def record(blocks=None, initial=None, curve=None, **parameters):
    """A record made by hand, of the smoke preset unless told otherwise."""
    made = tiny.record()
    made.config = RunConfig(**{"preset": "smoke", "depth": 20, "precision": "float32"} | parameters).resolve()
    frames = {"blocks": blocks, "initial": initial, "epochs": curve}
    made.frames |= {name: frame for name, frame in frames.items() if frame is not None}
    return made


@pytest.mark.parametrize(
    "varied",
    [
        {},
        {"schedule": "constant"},
        {"precision": "bfloat16", "memory_format": "contiguous", "threads": 1},
        {"arch": "procresnet", "project_every": 8, "seed": 7},
        {"arch": "procresnet", "projector": "published", "erase_relu": True},
        {"preset": "paper", "schedule": "constant"},
        {"preset": "paper", "dataset": "cifar100", "depth": 1001},
        {"preset": "desk", "precision": "bfloat16"},
    ],
)
def test_what_the_grid_varies_is_standard(varied):
    one = record(**varied)
    preset = varied.get("preset", "smoke")
    assert section4.standard(one.config, preset)
    assert not section4.standard(one.config, "desk" if preset != "desk" else "paper")


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 1},
        {"lr": 0.05},
        {"batch_size": 64},
        {"augment": False},
        {"train_images": 100},
        {"arch": "procresnet", "hold_at": 0.5},
    ],
)
def test_what_overrides_the_preset_is_not(changed):
    assert not section4.standard(record(**changed).config, "smoke")


def test_a_run_on_another_kind_of_device_is_standard():
    one = record(preset="paper")
    one.config = one.config.model_copy(update={"device": "cuda"})
    assert section4.standard(one.config, "paper")


def test_each_run_is_found_once_the_committed_one_first(tmp_path):
    for root, error in (("results", 10.0), ("runs", 20.0)):
        one = record()
        one.frames["epochs"] = one.epochs.assign(test_error=error)
        tiny.fitted(one).save(one.config.folder(tmp_path / root))
    other = record(seed=1)
    tiny.fitted(other).save(other.config.folder(tmp_path / "runs"))
    cut = record(seed=2, lr=0.05)
    tiny.fitted(cut).save(cut.config.folder(tmp_path / "runs"))
    found = section4.stored("smoke", [tmp_path / "results", tmp_path / "runs", tmp_path / "none"])
    assert [(r.config.seed, r.final["test_error"]) for r in found] == [(0, 10.0), (1, 1 / 3)]
    assert section4.stored("desk", [tmp_path]) == []


BLOCKS = pd.DataFrame(
    {
        "epoch": [1, 1, 1, 2, 2, 2],
        "block": [1, 2, 3] * 2,
        "name": ["a", "b", "c"] * 2,
        "kind": ["transition", "residual", "residual"] * 2,
        "log_ratio": [-2.0, 0.1, -0.3, 1.0, 0.2, math.nan],
    }
)
INITIAL = BLOCKS[:3].drop(columns="epoch").assign(variance=[1.0, 2.0, 4.0])


def test_ratios_begin_before_the_first_update():
    table = section4.ratios([record(BLOCKS, INITIAL), record(BLOCKS, seed=1), record(BLOCKS, INITIAL, arch="plain")])
    assert list(table)[:5] == section4.RUN and len(table) == 9 + 6 + 9
    start = table[table.epoch == 0]
    theory = [math.nan, math.log(mean_field.ratio(2.0)), math.log(mean_field.ratio(4.0))]
    np.testing.assert_allclose(start[start.arch == "resnet"].prediction, theory)
    np.testing.assert_allclose(start[start.arch == "plain"].prediction, [math.nan] + [math.log(mean_field.PLAIN)] * 2)
    assert table[table.epoch > 0].prediction.isna().all()


def test_the_theory_is_that_of_three_relus():
    table = section4.ratios([record(BLOCKS, INITIAL, erase_relu=True)])
    assert table.prediction.isna().all()


def test_medians_and_blocks():
    table = section4.ratios([record(BLOCKS, INITIAL)])
    medians = section4.medians(table)
    assert medians.epoch.tolist() == [0, 1, 2]
    assert medians.residual.tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert medians["all"].tolist() == pytest.approx([0.3, 0.3, 0.6])
    assert medians.mean_log.tolist() == pytest.approx([-2.2 / 3, -2.2 / 3, 0.6])
    blocks = section4.by_block(table, window=1)
    assert blocks.dev.tolist() == pytest.approx([1.5, 0.15, 0.3])  # before the first update does not count
    assert blocks[["epochs", "early", "late"]].values[0].tolist() == [2, 2.0, 1.0]
    assert section4.by_block(table).early.isna().all()  # two epochs have no ten


def test_a_run_that_was_not_watched_has_no_ratios():
    table = section4.ratios([record(pd.DataFrame())])
    assert table.empty and section4.medians(table).empty and section4.by_block(table).empty


def test_curves_gaps_and_endings():
    epochs = tiny.record().epochs.assign(clean_train_error=[58.0, 0.25])
    one, other = record(curve=epochs), record(seed=1, precision="bfloat16")
    other.status = "diverged"
    other.divergence = Divergence(epoch=2, step=1, what="loss", block="stage1_block1")
    curves = section4.curves([one, other])
    assert len(curves) == 4
    assert curves.clean_train_error.isna().tolist() == [False, False, True, True]
    gaps = section4.gaps(curves)
    assert len(gaps) == 4
    clean = gaps[(gaps.training == "clean") & (gaps.seed == 0)].iloc[0]
    assert (clean["mean"], clean.largest) == pytest.approx(((-8 + 1 / 3 - 0.25) / 2, 1 / 3 - 0.25))
    assert gaps[(gaps.training == "clean") & (gaps.seed == 1)]["mean"].isna().all()
    ends = section4.endings([one, other]).set_index("seed")
    assert ends.network.tolist() == ["resnet-20"] * 2 and ends.precision.tolist() == ["float32", "bfloat16"]
    assert (ends.test_error[0], ends.divergence_epoch[1], ends.divergence_block[1]) == (1 / 3, 2, "stage1_block1")
    assert math.isnan(ends.test_error[1]) and math.isnan(ends.divergence_epoch[0])


def test_sizes_are_those_of_table_2():
    sizes = section4.sizes().set_index(["depth", "erase_relu", "classes"])
    assert (sizes.loc[(1001, False, 10)] / 1e6).tolist() == pytest.approx([10.32, 10.33], abs=0.01)


def test_the_main_grid_is_in_order():
    constant = {"schedule": "constant"}
    runs = [
        record(arch="procresnet", **constant), record(seed=1, **constant), record(**constant),
        record(), record(erase_relu=True, **constant), record(depth=29, **constant),
        record(arch="procresnet", project_every=4, **constant),
    ]  # fmt: skip
    found = [(r.network, r.config.seed) for r in section4.main_grid(runs)]
    assert found == [("resnet-20", 0), ("resnet-20", 1), ("procresnet-22", 0)]
    assert [r.network for r in section4.main_grid(runs, "steps")] == ["resnet-20"]


def test_the_usual_precision_is_the_most_frequent():
    half, full = record(precision="bfloat16"), record()
    assert section4.usual_precision([half, half, full]) == "bfloat16"
    assert section4.usual_precision([half, full]) == "float32"
    assert section4.usual_precision([]) == ""


def test_first_seeds_are_one_run_a_network():
    table = section4.ratios([record(BLOCKS, seed=3), record(BLOCKS, seed=2), record(BLOCKS, arch="plain", seed=5)])
    assert section4.first_seeds(table).groupby("network").seed.unique().map(list).to_dict() == {
        "plain-20": [5], "resnet-20": [2],
    }  # fmt: skip
    assert section4.first_seeds(table.iloc[:0]).empty


def failures():
    """One run that learnt, one that diverged, one that is stuck at guessing."""
    learnt, gone, stuck = record(), record(seed=1), record(seed=2, arch="plain")
    gone.status, gone.divergence = "diverged", Divergence(epoch=2, step=1, what="loss", block="a")
    stuck.frames["epochs"] = stuck.epochs.assign(test_error=[90.0, 85.0])
    return [learnt, gone, stuck]


def test_failed_runs_count_as_guessing_and_are_told():
    table = section4.final_errors(failures())
    assert table.test_error.tolist() == [pytest.approx(1 / 3), 90.0, 85.0]
    assert table.stuck.tolist() == [False, False, True]
    summed = section4.summed_up(table, ["network"]).set_index("network")
    assert summed[["n", "diverged", "stuck"]].loc["resnet-20"].tolist() == [2, 1, 0]
    assert summed[["n", "diverged", "stuck"]].loc["plain-20"].tolist() == [1, 0, 1]
    assert math.isnan(summed.sd["plain-20"])
    assert section4.remarks(table) == {("resnet", 20): "diverged in epoch 2", ("plain", 20): "did not learn"}
    empty = section4.final_errors([])
    assert section4.summed_up(empty, ["network"]).empty and section4.remarks(empty) == {}


def test_errors_beside_the_printed_ones():
    table = section4.final_errors(failures())
    printed = {"resnet-20": {"cifar10": 5.0, "cifar100": 20.0}, "plain-20": {"cifar10": math.nan}}
    found = section4.beside(table, printed)
    assert found.here.tolist() == ["45.2 ± 63.4 (n = 2)", "", "85.0 (n = 1)"]
    assert found.failed.tolist() == [1, 0, 1]
    assert section4.beside(section4.final_errors([]), printed).here.tolist() == ["", "", ""]


def test_table_1_has_both_gaps_beside_the_paper_s():
    epochs = tiny.record().epochs.assign(clean_train_error=[58.0, 0.25], train_error=[40.0, 0.0])
    table = section4.table_1([record(curve=epochs), record(curve=epochs, seed=1), record(arch="plain", depth=29)])
    row = table.set_index("network").loc["resnet-20"]
    assert (row.n, row["mean paper"], row["largest paper"]) == (2, 5.5, 23.1)
    assert (row["mean running"], row["largest running"]) == ("5.2 ± 0.0", "10.0 ± 0.0")
    assert row["mean clean"] == "-4.0 ± 0.0"
    other = table.set_index("network").loc["plain-29"]
    assert math.isnan(other["mean paper"]) and other["mean clean"] == ""
    assert section4.table_1([]).empty


def test_table_1_counts_the_runs_that_have_a_gap():
    nothing = tiny.record().epochs.assign(test_error=math.nan)
    (row,) = section4.table_1([record(), record(seed=1), record(curve=nothing, seed=2)]).itertuples()
    assert row.n == 2


def test_table_1_has_the_paper_s_order():
    runs = [
        record(arch=arch, depth=depth, schedule="constant")
        for arch in ("procresnet", "plain", "resnet")
        for depth in (164, 20, 83)
    ]
    found = section4.table_1(runs).network.tolist()
    assert [name for name in found if name in paper.TABLE_I] == list(paper.TABLE_I)
    assert found.index("plain-164") == found.index("resnet-164") - 1


def test_errors_and_their_fluctuation_stand_by_depth():
    errors = pd.DataFrame(
        {"arch": arch, "depth": depth, "test_error": error}
        for arch, depth, error in (
            ("resnet", 164, 60.0),
            ("resnet", 20, 50.0),
            ("resnet", 20, 52.0),
            ("plain", 20, 90.0),
        )
    )
    fluctuation = pd.DataFrame({"arch": "resnet", "depth": 20, "sd": [1.0, 2.0]})
    table = section4.by_depth(errors, fluctuation)
    assert list(table.index) == ["Plain", "ResNet"] and [depth for _, depth in table.columns] == [20, 164, 20]
    assert table.loc["ResNet"].tolist() == ["51.0 ± 1.4", "60.0", "1.5"]
    assert table.loc["Plain"].tolist() == ["90.0", "", ""]
    assert section4.by_depth(errors.iloc[:0], pd.DataFrame()).empty


def test_how_long_trainings_are_is_said_in_words():
    def made(epochs, images):
        return record(epochs=epochs, train_images=images, source="npm", preset="desk")

    assert section4.trained_on([made(25, 1200)]) == "25 epochs of 1,200 images"
    several = [made(8, 2500), made(6, 22900), made(6, 3500), made(6, 3500)]
    assert section4.trained_on(several) == "6 epochs of 3,500 or 22,900 images, or 8 epochs of 2,500 images"
    with pytest.raises(RecordError, match="there is no training of which to say how long it is"):
        section4.trained_on([])


def test_a_run_that_two_machines_made_is_shown_twice_and_said():
    table = section4.repeated(section4.everything([results_root()]), "paper")
    assert table.network.tolist() == ["resnet-20"] * 2 and table.device.nunique() == 2
    assert table.set_index("device").dev.to_dict() == pytest.approx({"NVIDIA H200": 0.317, "AMD EPYC": 0.263}, abs=5e-4)
    said = sentences.made_again(table)
    assert "ResNet-20 with seed 0 was trained on 2 kinds of machine" in said
    assert "1.37 on NVIDIA H200" in said and "1.30 on AMD EPYC" in said
    assert sentences.made_again(table.assign(device="one")) == "" == sentences.made_again(table[:0])
