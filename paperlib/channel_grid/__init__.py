"""The Conv-ReLU channel grid (Figure 2): does the projection keep the gradient's norm, for how many channels?

A network of three 3×3 convolutions, 3→c, c→d and d→10 with ReLUs between them, is trained on CIFAR-10.  Its head is
the mean over the feature map, which makes ∂E/∂y the same at every pixel inside the border, or a linear layer, which
does not.  What is looked at is its middle, the Conv-ReLU y = relu(W x): the ratio ‖∂E/∂y‖ / ‖∂E/∂x‖ is 1 if the
gradient's norm is kept, and above 1 if the gradient shrinks on its way back.  The *variants* differ in the middle
kernel: in how it begins, and in the singular value it is held at.  One of them holds the outer kernels as well.

On its way back through the Conv-ReLU the gradient loses energy twice, and the ratio is made of three factors,

    (‖∂E/∂x‖ / ‖∂E/∂y‖)² = s_ReLU · s_row · s_conv .

s_ReLU is the share of the energy that the ReLU lets through.  s_row is the share of the rest that lies where the
convolution is not zero (:func:`paperlib.energy.energy_fraction`).  s_conv is what the convolution makes of that.  A
projected kernel has s_conv = σ², up to the crop and the border.  Equation 7 takes s_row for min(d, c)/d and, with the
factor of 2 in front of a ReLU, s_ReLU for 1/2.  Each is measured.

``networks`` has the networks, ``steps`` their training, ``measures`` what is measured of one, ``cell`` one cell of the
grid, ``grid`` the parameters and the record of a grid, and ``work`` the loop over its cells.
"""

from __future__ import annotations

from paperlib.channel_grid.cell import Cell, train_cell
from paperlib.channel_grid.grid import GridConfig, GridRecord, ResolvedGrid, read
from paperlib.channel_grid.measures import MEASURED, measure
from paperlib.channel_grid.networks import MIDDLE_VARIANTS, VARIANTS, Networks, Variant, initial_kernel
from paperlib.channel_grid.work import run, stored_only

__all__ = [
    "MEASURED",
    "MIDDLE_VARIANTS",
    "VARIANTS",
    "Cell",
    "GridConfig",
    "GridRecord",
    "Networks",
    "ResolvedGrid",
    "Variant",
    "initial_kernel",
    "measure",
    "read",
    "run",
    "stored_only",
    "train_cell",
]
