"""Chapter 5: its solutions run, its captions are true of the committed runs, and its interventions of any runs."""

from __future__ import annotations

import numpy as np
import pytest
from pages import Page
from synthetic_interventions import family, record

from paperlib import claims
from paperlib.claims.section4.base import below
from paperlib.store import results_root
from paperlib.studies import beginning, explanation, interventions, section4, sentences

PAGE = Page("05_results")


@pytest.mark.parametrize("number", range(4))
def test_the_solutions_hold(number):
    solutions = PAGE.blocks("## Exercises")
    assert len(solutions) == 4 and all("assert" in code for code in solutions)
    exec(solutions[number], {})


# -- what the captions say without a number -----------------------------------------------------------------------
ROOTS = [results_root()]
SKIPS = ("resnet", "procresnet")
SHALLOW, MIDDLE, DEEP = section4.GRID_DEPTHS


@pytest.fixture(scope="module")
def grid():
    records = section4.stored("desk", ROOTS)
    precision = section4.usual_precision(records)
    return section4.main_grid(r for r in records if r.config.precision == precision)


@pytest.fixture(scope="module")
def ratios(grid):
    return section4.ratios(grid)


def distances(ratios, kind):
    """The median block's distance from 1, in the mean over the seeds, by architecture and depth."""
    trained = ratios[(ratios.epoch > 0) & (ratios.kind == kind)]
    dev = trained.assign(dev=trained.log_ratio.astype(float).abs())
    medians = dev.groupby(["arch", "depth", "seed", "epoch"]).dev.median()
    return medians.groupby(["arch", "depth"]).mean()


def test_the_median_block_with_skips_is_nearer_to_1_in_deeper_networks(ratios):
    """Figures 5.1 and 5.3, the latter at depth 20, too."""
    residual, transitions = (distances(ratios, kind) for kind in ("residual", "transition"))
    for arch in SKIPS:
        assert residual[arch, DEEP] < residual[arch, MIDDLE] < residual[arch, SHALLOW]
    assert residual["plain", SHALLOW] < min(residual[arch, SHALLOW] for arch in SKIPS)
    assert max(transitions["procresnet"]) < 0.1 < min(transitions["resnet"])
    assert min(transitions["resnet", depth] for depth in (MIDDLE, DEEP)) > 0.5


def test_training_takes_deep_plain_networks_across_1(ratios):
    plain = ratios[(ratios.arch == "plain") & (ratios.depth > SHALLOW)]
    for _, part in plain.groupby("depth"):
        mean = part.groupby(["epoch", "block"]).log_ratio.mean()
        assert (mean[0] < 0).mean() > 0.9 and (mean[part.epoch.max()] > 0).mean() > 0.5


def test_deep_plain_networks_stay_at_guessing_and_the_others_learn(grid):
    errors, curves = section4.final_errors(grid), section4.curves(grid)
    failed = section4.failed(errors)
    assert (failed == errors.network.isin(["plain-83", "plain-164"])).all()
    last = curves[curves.epoch == curves.epoch.max()].groupby(["arch", "depth"]).train_loss.mean()
    for arch in SKIPS:
        at = {depth: errors[(errors.arch == arch) & (errors.depth == depth)].test_error for depth in (SHALLOW, DEEP)}
        assert last[arch, DEEP] <= last[arch, SHALLOW] and not below(at[SHALLOW], at[DEEP])


def test_procresnet_is_not_seen_to_fluctuate_less(grid):
    table = claims.CLAIMS["F4b"].tables(grid)["fluctuation"]
    for depth in section4.GRID_DEPTHS:
        ours, theirs = (table[(table.arch == a) & (table.depth == depth)].sd for a in ("procresnet", "resnet"))
        assert not below(ours, theirs)


def test_procresnet_has_the_smaller_mean_gap(grid):
    gap = section4.gaps(section4.curves(grid)).groupby(["arch", "depth", "training"])["mean"].mean()
    assert (gap["procresnet"] < gap["resnet"]).all() and len(gap["procresnet"]) == 6


def test_procresnet_has_the_lower_error_and_eraserelu_lowers_it():
    (finding,) = [f for f in claims.read_all(results_root(), only=["TII"]) if f.preset == "desk"]
    errors = {name.split(", ")[2]: quantity.mean for name, quantity in finding.quantities.items()}
    for end in ("", "-eraserelu"):
        assert errors[f"procresnet-166{end}"] < errors[f"resnet-164{end}"]
    assert all(errors[f"{network}-eraserelu"] < errors[network] for network in ("procresnet-166", "resnet-164"))


