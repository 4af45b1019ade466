"""The page on reproducibility: what the trainings on record took, as a table."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from paperlib.records import Record
from paperlib.studies.section4 import spread

_BY = ["preset", "network", "precision", "epochs", "images", "device"]


def trainings(records: Iterable[Record]) -> pd.DataFrame:
    """One row per network and way of training it: how many runs, how long each took, and its memory.

    Returns
    -------
    DataFrame
        Indexed by ``preset``, ``network``, ``precision``, ``epochs``, ``images`` (of an epoch) and ``device``; columns
        ``runs``, ``minutes`` (mean ± standard deviation) and ``memory, GiB`` (the largest).  Runs that differ in
        something else, such as the schedule, are counted together.

    Examples
    --------
    >>> trainings([]).empty
    True
    """
    rows = pd.DataFrame(
        {
            "preset": record.config.preset,
            "network": record.network,
            "precision": record.config.precision,
            "epochs": record.config.epochs,
            "images": record.data.train_images,
            "device": record.provenance.device.name,
            "minutes": record.provenance.seconds / 60,
            "memory": record.peak_memory_bytes / 2**30,
        }
        for record in records
    )
    if rows.empty:
        return rows
    found = rows.groupby(_BY).agg(
        runs=("minutes", "count"), mean=("minutes", "mean"), sd=("minutes", "std"), memory=("memory", "max")
    )
    minutes = [spread(mean, sd) for mean, sd in zip(found["mean"], found["sd"], strict=True)]
    memory = found.memory.map("{:.1f}".format)
    return pd.DataFrame({"runs": found.runs, "minutes": minutes, "memory, GiB": memory}, index=found.index)
