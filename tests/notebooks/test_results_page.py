"""Chapter 5: its solutions run, its captions are true of the committed runs, and its interventions of any runs."""

from __future__ import annotations

import numpy as np
import pytest
from pages import Page
from synthetic_interventions import family, record

from paperlib import claims
from paperlib.claims.section4 import base
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


def test_of_a_procresnet_s_transitions_the_first_alone_moves_far(ratios):
    """Figure 5.1, which shows the first seed."""
    table = section4.first_seeds(ratios).query("kind == 'transition'")
    last = np.exp(table[table.epoch == table.epoch.max()].set_index(["network", "block"]).log_ratio.astype(float))
    for network in ("procresnet-22", "procresnet-85", "procresnet-166"):
        first, *others = last[network].sort_index()
        assert 0.7 < first < 0.8 and min(others) > 0.88 and max(others) < 1
    for network in ("resnet-83", "resnet-164"):
        assert last[network].min() > 1.5


def test_what_the_page_says_of_its_rules():
    assert base.LEVEL == 0.05 and claims.CLAIMS["F4b"].EPOCHS[0] == 11
    assert set(section4.GRID_DEPTHS) == {20, 83, 164}
    assert (claims.CLAIMS["F3a"].EPOCHS, claims.CLAIMS["F3a"].GROWS, claims.CLAIMS["F3f"].WINDOW) == (10, 2, 10)


def test_most_of_the_gaps_differ_within_the_scatter(grid):
    said = sentences.gaps(section4.gaps(section4.curves(grid)), below)
    assert "mean gap lies below its ResNet's in 6 of 6 comparisons, beyond the scatter in 2;" in said


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
    records = [r for r in section4.stored("desk", ROOTS) if r.config.precision == "bfloat16"]
    table = section4.final_errors(r for r in records if (r.config.schedule, r.config.project_every) == ("steps", 2))
    table = table[table.dataset == "cifar10"]
    pairs = [(f"{network}-eraserelu", network) for network in ("procresnet-166", "resnet-164")]
    pairs += [("procresnet-166-eraserelu", "resnet-164-eraserelu"), ("procresnet-166", "resnet-164")]
    found = sentences.beside(table, "test_error", pairs, below)
    assert found.beyond.tolist() == [True, True, True, False] and (found.difference < 0).all()


def test_error_and_norm_do_not_go_together_among_runs_that_learnt(grid):
    table = explanation.correlations(explanation.deviations(grid))
    for group in ("those that learnt", "within networks: seeds only"):
        assert (table[table.runs == group].p > 0.05).all() and (table.runs == group).sum() == 2
    assert set(table[table.p < 0.05].runs) == {"all", "Plain"}


def test_the_error_rises_with_the_factor_in_the_smaller_procresnet_alone():
    effects = interventions.effects(interventions.differences(interventions.runs(interventions.stored("desk", ROOTS))))
    said = effects.assign(says=[sentences.says(row) for row in effects.itertuples()])
    assert [setting.split(",")[0] for setting in sentences.rising(effects)] == ["ProcResNet-22"]
    beyond = said[said.says.isin(["harm", "help"])]
    assert set(beyond.setting.str.split(",").str[0]) == {"ProcResNet-22"} and "ProcResNet-166" in "".join(said.setting)


def test_the_theory_fits_and_misses_as_the_captions_say(grid):
    start = beginning.beginnings(grid)
    off = beginning.accuracy(start).set_index(["network", "blocks"]).off
    first = off.xs("first transition", level="blocks")
    ours = first.index.str.startswith("procresnet")
    assert off.drop("first transition", level="blocks").max() < 0.15
    assert first[~ours].min() > 0.3 and first[ours].max() < 0.1
    logs = start.assign(below=start.prediction.astype(float) - start.log_ratio.astype(float))
    early = logs[(logs.arch == "procresnet") & (logs.kind == "residual") & (logs.block <= 3)]
    assert early.groupby(["network", "block"]).below.mean().min() > 0.1


def test_training_takes_plain_alone_far_from_the_prediction(grid, ratios):
    table = explanation.left(ratios, beginning.beginnings(grid)).set_index("network")
    last = np.exp(table[table.columns[-1]])
    assert last["plain-164"] > 2 and max(last["resnet-164"], last["procresnet-166"]) < 1.1


def test_at_the_paper_s_scale_plain_is_nearest_and_a_first_transition_farthest():
    (finding,) = [f for f in claims.read_all(results_root(), only=["F3d"]) if f.preset == "paper"]
    off = {name.split(", ")[2].split(" (")[0]: quantity.mean for name, quantity in finding.quantities.items()}
    assert min(off, key=off.__getitem__) == "Plain-20" and len(off) == 3
    runs = section4.main_grid(section4.stored("paper", ROOTS))
    assert {r.config.precision for r in runs} == {"bfloat16"} and {q.n for q in finding.quantities.values()} == {1}
    assert claims.details(finding).said == "not reproduced, in bfloat16 (n = 1)"
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
        (0.0, 0.0, "which is not seen in the one setting", "–"),
    ],
)
def test_with_interventions_the_page_answers_by_their_rule(tmp_path, low, high, answer, word):
    others = [record(52.0 + 5 * seed, seed, project=False) for seed in range(3)]
    found, figure, table, said = shown(tmp_path, [*family(low, high), *others])
    assert answer in found and answer in said and " at this scale: " in said and word in table
    assert len(figure) == 1 and f"{low:+.2f}" in table and "free" in table
    assert "is open" not in found + said and "These runs used" in said
