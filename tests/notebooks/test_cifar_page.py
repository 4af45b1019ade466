"""Chapter 4: its solutions run, and its card says what is so."""

from __future__ import annotations

import pytest
from pages import Page

from paperlib import records
from paperlib.store import results_root
from paperlib.studies import runs

PAGE = Page("04_cifar")


@pytest.mark.parametrize("number", range(4))
def test_the_solutions_hold(number):
    solutions = PAGE.blocks("## Exercises")
    assert len(solutions) == 4 and all("assert" in code for code in solutions)
    exec(solutions[number], {})


def test_a_desk_run_of_164_layers_takes_40_minutes_at_most():
    there = [r for r in records.read_all(results_root()) if r.config.depth == 164]
    desk = [r.provenance.seconds for r in there if r.config.preset == "desk" and r.config.schedule == "steps"]
    assert len(desk) >= 3 and max(desk) < 2400


def test_the_chain_without_skips_loses_the_gradient_and_its_first_transition_wins_a_part_back():
    """As the introduction says, too: most of what is won back, the transition wins back."""
    back = runs.way_back(records.read_all(results_root()))
    plain = back[back.arch == "plain"]
    norm = plain.log_norm.tolist()
    assert plain.kind.iloc[-1] == "transition" and min(norm) == norm[-3]
    assert norm[-1] - norm[-2] > 0.5 * (norm[-1] - min(norm)) and norm[-1] < -5


def test_most_blocks_with_skips_keep_the_norm_as_the_finding_says():
    kept = [r for r in records.read_all(results_root()) if r.network in ("resnet-164", "procresnet-166")]
    table = runs.close([r for r in kept if (r.config.preset, r.config.schedule) == ("desk", "steps")])
    assert len(table) >= 6 and (table.close > 0.5 * table.blocks).all()


def test_plain_networks_end_in_chapter_5_as_the_page_says():
    ends = [r for r in records.read_all(results_root()) if r.network == "plain-164" and r.config.preset == "desk"]
    ends = [r for r in ends if r.config.schedule == "constant"]
    finished = [r for r in ends if r.status == "finished"]
    assert len(ends) - len(finished) == 1 and len(finished) >= 2
    assert min(r.epochs.test_error.min() for r in finished) > 80
