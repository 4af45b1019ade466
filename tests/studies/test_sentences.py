"""Chapter 5's findings in words: they say what the tables say, and what is missing."""

import math

import pandas as pd
import pytest
import section4_tables as tables
import tiny
from synthetic_interventions import family
from synthetic_interventions import record as record_of

from paperlib.claims import CLAIMS
from paperlib.claims.section4.base import below
from paperlib.config import RunConfig
from paperlib.studies import beginning, explanation, interventions, sentences


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
    assert "Preset smoke: 2 epochs of 150 training images, 50 test images" in said
    assert "float32" in said and "n = 1 to 2" in said and "make paper PRESET=smoke" in said
    assert "-p arch procresnet -p depth 20 -p seed 0 -p precision float32 -p project false`" in said
    assert sentences.seeds(runs[1:]) == "n = 2" and sentences.seeds([]) == ""


def groups(*means, spread=0.1):
    return [pd.Series([mean - spread, mean, mean + spread]) for mean in means]


@pytest.mark.parametrize(
    ("values", "spread", "said"),
    [
        ((3, 2, 1), 0.1, "falls"),
        ((1, 2, 3), 0.1, "rises"),
        ((1, 2, 1), 0.1, "neither falls nor rises throughout"),
        ((1, 1), 0.1, "does not change beyond the scatter"),
        ((1, 2, 3), 4.0, "does not change beyond the scatter"),
        ((1, 2, 2.1), 0.2, "rises, though not in every step beyond the scatter"),
        ((2.1, 2, 1), 0.2, "falls, though not in every step beyond the scatter"),
    ],
)
def test_a_trend_is_said_only_where_it_is_one_beyond_the_scatter(values, spread, said):
    assert sentences.trend(groups(*values, spread=spread), below) == said


def test_norms_say_how_the_distance_goes_with_depth():
    table = tables.ratios()
    table["log_ratio"] *= table.depth.map({20: 3.0, 83: 2.0, 164: 1.0}).where(table.arch == "resnet", 1.0)
    said = sentences.norms(table, below)
    assert f"in ResNet it falls ({math.exp(0.3):.2f} at depth 20, {math.exp(0.2):.2f} at depth 83" in said
    assert "in Plain it does not change" in said
    assert "three transitions, so that this is the middle one" in sentences.norms(table, below, "transition")
    assert sentences.norms(table[table.depth == 20], below).count("depth 20") == 3
    assert "as a factor (n = 2): in Plain" in said
    assert "cannot be said yet" in sentences.norms(table.iloc[:0], below)


def test_epoch_0_is_no_training():
    table = tables.ratios()
    table.loc[table.epoch == 0, "log_ratio"] = 9.0
    assert sentences.norms(table, below) == sentences.norms(tables.ratios(), below)


def test_first_transitions_are_those_of_the_first_block():
    table = tables.ratios(archs=("plain",), depths=(20, 164))
    table.loc[(table.block == 1) & (table.depth == 164), "log_ratio"] = math.log(0.001)
    said = sentences.first_transitions(table)
    assert (
        "0.9 in Plain-20, 0.001 in Plain-164" in said and "the block farthest from 1 in Plain-20 and Plain-164." in said
    )
    table.loc[table.block == 2, "log_ratio"] = -2.0
    assert sentences.first_transitions(table).endswith("It is the block farthest from 1 in Plain-164.")
    table.loc[table.block == 2, "log_ratio"] = -9.0
    assert sentences.first_transitions(table).endswith("In none is it the farthest from 1.")


def test_the_theory_s_distance_is_in_per_cent():
    said = sentences.theory(beginning.accuracy(tables.beginnings(seeds=(0,))))
    # Measured 0.1, -0.1, -0.1 in log, predicted -0.2: the median distance is 0.1.
    assert f"is** (n = 1) {100 * math.expm1(0.1):.1f}% for a ResNet's blocks of constant width;" in said


