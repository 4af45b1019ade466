"""Scorecards made by hand."""

from paperlib.scorecard import Evidence, Number, Row, Scorecard
from paperlib.scorecard.data import Compared


def evidence(outcome, preset="desk", **changes):
    """What one finding says."""
    numbers = [Number(name="width", mean=1.0, sd=0.1, n=3, text="1.000 ± 0.100")]
    made = {"device": "Abacus", "commit": "12345678", "date": "2026-01-02", "command": "paperlib measure"}
    made |= {"record": "claims/A/desk/finding.json", "ruled": True, "rule_then": None, "decides": False}
    told = {"outcome": outcome, "said": f"{outcome}, in words", "preset": preset, "numbers": numbers, "n": 3}
    told |= {"brief": f"{outcome}, briefly", "remark": "", "tally": ""}
    told |= {"direction": "against" if outcome == "not reproduced" else ""}
    told |= {"compared": [Compared(name="mean width", text="1.00 ± 0.10 (n = 3)")]}
    return Evidence(**told | made | changes)


def row(claim, verdict, outcomes=(), **changes):
    """One claim, with as many findings as there are outcomes."""
    fields = {"title": claim, "group": "Theory", "where": "Theorem", "statement": f"{claim} is so"}
    fields |= {
        "says": f"about {claim}",
        "rule": "the rule",
        "after": "",
        "former": [],
        "page": "notebooks/01_norm_preservation",
    }
    fields |= {"changes": "Another number.", "cost": "Some hours."}
    found = [evidence(outcome) for outcome in outcomes]
    return Row(**{"claim": claim, "verdict": verdict, "evidence": found} | fields | changes)


def card(rows, hours="9 training runs"):
    """A scorecard of these rows."""
    return Scorecard(rows=rows, cost="9 runs: 2 hours. On a GPU: not estimated.", hours=hours)
