"""Figures that a reader can change: their data as JSON in a piece of HTML, which the book's script draws.

A function for each drawing takes a tidy table and returns what the script needs of it, rounded and small, and under
``drawing`` its name, or None where nothing is on record; :func:`html` makes a cell's output of that.  The script is
``book/_static/interactive.js``, and its colours are in ``interactive.css`` beside it.  Where the script is not loaded,
and in print, a static picture stands in the drawing's place.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paperlib.figures.norm_preservation import SCHEDULES
from paperlib.figures.section4._common import LIMIT, TITLES, name, of

DIGITS = 4  # of every number that is written out in words
UNIT = math.log(2) / 100  # heights are whole numbers of it: a hundredth of the logarithm to base 2
DOTS = 144  # per inch of the picture, which is part of the page: fewer than elsewhere
MOST_EPOCHS = 26  # of a network; of more epochs some are left out, evenly
MOST_BARS = 128  # of a chain of blocks; of a longer one, neighbours share a bar


def _digits(value: float) -> float | None:
    """The number with few digits, for JSON: nothing where it is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _heights(values: Iterable[float]) -> list[int | None]:
    """Logarithms in whole hundredths of a doubling; nothing where one is not finite."""
    return [round(v / UNIT) if math.isfinite(v) else None for v in values]


# -- chapter 5 ---------------------------------------------------------------------------------------------------
def ratios_over_epochs(table: pd.DataFrame) -> dict[str, Any]:
    """Each block's ratio at the epochs of some networks: the data of a drawing with a slider over the epochs.

    A ratio is the geometric mean over the seeds whose run reached the epoch; with several of them there is the standard
    deviation of the logarithm, too.  Of more than 26 epochs some are left out, evenly, but never the first or the last.

    Parameters
    ----------
    table : DataFrame
        Columns: ``arch``, ``depth``, ``seed``, ``epoch`` (0 is before the first update), ``block``, ``name``, ``kind``,
        ``log_ratio``.

    Returns
    -------
    dict
        What JSON can hold.  ``networks`` is a list, by architecture, the deepest first, and empty for an empty table.

    Examples
    --------
    >>> row = {"arch": "plain", "depth": 20, "seed": 0, "epoch": 0, "block": 1, "name": "a", "kind": "residual"}
    >>> drawn = ratios_over_epochs(pd.DataFrame([row | {"log_ratio": math.log(2)}]))
    >>> drawn["networks"][0]["median"], drawn["networks"][0]["heights"]
    ([2.0], [[100]])
    """
    networks = [
        _network(of(table, arch, depth), arch, depth)
        for arch in TITLES
        for depth in sorted(set(table.depth[table.arch == arch]), reverse=True)
    ]
    return {"drawing": "epochs" if networks else None, "limit": LIMIT, "networks": networks}


def _network(rows: pd.DataFrame, arch: str, depth: int) -> dict[str, Any]:
    """What the script needs of one network: a list over its epochs of each thing that changes."""
    logs = rows.log_ratio.astype(float)
    rows = rows.assign(log_ratio=logs.where(np.isfinite(logs)))
    epochs = sorted(set(rows.epoch))
    if len(epochs) > MOST_EPOCHS:
        epochs = [epochs[i] for i in np.linspace(0, len(epochs) - 1, MOST_EPOCHS).round().astype(int)]
    cells = rows.groupby(["epoch", "block"]).log_ratio
    mean, spread = (part.unstack().loc[epochs] for part in (cells.mean(), cells.std()))
    blocks = rows.drop_duplicates("block").set_index("block").loc[mean.columns]
    reached = rows.dropna(subset="log_ratio").groupby("epoch").seed.nunique().reindex(epochs, fill_value=0)
    return {
        "name": name(arch, depth),
        "arch": arch,
        "blocks": list(blocks.name.str.replace("_", " ")),
        "transitions": [i for i, kind in enumerate(blocks.kind) if kind == "transition"],
        "epochs": [int(epoch) for epoch in epochs],
        "seeds": [int(n) for n in reached],
        "heights": [_heights(row) for row in mean.to_numpy()],
        "spread": [_heights(row) if n > 1 else [] for row, n in zip(spread.to_numpy(), reached, strict=True)],
        "median": [_digits(math.exp(row.median())) for _, row in mean.iterrows()],
        "extreme": [_extreme(row.to_numpy()) for _, row in mean.iterrows()],
    }


