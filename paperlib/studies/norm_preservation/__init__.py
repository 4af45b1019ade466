"""Chapter 1's experiments: the constructions of Theorems 1 and 2, Corollary 1 at random weights, and the landscape of
linear residual networks, measured.

The modules have the names of those in :mod:`paperlib.theorems`; ``rates`` has the slopes that several of them ask for.
"""

from paperlib.studies.norm_preservation.corollary import (
    PAPER_DECAY,
    Branch,
    accumulated_decay,
    bound_in_training,
    corollary_tightness,
    dead_block,
    two_layer_blocks,
)
from paperlib.studies.norm_preservation.determinants import SPECTRA, mirrored_descents
from paperlib.studies.norm_preservation.factors import gaussian_matrix, theorem2_rates
from paperlib.studies.norm_preservation.linear_networks import (
    critical_points,
    descent_rates,
    descents,
    noisy_data,
)
from paperlib.studies.norm_preservation.norm_change import lemma1
from paperlib.studies.norm_preservation.path import (
    block_spectra,
    carried_grid,
    lemma_lipschitz,
    pure_scaling,
    theorem1_errors,
    theorem1_rates,
    two_layer_fit,
)
from paperlib.studies.norm_preservation.rates import DEPTHS, slopes
from paperlib.studies.norm_preservation.smooth_maps import example_maps, plane_maps
from paperlib.studies.norm_preservation.spectra import Spectra, measure_spectra, read_spectra, spectra_folder

__all__ = [
    "DEPTHS", "PAPER_DECAY", "SPECTRA", "Branch", "Spectra", "accumulated_decay", "block_spectra",
    "bound_in_training", "carried_grid", "corollary_tightness", "critical_points", "dead_block", "descent_rates",
    "descents", "example_maps", "gaussian_matrix", "lemma1", "lemma_lipschitz", "measure_spectra",
    "mirrored_descents", "noisy_data", "plane_maps", "pure_scaling", "read_spectra", "slopes", "spectra_folder",
    "theorem1_errors", "theorem1_rates", "theorem2_rates", "two_layer_blocks", "two_layer_fit",
]  # fmt: skip
