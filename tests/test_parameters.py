"""What all parameters share: lists in many forms, sentences for what is wrong, and a namespace that defines them."""

import json
from typing import Literal

import numpy as np
import pytest
from pydantic import Field

from paperlib import parameters
from paperlib.errors import ConfigError
from paperlib.parameters import Channels, Count, Factors, Flag, Parameters, WeightDecay, words


class Some(Parameters):
    count: Count = 1
    rate: WeightDecay = 0.5
    flag: Flag = False
    kind: Literal["a", "b"] = "a"
    text: str = Field("x", description="words")
    channels: Channels = (1,)
    factors: Factors = 1.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"count": "x"}, "count must be a whole number, not 'x'"),
        ({"rate": float("inf")}, "rate must be a finite number, not inf"),
        ({"rate": "0.1"}, "rate must be a number, not '0.1'"),
        ({"flag": 1}, "flag must be True or False, not 1"),
        ({"kind": "c"}, "kind 'c' is unknown: choose 'a' or 'b'"),
        ({"text": 3}, "text must be a text, not 3"),
        ({"channels": {}}, "channels must be a list of whole numbers, such as '2 4 8', not {}"),
        ({"cuont": 1}, "unknown parameter 'cuont': did you mean 'count'?"),
        ({"zzz": 1}, "unknown parameter 'zzz': the parameters are count, rate, flag, kind, text, channels, factors"),
        ({"count": 0, "flag": 1}, "count must be at least 1, not 0; flag must be True or False, not 1"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(values, said):
    with pytest.raises(ConfigError) as e:
        Some(**values)
    assert str(e.value) == said


@pytest.mark.parametrize("value", ["2 4", "4,2", [2, 4], (4, 2, 2), range(2, 5, 2), (n for n in (4, 2))])
def test_lists_of_numbers(value):
    assert Some(channels=value).channels == (2, 4)


def test_words():
    assert words("a, b c") == ["a", "b", "c"]
    assert words(3) == [3]
    assert words(True) is True


def test_a_namespace_defines_parameters():
    namespace = {"count": 3, "_private": 1, "json": json, "Some": Some, "In": [], "get_ipython": print}
    assert Some.from_namespace(namespace) == Some(count=3)
    with pytest.raises(ConfigError, match="did you mean 'count'"):
        Some.from_namespace({"cont": 3})


def test_presets_of_the_environment(monkeypatch):
    monkeypatch.setenv("PAPERLIB_PRESET", "desk")
    assert parameters.resolve_preset("auto", "cuda") == "desk"
    assert parameters.resolve_preset("smoke", "cuda") == "smoke"
    monkeypatch.delenv("PAPERLIB_PRESET")
    assert [parameters.resolve_preset("auto", device) for device in ("cpu", "cuda:1")] == ["desk", "paper"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (2, 2.0),
        ("0.5", 0.5),
        ("0.5 1 1", (0.5, 1.0, 1.0)),
        ("0.5, 1, 1", (0.5, 1.0, 1.0)),
        ([1, 1, 2], (1.0, 1.0, 2.0)),
        ((2.0, 2.0, 2.0), 2.0),
    ],
)
def test_factors_are_one_for_all_or_three(given, kept):
    one = Some(factors=given)
    assert one.factors == kept
    assert Some(**json.loads(one.model_dump_json())) == one


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), float("nan"), True, "x", "1 2", [1, 2, 3, 4], [], None, {}])
def test_other_factors_are_refused(wrong):
    with pytest.raises(
        ConfigError,
        match="factors must be one number above 0 and at most 1000, or three, such as 0.5 or '0.5 1 1', not ",
    ):
        Some(factors=wrong)


def test_numbers_of_numpy_are_taken_as_what_they_are():
    made = Some(count=np.int64(20), rate=np.float32(0.25), flag=np.bool_(True))
    assert made == Some(count=20, rate=0.25, flag=True)
    with pytest.raises(ConfigError, match=r"count must be a whole number, not 20\.5"):
        Some(count=np.float64(20.5))
