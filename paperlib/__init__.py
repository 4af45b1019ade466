"""Norm preservation in residual networks (arXiv 1805.07477): a small library and the experiments built on it."""

__version__ = "0.1.0"
