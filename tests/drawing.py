"""Draw a figure as a notebook would, with no warning, and look at what is in it."""

import io
import warnings

import numpy as np
from matplotlib.figure import Figure


def drawn(figure):
    """The figure, after it was drawn."""
    assert isinstance(figure, Figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png")
    return figure


def lines(figure, panel=0):
    """The labelled lines of one panel: label -> (x, y)."""
    return {
        line.get_label(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in figure.axes[panel].get_lines()
        if not line.get_label().startswith("_")
    }
