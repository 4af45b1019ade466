"""The scorecard in words."""

import pytest
from cards import card, row

from paperlib import scorecard
from paperlib.claims.cards import OURS
from paperlib.claims.claim import UNTESTED


def test_the_sentences_count_and_name():
    rows = [
        row("A", "reproduced", title="the first"),
        row("B", "reproduced", title="the second"),
        row("C", "reproduced with a correction", title="the third (Theorem 2)"),
        row("D", UNTESTED, outcomes=["not reproduced"], title="the fourth"),
        row("E", UNTESTED, outcomes=["reproduced", "not reproduced"]),
        row("F", UNTESTED),
        row("G", "reproduced", group=OURS),
    ]
    counted, named, left = scorecard.sentences(card(rows))
    assert counted == (
        "Of the paper's six claims that this book can test, two are reproduced, one is reproduced with a correction, "
        "and none came out as not reproduced at a scale that decides; three are not yet tested at the paper's scale."
    )
    assert named == (
        "Reproduced are the first (A) and the second (B); reproduced with a correction is the third (Theorem 2; C)."
    )
    assert left == (
        "Two of the three open claims were measured at a smaller size, which decides nothing (one not "
        "reproduced, one reproduced), and the paper's scale asks for 9 runs: 2 hours."
    )


@pytest.mark.parametrize("more", ["", " On one H200: about 1 hour."])
def test_the_last_sentence_has_the_hours_on_a_gpu_too_where_they_are_known(more):
    for cost in ("9 runs: 2 hours." + more, "9 runs: 2 hours." + (more or " On a GPU: not estimated.")):
        left = scorecard.sentences(card([row("A", UNTESTED)], cost=cost))[-1]
        assert left.endswith("asks for 9 runs: 2 hours." + more)


def test_the_sentences_of_the_ends():
    counted, named, left = scorecard.sentences(card([row("A", "not reproduced", title="it")]))
    assert "none is reproduced, none is reproduced with a correction, and one came out as not reproduced" in counted
    assert named == "Not reproduced is it (A)."
    assert left == "No claim is left to be tested."
    counted, named, left = scorecard.sentences(card([row("A", UNTESTED)], cost="Not estimated."))
    assert named == "No claim has a verdict yet."
    assert left.startswith("None of the one open claims was measured") and left.endswith(
        "hours that are not estimated."
    )


def test_the_text_has_every_claim_with_the_paper_s_figure_and_ours():
    rows = [row("A", "reproduced", outcomes=["reproduced"]), row("B", UNTESTED)]
    told = scorecard.describe(card(rows))
    assert "A    reproduced: A is so" in told and "paper: about A" in told
    assert "desk: reproduced, in words (n = 3, Abacus, commit 12345678)" in told and "width: 1.000 ± 0.100" in told
    assert "no data. Some hours." in told
    assert max(map(len, told.splitlines())) <= 116


def test_nothing_in_a_record_is_obeyed_by_a_terminal():
    evil = "a\x1b[2Jb\rc\x07\x9bd\u202ee"
    one = row("A", "reproduced", outcomes=["reproduced"], says=evil)
    found = one.evidence[0].model_copy(update={"said": evil, "device": evil})
    told = scorecard.describe(card([one.model_copy(update={"evidence": [found]})]))
    assert not {*told} & {*"\x1b\r\x07\x9b\u202e"}
    assert told.count("a[2Jb cde") == 3
