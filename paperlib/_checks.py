"""Checks of arguments: each returns the value that it accepts, or raises an error of one sentence that names the argument."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def whole_number(name: str, value: Any, least: int = 1, unit: str = "", error: type[ValueError] = ValueError) -> int:
    """``value`` as an ``int``, if it is a whole number of at least ``least``.  True and False are no numbers.

    Parameters
    ----------
    name : str
        The argument's name, as the caller knows it.
    value : Any
        What the caller gave.
    least : int
        The smallest value that is accepted.
    unit : str
        What is counted, for the sentence: ``"step"``.
    error : type of ValueError
        What to raise.

    Returns
    -------
    int
        The value.

    Raises
    ------
    ValueError
        Or ``error``: for anything else.

    Examples
    --------
    >>> whole_number("passes", 3)
    3
    >>> whole_number("every", 0, unit="step")
    Traceback (most recent call last):
    ValueError: every must be a whole number of at least 1 step, not 0
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise error(f"{name} must be a whole number of at least {least}{' ' * bool(unit)}{unit}, not {value!r}")
    return int(value)
