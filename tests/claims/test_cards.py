"""What the scorecard says of each claim besides its rule: complete, and of the right kind."""

import pytest

from paperlib.claims import CLAIMS
from paperlib.claims.cards import CARDS, CHAPTERS, GROUPS
from paperlib.scorecard import price
from paperlib.store import results_root


def test_each_claim_has_a_card_and_each_card_a_claim():
    assert CARDS.keys() == CLAIMS.keys()


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_whole(name):
    card = CARDS[name]
    assert card.group in GROUPS and card.page in CHAPTERS
    assert card.title and card.says and not card.title.endswith(".")
    assert all(text[0].isupper() and text.endswith(".") for text in (card.refutes, card.confirms))
    assert bool(card.cost) != bool(card.runs)
    assert not card.cost or card.cost.endswith(".")


def test_the_groups_of_runs_are_those_of_the_workflow():
    groups = {group for job in price.here(results_root()).jobs for group in job.groups}
    assert {card.runs for card in CARDS.values() if card.runs} <= groups