def _extreme(logs: np.ndarray) -> list[float | None]:
    """The place of the block that is farthest from 1, and its ratio; an empty list where no block has one."""
    if not np.isfinite(logs).any():
        return []
    place = int(np.nanargmax(np.abs(logs)))
    return [place, _digits(math.exp(logs[place]))]


# -- chapter 1 ---------------------------------------------------------------------------------------------------
def spectra_by_depth(table: pd.DataFrame) -> dict[str, Any]:
    """The singular values of each block's derivative at some depths: the data of a drawing with a slider over them.

    In a chain of more than 128 blocks, neighbours share a bar, which is the range of all of them.

    Parameters
    ----------
    table : DataFrame
        Columns: ``schedule``, ``L``, ``block``, ``lowest``, ``highest``; every schedule has the same depths.

    Returns
    -------
    dict
        What JSON can hold: ``schedules`` is a list, whose ``bars`` and ``delta`` have an entry for each depth.

    Examples
    --------
    >>> row = {"schedule": "arc", "L": 1, "block": 1, "lowest": 0.5, "highest": 1.25}
    >>> drawn = spectra_by_depth(pd.DataFrame([row]))
    >>> drawn["depths"], drawn["schedules"][0]["bars"], drawn["schedules"][0]["delta"]
    ([1], [[[0.5, 1.25]]], [0.5])
    """
    depths = sorted(set(table.L))
    schedules = []
    for schedule, words in SCHEDULES.items():
        chains = [table[(table.schedule == schedule) & (table.L == L)].sort_values("block") for L in depths]
        if len(chains[0] if chains else []):
            deltas = [_digits(max(chain.highest.max() - 1, 1 - chain.lowest.min())) for chain in chains]
            schedules.append({"name": words, "bars": [_bars(chain) for chain in chains], "delta": deltas})
    rates = [_digits(math.log(2 * L) / L) for L in depths]
    drawing = "spectra" if schedules else None
    return {"drawing": drawing, "depths": [int(L) for L in depths], "rate": rates, "schedules": schedules}


def _bars(chain: pd.DataFrame) -> list[list[float | None]]:
    """The ends of the bars of one chain of blocks."""
    bar = np.arange(len(chain)) * min(len(chain), MOST_BARS) // len(chain)
    ends = chain.groupby(bar).agg({"lowest": "min", "highest": "max"})
    return [[_digits(low), _digits(high)] for low, high in ends.to_numpy()]


