"""Chapter 4: what training runs show, as tables made from their records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pandas as pd

from paperlib._text import markdown
from paperlib.records import Record
from paperlib.store import Session
from paperlib.studies.sentences import titled

DEEPEST = ("plain-164", "resnet-164", "procresnet-166")
NEAR = 1.25
"""The factor within which a ratio is called close to 1, as in the rules of the claims."""


def overview(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record: network, data set, preset, seed, epochs, images, errors, time, device, commit."""
    return pd.DataFrame([record.summary() for record in records])


def provenance(record: Record) -> pd.DataFrame:
    """How a run was made: one column, one row per fact."""
    p, c, data = record.provenance, record.config, record.data

    def each(tell: Callable[[Session], str]) -> str:
        """What all sessions say, each thing once."""
        return "; ".join(dict.fromkeys(map(tell, p.sessions)))

    sessions = len(p.sessions)
    facts = {
        "command": p.command,
        "started (UTC)": p.started,
        "wall time": f"{p.seconds:.0f} s in {sessions} session{'s' if sessions > 1 else ''}",
        "device": each(lambda s: f"{s.device.name} ({s.device.type}), {_threads(s)}{_processes(s)}"),
        "precision, format": f"{c.precision}, {c.memory_format}",
        "deterministic kernels": "yes" if c.deterministic else "no",
        "peak memory": f"{record.peak_memory_bytes / 2**30:.1f} GiB",
        "data": f"{data.dataset} from {data.source}, SHA-256 {data.checksum[:16]}…",
        "commit": each(lambda s: (s.commit or "not from a checkout") + " with uncommitted changes" * bool(s.dirty)),
        "versions": each(lambda s: ", ".join(f"{name} {version}" for name, version in s.versions.items())),
        "configuration": f"SHA-256 {c.digest()[:16]}…",
    }
    return pd.DataFrame({"": facts})


def _threads(session: Session) -> str:
    """The number of a session's CPU threads, in words."""
    return f"{session.threads} CPU thread{'s' * (session.threads != 1)}"


def _processes(session: Session) -> str:
    """What to say of a session's processes; nothing for one."""
    number = session.settings.get("processes")
    return f" in each of {number} processes" if number else ""


def norm_preservation(record: Record) -> pd.DataFrame:
    """How far the blocks are from keeping the gradient's norm, in the first and the last epoch, by kind of block.

    Returns
    -------
    DataFrame
        Columns: ``epoch``, ``kind``, ``blocks`` (their number), ``smallest``, ``median`` and ``largest`` geometric-mean
        ratio of a block, ``distance`` (median over blocks of the size of the log ratio; 0 is norm-preserving).  Empty
        if the run was not watched.
    """
    if record.blocks.empty:
        return pd.DataFrame()
    table = record.blocks[record.blocks.epoch.isin([record.blocks.epoch.min(), record.blocks.epoch.max()])]
    table = table.assign(ratio=table.log_ratio.map(math.exp), distance=table.log_ratio.abs())
    ratio = table.groupby(["epoch", "kind"]).ratio.agg(blocks="count", smallest="min", median="median", largest="max")
    return ratio.join(table.groupby(["epoch", "kind"]).distance.median()).reset_index()


def way_back(records: Iterable[Record]) -> pd.DataFrame:
    """The gradient on its way back through the three networks of 164 layers, in the last epoch of one run of each.

    Parameters
    ----------
    records : iterable of Record
        Taken are finished runs of ``DEEPEST`` at the ``desk`` preset with the ``steps`` schedule and seed 0.

    Returns
    -------
    DataFrame
        The runs' blocks, from the last to the first.  Columns: those of the records, ``run`` (the network's name),
        ``arch``, ``precision``, and ``log_norm``: log10 of the norm at the block's input over that at the last block's
        output.  Empty without such runs.
    """
    parts = []
    for record in records:
        c = record.config
        taken = (c.preset, c.schedule, c.seed) == ("desk", "steps", 0) and record.status == "finished"
        if taken and record.network in DEEPEST:
            blocks = record.blocks[record.blocks.epoch == record.blocks.epoch.max()]
            blocks = blocks.sort_values("block", ascending=False)
            norm = -blocks.log_ratio.cumsum() / math.log(10)
            parts.append(blocks.assign(run=titled(record.network), arch=c.arch, precision=c.precision, log_norm=norm))
    return pd.concat(parts) if parts else pd.DataFrame({"block": [], "run": [], "arch": [], "log_norm": []})


