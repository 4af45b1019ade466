"""The singular values of every block of Theorem 1 at many depths: measured once, and kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from paperlib.store import Provenance, Stored, results_root
from paperlib.studies.norm_preservation.path import block_spectra
from paperlib.studies.norm_preservation.rates import DEPTHS
from paperlib.studies.norm_preservation.smooth_maps import example_maps

MAP = "twist"
COMMAND = "python -m paperlib spectra --out results"


class Spectra(Stored):
    """The record of what :func:`measure_spectra` measures.

    Attributes
    ----------
    map : str
        The smooth map, one of :func:`example_maps`.
    points : int
        At how many random points of the unit ball its blocks' derivatives were taken.
    """

    FILE: ClassVar[str] = "spectra.json"
    NOUN: ClassVar[str] = "table of spectra"
    REMEDY: ClassVar[str] = f"make it again: {COMMAND}"
    TABLES: ClassVar[tuple[str, ...]] = ("blocks",)

    kind: Literal["block spectra"] = "block spectra"
    map: str
    points: int

    @property
    def blocks(self) -> pd.DataFrame:
        """One row per schedule, depth and block: ``schedule``, ``L``, ``block`` (1 to L), ``lowest``, ``highest``."""
        return self.frames["blocks"]


def spectra_folder(root: str | Path | None = None) -> Path:
    """Where the record lies below the root of the committed records, or below another one."""
    return Path(root or results_root()) / "norm_preservation"


def measure_spectra(depths: Iterable[int] = DEPTHS, points: int = 64) -> Spectra:
    """:func:`block_spectra` of chapter 1's twist, for chains of 2 to 1,024 blocks and all three schedules.

    Parameters
    ----------
    depths : iterable of int
        The numbers of blocks.
    points : int
        Random points of the unit ball.

    Returns
    -------
    Spectra
        Not saved; ``save(spectra_folder(root))`` keeps it.

    Examples
    --------
    >>> found = measure_spectra(depths=[1, 2], points=4)
    >>> found.blocks.groupby("schedule", sort=False).size().to_dict()
    {'geometric': 3, 'uniform': 3, 'arc': 3}
    """
    made = Provenance.here(COMMAND)
    f = example_maps()[MAP]
    parts = [block_spectra(f, L, points=points).assign(L=L) for L in depths]
    table = pd.concat(parts, ignore_index=True)[["schedule", "L", "block", "lowest", "highest"]]
    made.last.clock()
    return Spectra(provenance=made, map=MAP, points=points, frames={"blocks": table})


def read_spectra(root: str | Path | None = None) -> Spectra:
    """The record below the root of the committed records, or below another one.

    Raises
    ------
    RecordError
        It is missing, damaged, was changed after it was saved, or is of another schema version.
    """
    return Spectra.read(spectra_folder(root))
