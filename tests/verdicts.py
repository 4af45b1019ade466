"""The claims' verdicts, and what their rules do with other tables and with other thresholds."""

from paperlib.claims import CLAIMS

# As measured at the smoke preset, and as stored (claims about training records are not here: tests/claims/section4);
# None where only the paper's scale decides.
EXPECTED = {
    "T1": "reproduced",
    "C1": "reproduced",
    "T2": "reproduced with a correction",
    "T3": "reproduced",
    "P1": "reproduced with a correction",
    "P2": "reproduced",
    "O1a": None,
    "O1b": None,
    "O1c": None,
    "O1d": None,
    "P3": None,
    "F2a": None,
    "F2b": None,
    "TIIp": "reproduced",
}


def check_that_the_rule_says_no(tables, spoil):
    """``spoil`` has a claim's name in front of its own, and changes that claim's tables."""
    name = spoil.__name__.split("_")[0].upper()
    spoilt = tables(name)
    assert CLAIMS[name].judge(spoilt) == EXPECTED[name]
    spoil(spoilt)
    assert CLAIMS[name].judge(spoilt) == "not reproduced"


def check_the_threshold(name, constant, value, written, tables, outcome):
    """Another value for one of a claim's constants is in its rule's sentence, and changes the tables' outcome."""
    claim = CLAIMS[name]
    other = type("Other", (type(claim),), {constant: value})()
    assert other.rule != claim.rule and written in other.rule and written not in claim.rule
    assert claim.judge(tables) != outcome == other.judge(tables)