# -- chapter 3 ---------------------------------------------------------------------------------------------------
def ratios_by_channels(table: pd.DataFrame, titles: dict[str, str]) -> dict[str, Any]:
    """The ratio over the numbers of channels: the data of a grid with controls for variant, learning rate and step.

    Parameters
    ----------
    table : DataFrame
        Columns: ``lr``, ``step``, ``variant``, ``c``, ``d``, ``ratio``, ``spread``, ``alive``, ``dead``.
    titles : dict of str to str
        The variants' names in words, in the order in which they are offered.  Others are left out.

    Returns
    -------
    dict
        What JSON can hold.  ``cells`` has a list for each variant, learning rate and step that was measured, under
        their places joined by commas: an entry for each ``c`` and, within it, each ``d``, which is the ratio, its
        spread, and how many runs are alive and dead; an empty one where nothing was measured.  ``told`` has, under
        the same places, how many ratios there are, the factor by which the median one is off 1, and the pair that is
        farthest from it with its ratio.

    Examples
    --------
    >>> row = {"lr": 0.1, "step": 0, "variant": "free", "c": 2, "d": 4, "ratio": 0.5, "spread": 1.25, "alive": 3}
    >>> ratios_by_channels(pd.DataFrame([row | {"dead": 0}]), {"free": "not held"})["cells"]
    {'0,0,0': [[0.5, 1.25, 3, 0]]}
    """
    names = [variant for variant in titles if variant in set(table.variant)]
    table = table[table.variant.isin(names)]
    rates, steps, c, d = (sorted(set(table[column])) for column in ("lr", "step", "c", "d"))
    cells, told = {}, {}
    for (variant, lr, step), part in table.groupby(["variant", "lr", "step"]):
        key = f"{names.index(variant)},{rates.index(lr)},{steps.index(step)}"
        found = {(row.c, row.d): row for row in part.itertuples()}
        cells[key] = [_cell(found.get((i, j))) for i in c for j in d]
        told[key] = _farthest(part[part.alive > 0].sort_values(["c", "d"], ignore_index=True))
    return {
        "drawing": "channels" if names else None,
        "variants": [titles[variant] for variant in names],
        "rates": [float(lr) for lr in rates],
        "steps": [int(step) for step in steps],
        "c": [int(i) for i in c],
        "d": [int(j) for j in d],
        "cells": cells,
        "told": told,
    }


def _cell(row: Any) -> list[float | None]:
    """What the script needs of a cell, given as a named tuple of its row, or None."""
    return [] if row is None else [_as_shown(row.ratio), _as_shown(row.spread), int(row.alive), int(row.dead)]


def _as_shown(value: float) -> float | None:
    """The number as the heat maps write it: rounded once, so that the grid never shows another one."""
    return float(f"{value:.{2 if value < 10 else 0}f}") if 0.1 <= value < math.inf else _digits(value)


def _farthest(known: pd.DataFrame) -> list[int | float | str | None]:
    """What is said of a grid; an empty list where no run is alive."""
    if known.empty:
        return []
    off = np.exp(np.log(known.ratio).abs())
    row = known.loc[off.idxmax()]
    return [len(known), _digits(off.median()), f"{row.c:.0f} → {row.d:.0f}", _digits(row.ratio)]


# -- all of them -------------------------------------------------------------------------------------------------
def html(data: dict[str, Any], label: str, instead: str, picture: Figure | None = None) -> str:
    """A cell's output: the data of a drawing, and what stands in its place without the script and in print.

    The same data give the same text, to the letter, and nothing in them can end the JSON or begin a tag.

    Parameters
    ----------
    data : dict
        As the functions of this module return it.
    label : str
        What the drawing is called where it cannot be seen.
    instead : str
        One or two sentences that say what of it the picture shows.
    picture : Figure, optional
        A part of the same, as it can be printed.

    Returns
    -------
    str
        HTML, for ``IPython.display.HTML``.

    Examples
    --------
    >>> print(html({"drawing": "epochs"}, "Ratios", "See the figure above."))
    <figure class="interactive" role="group" aria-label="Ratios">
    <p class="interactive-instead">See the figure above.</p>
    <script type="application/json">{"drawing":"epochs"}</script>
    </figure>
    """
    text = json.dumps(data, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return (
        f'<figure class="interactive" role="group" aria-label="{escape(label)}">\n'
        f'<p class="interactive-instead">{_image(picture, label) if picture else ""}{escape(instead)}</p>\n'
        f'<script type="application/json">{text}</script>\n'
        "</figure>"
    )


def _image(picture: Figure, label: str) -> str:
    """A static figure as an image that needs no file."""
    stored = io.BytesIO()
    picture.savefig(stored, format="webp", dpi=DOTS, bbox_inches="tight", pil_kwargs={"lossless": True})
    source = f"data:image/webp;base64,{base64.b64encode(stored.getvalue()).decode()}"
    return f'<img src="{source}" alt="{escape(label)}" width="{96 * picture.get_figwidth():.0f}"><br>'