def test_what_is_missing_is_named_where_other_records_exist():
    """An empty table of the nine networks is no sign of an empty folder of records."""
    said = [
        sentences.norms(tables.ratios().iloc[:0], below),
        sentences.theory(beginning.accuracy(tables.beginnings().iloc[:0])),
        sentences.nearer(tables.ratios().iloc[:0], "desk", below),
        sentences.cause(explanation.correlations(explanation.deviations([]))),
    ]
    assert all(sentences.GRID in text for text in said)
    assert "a Plain network's first block at a constant rate" in sentences.first_transitions(tables.ratios().iloc[:0])


def test_networks_that_did_not_learn_are_named():
    assert sentences.unlearnt(tables.errors()) == (
        "A network that does not learn mostly guesses one class, so that its error hardly fluctuates. The calm of "
        "Plain-164 here is of that kind."
    )
    assert sentences.unlearnt(tables.errors().query("network == 'resnet-20'")) == ""
    assert sentences.guessing(tables.errors()).startswith("No run of Plain-83 and Plain-164 learnt: these are")
    some = tables.errors().assign(network=lambda table: table.network.replace("plain-83", "resnet-20"))
    assert sentences.guessing(some).startswith("Runs of ResNet-20 and Plain-164 did not learn: these are")
    assert sentences.guessing(tables.errors().query("network == 'resnet-20'")) == ""


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
    assert said.startswith("**ResNet-20**, seed 0, in float32 (n = 1): 1 of its 2 transitions end farther from 1")
    before, after = f"{math.exp(0.1):.2f}", f"{math.exp(0.5):.2f}"
    assert f"began ({before} → {after}, {before} → {before})." in said
    assert "The paper says that a ResNet's transitions come nearer to 1." in said and "a factor of 2.5 away." in said
    assert "0 of its 2 transitions" in sentences.at_full_scale(moved(late=0.05))[0]
    assert "The paper says" not in sentences.at_full_scale(moved("plain"))[0]


def test_a_short_run_says_nothing_of_its_ends():
    assert sentences.at_full_scale(moved(epochs=19)) == [] == sentences.at_full_scale(tables.ratios().iloc[:0])


def test_only_what_differs_in_its_seed_alone_is_said_of_the_cause():
    row = {"runs": "all", "blocks": "transitions", "n": 27, "rho": 0.5, "p": 0.1234}
    within = row | {"runs": "within networks: seeds only", "n": 21, "rho": -0.1}
    said = sentences.cause(pd.DataFrame([row, within, within | {"blocks": "blocks of constant width", "rho": 0.2}]))
    assert (
        "is -0.10 for the transitions (p = 0.12) and +0.20 for the blocks of constant width (p = 0.12), n = 21." in said
    )
    assert "cannot be said yet" in sentences.cause(pd.DataFrame([row]))


def test_claims_with_a_verdict_are_named_and_the_others_counted():
    found = {"A": "untested", "B": "reproduced", "C": "untested", "D": "reproduced", "E": "not reproduced"}
    titles = {name: f"what {name} is" for name in found}
    said = sentences.decided(found, "untested", titles)
    assert said.startswith("Of the 5 claims of this chapter, B (what B is) and D (what D is) are reproduced; E (")
    assert said.endswith("is not reproduced; 2 are untested.")
    many = sentences.decided(dict.fromkeys("ABDEF", "reproduced"), "untested", dict.fromkeys("ABDEF", ""))
    assert many == "Of the 5 claims of this chapter, A, B, D, E and F are reproduced; all have a verdict."


def test_the_depths_are_set_against_each_other():
    table = tables.ratios(archs=("plain", "resnet"))
    table["log_ratio"] *= table.depth.map({20: 3.0, 83: 2.0, 164: 1.0}).where(table.arch == "resnet", table.depth / 20)
    falls = ", ".join(f"{math.exp(x):.2f}" for x in (0.3, 0.2, 0.1))
    rises = ", ".join(f"{math.exp(x / 200):.2f}" for x in (20, 83, 164))
    said = sentences.nearer(table, "desk", below)
    assert said.startswith("At the `desk` preset, the median block of constant width has these factors away from 1")
    assert f"in Plain ({rises}) it rises; in ResNet ({falls}) it falls." in said


