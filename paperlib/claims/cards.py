"""What the scorecard says of each claim besides its rule: the paper's figure, its page, what would change the verdict.

Nothing here is measured.  A claim of ``paperlib.claims.CLAIMS`` has one entry in ``CARDS``, under the same name.
"""

from __future__ import annotations

from typing import NamedTuple

from paperlib import paper
from paperlib.studies.sentences import titled

GROUPS = (
    "Theory",
    "The projection",
    "Figures 3 and 4, Table I",
    "Tables II and III, Figure 5",
    "Ours, not the paper's",
)
THEORY, PROJECTION, FIGURES, TABLES, OURS = GROUPS
CHAPTERS = {
    "notebooks/01_norm_preservation": "chapter 1",
    "notebooks/02_projection": "chapter 2",
    "notebooks/03_channel_grid": "chapter 3",
    "notebooks/05_results": "chapter 5",
}
ONE, TWO, THREE, FIVE = CHAPTERS
SECONDS = "Seconds to minutes on two CPU cores; it needs no data."
GRID = (
    "Not estimated. The `paper` grid trains on whole epochs of CIFAR-10 and is meant for a GPU; what the `desk` grid "
    "took is in its record."
)
MINUTES = "Not estimated. It takes some training steps on a GPU and no whole training."

# Groups of training runs in workflow/config/paper.yaml, for which paperlib.scorecard.price predicts the hours.
FIGURES_3_AND_4, TABLE_2, TABLE_3, FIGURE_5, OVERHEAD = "figures_3_and_4", "table_2", "table_3", "figure_5", "overhead"


class Card(NamedTuple):
    """What the scorecard shows for one claim, beside what was measured."""

    title: str
    """What it is about, as part of a sentence."""
    group: str
    """One of ``GROUPS``."""
    says: str
    """What the paper says, in figures where it gives some."""
    page: str
    """The page that shows it, a key of ``CHAPTERS``."""
    refutes: str
    """What would turn "reproduced" into "not reproduced"."""
    confirms: str
    """What would turn "not reproduced" into "reproduced"."""
    cost: str = ""
    """What it takes to test it at the paper's scale; empty where that follows from its training runs."""
    runs: str = ""
    """The group of the paper's training runs, in the workflow's file, that has those that the claim is judged by."""


def gap(*networks: str) -> str:
    """The paper's generalisation gaps of some networks, mean and maximum in points.

    Examples
    --------
    >>> gap("resnet-20")
    'ResNet-20 5.5 / 23.1'
    """
    return ", ".join(f"{titled(n)} {mean} / {largest}" for n in networks for mean, largest in [paper.TABLE_I[n]])


def error(network: str) -> str:
    """The paper's test errors of a network on CIFAR-10 and CIFAR-100, in per cent.

    Examples
    --------
    >>> error("resnet-164")
    'ResNet-164 5.46 / 24.33'
    """
    _, ten, hundred = paper.TABLE_II[network]
    return f"{titled(network)} {ten} / {hundred}"


_SLOWER = "Times on a GPU that miss the rule's limit."
_FASTER = "Times on a GPU that meet the rule's limit, of this implementation of the iteration or of a better one."
_FASTER_THAN_SVD = f"{_FASTER} A better implementation of the SVD would change them, too."
_F2_OFF = "More cells off than the rule allows, or fewer of them nearer to 1 held than free."
_F2_NEAR = (
    "No cell outside the exceptions off by more than the rule's factor, and nearly all nearer to 1 held than free."
)

