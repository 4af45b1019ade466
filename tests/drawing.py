"""Draw a figure as a notebook would, with no warning."""

import io
import warnings

from matplotlib.figure import Figure


def drawn(figure):
    assert isinstance(figure, Figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png")
    return figure
