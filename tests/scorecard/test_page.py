"""The scorecard as HTML: whole, readable without colours, and deaf to what a record may hold."""

import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cards import card, evidence, row

from paperlib.claims.cards import OURS
from paperlib.claims.claim import UNTESTED
from paperlib.scorecard import VERDICTS, page
from paperlib.scorecard.data import Compared, Number, Ruled

CSS = (Path(__file__).resolve().parents[2] / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
EVIL = "<script>alert(1)</script>'\" onmouseover='x' <img src=x onerror=y> & [a](javascript:z)"
VOID = {"br", "img"}


class Tags(HTMLParser):
    """The tags of a page, their attributes, its words, and whether it is well nested."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_row_tells_all():
    then = Ruled(sentence="another rule", outcome="reproduced")
    former = [Ruled(until="2026-01-01", sentence="an old rule", outcome="not reproduced", reason="it was wrong")]
    found = evidence("not reproduced", rule_then=then)
    html = page.table(card([row("A", UNTESTED, former=former).model_copy(update={"evidence": [found]})]))
    words = Tags(html).words
    for told in (
        "A is so", "about A", "mean width: 1.00 ± 0.10 (n = 3)", "Abacus, commit 12345678, 2026-01-02",
        UNTESTED, "At desk: not reproduced, briefly.", "The numbers go against the claim.", "not reproduced, in words",
        "the rule", "width: 1.000 ± 0.100 (n = 3)", "another rule. It said: reproduced.",
        "Rule until 2026-01-01", "Replaced because: it was wrong", "Another number.", "Some hours.", "paperlib measure",
    ):  # fmt: skip
        assert told in words
    assert "<details><summary>" in html
    assert "href='../results/claims/A/desk/finding.json'" in html


def test_an_old_record_does_not_tell_its_rule():
    old = row("A", "reproduced").model_copy(update={"evidence": [evidence("reproduced", ruled=False)]})
    assert "not in the record" in page.table(card([old]))
    assert "not in the record" not in page.table(card([row("A", "reproduced", outcomes=["reproduced"])]))


def test_without_data_it_says_so():
    words = Tags(page.table(card([row("A", UNTESTED)]))).words
    assert "nothing yet" in words and "no data" in words and "Some hours." in words


def test_where_it_was_made_stands_in_the_folded_part():
    shown, _, folded = page.table(card([row("A", UNTESTED, outcomes=["reproduced"])])).partition("<details>")
    for told in ("Abacus", "12345678", "2026-01-02"):
        assert told in folded and told not in shown


def test_the_row_says_what_must_be_said_beside_the_outcome():
    found = evidence("reproduced", decides=True, remark="only at noon")
    one = row("A", "reproduced", after="The rule is younger.").model_copy(update={"evidence": [found]})
    shown = page.table(card([one])).partition("<details>")[0]
    assert "<small>Only at noon.</small>" in shown and "<small>The rule is younger.</small>" in shown


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_is_called_the_same_for_what_the_paper_does_not_claim(verdict):
    html = page.table(card([row("A", verdict, outcomes=["reproduced"], group=OURS)]))
    assert f"</span> {escape(verdict)}</span>" in html


def test_there_are_links_to_pages_that_are_there():
    one = card([row("A", UNTESTED)])
    assert "<a href='01_norm_preservation.html'>chapter 1</a>" in page.table(one, {"notebooks/01_norm_preservation"})
    assert "chapter 1, which is not written yet" in page.table(one)


def test_nothing_in_a_record_becomes_markup():
    numbers = [Number(name=EVIL, mean=1.0, sd=None, n=1, text=EVIL)]
    compared = [Compared(name=EVIL, text=EVIL)]
    names = ("preset", "said", "brief", "remark", "tally", "device", "commit", "date", "command", "record")
    ruled = Ruled(until=EVIL, sentence=EVIL, outcome=EVIL, reason=EVIL)
    found = evidence("reproduced", **dict.fromkeys(names, EVIL), numbers=numbers, compared=compared, rule_then=ruled)
    texts = dict.fromkeys(
        ("claim", "title", "group", "where", "statement", "says", "rule", "after", "page", "changes"), EVIL
    )
    hostile = card([row(**texts, verdict=v, cost=EVIL, former=[ruled]).model_copy(update={"evidence": [found]})
                    for v in (UNTESTED, "reproduced")])  # fmt: skip
    for html in (page.table(hostile), page.table(hostile, {EVIL}), page.quotable(hostile)):
        read = Tags(html)
        assert not {"script", "img"} & {*read.tags}
        assert not [name for name, _ in read.attributes if name.startswith("on")]
        assert all(v.startswith(("../results/", "%3C")) or "html" in v for n, v in read.attributes if n == "href")
    assert EVIL in Tags(page.table(hostile)).words


def luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return sum(w * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
               for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_has_a_word_a_sign_and_colours_that_can_be_read(theme, verdict):
    kind, sign = page.KINDS[verdict]
    assert f"verdict-{kind}'><span aria-hidden='true'>{sign}</span> {page.escape(verdict)}<" in page.table(
        card([row("A", verdict, outcomes=["reproduced"])])
    )
    pattern = rf'html\[data-theme="{theme}"\] \.verdict-{kind} \{{\s*color: (#\w{{6}});\s*background: (#\w{{6}});'
    dark, light = sorted(map(luminance, re.search(pattern, CSS).groups()))
    assert (light + 0.05) / (dark + 0.05) >= 4.5
