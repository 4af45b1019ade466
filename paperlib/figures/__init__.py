"""Every plot of the book: a tidy data frame in, a matplotlib ``Figure`` out.  Nothing is computed or stored here.

One module a chapter, in :mod:`paperlib.figures`' folder; all of them are imported from here.
"""

from paperlib.figures.runs import (
    compare_ratios,
    compare_runs,
    gradient_profile,
    learning_curves,
    network,
    ratio_heatmap,
    ratio_lines,
)

__all__ = [
    "compare_ratios",
    "compare_runs",
    "gradient_profile",
    "learning_curves",
    "network",
    "ratio_heatmap",
    "ratio_lines",
]
