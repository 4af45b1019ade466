"""The page on reproducibility: what the trainings on record took, which faults were tried, what benchmarks measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from paperlib._text import code, markdown
from paperlib.errors import RecordError
from paperlib.records import Record
from paperlib.store import Provenance, results_root
from paperlib.store.stored import unsealed
from paperlib.studies.section4 import spread
from paperlib.studies.sentences import titled

_BY = ["preset", "network", "precision", "epochs", "images", "device"]


def trainings(records: Iterable[Record]) -> pd.DataFrame:
    """One row per network and way of training it: how many runs, how long each took, and its memory.

    Returns
    -------
    DataFrame
        Indexed by ``preset``, ``network``, ``precision``, ``epochs``, ``images`` (of an epoch) and ``device``; columns
        ``runs`` (and how many of them diverged), ``minutes`` (mean ± standard deviation) and ``memory, GiB`` (the
        largest).  Runs that differ in something else, such as the schedule, are counted together.

    Examples
    --------
    >>> trainings([]).empty
    True
    """
    rows = pd.DataFrame(
        {
            "preset": record.config.preset,
            "network": titled(record.network),
            "precision": record.config.precision,
            "epochs": record.config.epochs,
            "images": record.data.train_images,
            "device": record.provenance.device.name,
            "minutes": record.provenance.seconds / 60,
            "memory": record.peak_memory_bytes / 2**30,
            "diverged": record.status == "diverged",
        }
        for record in records
    )
    if rows.empty:
        return rows
    found = rows.groupby(_BY).agg(
        runs=("minutes", "count"),
        diverged=("diverged", "sum"),
        mean=("minutes", "mean"),
        sd=("minutes", "std"),
        memory=("memory", "max"),
    )
    runs = [f"{n}" + f", {ended} diverged" * bool(ended) for n, ended in zip(found.runs, found.diverged, strict=True)]
    minutes = [spread(mean, sd) for mean, sd in zip(found["mean"], found["sd"], strict=True)]
    memory = found.memory.map("{:.1f}".format)
    return pd.DataFrame({"runs": runs, "minutes": minutes, "memory, GiB": memory}, index=found.index)


def faults(path: str | Path) -> tuple[pd.DataFrame, str]:
    """What the long tests of faults tried, from the file that ``make torture`` writes.

    Returns
    -------
    DataFrame
        One row for each kind of try, which is what stands before a colon.  Columns: ``what was done``, ``times`` and
        ``what came of it`` (each outcome with its count).
    str
        How many tries they were, and where and when they were made: a sentence of Markdown.

    Raises
    ------
    RecordError
        The file is missing, was changed, or holds something else.
    """
    try:
        content = unsealed(Path(path).read_bytes())
        kinds: dict[str, Counter[str]] = {}
        for row in content["rows"]:  # "an archive was read: a fifo" is one of its kind
            kind = row["what"].partition(":")[0]
            kinds[kind] = kinds.get(kind, Counter()) + Counter(row["outcomes"])
        rows = [
            {
                "what was done": kind,
                "times": outcomes.total(),
                "what came of it": ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in outcomes.items()),
            }
            for kind, outcomes in kinds.items()
        ]
        made = Provenance.model_validate(content["provenance"])
        said = (
            f"These are {sum(row['tries'] for row in content['rows']):,} tries, made by {code(made.command)} on "
            f"{markdown(made.device.name)}, {markdown(made.started[:10])}, commit {code(made.short_commit)}."
        )
        return pd.DataFrame(rows), said
    except OSError as e:
        raise RecordError(f"{path} cannot be read ({e.strerror or e}): make torture makes it") from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise RecordError(f"{path} is not what make torture made, or was changed: make it again") from e


def benchmark(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What ``benchmarks/<name>.py --save`` measured, with the machine and the commit; read in ``folder``, if given.

    Raises
    ------
    RecordError
        The record is missing, or was changed.
    """
    path = (folder or results_root().parent / "benchmarks" / "results") / f"{name}.json"
    try:
        return unsealed(path.read_bytes())
    except OSError as e:
        raise RecordError(
            f"{path} cannot be read ({e.strerror or e}): python benchmarks/{name}.py --save makes it"
        ) from e
    except ValueError as e:
        raise RecordError(f"{path} is damaged ({e}): make it again with python benchmarks/{name}.py --save") from e
