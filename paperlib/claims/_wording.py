"""How a rule's sentence writes its numbers, so that a threshold stands once, as a constant."""

from __future__ import annotations

import numpy as np

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def power(value: float) -> str:
    """``1e-5`` for 0.00001, without the exponent's leading zero."""
    return np.format_float_scientific(value, trim="-", exp_digits=1)


def percent(share: float) -> str:
    """``2.5 %`` for 0.025."""
    return f"{100 * share:g} %"


def spelled(count: int) -> str:
    """``eight`` for 8; digits beyond ten."""
    return _WORDS[count] if count < len(_WORDS) else str(count)