CARDS: dict[str, Card] = {
    "T1": Card(
        "the existence of blocks near the identity (Theorem 1)",
        THEORY,
        "δ = c log(2L)/L for L blocks",
        ONE,
        "A map that meets the theorem's conditions and breaks the bound at some number of blocks.",
        "Blocks that stay within the bound at every number of blocks.",
        SECONDS,
    ),
    "C1": Card(
        "the bound by the weights' norms (Corollary 1)",
        THEORY,
        "δ is at most the product of the weights' spectral norms, times constants of the activation",
        ONE,
        "One block, input and set of weights that changes a gradient's norm by more than the bound.",
        "A bound that no block, input or set of weights breaks.",
        SECONDS,
    ),
    "T2": Card(
        "linear residual networks (Theorem 2)",
        THEORY,
        "δ = c/L at a global optimum of L linear blocks",
        ONE,
        "An explicit optimum farther from the identity than the bound, or a target that descent leaves off the theory.",
        "Targets with a negative determinant that gradient descent reaches exactly, through blocks near the identity.",
        SECONDS,
    ),
    "T3": Card(
        "a convolution's singular values (Theorem 3)",
        THEORY,
        "the convolution's singular values are those of its transform, over all frequencies",
        TWO,
        "A kernel with circular padding for which a dense singular value decomposition gives other values.",
        "Agreement with the dense singular value decomposition for every kernel.",
        SECONDS,
    ),
    "P1": Card(
        "the exact projection (equation 8)",
        PROJECTION,
        "one step sets all non-zero singular values to σ",
        TWO,
        "A class of kernels that the projection misses before the crop, too, and however often it is repeated.",
        "A way to project every class of kernels in one step, exactly, with no entries outside the kernel's window.",
        SECONDS,
    ),
    "P2": Card(
        "the quadratic convergence (equation 9)",
        PROJECTION,
        "quadratic convergence, by matrix products alone",
        TWO,
        "A spectrum inside the region of convergence for which the error is not squared from step to step.",
        "Errors that are squared from step to step for every spectrum.",
        SECONDS,
    ),
    "P3": Card(
        "the gradient's energy (equation 7)",
        PROJECTION,
        "the share of the gradient's energy is about min(d, c)/d",
        THREE,
        "Trained cells with more than very few channels whose mean share is off by more than the rule's factor.",
        "Trained cells whose mean share is within the rule's factor of min(d, c)/d, very small c apart.",
        GRID,
    ),
    "F2a": Card(
        "the channel grid at the rate 0.1 (Figure 2)",
        PROJECTION,
        "ratio near 1 but for very small c with d > c (inferred); at which learning rate is not said",
        THREE,
        _F2_OFF,
        _F2_NEAR,
        GRID,
    ),
    "F2b": Card(
        "the channel grid at the rate 0.01 (Figure 2)",
        PROJECTION,
        "ratio near 1 but for very small c with d > c (inferred); at which learning rate is not said",
        THREE,
        _F2_OFF,
        _F2_NEAR,
        GRID,
    ),
    "O1a": Card(
        "the iteration's cost at depth 164 (Sections 3 and 4)",
        PROJECTION,
        "under 8 % more training time for deep ResNets; that this is ResNet-164's figure is inferred",
        TWO,
        _SLOWER,
        _FASTER,
        MINUTES,
    ),
    "O1b": Card(
        "the iteration's cost at depth 1001 (Section 4)",
        PROJECTION,
        "less for ResNet-1001 than for ResNet-164",
        TWO,
        _SLOWER,
        _FASTER,
        MINUTES,
    ),
    "O1c": Card(
        "the iteration beside an SVD (Section 4)",
        PROJECTION,
        "far less time than with an SVD",
        TWO,
        _SLOWER,
        _FASTER_THAN_SVD,
        MINUTES,
    ),
    "O1d": Card(
        "the cost of this library's faster form",
        OURS,
        "nothing: the paper has no faster form",
        TWO,
        _SLOWER,
        _FASTER,
        MINUTES,
    ),
    "O2": Card(
        "projecting less often (Section 4)",
        PROJECTION,
        "projecting every second step in place of each (inferred) does not hurt the performance much",
        FIVE,
        "Trainings with several seeds whose errors differ by more than their spread when projected less often.",
        "Trainings with several seeds whose errors differ by less than their spread when projected less often.",
        runs=OVERHEAD,
    ),
    "F3a": Card(
        "how Plain leaves norm-preservation (Figure 3)",
        FIGURES,
        "Plain's ratios begin near 1 and then leave it",
        FIVE,
        "Plain networks whose ratios begin farther from 1 than the rule allows, or stay as near to 1 as they began.",
        "Plain networks of all three depths whose ratios begin near 1 and soon leave it, as far as the rule asks.",
        runs=FIGURES_3_AND_4,
    ),
    "F3b": Card(
        "the effect of depth (Figure 3)",
        FIGURES,
        "over the depths 20, 83, 164 nearer to 1 with skips, farther without",
        FIVE,
        "Trainings with several seeds in which the order over the three depths is another one.",
        "Several seeds in which the order over the three depths is the paper's, for Plain, too.",
        runs=FIGURES_3_AND_4,
    ),
    "F3c": Card(
        "Plain-164's end (Figure 3)",
        FIGURES,
        "Plain-164 stops after 10 epochs; one transition is too large",
        FIVE,
        "Most Plain-164 networks in float32 training through.",
        "Most Plain-164 networks in float32 stopping in the epochs that the rule names, because of one transition.",
        runs=FIGURES_3_AND_4,
    ),
    "F3d": Card(
        "the three networks at depth 20 (Figure 3)",
        FIGURES,
        "at depth 20 (assumed) ResNet and Plain alike, ProcResNet nearer to 1",
        FIVE,
        "Several seeds in which Plain and ResNet lie too far apart for the rule, or ProcResNet is not below both.",
        "Several seeds in which Plain and ResNet lie as near to each other as the rule asks, ProcResNet below both.",
        runs=FIGURES_3_AND_4,
    ),
    "F3e": Card(
        "ProcResNet's first transition (Figure 3)",
        FIGURES,
        "only the first transition (3 → 64 channels) is less norm-preserving",
        FIVE,
        "A ProcResNet in which another block is as far from 1 as the first transition.",
        "ProcResNets of all three depths whose first transition is by far the block farthest from 1.",
        runs=FIGURES_3_AND_4,
    ),
    "F3f": Card(
        "ResNet's transitions in training (Figure 3)",
        FIGURES,
        "ResNet's transitions get nearer to 1 in training",
        FIVE,
        "A ResNet with a transition that ends farther from 1 than it began.",
        "ResNets of all three depths whose transitions all end nearer to 1 than they began, beyond the scatter.",
        runs=FIGURES_3_AND_4,
    ),
    "F3g": Card(
        "ratios around 1 in stable training (Figure 3)",
        FIGURES,
        "ratios of all networks concentrate around 1",
        FIVE,
        "A stable training with an epoch whose mean ratio is farther from 1 than the rule allows.",
        "Stable trainings of all networks whose mean ratio stays as near to 1 as the rule asks, in every epoch.",
        runs=FIGURES_3_AND_4,
    ),
    "F4a": Card(
        "training loss and depth (Figure 4)",
        FIGURES,
        "training loss rises with depth for Plain, falls for ResNet and ProcResNet",
        FIVE,
        "Trainings with several seeds in which the order over the depths is another one.",
        "Several seeds in which the losses lie in the paper's order over the depths, beyond the scatter.",
        runs=FIGURES_3_AND_4,
    ),
    "F4b": Card(
        "the test error's fluctuation (Figure 4)",
        FIGURES,
        "fluctuation of the test error: Plain > ResNet > ProcResNet, whose does not grow with depth",
        FIVE,
        "Trainings with several seeds in which the order of the fluctuations is another one, or ProcResNet's grows.",
        "Several seeds in which the fluctuations lie in the paper's order, beyond the scatter, and ProcResNet's stays.",
        runs=FIGURES_3_AND_4,
    ),
    "TI": Card(
        "the generalisation gap (Table I)",
        FIGURES,
        f"gap, mean / largest, points: {gap('resnet-164', 'procresnet-166')} (depths inferred)",
        FIVE,
        "Trainings with several seeds in which ProcResNet's gap, or its excess, is not the smaller one at some depth.",
        "Several seeds in which ProcResNet's gap and its excess are smaller at every depth, beyond the scatter.",
        runs=FIGURES_3_AND_4,
    ),
    "TII": Card(
        "the test errors (Table II)",
        TABLES,
        f"test error, %, CIFAR-10 / CIFAR-100: {error('resnet-164')}, {error('procresnet-166')}, "
        f"{error('resnet-1001')}, {error('procresnet-1003')}",
        FIVE,
        "A pair in which ProcResNet is not better over several seeds, or a mean error too far from the paper's.",
        "ProcResNet better in all pairs over several seeds, and all mean errors near the paper's.",
        runs=TABLE_2,
    ),
    "TIIp": Card(
        "the number of parameters (Table II)",
        TABLES,
        "under 1 % more parameters",
        FIVE,
        "Another reading of the architecture, with other numbers of channels.",
        "A reading of the architecture in which the transitions add less.",
        "Seconds: the parameters are counted.",
    ),
    "TIII": Card(
        "what each change brings (Table III)",
        TABLES,
        "test error, %, CIFAR-100: 24.33, then 23.06 with the new transition, then 22.61 with the projection",
        FIVE,
        "Trainings with several seeds on CIFAR-100 in which the order of the three is another one.",
        "Several seeds on CIFAR-100 in which the three errors lie in the paper's order, beyond the scatter.",
        runs=TABLE_3,
    ),
    "F5": Card(
        "a quarter of the parameters (Figure 5)",
        TABLES,
        "ProcResNet-274 (2.82 M parameters) slightly better than ResNet-1001 (10.32 M)",
        FIVE,
        "Trainings with several seeds of both networks in which ResNet-1001 is as good.",
        "Several seeds of both networks in which ProcResNet-274 has the lower error, beyond the scatter.",
        runs=FIGURE_5,
    ),
    "S0": Card(
        "the ratios before the first update",
        OURS,
        "nothing: the paper has no theory of the ratios before the first update",
        FIVE,
        "One network of the four depths whose first ratios are farther off the prediction than the rule allows.",
        "Networks of all four depths whose first ratios are as near to the prediction as the rule asks.",
        "It needs the ratios before the first update only, so that runs of one epoch will do (`-p epochs 1`).",
    ),
    "I1": Card(
        "whether norm preservation explains the accuracy",
        OURS,
        "no figure: the paper explains Table III by better norm preservation",
        FIVE,
        "Networks with several seeds whose error does not rise when their transitions are held away from the target.",
        "Networks with several seeds whose error rises with transitions held below the target, and above it.",
        "The interventions are written for the desk preset. What they took is on the page on reproducibility.",
    ),
}
