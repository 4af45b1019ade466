"""Which GPU a job of a sweep works on, where the machine has several: the first that no other job holds."""

from __future__ import annotations

import os

import filelock
import torch

from paperlib.errors import PaperlibError

VARIABLE = "PAPERLIB_GPUS"
"""What the jobs of a sweep share out, named as in ``CUDA_VISIBLE_DEVICES``; the sweep sets it."""

_held: list[filelock.BaseFileLock] = []


def visible() -> list[str]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def take() -> None:
    """Let this process, and those that it starts, see one of the sweep's GPUs, which it holds until it ends.

    The locks are in the working directory, which is the sweep's.  Outside of a sweep nothing is done.

    Raises
    ------
    PaperlibError
        Other jobs hold all of them.
    """
    if not (shared := os.environ.get(VARIABLE)):
        return
    for gpu in shared.split(","):
        lock = filelock.FileLock(f".gpu-{gpu}.lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            continue
        _held.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return
    raise PaperlibError(f"other jobs of this sweep hold all of its GPUs ({shared}): run the sweep again")
