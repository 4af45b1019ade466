"""How a probe's last step is shown: as rows, as text and as a plot."""

from __future__ import annotations

import math
from typing import Any

from paperlib import _checks

SHOWN = 12  # blocks; of more, the text has the first and the last few, and the extremes


def rows(names: list[str], kinds: list[str], pairs: list[list[float]], why: list[str]) -> list[dict[str, Any]]:
    """One row per block, from the norms at its input and output and from why it has none."""
    found = []
    for i, (name, kind, (grad_in, grad_out), reason) in enumerate(zip(names, kinds, pairs, why, strict=True)):
        ratio = grad_out / grad_in if grad_in else grad_out * math.inf
        if not reason and not math.isfinite(ratio):
            reason = "the gradient is zero" if grad_in == grad_out == 0 else "the gradient is not finite, or vanishes"
        found.append(
            {"block": i + 1, "name": name, "kind": kind, "ratio": ratio}
            | {"grad_in": grad_in, "grad_out": grad_out, "why": reason}
        )
    return found


def text(title: str, rows: list[dict[str, Any]]) -> str:
    """The rows as a table with a title; of many blocks only some.

    Examples
    --------
    >>> print(text("Two blocks:", rows(["a", "b"], ["block"] * 2, [[2.0, 1.0], [math.nan, 1.0]], ["", "frozen"])))
    Two blocks:
      block  kind       ratio    grad in   grad out
      a      block        0.5  2.000e+00  1.000e+00
      b      block        nan        nan  1.000e+00  frozen
    """
    wide = max(5, *(len(row["name"]) for row in rows))
    broad = max(5, *(len(row["kind"]) for row in rows))
    lines = [
        f"{row['name']:{wide}}  {row['kind']:{broad}}  {row['ratio']:9.4g}  {row['grad_in']:9.3e}  "
        f"{row['grad_out']:9.3e}  {row['why']}".rstrip()
        for row in rows
    ]
    lines.insert(0, f"{'block':{wide}}  {'kind':{broad}}  {'ratio':>9}  {'grad in':>9}  {'grad out':>9}")
    if len(rows) > SHOWN:
        few = SHOWN // 3
        lines = [*lines[: few + 1], f"… {len(rows) - 2 * few} more …", *lines[-few:]]
        finite = [row for row in rows if math.isfinite(row["ratio"])]
        for word, pick in (("smallest", min), ("largest", max)):
            if finite:
                row = pick(finite, key=lambda row: row["ratio"])
                lines.append(f"{word} ratio: {row['ratio']:.4g} at {row['name']}")
    return "\n".join([title, *(f"  {line}" for line in lines)])


def plot(rows: list[dict[str, Any]], ax: Any = None) -> Any:
    """Draw the ratios in forward order and return the axes; ``ImportError`` without matplotlib."""
    try:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes
    except ImportError:
        raise ImportError("plot needs matplotlib: pip install matplotlib") from None
    if ax is None:
        ax = plt.subplots(figsize=(max(4.0, min(12.0, 0.4 * len(rows))), 3.0), layout="constrained")[1]
    _checks.instance("ax", ax, Axes, "matplotlib's Axes")
    ax.axhline(1.0, color="0.6", linewidth=1, zorder=0)
    ax.plot([row["block"] for row in rows], [row["ratio"] for row in rows], marker="o", markersize=4, linewidth=1)
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high < 10 * low:  # there matplotlib would write 0.6 as 6 × 10⁻¹
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
    ax.set_xlabel("block")
    ax.set_ylabel("‖∂E/∂output‖ / ‖∂E/∂input‖")
    if len(rows) <= 2 * SHOWN:
        ax.set_xticks([row["block"] for row in rows], [row["name"] for row in rows], rotation=90)
    return ax
