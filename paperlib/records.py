"""What a run leaves behind: one folder with ``record.json`` and two tidy Parquet tables.

Layout: ``<root>/<preset>/<dataset>/<network>/seed<k>/``.  ``epochs.parquet`` has one row an epoch, ``blocks.parquet``
one row an epoch and block.  ``record.json`` is written last and carries the tables' SHA-256, so that a folder
either holds a whole record or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import filelock
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from paperlib.errors import PaperlibError, RecordError

SCHEMA_VERSION = 1
TABLES = ("epochs", "blocks")
FILE = "record.json"


class Provenance(BaseModel):
    """Where and how something was made.  ``git`` has ``commit`` and ``dirty``, ``device`` has ``type`` and ``name``."""

    # A test loss can be infinite or NaN and must survive the way through JSON.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    command: str
    git: dict[str, Any]
    versions: dict[str, str]
    device: dict[str, Any]
    threads: int
    started: str
    wall_seconds: float

    @property
    def short_commit(self) -> str:
        """Eight digits of the commit, with a + if there were uncommitted changes."""
        return short_commit(self.git)


class Record(Provenance):
    """One run: its resolved configuration, where and how it was made, its final figures, its tables.

    Times are in seconds, memory in bytes, errors in per cent.  ``epochs`` and ``blocks`` are pandas data frames.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    status: Literal["finished", "diverged"]
    network: str
    config: dict[str, Any]
    config_hash: str
    precision: str
    memory_format: str
    determinism: dict[str, Any]
    data: dict[str, Any]
    parameters: int
    sessions: int = Field(ge=1, description="1 + the number of times the run was resumed")
    epoch_seconds: list[float]
    peak_memory_bytes: int
    final: dict[str, float]
    left_out: str = ""
    divergence: dict[str, Any] | None = None
    tables: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each table's file")

    _epochs: pd.DataFrame = PrivateAttr(default_factory=pd.DataFrame)
    _blocks: pd.DataFrame = PrivateAttr(default_factory=pd.DataFrame)
    _folder: Path | None = PrivateAttr(default=None)

    def __eq__(self, other: object) -> bool:
        """Equal in every field and, bit for bit, in both tables (where they lie does not matter)."""
        if not isinstance(other, Record):
            return NotImplemented
        same_tables = all(getattr(self, name).equals(getattr(other, name)) for name in TABLES)
        return same_tables and self.model_dump_json() == other.model_dump_json()  # as text: NaN equals itself

    @property
    def epochs(self) -> pd.DataFrame:
        """One row an epoch: ``epoch``, ``lr``, ``train_loss``, ``train_error``, ``test_loss``, ``test_error``, ``grad_norm``."""
        return self._epochs

    @property
    def blocks(self) -> pd.DataFrame:
        """One row an epoch and block: ``epoch`` and the columns of :meth:`paperlib.probes.GradientNorms.averages`."""
        return self._blocks

    @property
    def folder(self) -> Path | None:
        """Where the record lies, if it was saved or read."""
        return self._folder

    @property
    def label(self) -> str:
        """A short name that tells runs of one figure apart: the network, the precision, and where it diverged if it did."""
        notes = [self.precision] if self.precision != "bfloat16" else []
        if self.divergence:
            notes.append(f"diverged in epoch {self.divergence['epoch']}")
        return f"{self.network} ({', '.join(notes)})" if notes else self.network

    def with_tables(self, epochs: pd.DataFrame, blocks: pd.DataFrame) -> Record:
        """This record with its two tables set; returns itself."""
        self._epochs, self._blocks = epochs, blocks
        return self

    def summary(self) -> dict[str, Any]:
        """The row of an overview table."""
        c = self.config
        return {
            "network": self.network,
            "dataset": c["dataset"],
            "preset": c["preset"],
            "seed": c["seed"],
            "epochs": len(self.epochs),
            "images": self.data["train_images"],
            "status": self.status,
            "train error %": round(self.final.get("train_error", float("nan")), 2),
            "test error %": round(self.final.get("test_error", float("nan")), 2),
            "minutes": round(self.wall_seconds / 60, 1),
            "device": self.device["name"],
            "commit": self.short_commit,
        }


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it; on any error the old file stays and no new one is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def hold(folder: Path, what: str) -> Iterator[None]:
    """Make the folder of a run (``what``: "run", "grid") and keep other processes out of it until the end of the ``with`` block.

    Raises ``PaperlibError`` if another process is at it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise PaperlibError(f"another process is working on this {what} ({folder}): wait for it or stop it") from None
    except OSError as e:
        raise PaperlibError(
            f"the {what}'s folder {folder} cannot be written ({e.strerror or e}): set PAPERLIB_RUNS to another one"
        ) from e
    with lock:
        yield


def seal(payload: bytes) -> bytes:
    """The payload with its SHA-256 in front, so that a damaged file is found before anything in it is believed."""
    return hashlib.sha256(payload).digest() + payload


Buffer = TypeVar("Buffer", bytes, memoryview)


def unseal(raw: Buffer) -> Buffer | None:
    """What :func:`seal` was given (a memoryview of it, not a copy, for a memoryview); None if ``raw`` is damaged."""
    return raw[32:] if hashlib.sha256(raw[32:]).digest() == raw[:32] else None


def write_table(path: Path, frame: pd.DataFrame) -> str:
    """Write one Parquet table atomically; returns the SHA-256 of its file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def write_tables(folder: Path, frames: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Write ``<folder>/<name>.parquet`` for each frame; returns the SHA-256 of each file."""
    return {name: write_table(folder / f"{name}.parquet", frame) for name, frame in frames.items()}


def read_table(path: Path, checksum: str | None) -> pd.DataFrame:
    """The table in ``path``.  Raises ``OSError``, or ``ValueError`` unless its SHA-256 is ``checksum``."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError("its checksum is not the recorded one")
    return pd.read_parquet(io.BytesIO(content))


def save(record: Record, folder: str | Path) -> Path:
    """Write a record into ``folder`` (made if need be) and return the folder.

    Raises ``RecordError`` when the folder cannot be written.
    """
    folder = Path(folder)
    try:
        record.tables = write_tables(folder, {name: getattr(record, name) for name in TABLES})
        write_atomically(folder / FILE, (record.model_dump_json(indent=2) + "\n").encode())
    except OSError as e:
        raise RecordError(f"the record could not be written to {folder}: {e.strerror or e}") from e
    record._folder = folder
    return folder


def read(folder: str | Path) -> Record:
    """Read the record in ``folder``.

    Raises ``RecordError`` if it is missing, malformed, of another schema version, or if a table is not the one that was saved.
    """
    path = Path(folder)
    path = path if path.name == FILE else path / FILE
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordError(f"there is no record at {path}") from None
    except (OSError, ValueError) as e:
        raise RecordError(
            f"{path} is not a readable record ({e}); delete this file and run it again (the checkpoint beside it is used)"
        ) from e
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema version {version!r}, this paperlib reads {SCHEMA_VERSION}: use the paperlib that wrote it, or run it again"
        )
    try:
        record = Record.model_validate(raw)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(
            f"{path} is malformed at '{where}' ({first['msg'].lower()}); delete this file and run it again (the checkpoint beside it is used)"
        ) from e
    frames = {}
    for name in TABLES:
        table = path.with_name(f"{name}.parquet")
        if not table.exists():
            raise RecordError(f"{table} is missing; delete record.json there and run it again")
        try:
            frames[name] = read_table(table, record.tables.get(name))
        except (OSError, ValueError) as e:
            raise RecordError(
                f"{table} is not the table of its record ({e}); delete record.json there and run it again"
            ) from e
    record._folder = path.parent
    return record.with_tables(**frames)


