"""How results are kept: one form for training runs, channel grids and findings."""

from __future__ import annotations

from paperlib.store.places import results_root, runs_root
from paperlib.store.provenance import Device, Provenance, Session
from paperlib.store.stored import Frames, Stored

__all__ = ["Device", "Frames", "Provenance", "Session", "Stored", "results_root", "runs_root"]