def test_runs_that_failed_are_named_and_the_others_counted():
    said = sentences.ended(tables.errors())
    assert said.startswith("**2 of the 4 runs finished and learnt.** Plain-83 in float32: 1 of 1 diverged in epoch 7; ")
    assert said.endswith("Plain-164 in float32: 1 of 1 did not learn.")
    assert sentences.ended(tables.errors().iloc[:2]) == "**2 of the 2 runs finished and learnt.** "
    assert sentences.ended(tables.errors().iloc[:0]) == ""


def test_projecting_less_often_is_told_by_the_interval():
    rows = [{"network": "procresnet-22", "project_every": k, "n": 3, "mean": 30.0 + k, "sd": 0.5} for k in (1, 4)]
    alone = {"network": "procresnet-166", "project_every": 2, "n": 1, "mean": 50.0, "sd": math.nan}
    said = sentences.seldom(pd.DataFrame([alone, *rows]), "6 epochs")
    assert said.startswith("ProcResNet-22 (6 epochs; n = 3) has test errors of 31.0 ± 0.5, 34.0 ± 0.5 % if it is")
    assert "every 1 and 4 steps." in said and "only if they are 1.1 points apart." in said  # 2.776 · 0.5 · √(2/3)
    assert sentences.seldom(pd.DataFrame([alone]), "6 epochs") == ""
    once = [row | {"n": 1, "sd": math.nan} for row in rows]
    assert sentences.seldom(pd.DataFrame(once), "6 epochs").endswith("every 1 and 4 steps. ")


def test_how_training_leaves_the_prediction():
    row = {"network": "plain-164", "precision": "float32", "epoch 0": 0.0, "epoch 3": math.log(2)}
    said = sentences.left(pd.DataFrame([row]), 164)
    assert said == (
        "From epoch 0 to epoch 3 the median distance of a block of constant width from its prediction goes, as a "
        "factor, from 1.00 to 2.00 in Plain-164."
    )
    assert sentences.left(pd.DataFrame([row]), 20) == "" == sentences.left(pd.DataFrame(), 20)


@pytest.mark.parametrize(
    ("low", "high", "outcome", "said"),
    [
        (3.0, 4.0, "reproduced", "is supported at this scale: the rule asks for a higher error on both sides"),
        (3.0, -4.0, "reproduced with a correction", "one side alone"),
        (
            0.0,
            0.1,
            "not reproduced",
            "is not seen in the one setting. Compared with the target, by the factor: the error",
        ),
    ],
)
def test_interventions_are_said_with_their_intervals_and_the_rule_s_answer(low, high, outcome, said):
    records = family(low, high)
    assert CLAIMS["I1"].said_of(records) == outcome
    effects = interventions.effects(interventions.differences(interventions.runs(records)))
    answer = sentences.answer(outcome, effects)
    assert said in answer and f"at 0.5 ({low:+.1f} points)" in answer and f"at 2 ({high:+.1f} points), n = 3" in answer
    assert ("is higher at" in answer or "and higher at" in answer) == (max(low, high) > 1)
    assert ("lower" in answer) == (high < -1) and answer.endswith("it does not test norm preservation alone.")
    briefly = sentences.answer(outcome, effects, briefly=True)
    assert "points" not in briefly and briefly.endswith("it does not test norm preservation alone.")
    assert briefly.split(".")[0] == answer.split(".")[0]


@pytest.mark.parametrize(
    ("second", "said"),
    [((0.0, 0.1), "which is seen in neither setting."), ((3.0, 4.0), "which is seen in 1 of 2 settings alone.")],
)
def test_it_is_said_in_how_many_settings_both_sides_do_harm(second, said):
    records = [*family(0.0, 0.1), *family(*second, depth=29)]
    effects = interventions.effects(interventions.differences(interventions.runs(records)))
    assert said in sentences.answer("not reproduced", effects)