def read_all(root: str | Path) -> list[Record]:
    """Every record below ``root``, sorted by path; an empty list where there is none.  Raises as :func:`read`."""
    return [read(path) for path in sorted(Path(root).rglob(FILE))]


def overview(records: list[Record]) -> pd.DataFrame:
    """One row a record: network, data set, preset, seed, epochs, images, errors, time, device, commit."""
    return pd.DataFrame([r.summary() for r in records])


def provenance(record: Record) -> pd.DataFrame:
    """How a run was made: one column, one row a fact."""
    r = record
    commit = r.git.get("commit") or "not from a checkout"
    facts = {
        "command": r.command,
        "started (UTC)": r.started,
        "wall time": f"{r.wall_seconds:.0f} s in {r.sessions} session{'s' if r.sessions > 1 else ''}",
        "device": f"{r.device['name']} ({r.device['type']}), {r.threads} CPU threads",
        "precision, format": f"{r.precision}, {r.memory_format}",
        "deterministic kernels": "yes" if r.determinism.get("deterministic_algorithms") else "no",
        "peak memory": f"{r.peak_memory_bytes / 2**30:.1f} GiB",
        "data": f"{r.data['dataset']} from {r.data['source']}, SHA-256 {r.data['checksum'][:16]}…",
        "commit": commit + (" with uncommitted changes" if r.git.get("dirty") else ""),
        "versions": ", ".join(f"{name} {version}" for name, version in r.versions.items()),
        "configuration": f"SHA-256 {r.config_hash[:16]}…",
    }
    return pd.DataFrame({"": facts})


def norm_preservation(record: Record) -> pd.DataFrame:
    """How far the blocks are from keeping the gradient's norm, in the first and the last epoch, by kind of block.

    Columns: ``blocks`` (their number), ``smallest``, ``median`` and ``largest`` geometric-mean ratio of a block, ``distance``
    (median over blocks of the size of the log ratio; 0 is norm-preserving).  Empty if the run was not watched.
    """
    if record.blocks.empty:
        return pd.DataFrame()
    table = record.blocks[record.blocks.epoch.isin([record.blocks.epoch.min(), record.blocks.epoch.max()])]
    table = table.assign(ratio=table.log_ratio.map(math.exp), distance=table.log_ratio.abs())
    ratio = table.groupby(["epoch", "kind"]).ratio.agg(blocks="count", smallest="min", median="median", largest="max")
    return ratio.join(table.groupby(["epoch", "kind"]).distance.median()).reset_index()


def ending(record: Record) -> str:
    """How a run ended, in a sentence."""
    if record.divergence is None:
        return f"{record.network} finished its {len(record.epochs)} epochs."
    d = record.divergence
    return f"{record.network} diverged in epoch {d['epoch']}, step {d['step']}: the {d['what']} was not finite, first in {d['block']}."


# -- provenance ------------------------------------------------------------------------------------------------
def git_state() -> dict[str, Any]:
    """The commit of the checkout that the package lies in and whether it has uncommitted changes; None without one."""
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=here.parent, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        # A package installed into some other project's checkout must not report that project's commit.
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return {"commit": None, "dirty": None}
        # Outputs do not change what is computed.
        dirty = git("status", "--porcelain", "--", "paperlib", "notebooks/*.py", "requirements.txt")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def short_commit(git: dict[str, Any]) -> str:
    """Eight digits of the commit that :func:`git_state` found, with a + if there were uncommitted changes."""
    return (git.get("commit") or "none")[:8] + ("+" if git.get("dirty") else "")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("paperlib", "torch", "torchvision", "numpy", "pandas"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def device_name(device: torch.device) -> str:
    """The processor's or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
