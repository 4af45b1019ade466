"""Gradient-norm ratios of a network's blocks while it trains (Section 4.1 and Figure 3 of the paper).

For a chain x_1 → x_2 → … of blocks and a loss E the paper looks at ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖.  A ratio of 1 means
that a block preserves the gradient's norm on its way back.  Above 1 the block shrinks it, below 1 it makes it grow.

Each concept has a module of its own: ``gradient_norms`` (the probe), ``blocks`` (which modules of a network are its
blocks), ``tensors`` (which tensor of a block's arguments is looked at), ``steps`` (what belongs to one step),
``averages`` (over steps), ``compiled`` and ``registry`` (the probe inside ``torch.compile``), ``tables`` (how it is
shown) and ``norms``.
"""

from paperlib.probes.gradient_norms import GradientNorms
from paperlib.probes.norms import norm

__all__ = ["GradientNorms", "norm"]