def test_without_interventions_the_question_is_open():
    nothing, once = [], family(seeds=(0,), spread=0.0)
    told = [interventions.effects(interventions.differences(interventions.runs(r))) for r in (nothing, once)]
    for records, effects in zip((nothing, once), told, strict=True):
        assert "is open: the interventions" in sentences.answer(CLAIMS["I1"].said_of(records), effects)
    assert [sentences.says(row) for row in told[1].itertuples()] == ["", ""]


@pytest.mark.parametrize(
    ("low", "high", "spread", "rises"),
    [(-3.0, 4.0, 0.1, True), (-3.0, 4.0, 5.0, False), (3.0, 4.0, 0.1, False), (3.0, -4.0, 0.1, False)],
)
def test_an_error_that_is_not_lowest_at_the_target_is_said_with_its_doses(low, high, spread, rises):
    """And only where it is so beyond chance."""
    table = interventions.runs(family(low, high, spread=spread))
    said = sentences.dose(interventions.doses(table), interventions.effects(interventions.differences(table)))
    errors = f"test errors of {55 + low:.1f}, 55.0, {55 + high:.1f} %"
    assert "at 0.5, 1, 2 times the target (n = 3)" in said and errors in said
    assert ("In ProcResNet-22 the error is not lowest at the target" in said) == rises
    assert ("whose order may be chance" in said) != rises


def test_an_intervention_harms_or_helps_where_its_interval_does_not_hold_0():
    harm = [record_of(52.0 + 5 * seed + 0.1 * seed, seed, project=False) for seed in range(3)]
    nothing = [record_of(50.0 + 5 * seed + (seed - 1), seed, projector="fixed") for seed in range(3)]
    effects = interventions.effects(interventions.differences(interventions.runs([*family(), *harm, *nothing])))
    said = {row.label: sentences.says(row) for row in effects.itertuples()}
    assert said["free"] == "harm" and said["fixed"] == "may be none"


def test_what_the_published_projection_does_to_the_error_is_said_network_by_network():
    """Beyond chance or not, by the interval; nothing without runs of it."""
    harm = [record_of(52.0 + 5 * seed + 0.1 * seed, seed, projector="published") for seed in range(3)]
    nothing = [record_of(50.0 + 5 * seed + (seed - 1), seed, projector="published", depth=29) for seed in range(3)]
    records = [*family(), *harm, *family(depth=29), *nothing]
    effects = interventions.effects(interventions.differences(interventions.runs(records)))
    assert sentences.as_published(effects) == (
        "is higher in ProcResNet-22 (+2.10 points, n = 3) and differs within chance in ProcResNet-31 (+0.00 points, "
        "n = 3)"
    )
    assert "(+2.10 points, 95 % interval +1.85 to +2.35, n = 3)" in sentences.as_published(effects, intervals=True)
    assert sentences.as_published(effects[effects.way == "held"]) == ""


def test_what_interventions_leave_out_is_said_once_for_each_size():
    said = sentences.left_out([*family(), *family(depth=29)])
    assert said.count("ProcResNet-22: These runs used") == said.count("ProcResNet-31: These runs used") == 1
    assert said.count("they are not at the paper's scale.") == 2


def test_what_projecting_costs_has_both_ways_and_the_paper_s_figure():
    said = sentences.overhead((11.98, 0.78), (0.088, 0.019), 5, "a <CPU>")
    assert (
        "the three transitions of ProcResNet-166 after every second step takes 12.0 ± 0.8 % of" in said
        and "0.09 ± 0.02 % with this library's (5 rounds" in said
    )
    assert r"On a \<CPU\> projecting" in said and "less than 8 %" in said


def test_the_runs_of_a_page_are_told_by_their_size():
    long = record(epochs=7, schedule="constant")
    table = sentences.by_size({"one": [record(), record(seed=1), long], "other": [record(depth=29)]})
    assert table["shown in"].tolist() == ["one", "one", "other"] and table["n"].tolist() == ["2", "1", "1"]
    assert table["epochs"].tolist() == [2, 7, 2] and table["rate"].tolist() == ["falling", "constant", "falling"]
    assert sentences.extent([record(), record(seed=1), long]) == "2 epochs of 150 images or 7 epochs of 150 images"


