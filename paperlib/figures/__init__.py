"""Every plot of the book: a tidy data frame in, a matplotlib ``Figure`` out.  Nothing is computed or stored here.

One module a chapter, ``paperlib.figures.runs`` (chapter 4), ``theorems`` (1), ``projection`` (2) and ``audit`` (2b); the functions of
the first are imported from here.
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
