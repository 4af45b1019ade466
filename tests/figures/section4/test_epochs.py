"""The stepper is the interactive drawing of the same table (tests/figures/test_interactive.py)."""

import section4_tables as tables

from paperlib.figures import interactive
from paperlib.figures import section4 as draw


def test_it_is_the_interactive_drawing():
    table = tables.ratios(seeds=(0,))
    made = draw.stepper(table, "Ratios")
    assert made.startswith('<figure class="interactive"') and 'aria-label="Ratios"' in made
    data = made.split("<script")[1]
    assert data == interactive.html(interactive.ratios_over_epochs(table), "another", "name").split("<script")[1]


def test_without_records_it_says_so():
    assert "There is no record to step through yet." in draw.stepper(tables.ratios().iloc[:0])