def test_a_number_goes_with_depth_as_its_groups_do():
    by_depth = dict(zip((20, 83), groups(1, 2), strict=True))
    said = sentences.with_depth("the loss", {"plain": by_depth, "resnet": by_depth}, below)
    assert said == (
        "In these runs the loss at the depths 20 and 83 is 1.00, 2.00 in Plain, where it rises; 1.00, 2.00 in ResNet, "
        "where it rises."
    )
    assert sentences.with_depth("the loss", {}, below) == ""


def test_pairs_are_told_with_what_their_difference_is_worth():
    rows = [
        {"network": network, "seed": seed, "test_error": mean + seed}
        for network, mean in (("procresnet-166", 50.0), ("resnet-164", 60.0), ("plain-164", 60.5))
        for seed in range(3)
    ]
    pairs = [("procresnet-166", "resnet-164"), ("plain-164", "resnet-164"), ("plain-20", "resnet-164")]
    table = sentences.beside(pd.DataFrame(rows), "test_error", pairs, below)
    assert table.difference.tolist() == [-10.0, 0.5] and table.beyond.tolist() == [True, False]
    said = sentences.differences(table)
    assert "* ProcResNet-166 against ResNet-164: -10.0 points, beyond the scatter;" in said
    assert said.endswith("* Plain-164 against ResNet-164: +0.5 points, within the scatter.")
    assert sentences.differences(table.iloc[:0]) == ""


def test_gaps_are_counted():
    rows = [
        {"network": network, "training": training, "seed": seed, "mean": mean + seed / 10, "largest": 2 * mean + seed}
        for network, mean in (("procresnet-22", 2.0), ("resnet-20", 3.0))
        for training in ("running", "clean")
        for seed in range(3)
    ]
    said = sentences.gaps(pd.DataFrame(rows), below)
    assert said == (
        "In these runs ProcResNet's mean gap lies below its ResNet's in 2 of 2 comparisons, beyond the scatter in 2; "
        "ProcResNet's largest gap minus its mean lies below its ResNet's in 2 of 2 comparisons, beyond the scatter in "
        "0."
    )
    assert sentences.gaps(pd.DataFrame(rows)[:6], below) == ""


def test_few_test_images_make_an_error_uncertain():
    table = tables.errors().assign(test_error=50.0)
    assert "has 400 images here" in sentences.uncertain(table, 400)
    assert "an error of 50 % has a standard deviation of 2.5 points" in sentences.uncertain(table, 400)
    assert sentences.uncertain(table.iloc[:0], 400) == ""


def test_the_shallow_networks_are_told_nearest_first():
    said = sentences.shallow({"ResNet-20": math.log(1.5), "Plain-20": math.log(1.25)}, 1)
    assert "off 1 by a factor of 1.25 in Plain-20 and 1.50 in ResNet-20** (mean over the epochs, n = 1)" in said


def test_a_run_that_stopped_is_told_beside_the_mean_that_it_is_in():
    table = tables.ratios()
    assert sentences.cut_short(table) == "" and "without" not in sentences.norms(table, below)
    first = (table.arch == "plain") & (table.depth == 164) & (table.seed == 1)
    table = table[~first | (table.epoch < 2)]
    table.loc[first & (table.epoch == 1), "log_ratio"] = 2.0
    assert sentences.cut_short(table) == (
        "From epoch 2 on the figures of this page show 1 of the 2 runs of Plain-164, since 1 stopped in epoch 1."
    )
    said = f" Plain-164 has {math.exp(0.1):.2f} without its run that stopped in epoch 1."
    assert sentences.norms(table, below).endswith(said) and sentences.nearer(table, "desk", below).endswith(said)
    assert f"{math.exp(1.05):.2f} at depth 164" in sentences.norms(table, below)


