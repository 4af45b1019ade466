"""Figures 3 to 5 and Tables I to III (Section 4): how training records are judged.

The rules were written without a look at any run of the paper's scale.  One was on record when they were committed: of
ResNet-20 in bfloat16, with one seed, which decides none of them.  ``figure3`` has the ratios of gradient norms,
``figure4`` the curves and the generalisation gap, and ``tables`` the final test errors.
"""

from __future__ import annotations

from paperlib.claims.section4 import figure3, figure4, tables

CLAIMS = figure3.CLAIMS + figure4.CLAIMS + tables.CLAIMS

__all__ = ["CLAIMS", "figure3", "figure4", "tables"]
