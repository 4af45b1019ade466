"""What was measured for a claim, on record: its quantities, and one table for each measurement."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from paperlib.store import Stored


class Quantity(BaseModel):
    """One measured number: mean and standard deviation over ``n`` seeds (``sd`` is None for one)."""

    model_config = ConfigDict(extra="forbid")

    mean: float
    sd: float | None
    n: int

    def __str__(self) -> str:
        style = ".3f" if abs(self.mean) >= 5e-4 or self.mean == 0 else ".0e"
        return f"{self.mean:{style}}" + ("" if self.sd is None else f" ± {self.sd:{style}}")


class Ruling(BaseModel):
    """The rule that was in force when a finding was made: its digest and sentence, and what it said then."""

    model_config = ConfigDict(extra="forbid")

    digest: str
    sentence: str
    outcome: str


class Finding(Stored):
    """What was measured for one claim: its quantities, its tables, and where they were made.

    ``rule`` is the rule of that time.  Findings from before rules were kept have none.
    """

    FILE: ClassVar[str] = "finding.json"
    NOUN: ClassVar[str] = "finding"
    REMEDY: ClassVar[str] = "measure the claim again"

    kind: Literal["finding"] = "finding"
    claim: str
    preset: str
    seeds: list[int]
    quantities: dict[str, Quantity]
    rule: Ruling | None = None


def save(finding: Finding, root: str | Path) -> Path:
    """Write a finding to ``<root>/claims/<claim>/`` and return that folder.

    Raises
    ------
    RecordError
        It cannot be written; an earlier finding there is left whole.
    """
    return finding.save(Path(root) / "claims" / finding.claim)


def read(folder: str | Path) -> Finding:
    """Read the finding in ``folder``.

    Raises
    ------
    RecordError
        It is missing, damaged, was changed after it was saved, or is of another schema version.
    """
    return Finding.read(folder)
