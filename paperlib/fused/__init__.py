"""Kernels for CUDA, written in Triton: batch normalisation with its ReLU, small convolutions, whole blocks, and a norm.

A training step of the paper's networks moves memory far more than it computes.  torch's own kernels read and write a
block's wide tensors 26 times a step.  The layers of this package do so 17 times: the ReLU is taken where the normalised
value is made, its mask is found again from the input in the backward pass, and the gradient of a skip is added where
that of the branch is made.  :func:`bottleneck` takes a whole block at once, in about half as many kernels.

Each concept has a module of its own: ``normalisation``, ``convolutions``, ``blocks`` and ``euclidean``.
"""

from paperlib.fused._launch import INTERPRETED, available
from paperlib.fused.blocks import bottleneck, by_layers
from paperlib.fused.convolutions import conv1x1, conv3x3
from paperlib.fused.euclidean import euclidean_norm
from paperlib.fused.normalisation import norm_relu, norm_relu_fork

__all__ = [
    "INTERPRETED", "available", "bottleneck", "by_layers", "conv1x1", "conv3x3", "euclidean_norm", "norm_relu",
    "norm_relu_fork",
]  # fmt: skip
