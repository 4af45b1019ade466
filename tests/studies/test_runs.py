"""Chapter 4's tables: how a run was made, how far its blocks are from keeping the norm, several runs at a glance."""

import math

import pandas as pd
import pytest
import tiny

from paperlib import records
from paperlib.config import RunConfig
from paperlib.records import Divergence
from paperlib.store import results_root
from paperlib.studies import runs


@pytest.fixture
def record():
    return tiny.record()


def test_overview(record):
    table = runs.overview([record, record])
    assert list(table["test error %"]) == [0.33, 0.33] and list(table.network) == ["resnet-20"] * 2


def test_every_session_of_a_run_is_told(record):
    """What differs between sessions is listed, what does not is said once."""
    first = record.provenance.last
    first.commit, first.dirty = "a" * 40, True
    told = runs.provenance(record)[""]
    assert told["wall time"].endswith("in 1 session") and told["commit"] == "a" * 40 + " with uncommitted changes"
    changes = [{"dirty": False}, {"commit": "b" * 40, "dirty": False, "threads": 77}, {}]
    record.provenance.sessions += [first.model_copy(update=change) for change in changes]
    told = runs.provenance(record)[""]
    assert told["wall time"].endswith("in 4 sessions")
    assert told["commit"] == f"{'a' * 40} with uncommitted changes; {'a' * 40}; {'b' * 40}"
    assert told["device"].count(";") == 1 and "77 CPU threads" in told["device"]
    record.provenance.sessions = [first.model_copy(update={"threads": 1})]
    assert runs.provenance(record)[""]["device"].endswith(", 1 CPU thread")
    assert ";" not in told["versions"]


def test_norm_preservation_of_a_run(record):
    table = runs.norm_preservation(record)
    assert table[["epoch", "kind", "blocks"]].values.tolist() == [[1, "transition", 1]]
    assert table.smallest[0] == table.largest[0] == pytest.approx(1.10517, abs=1e-5)
    assert table.distance[0] == pytest.approx(0.1)
    record.frames["blocks"] = pd.DataFrame()
    assert runs.norm_preservation(record).empty


def test_blocks_close_to_one_are_counted_in_the_last_epoch(record):
    kinds = ["transition", "residual", "residual", "transition"]
    ratios = {1: [1.0, 1.0, 1.0, 1.0], 2: [1e-6, 1.25, 1.26, 0.9]}
    rows = [
        {"epoch": epoch, "block": i, "name": kind, "kind": kind, "log_ratio": math.log(ratio)}
        for epoch, values in ratios.items()
        for i, (kind, ratio) in enumerate(zip(kinds, values, strict=True), 1)
    ]
    record.frames["blocks"] = pd.DataFrame(rows)
    (row,) = runs.close([record]).to_dict("records")
    assert [row[name] for name in ("blocks", "close", "transitions", "close transitions")] == [2, 1, 2, 1]
    assert row["first transition"] == pytest.approx(1e-6)
    assert row["lowest test error"] == pytest.approx(1 / 3) and row["run"] == record.label
    assert runs.close([record], factor=2).close[0] == 2
    record.frames["blocks"] = pd.DataFrame()
    assert runs.close([record]).empty


def watched(network="resnet", first=1.0, **config):
    """A record of depth 164 with three blocks in one epoch."""
    made = tiny.record()
    made.config = RunConfig(**{"preset": "smoke", "arch": network, "precision": "float32"} | config).resolve()
    ratios = [("transition", first), ("residual", 1.2), ("residual", 0.5)]
    rows = [
        {"epoch": 1, "block": i, "name": kind, "kind": kind, "log_ratio": math.log(ratio)}
        for i, (kind, ratio) in enumerate(ratios, 1)
    ]
    made.frames["blocks"] = pd.DataFrame(rows)
    return made


def test_the_runs_of_a_network_have_one_row():
    table = runs.by_network([watched(), watched(first=3.0, seed=1), watched("plain", first=1e-6)])
    assert table.network.tolist() == ["resnet-164", "plain-164"] and table.n.tolist() == [2, 1]
    assert table.close.tolist() == ["1 of 2"] * 2 and table["close transitions"].tolist() == ["0 to 1 of 1", "0 of 1"]
    assert table["first transition"].tolist() == ["1 to 3", "1e-06"]
    assert runs.by_network([]).empty


