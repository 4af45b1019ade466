"""Checked parameters, and what they become when every choice is made: a resolved configuration.

Parameters leave choices open (``None``, ``"auto"``).  They are resolved once, where they enter the library; everything
behind that door takes the resolved form, which knows its digest, its folder, its command, and its description.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import itertools
import json
import math
import operator
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from paperlib import _checks
from paperlib._checks import shown
from paperlib.errors import ConfigError, RecordError
from paperlib.sources import Source
from paperlib.store.places import runs_root

if TYPE_CHECKING:
    from typing_extensions import Self

PRESET_VARIABLE = "PAPERLIB_PRESET"
MOST_ITEMS = 10_000  # of a list of channels, of stages or of seeds
Preset = Literal["smoke", "desk", "paper"]

# -- the types of parameters -------------------------------------------------------------------------------------
Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
WeightDecay = Annotated[
    float, Field(strict=True, ge=0, le=1e38, allow_inf_nan=False, description="added to the gradient, times the weight")
]
Flag = Annotated[bool, Field(strict=True)]
Lr = Annotated[float, Field(strict=True, gt=0, le=1e38, allow_inf_nan=False)]  # float32 ends there
Momentum = Annotated[float, Field(strict=True, ge=0, lt=1, description="of stochastic gradient descent")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31, description="of weights, shuffling and augmentation")]
Channel = Annotated[int, Field(strict=True, ge=1, le=4096)]


def words(value: Any) -> Any:
    """``"2 4,8"`` as a list of words, and a single number as a list of one; anything else as it is."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _numbers(value: Any, info: ValidationInfo) -> tuple[int, ...]:
    found = words(value)
    wrong = ValueError(f"{info.field_name} must be a list of whole numbers, such as '2 4 8', not {shown(value)}")
    try:
        found = [] if isinstance(found, Mapping) else list(itertools.islice(found, MOST_ITEMS + 1))
        numbers = [int(word) if isinstance(word, str) else operator.index(word) for word in found]
    except (ValueError, TypeError):
        raise wrong from None
    if not numbers or len(numbers) > MOST_ITEMS or any(isinstance(word, bool) for word in found):
        raise wrong
    return tuple(sorted(set(numbers)))


# Lists of numbers, sorted and each once; also as text, which is all that a command line has.
Channels = Annotated[tuple[Channel, ...], BeforeValidator(_numbers)]
Stages = Annotated[tuple[Annotated[int, Field(strict=True, ge=0, le=10_000_000)], ...], BeforeValidator(_numbers)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_numbers)]


MOST_FACTOR = 1000.0


def _factors(value: Any, info: ValidationInfo) -> float | tuple[float, ...]:
    found = value.replace(",", " ").split() if isinstance(value, str) else value
    found = list(found) if isinstance(found, list | tuple) else [found]
    wrong = ValueError(
        f"{info.field_name} must be one number above 0 and at most {MOST_FACTOR:g}, or three, such as 0.5 or "
        f"'0.5 1 1', not {shown(value)}"
    )
    try:
        numbers = [math.nan if isinstance(word, bool) else float(word) for word in found]
    except (ValueError, TypeError, OverflowError, RuntimeError):
        raise wrong from None
    if len(numbers) not in (1, 3) or not all(0 < number <= MOST_FACTOR for number in numbers):
        raise wrong
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


# A factor for all three transitions of a network, or one for each; three equal ones are one.
Factors = Annotated[float | tuple[float, float, float], BeforeValidator(_factors)]


