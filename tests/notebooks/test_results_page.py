"""Chapter 5: its solutions run, and its section on interventions is true with their records and without."""

from __future__ import annotations

import pytest
from pages import Page
from synthetic_interventions import family, record

PAGE = Page("05_results")


@pytest.mark.parametrize("number", range(4))
def test_the_solutions_hold(number):
    solutions = PAGE.blocks("## Exercises")
    assert len(solutions) == 4 and all("assert" in code for code in solutions)
    exec(solutions[number], {})


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
    return found, figure, table, told(PAGE.run("sentences.intervened(effects)", names))


def test_without_interventions_the_page_says_so_and_how_to_make_them(tmp_path):
    found, figure, table, said = shown(tmp_path, [])
    assert "Whether norm preservation explains the accuracy is open" in found and "is open" in said
    assert not figure and not table
    assert "There is no record of an intervention at the smoke preset yet." in said and "hold_at 2" in said


def test_one_run_of_each_decides_nothing(tmp_path):
    found, figure, table, said = shown(tmp_path, family(seeds=(0,)))
    assert "is open" in found and "hence no interval" in said and len(figure) == 1 and "table" in table


@pytest.mark.parametrize(
    ("low", "high", "answer", "word"),
    [
        (3.0, 4.0, "on either side", "harm"),
        (3.0, -4.0, "one side alone", "help"),
        (0.0, 0.0, "which is not seen in all settings", "none"),
    ],
)
def test_with_interventions_the_page_answers_by_their_rule(tmp_path, low, high, answer, word):
    others = [record(52.0 + 5 * seed, seed, project=False) for seed in range(3)]
    found, figure, table, said = shown(tmp_path, [*family(low, high), *others])
    assert answer in found and answer in said and " at this scale: " in said and word in said
    assert len(figure) == 1 and f"{low:+.2f}" in table and "free" in table
    assert "is open" not in found + said and "This run used" in said
