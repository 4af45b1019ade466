"""What a claim is: a statement of the paper, the way it is measured, and the rule that judges it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, NamedTuple

import pandas as pd

from paperlib.claims._wording import averaged
from paperlib.config import ResolvedRun
from paperlib.store import Frames, Provenance
from paperlib.store.stored import digest

Outcome = Literal["reproduced", "reproduced with a correction", "not reproduced", "undecided"]
UNTESTED = "not yet tested at the paper's scale"


class Measured(NamedTuple):
    """The tables that were measured for a claim and, if they come from stored runs, where and of which seeds."""

    tables: dict[str, pd.DataFrame]
    source: Provenance | None = None
    seeds: list[int] | None = None


class Compared(NamedTuple):
    """A number that a rule compares, in the statistic that it takes, with n: a name and a text."""

    name: str
    text: str


# Why a rule is not met: the numbers go against the claim; they lie in its order, but scatter too much; or some lie in
# its order and some the other way, none of them by more than the scatter.  Empty where the rule is met.
Direction = Literal["", "against", "order", "mixed"]


class Details(NamedTuple):
    """What the scorecard says of a finding."""

    outcome: Outcome
    said: str
    """The outcome in words."""
    decides: bool
    """Whether it was made where its outcome decides the claim."""
    compared: list[Compared]
    direction: Direction
    tally: str
    """The comparisons behind the direction, counted; empty where the rule has none."""
    brief: str
    """The outcome in a few words, with its precision, and with what is missing or few."""
    remark: str


class Former(NamedTuple):
    """A rule that a claim had before, which stays in view with what it said."""

    until: str
    """The day on which the rule was replaced, as ``"2026-11-27"``."""
    sentence: str
    outcome: str
    """What it said of the findings of its time, with their preset."""
    reason: str
    """Why it was replaced."""


class Claim(ABC):
    """A claim of the paper, how it is measured, and the rule that judges it.

    There is one subclass per claim.  Its thresholds are constants of the class: :attr:`rule` writes them into its
    sentence and :meth:`judge` compares with them, so that each of them stands once.
    """

    name: ClassVar[str]
    """The key in ``paperlib.claims.CLAIMS``, such as ``"T1"``."""
    where: ClassVar[str]
    """Where the paper makes the claim."""
    statement: ClassVar[str]
    """What the paper claims."""
    accelerated: ClassVar[bool] = False
    """Whether it is measured on a CUDA device where there is one."""
    on_gpu: ClassVar[bool] = False
    """Whether only a CUDA device decides it.  Its ``paper`` preset is ``desk`` on one, so that both are on record."""
    scaled: ClassVar[bool] = False
    """Whether it is about training runs.  Such a claim has a ``paper`` preset, and mostly only that one decides it."""
    exact: ClassVar[bool] = False
    """Whether its numbers are counted, and so the same on every machine."""
    former: ClassVar[tuple[Former, ...]] = ()
    """The rules that it had before, the oldest first."""
    after: ClassVar[str] = ""
    """Said in the row of a claim whose rule is younger than the data that it judges."""

    @property
    def presets(self) -> tuple[str, ...]:
        """The presets at which it can be measured."""
        return ("smoke", "desk", "paper") if self.scaled or self.on_gpu else ("smoke", "desk")

    def seeds(self, preset: str) -> int:
        """How many seeds a preset takes by default."""
        return 5

    @property
    @abstractmethod
    def rule(self) -> str:
        """The sentence that says how :meth:`judge` decides."""

    @abstractmethod
    def measure(self, preset: str, seeds: list[int]) -> Measured:
        """Measure the tables that the quantities and the outcome are taken from."""

    @abstractmethod
    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        """The numbers to quote, by name: one value per seed."""

    @abstractmethod
    def judge(self, tables: Frames) -> Outcome:
        """What the rule says of the tables; ``"undecided"`` where they are too small for it."""

    def takes(self, config: ResolvedRun) -> bool:
        """Whether the claim is judged by the record of this run; most are by none."""
        return False

    def counts(self, config: ResolvedRun, preset: str) -> bool:
        """Whether the claim is judged at this preset by the record of this run: :meth:`takes`, and of its size."""
        return False

    def missing(self, tables: Frames) -> str:
        """What the rule needs and the tables lack, for a sentence; empty where they are whole."""
        return ""

    def briefly(self, tables: Frames) -> str:
        """:meth:`missing`, in a few words."""
        return self.missing(tables)

    def elsewhere(self, preset: str, device: str) -> str:
        """Where a finding at this preset, on a device of this type, was made if that does not decide; else empty."""
        return f"at the {preset} preset" if self.scaled and preset != "paper" else ""

    def note(self, tables: Frames) -> str:
        """What must be said beside the outcome, as which cases a correction leaves open; mostly nothing."""
        return ""

    def compared(self, tables: Frames) -> list[Compared]:
        """The numbers that the rule compares, those that decide first; by default all quantities."""
        return [Compared(name, averaged(values)) for name, values in self.quantities(tables).items()]

    def direction(self, tables: Frames) -> Direction:
        """Why the rule is not met: where it compares with limits alone, the numbers miss one."""
        return "against" if self.judge(tables) == "not reproduced" else ""

    def tally(self, tables: Frames) -> str:
        """The comparisons behind :meth:`direction`, counted, as a sentence; empty where there are none."""
        return ""

    def remark(self, tables: Frames) -> str:
        """What the scorecard adds to the outcome, as a part of a sentence: the correction, or a limit of the rule."""
        return ""

    def smallest(self, tables: Frames) -> int | None:
        """The number of seeds of the smallest group that is compared; None where nothing depends on it."""
        return None

    def precision(self, tables: Frames) -> str:
        """The precision of the runs that are judged; empty where nothing depends on it."""
        return ""

    def digest(self) -> str:
        """SHA-256, in hex, of the rule: its sentence, and the constants of the class and its bases."""
        constants = {
            name: repr(getattr(self, name))
            for base in type(self).__mro__
            for name in vars(base)
            if name.isupper() and not name.startswith("_")
        }
        return digest({"rule": self.rule, "constants": constants})


def seeded(seeds: Iterable[int], study: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """One table from a study's tables for some seeds, with a column ``seed``."""
    return pd.concat([study(seed).assign(seed=seed) for seed in seeds], ignore_index=True)