# -- parameters --------------------------------------------------------------------------------------------------
class Parameters(BaseModel):
    """Checked parameters: what is wrong with a value is said in one sentence, as a ``ConfigError``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        unknown = [name for name in values if name not in type(self).model_fields]
        if unknown:
            raise ConfigError(_unknown(unknown[0], list(type(self).model_fields)))
        values = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
        try:
            super().__init__(**values)
        except ValidationError as e:
            raise ConfigError("; ".join(_sentence(dict(error)) for error in e.errors())) from None

    @classmethod
    def checked(cls, value: Any) -> Self:
        """``value``, if it is of this class.

        Raises
        ------
        ConfigError
            It is something else.
        """
        if not isinstance(value, cls):
            raise ConfigError(f"a {cls.__name__} is needed, not {shown(value)}: write {cls.__name__}(name=value, ...)")
        return value

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any] | None = None) -> Self:
        """The parameters that a notebook's ``parameters`` cell (and the one that papermill injects) defines.

        What is no parameter is refused, whatever its name and its value.  Papermill itself would only warn.

        Parameters
        ----------
        namespace : mapping, optional
            Names and their values: those of the model's parameters count, and every public name that holds a plain
            value (a text, a number, True, False, None, or a list).  By default the notebook's own: there whatever
            a cell sets counts that does nothing but set names to values, even if an import has the same name.

        Raises
        ------
        ConfigError
            A name is no parameter, or a value is impossible.
        """
        if namespace is None and (shell := _notebook()) is not None:
            names = [name for cell in shell.history_manager.input_hist_parsed for name in _set_in(cell)]
            names += cls.model_fields
            # A name that was deleted since is no more set; what is no name, such as ``a.b``, is refused.
            kept = [name for name in names if name in shell.user_ns or not name.isidentifier()]
            return cls(**{name: shell.user_ns.get(name) for name in kept})
        namespace = vars(sys.modules["__main__"]) if namespace is None else namespace
        plain = str | int | float | list | tuple | None
        values = {
            name: value
            for name, value in namespace.items()
            if name in cls.model_fields or (isinstance(value, plain) and not name.startswith("_") and name != "In")
        }
        return cls(**values)


def _notebook() -> Any:
    """The notebook's kernel (IPython's shell) that this runs in; None where there is none."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def _set_in(cell: str) -> list[str]:
    """What a cell sets, if it does nothing but set names to plain values.

    Examples
    --------
    >>> _set_in("lr = {'a': 1}\\nopen = float('nan')"), _set_in("config = RunConfig(lr=lr)")
    (['lr', 'open'], [])
    """
    try:
        lines = ast.parse(cell).body
    except SyntaxError:
        return []
    assigned = [line for line in lines if isinstance(line, ast.Assign)]
    used = [n.id for line in assigned for n in ast.walk(line.value) if isinstance(n, ast.Name)]
    if len(assigned) < len(lines) or set(used) - {"float"}:
        return []
    return [ast.unparse(target) for line in assigned for target in line.targets]


