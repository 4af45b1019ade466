"""Section 4's tables: which records count, and what is taken from them."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny

from paperlib import mean_field
from paperlib.config import RunConfig
from paperlib.records import Divergence
from paperlib.studies import section4


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
        one.save(one.config.folder(tmp_path / root))
    other = record(seed=1)
    other.save(other.config.folder(tmp_path / "runs"))
    cut = record(seed=2, lr=0.05)
    cut.save(cut.config.folder(tmp_path / "runs"))
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