def at_the_start(records: Iterable[Record]) -> pd.Series:
    """The log ratios before the first update of the blocks of constant width of Plain-164, in all desk runs of it.

    Empty if none is on record.
    """
    tables = [
        record.initial[record.initial.kind == "residual"].log_ratio.astype(float)
        for record in records
        if record.network == DEEPEST[0] and record.config.preset == "desk" and not record.initial.empty
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.Series(dtype=float)


def vanished(records: Iterable[Record]) -> str:
    """What becomes of the gradient in a chain without skips, in sentences, for the run that :func:`way_back` takes.

    Empty if there is none.
    """
    back = way_back(record for record in records if record.network == DEEPEST[0])
    if back.empty:
        return ""
    *_, arrives, left = back.log_norm
    precision = back.precision.iloc[0]
    return (
        "**Without skips the gradient vanishes in the chain, and explodes in the first transition.** On its way back "
        f"it comes to this block last. By then its norm is $10^{{{arrives:.0f}}}$ of what it was at the last block's "
        "output. The ratio of the transition, output over input, is near 0, so that the norm grows by the inverse of "
        f"it, to $10^{{{left:.0f}}}$ (in {precision}, last epoch; {{numref}}`fig-front` has the whole way). The paper "
        "states the same convention, and says that this block's ratio becomes “too large”. That agrees with the "
        "records if the inverse of the ratio is meant."
    )


def ended(records: Iterable[Record]) -> str:
    """How runs ended, in sentences of Markdown."""
    told = (
        (record.config.precision, record.ending().replace(record.network, titled(record.network))) for record in records
    )
    return " ".join(f"In {precision}: {markdown(ending)}" for precision, ending in told)


def close(records: Iterable[Record], factor: float = NEAR) -> pd.DataFrame:
    """How many blocks of each run keep the gradient's norm within a factor, in its last epoch.

    Parameters
    ----------
    records : iterable of Record
        The runs; those that were not watched are left out.
    factor : float
        A ratio between 1/factor and factor is close to 1.

    Returns
    -------
    DataFrame
        One row per run.  Columns: ``run`` (its label), ``blocks`` and ``close`` (those that do not change the width),
        ``transitions`` and ``close transitions``, ``first transition`` (its geometric-mean ratio),
        ``lowest test error`` (per cent, of all epochs).
    """
    rows = []
    for record in records:
        if record.blocks.empty:
            continue
        last = record.blocks[record.blocks.epoch == record.blocks.epoch.max()]
        near = last.log_ratio.astype(float).abs() <= math.log(factor)
        inner, transitions = last.kind == "residual", last.kind == "transition"
        first = last[transitions].sort_values("block").log_ratio.astype(float)
        rows.append(
            {
                "run": record.label,
                "blocks": int(inner.sum()),
                "close": int((inner & near).sum()),
                "transitions": int(transitions.sum()),
                "close transitions": int((transitions & near).sum()),
                "first transition": math.exp(first.iloc[0]) if len(first) else math.nan,
                "lowest test error": record.epochs.test_error.min(),
            }
        )
    return pd.DataFrame(rows)


def by_network(records: Iterable[Record], factor: float = NEAR) -> pd.DataFrame:
    """What :func:`close` counts, one row for all runs of a network in one precision.

    Parameters
    ----------
    records : iterable of Record
        The runs; those that were not watched are left out.
    factor : float
        As :func:`close` takes it.

    Returns
    -------
    DataFrame
        Columns: ``network``, ``precision``, ``n`` (runs), ``counted`` (when, in words), and as texts, a value or a
        range: ``close`` and ``close transitions`` (how many of how many), ``first transition`` (its ratio),
        ``lowest test error`` (per cent), ``test images``.
    """
    watched = [record for record in records if len(record.blocks)]
    table = close(watched, factor).assign(
        network=[record.network for record in watched], precision=[record.config.precision for record in watched]
    )
    table["counted"] = [_counted(record) for record in watched]
    table["test images"] = [record.data.test_images for record in watched]
    columns = ["network", "precision", "n", "counted", "close", "close transitions", "first transition"]
    columns += ["lowest test error", "test images"]
    rows = []
    for key, part in table.groupby(["network", "precision"], sort=False) if len(table) else ():
        counts = [
            f"{_range(part[column], 'd')} of {part[whole].iloc[0]}"
            for column, whole in (("close", "blocks"), ("close transitions", "transitions"))
        ]
        ranges = _range(part["first transition"], ".2g"), _range(part["lowest test error"], ".1f")
        images = _range(part["test images"], ",d")
        rows.append((*key, len(part), "; ".join(part.counted.unique()), *counts, *ranges, images))
    return pd.DataFrame(rows, columns=columns)


def _counted(record: Record) -> str:
    """At which point of a run its blocks are counted."""
    d = record.divergence
    if d is None:
        return f"after {len(record.epochs)} epochs"
    return f"in epoch {d.epoch}, when the {d.what} stops being finite"


def _range(values: pd.Series, form: str) -> str:
    """The smallest and the largest of some numbers, or the one that they all are once they are written."""
    low, high = (format(value, form) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def last_ratios(record: Record) -> str:
    """The ratios of a run's blocks in its last epoch, in a sentence; empty if the run was not watched."""
    table = norm_preservation(record)
    if table.empty:
        return ""
    parts = []
    for row in table[table.epoch == table.epoch.max()].itertuples():
        blocks = "blocks of constant width" if row.kind == "residual" else "transitions"
        parts.append(f"those of the {blocks} lie between {row.smallest:.3g} and {row.largest:.3g}")
    return f"Of the ratios of {titled(record.network)} in epoch {table.epoch.max()}, {' and '.join(parts)}."


def found(table: pd.DataFrame) -> str:
    """What :func:`by_network` says of the networks of depth 164, as the block quote that opens the chapter."""

    plain, resnet, procresnet = (table[table.network == network] for network in DEEPEST)
    if plain.empty or resnet.empty or procresnet.empty:
        return "> **Found.** There are no runs of depth 164 on record here to compare a run with."

    def counts(name: str, *parts: pd.DataFrame) -> str:
        """How many blocks are close to 1 in some runs: a range over all of them."""
        texts = dict.fromkeys(text for part in parts for text in part[name])
        return " or ".join(texts)

    errors, images = (" and ".join(plain[name].unique()) for name in ("lowest test error", "test images"))
    runs_of = f"n = {_range(pd.concat([resnet, procresnet]).n, 'd')}"
    return (
        f"> **Found.** In networks of depth 164, trained on a small part of CIFAR-10 (`desk`), most blocks of constant "
        f"width keep the gradient's norm within a factor of {NEAR} if they have skips: {counts('close', resnet)} in "
        f"{titled('resnet-164')} and {counts('close', procresnet)} in {titled('procresnet-166')} ({runs_of}). Of the "
        f"transitions {counts('close transitions', resnet)} do so in {titled('resnet-164')}, and "
        f"{counts('close transitions', procresnet)} in {titled('procresnet-166')}, where they are held. "
        f"{titled('plain-164')}, without skips, does not learn: its lowest test error is {errors} % on {images} "
        f"images, where guessing gives 90 %. {{numref}}`tab-close` shows its blocks, too. Runs of this size "
        "decide no claim."
    )
