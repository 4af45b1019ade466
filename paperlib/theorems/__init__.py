"""Theorems 1 and 2 and Corollary 1 as constructions: blocks that are near the identity and compose to a given map.

If a block's derivative is J, the gradient's norm changes across it by at most

    ``δ = max |σ(J) − 1| ≤ ‖J − I‖``                                               (Lemma 1)

* :func:`near_identity_path` writes any smooth invertible map as L residual blocks (Theorem 1).  Its δ is O(log(2L)/L)
  by the decomposition that the paper uses [Bartlett2018]_, and O(1/L) by a better one.
* :func:`linear_factors` writes a matrix with positive determinant as L linear residual blocks (Theorem 2), with the
  smallest possible δ.
* :func:`corollary_bound` gives δ of a residual block from the norms of its weights (Corollary 1).

Beside each stands what bounds it: :func:`theorem1_bound` and :func:`lower_bound`, :func:`theorem2_bound`.

Each concept has a module of its own: ``samples`` (seeded random points), ``norm_change`` (Lemma 1), ``smooth_maps`` and
``map_families``, ``rotations``, ``path`` (Theorem 1), ``factors`` and ``linear_networks`` (Theorem 2), ``corollary``.

.. [Bartlett2018] Bartlett, Evans, Long: *Representing smooth functions as compositions of near-identity functions with
   implications for deep network optimization*, arXiv 1804.05012.
"""

from paperlib.theorems.corollary import corollary_bound
from paperlib.theorems.factors import compose, linear_factors, theorem2_bound, theorem2_delta
from paperlib.theorems.map_families import Monotone, Twist, features, linear_map
from paperlib.theorems.norm_change import gradient_delta, identity_distance, lower_bound
from paperlib.theorems.path import (
    Path,
    PathStep,
    Schedule,
    cuts_bound,
    near_identity_path,
    path_jacobians,
    theorem1_bound,
    times,
)
from paperlib.theorems.rotations import RotationStretch, quarter_turns
from paperlib.theorems.samples import ball, gaussian
from paperlib.theorems.smooth_maps import Normalised, SmoothMap

__all__ = [
    "Monotone", "Normalised", "Path", "PathStep", "RotationStretch", "Schedule", "SmoothMap", "Twist", "ball",
    "compose", "corollary_bound", "cuts_bound", "features", "gaussian", "gradient_delta", "identity_distance",
    "linear_factors", "linear_map", "lower_bound", "near_identity_path", "path_jacobians", "quarter_turns",
    "theorem1_bound", "theorem2_bound", "theorem2_delta", "times",
]  # fmt: skip
