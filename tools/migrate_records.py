"""Bring records of schema 1 (before the common store) to schema 2: ``python tools/migrate_records.py FOLDER``.

Every ``record.json``, ``grid.json`` and ``finding.json`` below FOLDER is read in its old form, written in the new one,
and read back.  Nothing is believed that can be checked.  A table must have its recorded checksum before, and the same
one after.  Whatever is no longer stored because it follows from the parameters or the tables must follow from them
exactly.  The old files go only when the new ones have been read.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from paperlib import checkpoints
from paperlib.channel_grid.grid import GridRecord, ResolvedGrid
from paperlib.cifar import available
from paperlib.claims.finding import Finding
from paperlib.config import ResolvedRun
from paperlib.records import Record
from paperlib.store import Provenance, Session, Stored
from paperlib.store.files import unseal
from paperlib.training import trained_network

KINDS = (Record, GridRecord, Finding)


def check(what: str, old: Any, new: Any) -> None:
    """Exit unless both are the same (NaN is the same as NaN)."""
    if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
        raise SystemExit(f"{what}: {old!r} before, {new!r} after")


def frames(folder: Path, checksums: dict[str, str]) -> dict[str, pd.DataFrame]:
    """The tables of a record of schema 1, each with its recorded checksum."""
    found = {}
    for name, checksum in checksums.items():
        content = (folder / f"{name}.parquet").read_bytes()
        check(f"{folder}/{name}.parquet", checksum, hashlib.sha256(content).hexdigest())
        found[name] = pd.read_parquet(io.BytesIO(content))
    return found


def provenance(old: dict[str, Any]) -> Provenance:
    """Every record of schema 1 that was kept was made in one session."""
    sessions = old.get("sessions", 1)
    check("sessions", 1, sessions if isinstance(sessions, int) else max(1, len(sessions)))
    session = Session(
        commit=old["git"]["commit"],
        dirty=old["git"]["dirty"],
        versions=old["versions"],
        device=old["device"],
        threads=old["threads"],
        started=old["started"],
        seconds=old["wall_seconds"],
    )
    return Provenance(command=old["command"], sessions=[session])


def run(old: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Record:
    """A training run: ``reference_quirks`` is ``projector`` now; what is derived is checked."""
    digested = {k: v for k, v in old["config"].items() if k not in ("threads", "checkpoint_activations")}
    digested["source"] = "sample" if digested["source"] == "sample" else "auto"
    digested["device"] = digested["device"].split(":")[0]
    if not digested.get("reference_quirks"):
        digested.pop("reference_quirks", None)
    text = json.dumps(digested, sort_keys=True)
    check("config_hash", old["config_hash"], hashlib.sha256(text.encode()).hexdigest())

    published = old["config"].pop("reference_quirks", False)
    old["command"] = old["command"].replace("-p reference_quirks True", "-p projector published")
    config = ResolvedRun(**old["config"], projector="published" if published else "exact")
    record = Record(
        status=old["status"],
        config=config,
        provenance=provenance(old),
        data=old["data"],
        parameters=old["parameters"],
        epoch_seconds=old["epoch_seconds"],
        peak_memory_bytes=old["peak_memory_bytes"],
        divergence=old["divergence"],
        frames=tables,
    )
    check("final", old["final"], record.final)
    check("left_out", old["left_out"], record.left_out)
    check("network", old["network"].replace("-reference", "-published"), record.network)
    check("precision", [old["precision"], old["memory_format"]], [config.precision, config.memory_format])
    determinism = {"deterministic_algorithms": config.deterministic, "cudnn_benchmark": False}
    check("determinism", old["determinism"], determinism)
    return record


def grid(old: dict[str, Any], tables: dict[str, pd.DataFrame]) -> GridRecord:
    """A channel grid: the numbers of images are added, and the head where it is older than that parameter."""
    train, test = available("cifar10", old["config"]["source"])
    for session in old.get("sessions", []):
        check("session", {name: old[name] for name in ("git", "versions", "device")}, session)
    seconds = tables["measurements"].groupby(["c", "d", "variant"]).seconds.first()
    twice = tables["measurements"].variant.eq("published")  # where c ≤ d these rows are those of another variant
    if not twice.any() and not math.isclose(old["wall_seconds"], seconds.sum(), rel_tol=1e-9):
        raise SystemExit(f"wall_seconds: {old['wall_seconds']} before, the cells took {seconds.sum()}")
    return GridRecord(
        config=ResolvedGrid(**old["config"]),
        provenance=provenance(old),
        data=old["data"] | {"train_images": train, "test_images": test},
        frames=tables,
    )


def finding(old: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Finding:
    """A finding: its figures are quantities now."""
    names = ("claim", "preset", "seeds")
    return Finding(**{n: old[n] for n in names}, quantities=old["figures"], provenance=provenance(old), frames=tables)


def checkpoint(folder: Path, record: Record) -> None:
    """The run's last checkpoint, if it is there: the same weights, in the form that goes with the record."""
    path = folder / checkpoints.FILE
    payload = unseal(path.read_bytes()) if path.exists() else None
    if payload is None:
        return
    old = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    check("checkpoint", 1, old["schema"])
    kept = ("epoch", "step", "sums", "epochs", "blocks", "epoch_seconds")
    state = {name: old["state"][name] for name in kept}
    state["sessions"] = [session.model_dump() for session in record.provenance.sessions]
    parts = {name: old[name] for name in ("model", "optimizer", "probe", "projection")}
    checkpoints.write(record.folder or folder, parts | {"config": record.config.model_dump(), "state": state})
    trained_network(record)  # it can be read


def migrate(path: Path) -> Path | None:
    """Rewrite one record in place, or in the folder that its renamed network has; None if it is not of schema 1."""
    old = json.loads(path.read_bytes())
    if old["schema_version"] != 1:
        return None
    tables = frames(path.parent, old["tables"])
    make = {"record.json": run, "grid.json": grid, "finding.json": finding}[path.name]
    new: Stored = make(json.loads(path.read_bytes()), tables)
    name = path.parent.parent.name.replace("-reference", "-published")
    folder = path.parents[2] / name / path.parent.name if path.name == "record.json" else path.parent
    moved = folder != path.parent
    obsolete = [path.with_name(f"{name}.parquet") for name in tables] + [path] * moved
    new.save(folder)
    if isinstance(new, Record):
        checkpoint(path.parent, new)
        obsolete += [file for file in (path.with_name(checkpoints.FILE),) if moved and file.exists()]
    again = type(new).read(folder)
    check("tables", old["tables"], json.loads((folder / path.name).read_bytes())["tables"])
    if again != new:
        raise SystemExit(f"{folder} does not read back as it was written")
    for file in obsolete:
        file.unlink()
    if moved and not any(path.parent.iterdir()):
        path.parent.rmdir()
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__.splitlines()[0])
    done = [migrate(path) for kind in KINDS for path in sorted(Path(sys.argv[1]).rglob(kind.FILE))]
    print(f"{sum(d is not None for d in done)} migrated, {done.count(None)} were of the new schema")