def test_the_finding_is_that_of_the_three_networks():
    three = [watched(), watched("procresnet"), watched("plain"), watched("plain", precision="bfloat16")]
    said = runs.found(runs.by_network(three))
    assert said.startswith("> **Found.** In networks of depth 164")
    assert "if they have skips: 1 of 2 in ResNet-164 and 1 of 2 in ProcResNet-166 (n = 1)." in said
    assert "Of the transitions 1 of 1 do so in ResNet-164, and 1 of 1 in ProcResNet-166" in said
    assert "its lowest test error is 0.3 % on 50 images" in said
    assert "no runs of depth 164" in runs.found(runs.by_network(three[:2])) and "\n" not in said


def test_the_blocks_of_a_run_that_diverged_are_counted_where_it_stopped():
    stopped = watched("plain")
    stopped.status, stopped.divergence = "diverged", Divergence(epoch=2, step=1, what="loss", block="stage1_block2")
    assert runs.by_network([stopped, watched("plain", seed=1)]).counted.tolist() == [
        "in epoch 2, when the loss stops being finite; after 2 epochs"
    ]


def test_what_vanished_is_told_of_the_chain_that_the_way_back_takes():
    chain = watched("plain", first=1e-6, preset="desk", depth=164)
    chain.frames["blocks"].loc[1:, "log_ratio"] = [10 * math.log(10), 6 * math.log(10)]
    said = runs.vanished([watched(), chain])
    assert "its norm is $10^{-16}$ of what it was" in said and "to $10^{-10}$ (in float32, last epoch" in said
    assert runs.vanished([watched(), watched("plain")]) == ""


def test_how_runs_ended_is_told_with_the_networks_as_they_are_called():
    assert runs.ended([watched("plain")]) == "In float32: Plain-164 finished its 2 epochs."


def test_the_last_ratios_are_told():
    said = runs.last_ratios(watched(first=3.0))
    assert said.startswith("Of the ratios of ResNet-164 in epoch 1, ") and "transitions lie between 3 and 3." in said
    assert "those of the blocks of constant width lie between 0.5 and 1.2" in said
    made = watched()
    made.frames["blocks"] = pd.DataFrame()
    assert runs.last_ratios(made) == ""


def test_the_way_back_multiplies_the_ratios_from_the_loss_on(record):
    config = RunConfig(preset="desk", arch="resnet", depth=164, device="cpu").resolve()
    blocks = pd.DataFrame({"epoch": [1, 2, 2, 2], "block": [1, 1, 2, 3], "kind": "residual"})
    blocks["log_ratio"] = [9.0, *(math.log(10) * x for x in (1.0, -2.0, 3.0))]
    taken = record.model_copy(update={"config": config, "frames": record.frames | {"blocks": blocks}})
    other = taken.model_copy(update={"config": config.model_copy(update={"seed": 1})})
    back = runs.way_back([record, taken, other])
    assert back.block.tolist() == [3, 2, 1] and set(back.run) == {"ResNet-164"} and set(back.arch) == {"resnet"}
    assert back.log_norm.tolist() == pytest.approx([-3, -1, -2])


def test_at_the_start_a_plain_network_s_gradient_grows_and_after_training_it_has_vanished():
    """What the introduction and chapter 1 say in words of Plain-164, on record."""
    on_record = records.read_all(results_root())
    start = runs.at_the_start(on_record)
    assert len(start) and (start < 0).mean() > 0.9  # output over input: below 1 the gradient grows on its way back
    back = runs.way_back(on_record)
    assert back[back.arch == "plain"].log_norm.min() < -10
    furthest = 10 ** back[back.arch != "plain"].log_norm.abs().max()
    assert 10 < furthest < 25  # "little more than an order of magnitude", in the caption of the introduction's figure
    assert runs.at_the_start([]).empty
