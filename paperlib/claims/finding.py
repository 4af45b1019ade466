"""What was measured for a claim, on record: the summary with its provenance, and one table for each measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from paperlib import records
from paperlib.errors import RecordError

FILE = "finding.json"
Tables = dict[str, pd.DataFrame]


class Quantity(BaseModel):
    """One measured number: mean and standard deviation over ``n`` seeds (``sd`` is None for one)."""

    mean: float
    sd: float | None
    n: int

    def __str__(self) -> str:
        style = ".3f" if abs(self.mean) >= 5e-4 or self.mean == 0 else ".0e"
        return f"{self.mean:{style}}" + ("" if self.sd is None else f" ± {self.sd:{style}}")


class Finding(records.Provenance):
    """What was measured for one claim: its quantities, its tables, and where they were made."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    schema_version: Literal[1] = 1
    claim: str
    preset: str
    seeds: list[int]
    # Findings that were stored before the word was changed say "figures".
    quantities: dict[str, Quantity] = Field(validation_alias=AliasChoices("quantities", "figures"))
    tables: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each table's file")

    frames: Tables = Field(default_factory=dict, exclude=True, repr=False, description="the tables; kept as files")


def save(finding: Finding, root: str | Path) -> Path:
    """Write a finding to ``<root>/claims/<claim>/`` and return that folder.  Raises ``RecordError`` if it cannot be."""
    folder = Path(root) / "claims" / finding.claim
    try:
        finding.tables = records.write_tables(folder, finding.frames)
        records.write_atomically(folder / FILE, (finding.model_dump_json(indent=2) + "\n").encode())
    except OSError as e:
        raise RecordError(f"the finding could not be written to {folder}: {e.strerror or e}") from e
    return folder


def read(folder: str | Path) -> Finding:
    """Read the finding in ``folder``.  Raises ``RecordError`` if it is missing, malformed, or a table is not the saved one."""
    path = Path(folder) / FILE
    try:
        finding = Finding.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise RecordError(f"there is no finding at {path}") from None
    except ValidationError as e:
        first = e.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise RecordError(f"{path} is not a readable finding ({reason}); measure the claim again") from e
    except (OSError, ValueError) as e:
        reason = str(e).splitlines()[0]
        raise RecordError(f"{path} is not a readable finding ({reason}); measure the claim again") from e
    if not finding.tables:
        raise RecordError(f"{path} is not a readable finding (it names no tables); measure the claim again")
    for name, checksum in finding.tables.items():
        table = path.with_name(f"{name}.parquet")
        try:
            finding.frames[name] = records.read_table(table, checksum)
        except OSError as e:
            raise RecordError(f"{table} cannot be read ({e.strerror or e}); measure the claim again") from e
        except ValueError as e:
            raise RecordError(f"{table} is not the table of its finding ({e}); measure the claim again") from e
    return finding
