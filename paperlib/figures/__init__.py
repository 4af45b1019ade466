"""Every plot of the book: a tidy data frame in, a matplotlib ``Figure`` out.  Nothing is computed or stored here.

There is one module per chapter: ``norm_preservation`` (chapter 1), ``projection`` (2), ``published`` (A),
``channel_grid`` (3), ``runs`` (4), whose functions are imported from here, ``section4`` (5) and ``your_network`` (6).
Each function names the columns that it reads; ``title`` stands over the plot.

``interactive`` is the exception: its functions return what the book's script draws, for three figures that a reader can
change.

Examples
--------
>>> import pandas as pd
>>> compare_runs(pd.DataFrame({"run": "a", "epoch": [1, 2], "test_error": [60.0, 40.0]})).axes[0].get_ylabel()
'test error, %'
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
