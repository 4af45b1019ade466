"""What a claim is: a statement of the paper, the way it is measured, and the rule that judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from paperlib.store import Frames as Tables
from paperlib.store import Provenance

Outcome = Literal["reproduced", "reproduced with a correction", "not reproduced"]
UNTESTED = "not yet tested at the paper's scale"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, how it is measured, and the rule that judges it.

    ``measure`` takes a preset and the seeds and returns tables; from these ``figures`` takes the numbers to quote, one
    value a seed, and ``judge`` the outcome.  ``accelerated``: it is measured on a CUDA device where there is one.

    ``seeds``: how many a preset takes by default.

    ``scaled``: the claim is about trained networks, has a ``paper`` preset, and only that one decides it.  Such a claim is measured
    on a stored run, and ``measure`` returns where that was made as well.
    """

    where: str
    statement: str
    rule: str
    measure: Callable[[str, list[int]], Tables | tuple[Tables, Provenance]]
    figures: Callable[[Tables], dict[str, pd.Series]]
    judge: Callable[[Tables], Outcome]
    accelerated: bool = False
    scaled: bool = False
    seeds: Callable[[str], int] = lambda preset: 5

    @property
    def presets(self) -> tuple[str, ...]:
        return ("smoke", "desk", "paper") if self.scaled else ("smoke", "desk")


def seeded(seeds: Iterable[int], study: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """One table from a study's tables for some seeds, with a column ``seed``."""
    return pd.concat([study(seed).assign(seed=seed) for seed in seeds], ignore_index=True)