class Resolved(Parameters, ABC):
    """Parameters in which every choice is made.

    Two of them with the same :meth:`digest` are the same work.  Subclasses say which fields do not change the numbers
    (``NEUTRAL``), which ones do not mark the folder as one that overrides its preset (``NAMED``: most of them have a
    place of their own in its path), and what the preset alone would be (:meth:`unchanged`).
    """

    NEUTRAL: ClassVar[frozenset[str]] = frozenset()
    NAMED: ClassVar[frozenset[str]] = frozenset({"preset"})

    if TYPE_CHECKING:  # fields of every subclass, in an order of its own
        preset: Preset
        source: Source
        device: str

    @abstractmethod
    def unchanged(self) -> Resolved:
        """The configuration with the same names that changes nothing else of its preset.

        Its device is this one's, for a training; for a grid, whose name leaves it out, the one that is chosen here.
        """

    def content(self) -> dict[str, Any]:
        """What determines the numbers, as plain JSON.

        The full data sets are the same from everywhere, and the sample is not.  All devices of a kind count as one.
        """
        source = "sample" if self.source == "sample" else "auto"
        values = self.model_dump(mode="json", exclude=set(self.NEUTRAL))
        return values | {"source": source, "device": self.device.split(":")[0]}

    def digest(self) -> str:
        """SHA-256, in hex, of :meth:`content`."""
        return _sha256(self.content())

    def overrides(self) -> dict[str, Any]:
        """The content in which this differs from its preset, by the parameter's name."""
        plain = self.unchanged().content()
        return {name: value for name, value in self.content().items() if value != plain[name]}

    def labelled_preset(self) -> str:
        """The preset's name, followed by a short digest of the parameters that override it, if there are any."""
        changed = {name: value for name, value in self.overrides().items() if name not in self.NAMED}
        return f"{self.preset}-{_sha256(changed)[:8]}" if changed else self.preset

    @abstractmethod
    def place(self) -> Path:
        """The folder below the root of all runs."""

    def folder(self, root: str | Path | None = None) -> Path:
        """Where this lives: :meth:`place` below ``root``, by default below ``PAPERLIB_RUNS`` or ``runs/``."""
        return (runs_root() if root is None else _checks.path("root", root)) / self.place()

    def is_that_of(self, found: Mapping[str, Any]) -> bool:
        """Whether the parameters ``found`` somewhere are of the same work; what they lack has its default."""
        try:
            return type(self)(**found).digest() == self.digest()
        except (ConfigError, TypeError):
            return False

    def differences(self, found: Mapping[str, Any]) -> str:
        """In which parameters those ``found`` somewhere differ from these, for a sentence."""
        mine = self.model_dump()
        other = [f"{name} {shown(value)} instead of {mine.get(name)!r}" for name, value in found.items()
                 if value != mine.get(name)]  # fmt: skip
        return ", ".join(other) or "made by another paperlib"

    def check_record(self, found: Resolved, held: str) -> None:
        """Raise ``RecordError`` if a folder's record has parameters of other work; ``held`` says what it holds then."""
        if found.digest() != self.digest():
            raise RecordError(
                f"{held} ({self.differences(found.model_dump())}): move it away, or choose another folder with "
                "PAPERLIB_RUNS"
            )


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# -- choices that every configuration has ------------------------------------------------------------------------
def resolve_preset(name: str, device: str) -> str:
    """The preset that ``name`` stands for.

    ``"auto"`` is what ``PAPERLIB_PRESET`` says, else ``"paper"`` on CUDA and ``"desk"`` elsewhere.

    Raises
    ------
    ConfigError
        The environment variable names no preset.
    """
    if name != "auto":
        return name
    name = os.environ.get(PRESET_VARIABLE) or ("paper" if device.startswith("cuda") else "desk")
    if name not in get_args(Preset):
        raise ConfigError(f"{PRESET_VARIABLE} must be {', '.join(get_args(Preset)[:-1])} or paper, not {name!r}")
    return name


def check_device(name: str) -> str:
    """``name``, if it can be a device's, here or on another machine; ``ConfigError`` if not."""
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device {shown(name)} is unknown: use auto, cpu, cuda or cuda:N")
    return name


def resolve_device(name: str) -> str:
    """The device that ``name`` stands for; ``"auto"`` is CUDA where there is one.

    Raises
    ------
    ConfigError
        The device is unknown or not there.
    """
    if isinstance(name, str) and name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = check_device(name).partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ConfigError(f"device {name!r} is not there (CUDA devices found: {count}): use device cpu or auto")
    return name


# -- sentences ---------------------------------------------------------------------------------------------------
def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown parameter {name!r}: " + (
        f"did you mean {near[0]!r}?" if near else f"the parameters are {', '.join(known)}"
    )


def _sentence(error: dict[str, Any]) -> str:
    name, value, kind, context = error["loc"][0], error["input"], error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"{name} is required"
    if kind == "literal_error":
        return f"{name} {shown(value)} is unknown: choose {context['expected']}"
    wanted = {
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "bool_type": "True or False",
        "string_type": "a text",
        "greater_than": f"greater than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
    }.get(kind)
    return f"{name} must be {wanted}, not {shown(value)}" if wanted else f"{name}: {error['msg']} (got {shown(value)})"
