"""The checks of arguments: what they accept they return, and what they refuse they name."""

import math

import numpy as np
import pytest
import torch

from paperlib._checks import conv_weight, finite, one_of, sides, whole_number
from paperlib.errors import ConfigError


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_whole_numbers_come_back_as_int(value):
    assert whole_number("n", value) == value
    assert type(whole_number("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, "2", None, True, (2, 2), math.nan])
def test_other_numbers_are_refused_by_name(value):
    with pytest.raises(ValueError, match="passes must be a whole number of at least 1, not"):
        whole_number("passes", value)
    with pytest.raises(ConfigError, match="every must be a whole number of at least 2 steps, not"):
        whole_number("every", value, least=2, unit="steps", error=ConfigError)


def test_the_most_is_counted_in_the_plural():
    with pytest.raises(ValueError, match="L must be a whole number of at most 1,000,000 blocks, not 2000000"):
        whole_number("L", 2_000_000, unit="block", most=1_000_000)


def test_one_of_several():
    assert one_of("padding", "zeros", ("circular", "zeros")) == "zeros"
    with pytest.raises(ValueError, match="padding 'mirror' is unknown: choose one of circular, zeros"):
        one_of("padding", "mirror", ("circular", "zeros"))


def test_weights():
    weight = torch.ones(4, 2, 3, 3)
    assert conv_weight(weight) is finite(weight) is weight
    for wrong, said in (
        (weight[0], r"shape \(d, c, kh, kw\), not torch.float32 of \(2, 3, 3\)"),
        (weight.int(), "floating-point.*int32"),
        (weight + 1j, "real.*complex64"),
        ([[1.0]], "not list"),
        (weight[:0], r"\(0, 2, 3, 3\) is empty"),
    ):
        with pytest.raises(ValueError, match=said):
            conv_weight(wrong)
    for fill in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            finite(weight * fill)


def test_sides():
    assert sides(4) == sides(np.int64(4)) == sides([4, 4]) == (4, 4)
    assert sides((2, 3)) == (2, 3)
    for wrong in (0, 4.0, True, (4,), (4, 4, 4), (4, 0), "44", None):
        with pytest.raises(ValueError, match="size must be the side of the output or its two sides"):
            sides(wrong)
