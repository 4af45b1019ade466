"""The scorecard in words."""

import pytest
from cards import card, evidence, row

from paperlib import scorecard
from paperlib.claims.cards import OURS
from paperlib.claims.claim import UNTESTED
from paperlib.scorecard import text


def test_the_summary_counts_and_names():
    third = row("C", "reproduced with a correction", title="the third (Theorem 2)")
    third = third.model_copy(update={"evidence": [evidence("reproduced with a correction", remark="only at noon")]})
    rows = [
        row("A", "reproduced", title="the first"),
        row("B", "reproduced", title="the second"),
        third,
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
        "Reproduced: the first (A) and the second (B). Reproduced with a correction: the third (Theorem 2; C: only at "
        "noon)."
    )
    assert left == (
        "Two of the three open claims were measured at a smaller size, or on a CPU where a GPU decides; that settles "
        "nothing. Of these, one came out as not reproduced: in one, some numbers go against the paper. One came out as "
        "reproduced. The paper's scale asks for 9 training runs."
    )


def test_the_summary_tells_contradiction_from_scatter():
    rows = [row(n, UNTESTED).model_copy(update={"evidence": [evidence("not reproduced", direction=way)]})
            for n, way in zip("ABCD", ("order", "against", "mixed", "against"), strict=True)]  # fmt: skip
    left = scorecard.sentences(card(rows))[-1]
    assert (
        "four came out as not reproduced: in two, some numbers go against the paper; in one, the order is the paper's, "
        "but the scatter is too large for the rule; in one, some numbers lie the other way, within the scatter."
    ) in left


def test_what_is_not_reproduced_is_spelt_out_with_what_must_be_said_beside_it():
    one = row("A", "not reproduced", title="it", where="Figure 9")
    one = one.model_copy(update={"evidence": [evidence("not reproduced", remark="one run")]})
    _, named, left = scorecard.sentences(card([one]))
    assert named == "Not reproduced: that A is so (Figure 9; A: one run)."
    assert left == "No claim is left to be tested."


def test_the_summary_without_anything():
    _, named, left = scorecard.sentences(card([row("A", UNTESTED)], hours=""))
    assert named == "No claim has a verdict yet."
    assert left == (
        "None of the one open claims was measured at a smaller size, or on a CPU where a GPU decides; that settles "
        "nothing."
    )


@pytest.mark.parametrize(
    ("way", "tally", "said"),
    [
        ("", "", ""),
        ("against", "", "The numbers go against the claim."),
        ("against", "Of 2.", "Some numbers go against the claim, beyond the scatter. Of 2."),
        ("order", "Of 2.", "The numbers lie in the claim's order but scatter too much for the rule. Of 2."),
    ],
)
def test_which_way_the_numbers_point(way, tally, said):
    assert text.pointed(evidence("not reproduced", direction=way, tally=tally)) == said


def test_the_text_has_every_claim_with_the_paper_s_figure_and_ours():
    rows = [row("A", "reproduced", outcomes=["reproduced"]), row("B", UNTESTED)]
    told = scorecard.describe(card(rows))
    assert "A    reproduced: A is so" in told and "paper: about A" in told
    assert "desk: reproduced, in words (Abacus, commit 12345678)" in told and "mean width: 1.00 ± 0.10 (n = 3)" in told
    assert "no data. Some hours." in told
    assert max(map(len, told.splitlines())) <= 116


def test_nothing_in_a_record_is_obeyed_by_a_terminal():
    evil = "a\x1b[2Jb\rc\x07\x9bd\u202ee"
    one = row("A", "reproduced", outcomes=["reproduced"], says=evil)
    found = one.evidence[0].model_copy(update={"said": evil, "device": evil})
    told = scorecard.describe(card([one.model_copy(update={"evidence": [found]})]))
    assert not {*told} & {*"\x1b\r\x07\x9b\u202e"}
    assert told.count("a[2Jb cde") == 3
