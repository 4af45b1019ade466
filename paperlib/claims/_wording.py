"""How a rule's sentence and the scorecard write numbers; a threshold stands once, as a constant."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

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


def written(mean: float, sd: float | None = None) -> str:
    """A mean with its standard deviation: two digits of that, three decimals at most, and none that rounds to nothing.

    Examples
    --------
    >>> written(78.138, 26.881), written(0.95, 0.0001), written(21.0, 0.0), written(0.18), written(4e-15, 2e-15)
    ('78 ± 27', '0.950', '21', '0.180', '4e-15 ± 2e-15')
    """
    if not math.isfinite(mean) or 0 < abs(mean) < 5e-4:
        return f"{mean:.0e}" + (f" ± {sd:.0e}" if sd and math.isfinite(sd) else "")
    if mean == round(mean) and not sd:
        return f"{mean:.0f}"
    spread = sd is not None and math.isfinite(sd) and sd >= 5e-4
    decimals = 3 if not sd or not spread else min(3, max(0, 1 - math.floor(math.log10(sd))))
    said = f"{mean:.{decimals}f}" + (f" ± {sd:.{decimals}f}" if spread else "")
    return said.replace("-", "−")


def averaged(values: pd.Series, unit: str = "") -> str:
    """The mean over seeds, with its standard deviation and n.

    Examples
    --------
    >>> averaged(pd.Series([1.0, 2.0, 3.0]), " %"), averaged(pd.Series([0.18]))
    ('2.0 ± 1.0 % (n = 3)', '0.180 (n = 1)')
    """
    return f"{_mean(values)}{unit} (n = {len(values)})"


def median(values: pd.Series, unit: str = "") -> str:
    """The median over rounds, with the smallest, the largest and n.

    Examples
    --------
    >>> median(pd.Series([8.0, 9.0, 12.0]), " %")
    'median 9 %, from 8 to 12 (n = 3 rounds)'
    """
    return (
        f"median {values.median():.3g}{unit}, from {values.min():.3g} to {values.max():.3g} (n = {len(values)} rounds)"
    )


def row(groups: Iterable[pd.Series]) -> str:
    """The means of some groups in a row, with n once if it is that of all.

    Examples
    --------
    >>> row([pd.Series([1.0, 2.0]), pd.Series([3.0, 4.0])])
    '1.50 ± 0.71, 3.50 ± 0.71 (n = 2 each)'
    """
    groups = list(groups)
    return f"{', '.join(map(_mean, groups))} {counted(map(len, groups))}"


def counted(counts: Iterable[int]) -> str:
    """How many seeds some groups have, once if all have as many.

    Examples
    --------
    >>> counted([3, 3]), counted([3, 2])
    ('(n = 3 each)', '(n = 3, 2)')
    """
    counts = list(counts)
    return f"(n = {counts[0]} each)" if len({*counts}) == 1 else f"(n = {', '.join(map(str, counts))})"


def _mean(values: pd.Series) -> str:
    return written(values.mean(), values.std() if len(values) > 1 else None) if len(values) else "none"