def test_what_the_medians_hide_is_told():
    start = tables.beginnings()
    accuracy = beginning.accuracy(start).assign(off_unmeasured=0.05)
    accuracy.loc[(accuracy.network == "plain-83") & (accuracy.blocks == "later transitions"), "off"] = 0.06
    accuracy.loc[(accuracy.network == "plain-164") & (accuracy.blocks == "later transitions"), "off"] = 0.04
    accuracy.loc[(accuracy.network == "plain-20") & (accuracy.blocks == "later transitions"), "off"] = 0.04
    start.loc[(start.arch == "procresnet") & (start.block == 2), "log_ratio"] = math.log(0.5)
    said = sentences.hidden(accuracy, start)
    assert f"has the ratio 0.50 where {math.exp(-0.2):.2f} is predicted." in said
    assert said.endswith("for the later transitions of Plain-83 (0.060 against 0.050) theory alone is nearer.")
    assert sentences.hidden(accuracy.iloc[:0], start.iloc[:0]) == ""


def test_what_a_rule_asks_stands_beside_what_there_is():
    said = sentences.why({"F3e": ["1, 2", "3, 4", "5, 6"], "F3f": []}, {"F3e": "2"}, {"F3f": "Of 9 comparisons: 9."})
    first, second = said.split("\n")
    assert first.startswith("* **F3e** asks") and "at least 2 times the next" in first
    assert first.endswith(
        "first transition has 1, 2, the next one 3, 4, and the farthest block of constant width 5, 6."
    )
    assert second.startswith("* **F3f** asks") and second.endswith("Of 9 comparisons: 9.")
    assert sentences.why({}, {}, {}) == ""


@pytest.mark.parametrize(("mean", "means", "told"), [(0.5, (2.0, 3.0), True), (-0.5, (3.0, 2.0), False)])
def test_an_order_other_than_the_paper_s_is_told(mean, means, told):
    rows = [
        {"network": network, "training": "running", "seed": seed, "mean": value + seed / 10}
        for network, value in zip(("plain-20", "resnet-20"), means, strict=True)
        for seed in range(3)
    ]
    said = sentences.against_the_paper(pd.DataFrame(rows), below)
    assert (said == "") != told
    if told:
        assert said.endswith(
            "than ResNet-20: 2.1 against 3.1 points by the running error, beyond the scatter. The paper has 6.7 "
            "against 5.5."
        )


def effect(label, way, mean, shift, low, high):
    return {"setting": "ProcResNet-22, x, y", "label": label, "way": way, "at": "all", "factor": 1.0, "n": 3} | {
        "mean": mean, "low": low, "high": high, "above": 0.5, "shift": shift
    }  # fmt: skip


def test_an_error_that_changes_where_the_ratios_hardly_do_is_told():
    harm, calm = effect("as published", "published", 2.0, 0.03, 1.0, 3.0), effect("free", "free", 0.5, 0.04, -1.0, 2.0)
    moved, held = harm | {"shift": 0.3}, harm | {"way": "held"}
    said = sentences.unmoved(pd.DataFrame([harm, calm]))
    assert said.startswith("In ProcResNet-22 “as published” changes the error by +2.00 points, although the")
    assert "moves by +0.03 only. With “free” (+0.04, +0.50 points) the ratio moves as little" in said
    assert sentences.unmoved(pd.DataFrame([moved, held, calm])) == ""


def test_the_first_transitions_at_two_scales_stand_side_by_side():
    small, large = (tables.ratios(archs=("plain",), depths=(20,), epochs=12, value=value) for value in (-0.2, 0.3))
    late = small.epoch > 2
    small.loc[~late & (small.block == 1), "log_ratio"] = 9.0  # before the last epochs
    said = sentences.two_scales(small, large, "desk")
    assert f"are {math.exp(0.2):.2f} and {math.exp(-0.3):.2f} in Plain-20. In Plain-20 the two lie on" in said
    assert "different sides" not in sentences.two_scales(small, small, "desk")
    assert sentences.two_scales(small.iloc[:0], large, "desk") == "" == sentences.two_scales(small, large.iloc[:0], "a")
