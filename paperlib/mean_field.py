"""What random weights do to the norm of the gradient: each block's ratio before the first update, by mean-field theory.

The blocks are pre-activation bottlenecks (batch normalisation, ReLU, convolution, three times: 4n to n to n to 4n
channels) with He et al.'s initialisation in its fan-out form.  Gradients count as independent of activations.

A standard Gaussian behind a ReLU has the second moment 1/2 and the variance 1/2 - 1/(2π) = 1/(2ρ), ρ = π/(π - 1).  A
layer from c to d channels so has an output of the variance c/(dρ) per channel.  On its way back it multiplies the
expected squared norm by 2c/d (the convolution), by 1/2 (the ReLU), and by one over the variance that its batch
normalisation divides by.  Where q is the variance of the block's input, the three factors are 4/q, ρ/4 and ρ/4:

* a block with an identity skip multiplies the squared norm by 1 + ρ²/(4q), and adds 1/(4ρ) to q;
* a Plain block's input is another block's output, q = 1/(4ρ), and it multiplies the squared norm by ρ³;
* a ResNet's transition, from c to 4n channels, has a convolution in its skip that starts behind the block's first ReLU
  and multiplies the squared norm by c/(2n).  The branch's last two convolutions bring ρ²/2 to the same place.  With
  the ReLU and the batch normalisation before it, the block multiplies by (ρ² + c/n)/(4q), and its output has the
  variance (1 + c/n)/(4ρ);
* a convolution alone, with He's start, multiplies the squared norm by 2c/d.  One that is held at σ² = d/min(c, d) keeps
  the squared norm of a gradient that is spread evenly over the directions.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from paperlib import _checks

RHO = math.pi / (math.pi - 1)
"""One over twice the variance of a standard Gaussian behind a ReLU."""
PLAIN = RHO**-1.5
"""The ratio ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖ of a Plain block before the first update, at every depth and width."""
BRANCH = 1 / (4 * RHO)
"""The variance per channel that a block's branch puts out."""

Number = TypeVar("Number", float, Any)


def ratio(variance: Number) -> Number:
    """The ratio ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖ of a block with an identity skip, before the first update.

    It is (1 + ρ²/(4q))^(-1/2) with ρ = π/(π - 1), and approaches 1 from below as q grows.

    Parameters
    ----------
    variance : float or array
        q, the variance of the block's input over images and pixels, per channel, averaged over the channels.

    Returns
    -------
    float or array
        The ratio, of the same shape.

    Examples
    --------
    >>> round(ratio(2 / (4 * RHO)), 3)  # the first block behind a ResNet's first transition
    0.623
    >>> round(PLAIN, 3)
    0.563
    """
    _checks.positive("variance", variance)
    return (1 + RHO**2 / (4 * variance)) ** -0.5


def plain(variance: Number) -> Number:
    """The ratio ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖ of a block without a skip, before the first update: 2√q/ρ.

    It is ``PLAIN`` where the input is another Plain block's output, whether or not the width changes.

    Parameters
    ----------
    variance : float or array
        q, as :func:`ratio` takes it.

    Returns
    -------
    float or array
        The ratio, of the same shape.

    Examples
    --------
    >>> round(plain(BRANCH) / PLAIN, 12)
    1.0
    """
    _checks.positive("variance", variance)
    return 2 * variance**0.5 / RHO


def transition(variance: Number, widening: Number) -> Number:
    """The ratio ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖ of a ResNet's transition, before the first update.

    It is (4q/(ρ² + c/n))^(1/2): above 1 wherever many blocks have added their variance to the input.

    Parameters
    ----------
    variance : float or array
        q, as :func:`ratio` takes it.  Where the channels' variances differ much, their harmonic mean is meant.
    widening : float or array
        c/n, the input's channels over those inside the block: 1 in the first stage, 2 in the others.

    Returns
    -------
    float or array
        The ratio, of the same shape.

    Examples
    --------
    >>> round(transition(19 * BRANCH, 2), 2)  # ResNet-164's second: 18 blocks have added to its input
    1.77
    """
    _checks.positive("variance", variance)
    _checks.positive("widening", widening, least=0)
    return (4 * variance / (RHO**2 + widening)) ** 0.5
