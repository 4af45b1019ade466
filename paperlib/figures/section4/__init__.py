"""Chapter 5: Section 4 of the paper, drawn from records.

``ratios`` has Figure 3 and what goes with it, ``curves`` Figure 4 and the final errors, ``explanation`` the errors
against norm preservation, and ``epochs`` the drawing that steps through the epochs.
"""

from paperlib.figures.section4._common import TITLES
from paperlib.figures.section4.curves import error_dots, learning
from paperlib.figures.section4.explanation import explanation
from paperlib.figures.section4.ratios import beginnings, distances, profiles, ratio_grid

__all__ = [
    "TITLES",
    "beginnings",
    "distances",
    "error_dots",
    "explanation",
    "learning",
    "profiles",
    "ratio_grid",
]
