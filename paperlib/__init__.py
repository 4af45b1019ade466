"""Norm preservation in residual networks (arXiv 1805.07477): a small library and the experiments built on it.

The names below are what users come for.  Each is loaded when it is first used, so that ``import paperlib`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paperlib.config import RunConfig as RunConfig
    from paperlib.holding import NormPreserving as NormPreserving
    from paperlib.models import build as build
    from paperlib.parametrization import orthogonal as orthogonal
    from paperlib.probes import GradientNorms as GradientNorms
    from paperlib.projection import delta_orthogonal as delta_orthogonal
    from paperlib.projection import project as project
    from paperlib.projection import spread as spread
    from paperlib.projection import target as target
    from paperlib.spectrum import operator_norm as operator_norm
    from paperlib.spectrum import operator_norm_bound as operator_norm_bound
    from paperlib.spectrum import singular_values as singular_values
    from paperlib.theorems import corollary_bound as corollary_bound
    from paperlib.theorems import linear_factors as linear_factors
    from paperlib.theorems import near_identity_path as near_identity_path
    from paperlib.training import train as train

__version__ = "0.1.0"

_HOMES = {
    "GradientNorms": "probes",
    "NormPreserving": "holding",
    "RunConfig": "config",
    "build": "models",
    "corollary_bound": "theorems",
    "delta_orthogonal": "projection",
    "linear_factors": "theorems",
    "near_identity_path": "theorems",
    "operator_norm": "spectrum",
    "operator_norm_bound": "spectrum",
    "orthogonal": "parametrization",
    "project": "projection",
    "singular_values": "spectrum",
    "spread": "projection",
    "target": "projection",
    "train": "training",
}
__all__ = sorted(_HOMES)
_EXTRAS = {"matplotlib": "book", "seaborn": "book", "tensorboard": "watch"}  # of what is not in the extra `training`


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(_load(_HOMES[name]), name)
    if name in _modules():
        return _load(name)
    raise AttributeError(f"module 'paperlib' has no attribute {name!r}")


def _load(module: str) -> Any:
    """A module of the library; if a package that it needs is not installed, the error says how to get it."""
    try:
        return import_module(f"paperlib.{module}")
    except ModuleNotFoundError as e:
        package = (e.name or "paperlib").partition(".")[0]
        if package == "paperlib":
            raise
        extra = _EXTRAS.get(package, "training")
        raise ModuleNotFoundError(
            f"paperlib.{module} needs {package}: pip install 'norm-preservation[{extra}]'", name=e.name
        ) from None


def _modules() -> list[str]:
    return [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]


def __dir__() -> list[str]:
    return sorted(["__version__", *_HOMES, *_modules()])