def test_error_and_norm_do_not_go_together_among_runs_that_learnt(grid):
    table = explanation.correlations(explanation.deviations(grid))
    for group in ("those that learnt", "within networks: seeds only"):
        assert (table[table.runs == group].p > 0.05).all() and (table.runs == group).sum() == 2


def test_the_error_rises_with_the_factor_in_the_smaller_procresnet_alone():
    effects = interventions.effects(interventions.differences(interventions.runs(interventions.stored("desk", ROOTS))))
    said = effects.assign(says=[sentences.says(row) for row in effects.itertuples()])
    assert [setting.split(",")[0] for setting in sentences.rising(effects)] == ["ProcResNet-22"]
    beyond = said[said.says.isin(["harm", "help"])]
    assert set(beyond.setting.str.split(",").str[0]) == {"ProcResNet-22"} and "ProcResNet-166" in "".join(said.setting)


def test_the_theory_fits_and_misses_as_the_captions_say(grid):
    off = beginning.accuracy(beginning.beginnings(grid)).set_index(["network", "blocks"]).off
    first = off.xs("first transition", level="blocks")
    ours = first.index.str.startswith("procresnet")
    assert off.drop("first transition", level="blocks").max() < 0.15
    assert first[~ours].min() > 0.3 and first[ours].max() < 0.1


def test_training_takes_plain_alone_far_from_the_prediction(grid, ratios):
    table = explanation.left(ratios, beginning.beginnings(grid)).set_index("network")
    last = np.exp(table[table.columns[-1]])
    assert last["plain-164"] > 2 and max(last["resnet-164"], last["procresnet-166"]) < 1.1


def test_at_the_paper_s_scale_plain_is_nearest_and_a_first_transition_farthest():
    (finding,) = [f for f in claims.read_all(results_root(), only=["F3d"]) if f.preset == "paper"]
    off = {name.split(", ")[2].split(" (")[0]: quantity.mean for name, quantity in finding.quantities.items()}
    assert min(off, key=off.__getitem__) == "Plain-20" and len(off) == 3
    blocks = section4.by_block(section4.ratios(section4.main_grid(section4.stored("paper", ROOTS))))
    transitions = blocks[blocks.kind == "transition"]
    farthest = transitions.loc[transitions.late.idxmax()]
    assert (farthest.network, farthest.block) == ("procresnet-22", transitions.block.min())


# -- the interventions, with their records and without ------------------------------------------------------------
def told(outputs):
    """The texts among what a cell displays."""
    return " ".join(output.data for output in outputs if hasattr(output, "data") and output.data)


def shown(folder, records):
    """What the page says first, its figure and table of interventions, and what it says of them."""
    for one in records:
        one.save(one.config.folder(folder))
    names: dict = {"preset": "smoke", "runs": folder}
    PAGE.run("import pandas as pd", names)
    PAGE.run("verdicts = dict.fromkeys", names)
    found = told(PAGE.run("**Found.**", names))
    figure = PAGE.run("paired_differences(pairs, effects", names)
    table = told(PAGE.run('"mean difference"', names))
    return found, figure, table, told(PAGE.run("sentences.dose(doses, effects)", names))


def test_without_interventions_the_page_says_so_and_how_to_make_them(tmp_path):
    found, figure, table, said = shown(tmp_path, [])
    assert "Whether norm preservation explains the accuracy is open" in found and "is open" in said
    assert not figure and not table
    assert "There is no record of an intervention at the smoke preset yet." in said and "hold_at 2" in said


def test_one_run_of_each_decides_nothing(tmp_path):
    found, figure, table, said = shown(tmp_path, family(seeds=(0,)))
    assert "is open" in found and "is open" in said and len(figure) == 1 and "table" in table


@pytest.mark.parametrize(
    ("low", "high", "answer", "word"),
    [
        (3.0, 4.0, "supported at this scale", "harm"),
        (3.0, -4.0, "one side alone", "help"),
        (0.0, 0.0, "which is not seen in all settings", "–"),
    ],
)
def test_with_interventions_the_page_answers_by_their_rule(tmp_path, low, high, answer, word):
    others = [record(52.0 + 5 * seed, seed, project=False) for seed in range(3)]
    found, figure, table, said = shown(tmp_path, [*family(low, high), *others])
    assert answer in found and answer in said and " at this scale: " in said and word in table
    assert len(figure) == 1 and f"{low:+.2f}" in table and "free" in table
    assert "is open" not in found + said and "This run used" in said
