"""What was measured for a claim, on record: its quantities, and one table for each measurement."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from paperlib import _checks
from paperlib.errors import RecordError
from paperlib.store import Stored

PRESETS = ("paper", "desk", "smoke")  # the one that says most comes first


class Quantity(BaseModel):
    """One measured number: mean and standard deviation over ``n`` seeds (``sd`` is None for one)."""

    model_config = ConfigDict(extra="forbid")

    mean: float = Field(description="over the seeds")
    sd: float | None = Field(description="over the seeds, with n − 1")
    n: int = Field(description="how many seeds")

    def __str__(self) -> str:
        style = ".3f" if abs(self.mean) >= 5e-4 or self.mean == 0 else ".0e"
        return f"{self.mean:{style}}" + ("" if self.sd is None else f" ± {self.sd:{style}}")


class Ruling(BaseModel):
    """The rule that was in force when a finding was made: its digest and sentence, and what it said then."""

    model_config = ConfigDict(extra="forbid")

    digest: str = Field(description="of the rule, its thresholds among it")
    sentence: str = Field(description="the rule in words")
    outcome: str = Field(description="what it said")


class Finding(Stored):
    """What was measured for one claim: its quantities, its tables, and where they were made.

    ``rule`` is the rule of that time.  Findings from before rules were kept have none.
    """

    FILE: ClassVar[str] = "finding.json"
    NOUN: ClassVar[str] = "finding"
    REMEDY: ClassVar[str] = "measure the claim again"

    kind: Literal["finding"] = "finding"
    claim: str = Field(description="the claim's name")
    preset: str = Field(description="the size at which it was measured")
    seeds: list[int] = Field(description="those that were measured")
    quantities: dict[str, Quantity] = Field(description="the numbers, by what they are")
    rule: Ruling | None = Field(None, description="the rule of that time")

    def contradictions(self) -> dict[str, bool]:
        doubled = len(set(self.seeds)) < len(self.seeds)
        return {"its seeds are not whole numbers from 0 on, each once": doubled or min(self.seeds, default=-1) < 0} | {
            f"its quantity {name!r} has a negative spread or number of seeds": q.n < 0 or (q.sd or 0.0) < 0
            for name, q in self.quantities.items()
        }


def place(root: str | Path, claim: str, preset: str) -> Path:
    """The folder of a claim's finding at one preset, ``<root>/claims/<claim>/<preset>``.

    Examples
    --------
    >>> place("results", "T1", "desk").as_posix()
    'results/claims/T1/desk'
    """
    return Path(root) / "claims" / claim / preset


def save(finding: Finding, root: str | Path) -> Path:
    """Write a finding to its :func:`place` below ``root`` and return that folder.

    Findings of other presets stay as they are.

    Raises
    ------
    RecordError
        It cannot be written; an earlier finding there is left whole.
    """
    _checks.instance("finding", finding, Finding, "a Finding")
    return finding.save(place(_checks.path("root", root), finding.claim, finding.preset))


def read(folder: str | Path) -> Finding:
    """Read the finding in ``folder``.

    Raises
    ------
    RecordError
        It is missing, damaged, was changed after it was saved, or is of another schema version.
    """
    return Finding.read(folder)


def check_root(root: str | Path) -> None:
    """Raise ``RecordError`` unless ``root`` can hold findings: a folder with a folder ``claims`` in it."""
    if not (Path(root) / "claims").is_dir():
        raise RecordError(f"there are no findings in {root}: name a folder that has claims/ in it, such as results")


def read_below(root: str | Path) -> list[Finding]:
    """Every finding below ``<root>/claims``, by claim and preset in the order of their names.

    Raises
    ------
    RecordError
        One cannot be read, lies where an earlier paperlib kept it, or in the place of another claim or preset; or the
        folder of one has none.
    """
    claims = _checks.path("root", root) / "claims"
    if old := sorted(claims.glob(f"*/{Finding.FILE}")):
        raise RecordError(
            f"{old[0].parent} has a finding where an earlier paperlib kept it: move what is in it to a folder in it "
            "that is named after the preset, such as desk"
        )
    folders = sorted(path for path in claims.glob("[!.]*/[!.]*") if path.is_dir())
    for folder in folders:
        if not (folder / Finding.FILE).is_file():
            raise RecordError(
                f"there is no file {Finding.FILE} in {folder}: measure the claim again, or remove the folder"
            )
    return [_in_its_place(read(folder), root) for folder in folders]


def _in_its_place(finding: Finding, root: str | Path) -> Finding:
    proper = place(root, finding.claim, finding.preset)
    if finding.folder != proper:
        raise RecordError(
            f"{finding.folder} has a finding of {finding.claim} at the {finding.preset} preset: move it to {proper}"
        )
    return finding


def counting(findings: Iterable[Finding]) -> list[Finding]:
    """Of each claim the finding that counts: the one of the largest preset, paper over desk over smoke.

    Parameters
    ----------
    findings : iterable of Finding
        Several for a claim, perhaps.

    Returns
    -------
    list of Finding
        One for each claim, in the order in which the claims come first.
    """
    found: dict[str, Finding] = {}
    for finding in _checks.items("findings", findings, "Findings"):
        _checks.instance("findings", finding, Finding, "a list of Findings")
        known = found.get(finding.claim)
        if known is None or rank(finding.preset) < rank(known.preset):
            found[finding.claim] = finding
    return list(found.values())


def rank(preset: str) -> int:
    """A preset's place in ``PRESETS``; behind them for another one.

    Examples
    --------
    >>> rank("paper") < rank("desk") < rank("smoke") < rank("mine")
    True
    """
    return PRESETS.index(preset) if preset in PRESETS else len(PRESETS)
