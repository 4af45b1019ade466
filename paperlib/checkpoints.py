"""Checkpoints: the state of an unfinished run in one sealed file, which is there whole or not at all."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from paperlib import _checks
from paperlib.errors import CheckpointError
from paperlib.store import files

FILE = "checkpoint.pt"
SCHEMA = 2


def write(folder: Path, content: dict[str, Any]) -> None:
    """Write the folder's checkpoint, in place of an older one.

    Raises
    ------
    CheckpointError
        It cannot be written.  An older one is left whole.
    """
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA} | content, buffer)
    path = folder / FILE
    try:
        files.write_atomically(path, files.seal(buffer.getvalue()))
    except OSError as e:
        raise CheckpointError(
            f"the checkpoint {path} could not be written ({e.strerror or e}): make room, or set PAPERLIB_RUNS to "
            "another folder, and run again; an older checkpoint was left whole"
        ) from e


def read(folder: Path, device: torch.device | str) -> dict[str, Any] | None:
    """The content of the folder's checkpoint, its tensors on ``device``; None where there is none.

    Only tensors and plain values are ever loaded, so that a foreign file cannot run code.

    Raises
    ------
    CheckpointError
        The file cannot be read, is damaged, or is something else.
    """
    folder = _checks.path("folder", folder)
    _checks.instance("device", device, (str, torch.device), "a device or its name")
    try:
        device = torch.device(device)
    except RuntimeError:  # which, from torch.load, would look like that of a damaged file
        raise ValueError(f"device {_checks.shown(device)} is unknown: use cpu, cuda or cuda:N") from None
    path = folder / FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {e.strerror or e}") from e
    payload = files.unseal(raw)
    if payload is None:
        raise CheckpointError(f"the checkpoint {path} is damaged: delete it to start this run anew")
    try:
        content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as e:
        raise CheckpointError(f"the checkpoint {path} is damaged or foreign: delete it to start this run anew") from e
    if not isinstance(content, dict) or "schema" not in content:
        raise CheckpointError(f"{path} is not a checkpoint of this library: delete it to start this run anew")
    if content["schema"] != SCHEMA:
        raise CheckpointError(
            f"the checkpoint {path} has schema {content['schema']}, this paperlib writes {SCHEMA}: "
            "delete it to start anew"
        )
    return content
