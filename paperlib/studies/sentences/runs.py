"""Which runs there are, in words, and the commands that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from paperlib._text import markdown
from paperlib.config import RunConfig
from paperlib.models import title
from paperlib.records import Record
from paperlib.studies.sentences.words import n_of, titled

CHOICES = ("schedule", "dataset", "erase_relu", "project", "projector", "project_every")
RATES = {"steps": "falling", "constant": "constant"}


def command(preset: str, **parameters: object) -> str:
    """The command that makes one run.

    Examples
    --------
    >>> command("desk", arch="plain", depth=20)
    '`python -m paperlib run -p preset desk -p arch plain -p depth 20`'
    """
    given = " ".join(f"-p {name} {str(value).lower()}" for name, value in ({"preset": preset} | parameters).items())
    return f"`python -m paperlib run {given}`"


def missing(what: str, preset: str, **parameters: object) -> str:
    """That there is no record of something yet, and what makes it: the whole workflow, or one run."""
    return (
        f"*There is no record of {what} at the {preset} preset yet. `make paper PRESET={preset}` makes all of them; "
        f"{command(preset, **parameters)} makes one.*"
    )


def seeds(records: Sequence[Record]) -> str:
    """How many seeds a network has: ``n = 3``, or ``n = 1 to 3`` where networks differ; empty without a record."""
    if not records:
        return ""
    table = pd.DataFrame({"network": r.network, "seed": r.config.seed} for r in records)
    return n_of(table.groupby("network").seed.nunique())


def size(preset: str, records: Sequence[Record]) -> str:
    """How large the runs behind a column are: ``desk, 6 epochs``; the preset alone without a record."""
    counts = sorted({r.config.epochs for r in records})
    return preset + (f", {' or '.join(map(str, counts))} epochs" if counts else "")


def extent(records: Sequence[Record]) -> str:
    """How long runs were trained: ``6 epochs of 3,500 images``; each size once."""
    sizes = [f"{c.epochs} epochs of {c.train_images:,} images" for c in (record.config for record in records)]
    return " or ".join(dict.fromkeys(sizes))


def by_size(parts: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """How large the runs behind some parts of a page are: one row for each part and size.

    Returns
    -------
    DataFrame
        Columns: ``shown in`` (the part), ``depths``, ``epochs``, ``training images``, ``test images``, ``rate`` (the
        schedule) and ``n`` (seeds of a network).
    """
    rows = []
    for part, records in parts.items():
        groups: dict[tuple[Any, ...], list[Record]] = {}
        for record in records:
            c = record.config
            groups.setdefault((c.epochs, c.train_images, c.test_images, RATES.get(c.schedule, c.schedule)), []).append(
                record
            )
        for size, of_one in sorted(groups.items()):
            depths = ", ".join(map(str, sorted({record.config.depth for record in of_one})))
            rows.append((part, depths, *size, seeds(of_one).removeprefix("n = ")))
    columns = ["shown in", "depths", "epochs", "training images", "test images", "rate", "n"]
    return pd.DataFrame(rows, columns=columns)


def made(records: Sequence[Record]) -> str:
    """What some runs are, and the commands that make them again."""
    c, default = records[0].config, RunConfig()
    precision = " and ".join(sorted({r.config.precision for r in records}))
    named = {name: getattr(c, name) for name in ("arch", "depth", "seed", "precision")}
    named |= {name: getattr(c, name) for name in CHOICES if getattr(c, name) != getattr(default, name)}
    return (
        f"*Preset {c.preset}: {c.epochs} epochs of {c.train_images:,} training images, {c.test_images:,} test images, "
        f"schedule `{c.schedule}`, {precision}; seeds a network: {seeds(records)}. "
        f"`make paper PRESET={c.preset}` makes all of these runs, and {command(c.preset, **named)} one of them.*"
    )


def origin(record: Record) -> str:
    """Which run this is, and where it was made, in Markdown."""
    c, device = record.config, markdown(record.provenance.device.name)
    return f"{titled(record.network)}: seed {c.seed}, {c.precision}, {device}, commit {record.commit}"


def left_out(records: Sequence[Record]) -> str:
    """What interventions' baselines leave out of the paper's protocol: a sentence for each network and size."""
    baselines = [c for c in (r.config for r in records) if (c.hold_at, c.project, c.projector) == (1.0, True, "exact")]
    said = (f"{title(c.arch, c.depth)}: {c.left_out(several=True)}" for c in baselines if c.left_out())
    return " ".join(dict.fromkeys(said))
