"""What trainings took in time and in memory, beside what is predicted: over depth, batch, precision and device."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from paperlib.config import RunConfig
from paperlib.records import Record
from paperlib.sweep import cost
from paperlib.training.run import SIDE_BY_SIDE

GIB = 2**30


def taken(records: Iterable[Record]) -> pd.DataFrame:
    """What each run took.

    Returns
    -------
    DataFrame
        One row per run of several epochs, and columns ``kind`` (device and precision), ``depth``, ``batch``,
        ``milliseconds`` (of an image in a training step; an evaluation counts as a part of one, and runs that were made
        side by side in one process share their time), ``memory`` (the most at any time: of the process, or on CUDA what
        was allocated there; GiB), and ``predicted`` (:func:`paperlib.sweep.cost.memory_bytes` in GiB; NaN on CUDA,
        where it says what the host needs).
    """
    rows = []
    for record in records:
        if record.config.epochs == 1:  # half of it is the measurement before the first update, which is no training
            continue
        config, on_gpu = record.config, record.provenance.device.type == "cuda"
        together = int(record.provenance.last.settings.get(SIDE_BY_SIDE, 1))
        done = together * cost.images(config) * len(record.epochs) / config.epochs
        rows.append(
            {
                "kind": kind(record.provenance.device.name, config.precision),
                "depth": config.depth,
                "batch": min(config.batch_size, config.train_images),
                "milliseconds": 1e3 * sum(record.epoch_seconds) / done,
                "memory": record.peak_memory_bytes / GIB,
                "predicted": math.nan if on_gpu else cost.memory_bytes(config) / GIB,
            }
        )
    return pd.DataFrame(rows, columns=["kind", "depth", "batch", "milliseconds", "memory", "predicted"])


def times(costs: Iterable[cost.Costs], depths: Iterable[int]) -> pd.DataFrame:
    """What an image takes by the costs of some machines: columns ``kind``, ``depth``, ``milliseconds``."""
    depths = list(depths)
    rows = [
        {"kind": kind(known.device.name, precision), "depth": depth, "milliseconds": 1e3 * (base + slope * depth)}
        for known in costs
        for precision, (base, slope) in known.per_image.items()
        for depth in depths
    ]
    return pd.DataFrame(rows, columns=["kind", "depth", "milliseconds"])


def memory(batches: Iterable[int], depths: Iterable[int], costs: cost.Costs) -> pd.DataFrame:
    """The memory that is predicted for trainings on a processor whose costs are known.

    Returns
    -------
    DataFrame
        Columns ``kind``, ``batch``, ``depth``, ``memory`` (GiB).
    """
    depths = list(depths)
    rows = []
    for precision in costs.per_image:
        for batch in batches:
            for depth in depths:
                asked = RunConfig(preset="paper", depth=depth, batch_size=batch, precision=precision, device="cpu")
                kept = asked.resolve().model_copy(update={"checkpoint_activations": False})
                gib = cost.memory_bytes(kept) / GIB
                rows.append({"kind": kind(costs.device.name, precision), "batch": batch, "depth": depth, "memory": gib})
    return pd.DataFrame(rows, columns=["kind", "batch", "depth", "memory"])


def kind(device: str, precision: str) -> str:
    """What one colour stands for: a device and a precision."""
    return f"{device}, {precision}"


def agreement(runs: pd.DataFrame) -> str:
    """How near the predicted memory of runs is to what they took: a sentence on a table of :func:`taken`."""
    ratio = (runs["predicted"] / runs["memory"]).dropna()
    if ratio.empty:
        return "No run on a processor is on record, so no prediction can be compared."
    return (
        f"For the {len(ratio)} runs on record that a processor made, the prediction is {ratio.min():.2f} to "
        f"{ratio.max():.2f} times what was used, in the median {ratio.median():.2f} times."
    )
