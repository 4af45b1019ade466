"""Chapter 5's findings in words: they say what the tables say, and what is missing."""

import math

import pandas as pd
import pytest
import section4_tables as tables
import tiny

from paperlib.config import RunConfig
from paperlib.studies import beginning, explanation, sentences


def record(seconds=3600.0, **parameters):
    made = tiny.record()
    made.config = RunConfig(**{"preset": "smoke", "depth": 20, "precision": "float32"} | parameters).resolve()
    made.provenance.last.seconds = seconds
    return made


def test_what_is_missing_has_its_command():
    said = sentences.missing("Plain-20", "desk", arch="plain", project=False)
    assert "no record of Plain-20 at the desk preset" in said and "make paper PRESET=desk" in said
    assert "`python -m paperlib run -p preset desk -p arch plain -p project false`" in said


def test_what_was_made_says_preset_precision_seeds_and_command():
    runs = [record(arch="procresnet", project=False), record(seed=1), record(seed=2)]
    said = sentences.made(runs)
    assert "Preset smoke: 2 epochs of 300 training images, 100 test images" in said
    assert "float32" in said and "n = 1 to 2" in said and "make paper PRESET=smoke" in said
    assert "-p arch procresnet -p depth 20 -p seed 0 -p precision float32 -p project false`" in said
    assert sentences.seeds(runs[1:]) == "n = 2" and sentences.seeds([]) == ""


@pytest.mark.parametrize(
    ("values", "said"), [([3, 2, 1], "falls"), ([1, 2, 3], "rises"), ([1, 1], "neither"), ([1, 2, 1], "neither")]
)
def test_a_trend_is_said_only_where_it_is_one(values, said):
    assert sentences.trend(values).startswith(said)


def test_norms_say_how_the_distance_goes_with_depth():
    table = tables.ratios()
    table["log_ratio"] *= table.depth.map({20: 3.0, 83: 2.0, 164: 1.0}).where(table.arch == "resnet", 1.0)
    said = sentences.norms(table)
    assert f"in ResNet it falls ({math.exp(0.3):.2f} at depth 20, {math.exp(0.2):.2f} at depth 83" in said
    assert "in Plain it neither falls nor rises" in said
    assert "transition" in sentences.norms(table, "transition")
    assert sentences.norms(table[table.depth == 20]).count("depth 20") == 3
    assert "as a factor (n = 2): in Plain" in said
    assert "cannot be said yet" in sentences.norms(table.iloc[:0])


def test_epoch_0_is_no_training():
    table = tables.ratios()
    table.loc[table.epoch == 0, "log_ratio"] = 9.0
    assert sentences.norms(table) == sentences.norms(tables.ratios())


def test_first_transitions_are_those_of_the_first_block():
    table = tables.ratios(archs=("plain",), depths=(20, 164))
    table.loc[(table.block == 1) & (table.depth == 164), "log_ratio"] = math.log(0.001)
    said = sentences.first_transitions(table)
    assert (
        "0.9 in plain-20, 0.001 in plain-164" in said and "It is the block farthest from 1 in plain-20, plain" in said
    )
    table.loc[table.block == 2, "log_ratio"] = -2.0
    assert sentences.first_transitions(table).endswith("It is the block farthest from 1 in plain-164.")
    table.loc[table.block == 2, "log_ratio"] = -9.0
    assert sentences.first_transitions(table).endswith("In none is it the farthest from 1.")


def test_the_theory_s_distance_is_in_per_cent():
    said = sentences.theory(beginning.accuracy(tables.beginnings(seeds=(0,))))
    # Measured 0.1, -0.1, -0.1 in log, predicted -0.2: the median distance is 0.1.
    assert f"is** (n = 1) {100 * math.expm1(0.1):.1f} % for a ResNet's blocks of constant width;" in said


def test_errors_have_spread_and_number():
    said = sentences.errors(tables.errors())
    assert "at depth 20 ResNet 52.0 ± 2.8 (n = 2)" in said
    assert "at depth 164 Plain 90.0 (n = 1)" in said
    once = sentences.errors(tables.errors().drop_duplicates("network"))
    assert "in per cent (n = 1): at depth 20 ResNet 50.0; at depth 83" in once and once.count("n =") == 1


def test_what_is_missing_is_named_where_other_records_exist():
    """An empty table of the nine networks is no sign of an empty folder of records."""
    said = [
        sentences.norms(tables.ratios().iloc[:0]),
        sentences.theory(beginning.accuracy(tables.beginnings().iloc[:0])),
        sentences.errors(tables.errors().iloc[:0]),
        sentences.association(explanation.correlations(explanation.deviations([]))),
        sentences.widths(pd.DataFrame()),
    ]
    assert all(sentences.GRID in text for text in said)
    assert "a Plain network's first block at a constant rate" in sentences.first_transitions(tables.ratios().iloc[:0])


def test_networks_that_did_not_learn_are_named():
    assert sentences.unlearnt(tables.errors()) == "Here this is so in runs of plain-164."
    assert sentences.unlearnt(tables.errors().query("network == 'resnet-20'")) == ""


def test_a_column_is_headed_by_its_size():
    assert sentences.size("smoke", [record(), record(seed=1)]) == "smoke, 2 epochs"
    assert sentences.size("smoke", []) == "smoke"


def moved(arch="resnet", late=0.5, epochs=20):
    """Ratios of a run whose first transition ends ``late`` from 1, and whose third block ends at 2.5."""
    table = tables.ratios(archs=(arch,), depths=(20,), seeds=(0,), epochs=epochs)
    table.loc[(table.epoch > 10) & (table.block == 1), "log_ratio"] = -late
    table.loc[(table.epoch > 10) & (table.block == 3), "log_ratio"] = math.log(2.5)
    return table


def test_a_run_at_the_paper_s_scale_is_set_against_the_paper():
    (said,) = sentences.at_full_scale(moved())
    assert said.startswith("**resnet-20, seed 0, in float32 (n = 1):** 1 of its 2 transitions end farther from 1")
    assert (
        "The paper says that a ResNet's transitions come nearer to 1." in said and "0.10 → 0.50, 0.10 → 0.10)" in said
    )
    assert "is stage1_block3, at 0.92, a factor of 2.5." in said
    assert "(n = 1):** all its 1 transitions end" in sentences.at_full_scale(moved().query("block == 1"))[0]
    assert "0 of its 2 transitions" in sentences.at_full_scale(moved(late=0.05))[0]
    assert "The paper says" not in sentences.at_full_scale(moved("plain"))[0]


def test_a_short_run_says_nothing_of_its_ends():
    assert sentences.at_full_scale(moved(epochs=19)) == [] == sentences.at_full_scale(tables.ratios().iloc[:0])


def test_the_association_is_said_with_n_and_p():
    row = {"runs": "all", "blocks": "transitions", "n": 9, "rho": 0.5, "p": 0.1234}
    said = sentences.association(pd.DataFrame([row, row | {"runs": "ResNet", "n": 4}]))
    assert "all (n = 9): +0.50 for the transitions (p = 0.12); ResNet (n = 4): +0.50" in said
    once = sentences.association(pd.DataFrame([row, row | {"runs": "ResNet"}]))
    assert "from 1** (n = 9), all: +0.50" in once and once.count("n = 9") == 1


def test_the_fluctuation_of_each_network():
    table = pd.DataFrame({"arch": ["resnet", "resnet", "plain"], "depth": 20, "sd": [1.0, 2.0, 3.0]})
    assert "Plain at depth 20 3.0; ResNet at depth 20 1.5." in sentences.widths(table)
