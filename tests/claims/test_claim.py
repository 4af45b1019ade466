"""The claims as the paper's readers meet them: their rules, word for word, and what each is."""

import pytest

from paperlib.claims import CLAIMS, Claim

RULES = {
    "T1": (
        "with each schedule, ‖J − I‖ ≤ the explicit bound and δ ≥ the lower bound at every L, and composition"
        " there and back to 1e-12; with the one of the paper's proof, slope of δ in log(2L)/L at least 0.85 "
        "for L ≥ 16"
    ),
    "C1": "‖J − I‖ ≤ the bound for every block, seed and input",
    "T2": (
        "‖A‖ ≤ the published bound for L ≥ 3γ, slope within 0.03 of −1 for L ≥ 128, product exact to 1e-12 of"
        " the condition number; with a correction (det R > 0) if gradient descent on each of at least five "
        "targets with det R < 0 ends within 1 % of the excess risk σ_min² that theory gives, and on each of at "
        "least five with det R > 0 below 1e-6; without one if it ends below that on all of them; undecided with "
        "fewer targets"
    ),
    "T3": "for eight shapes, with strides, the dense operator's SVD agrees to 1e-10 of the largest value",
    "P1": (
        "the largest distance of a singular value from σ, over σ, for every kind of shape (3 → 64, 3×3; 8 → 16,"
        " 3×3; 8 → 8, 3×3; 16 → 8, 3×3; 8 → 16, 3×3, stride 2; 64 → 128, 1×1; 64 → 64, 1×1; 128 → 64, 1×1; 64 →"
        " 128, 1×1, stride 2): within 1e-3 after one pass, cropped; with a correction if only before the crop, "
        "or after more passes"
    ),
    "P2": (
        "for ten or more different spectra of singular values up to 1: e(t+1) / e(t)² between 1.3 and 1.7 from "
        "e = 5 % down to rounding in each (3/2 in theory)"
    ),
    "O1a": (
        "ProcResNet-166 in float32, batches of 128, median of 3 rounds or more: the paper's (8) and (9) at all "
        "n² frequencies, 10 steps (assumed), once in two steps, take less than 8 % of the training time. A GPU "
        "decides"
    ),
    "O1b": (
        "as O1a, at depths 164 and 1001 with activations kept or recomputed alike: the median share at 1001 "
        "below that at 164. A GPU decides"
    ),
    "O1c": (
        "ProcResNet-166 in float32, batches of 128, median of 3 rounds or more, the three transitions: 10 steps"
        " (assumed) of the paper's (8) and (9) take at most 0.5 times as long as an SVD, both with one matrix "
        "for a 1×1 kernel and half of the spectrum; with a correction if only where both go through all n² "
        "frequencies. A GPU decides"
    ),
    "O1d": (
        "ProcResNet-166 in float32, batches of 128, median of 3 rounds or more: the library's projection, once "
        "in two steps, takes less than 8 % of the training time. Ours, not the paper's claim. A GPU decides"
    ),
    "P3": (
        "trained networks, held at σ = √(2d/min(d, c)), at the rate 0.1 and at 0.01: the mean share over c/d "
        "is within a factor 1.25 of 1 in every cell with d > c; with a correction if in all but those with c "
        "≤ 4. Grids with all pairs of 2, 4, 8, 16, 32 channels, 5 runs of each and 100 steps, or more; after "
        "the last stage. A cell's mean is that of the runs that are alive; where more than half have died, it "
        "fails"
    ),
    "F2a": (
        "after training at the rate 0.1, with σ = √(2d/min(d, c)), geometric means: in every cell but those "
        "with d > c and c ≤ 4 the ratio is within a factor 1.25 of 1, and in at least 90 % of all cells it is "
        "nearer to 1 than without a projection (PyTorch's start); with a correction if only the second holds. "
        "Grids with all pairs of 2, 4, 8, 16, 32 channels, 5 runs of each and 100 steps, or more; after the "
        "last stage. A cell's mean is that of the runs that are alive; where more than half have died, it "
        "fails"
    ),
    "F2b": (
        "after training at the rate 0.01, with σ = √(2d/min(d, c)), geometric means: in every cell but those "
        "with d > c and c ≤ 4 the ratio is within a factor 1.25 of 1, and in at least 90 % of all cells it is "
        "nearer to 1 than without a projection (PyTorch's start); with a correction if only the second holds. "
        "Grids with all pairs of 2, 4, 8, 16, 32 channels, 5 runs of each and 100 steps, or more; after the "
        "last stage. A cell's mean is that of the runs that are alive; where more than half have died, it "
        "fails"
    ),
    "F3a": (
        "Plain at depths (20, 83, 164), median dev over residual-position blocks, mean over seeds: before the"
        " first update at most ln 1.5 at every depth, and in some epoch up to 10 at least 2 times its value "
        "there, at every depth; with a correction if only the second holds. dev = |ln r|, r the geometric "
        "mean of a block's ratio over the steps of an epoch. Theory says that a Plain block begins at r = "
        "0.563"
    ),
    "F3b": (
        "median dev over residual-position blocks, mean over epochs: falls over the depths (20, 83, 164) for "
        "ResNet and for ProcResNet, and rises for Plain; with a correction if only the first two hold. A run "
        "that diverged counts with the epochs that it lived. dev = |ln r|, r the geometric mean of a block's "
        "ratio over the steps of an epoch. < and > between groups of 3 seeds or more: Welch's one-sided "
        "t-test at 5 %; of fewer, the order of the means"
    ),
    "F3c": (
        "Plain-164 in float32: at least 50 % of the runs are not finite between epochs 2 and 20; in the "
        "epochs that those lived (means over epochs and runs) the block with the largest dev is a transition,"
        " and the median dev of the others is at most 1.25 times that of Plain-83's blocks in the same "
        "epochs. With a correction if at least 50 % are not finite at some time or stay at a test error of 80"
        " % or more, but the rest is not so. bfloat16 is shown, not judged. dev = |ln r|, r the geometric "
        "mean of a block's ratio over the steps of an epoch"
    ),
    "F3d": (
        "depth 20, median dev over all blocks, mean over epochs: Plain's and ResNet's means within a factor "
        "1.25 of each other, and ProcResNet's below both. dev = |ln r|, r the geometric mean of a block's "
        "ratio over the steps of an epoch. < and > between groups of 3 seeds or more: Welch's one-sided "
        "t-test at 5 %; of fewer, the order of the means"
    ),
    "F3e": (
        "ProcResNet at depths (20, 83, 164), dev of each block, mean over epochs and seeds: the first "
        "transition's is the largest of the three and at least 2 times the next, and no residual-position "
        "block's is larger, at every depth. dev = |ln r|, r the geometric mean of a block's ratio over the "
        "steps of an epoch"
    ),
    "F3f": (
        "ResNet at depths (20, 83, 164), each of the three transitions: dev, mean of the last 10 epochs, "
        "below that of epochs 1 to 10. A run that diverged counts as one that did not change. dev = |ln r|, r"
        " the geometric mean of a block's ratio over the steps of an epoch. < and > between groups of 3 seeds"
        " or more: Welch's one-sided t-test at 5 %; of fewer, the order of the means"
    ),
    "F3g": (
        "geometric mean of r over all blocks between 1/1.25 and 1.25 in every epoch of every run that "
        "finished, Plain included; depths (20, 83, 164). r: geometric mean over the steps of an epoch"
    ),
    "S0": (
        "residual-position blocks before the first update, at depths (20, 83, 164, 1001), 3 seeds or more, "
        "mean over seeds: median |ln r − ln prediction| at most 0.03 for ResNet and for ProcResNet, with the "
        "measured variance put in, and Plain's median r within 15 % of 0.563. Blocks whose gradients leave "
        "float32's range do not count"
    ),
    "F4a": (
        "training loss of the last epoch over the depths (20, 83, 164): rises for Plain, falls for ResNet and"
        " for ProcResNet. A run that diverged counts with its last finite training loss, at most 2.30, that "
        "of guessing: a loss that blew up must not carry a mean. < and > between groups of 3 seeds or more: "
        "Welch's one-sided t-test at 5 %; of fewer, the order of the means"
    ),
    "F4b": (
        "standard deviation of the test error's change from epoch to epoch, epochs 11 to 100: Plain > ResNet "
        "> ProcResNet at depths (20, 83), and ProcResNet's mean at 164 at most 1.25 times that at 20. A Plain"
        " or a ResNet that diverged counts with the epochs that it lived, if they give 3 changes, and a "
        "ProcResNet that diverged says no. < and > between groups of 3 seeds or more: Welch's one-sided "
        "t-test at 5 %; of fewer, the order of the means"
    ),
    "TI": (
        "test error less training error, epochs 1 to 100, depths (20, 83, 164): ProcResNet's mean below "
        "ResNet's, and its largest less its mean, too, at every depth and with either training error "
        "(running, augmented; not augmented, at the epoch's end), since the paper does not say which. A "
        "ProcResNet that diverged says no. The printed figures are compared, not judged. < and > between "
        "groups of 3 seeds or more: Welch's one-sided t-test at 5 %; of fewer, the order of the means"
    ),
    "TII": (
        "final test error on CIFAR-10 and CIFAR-100: in each of 4 pairs ProcResNet's below its ResNet's, and "
        "the mean of each network within 0.5 points of the printed figure. A run that diverged counts with "
        "the error of guessing. < and > between groups of 3 seeds or more: Welch's one-sided t-test at 5 %; "
        "of fewer, the order of the means"
    ),
    "TIIp": (
        "counted: ProcResNet has under 1 % more parameters than its ResNet, for both depths of Table II, with"
        " and without EraseReLU, for 10 and for 100 classes"
    ),
    "TIII": (
        "final test error on CIFAR-100: procresnet-166 < procresnet-166-noproject < resnet-164. CIFAR-10 is "
        "shown, not judged. A run that diverged counts with the error of guessing. < and > between groups of "
        "3 seeds or more: Welch's one-sided t-test at 5 %; of fewer, the order of the means"
    ),
    "F5": (
        "final test error on CIFAR-10: procresnet-274 < resnet-1001. A run that diverged counts with the "
        "error of guessing. < and > between groups of 3 seeds or more: Welch's one-sided t-test at 5 %; of "
        "fewer, the order of the means"
    ),
    "O2": (
        "ProcResNet on CIFAR-10, 3 seeds or more, projected every 1, 2, 4, 8 steps: the mean final test "
        "errors lie within 1 standard deviation of each other (the root of the mean variance within the "
        "four), at every depth and schedule for which all four were trained. A run that diverged counts with "
        "the error of guessing"
    ),
    "I1": (
        "ProcResNets on CIFAR-10 that differ only in what their three transitions are held at, 3 seeds or more, paired "
        "by seed: the final test error at 0.5 and at 2 times the norm-preserving target lies above that at the target "
        "(one-sided paired t-test at 5 % each), in every setting in which all three were trained: reproduced; at the "
        "same one of the two (at 2.5 %): with a correction. Only settings count in which the transitions' mean log "
        "ratio moved by at least 0.5 times minus the factor's logarithm. A run that diverged counts with the error of "
        "guessing"
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_word_for_word(name):
    assert CLAIMS[name].rule == RULES[name]


def test_the_claims_are_in_the_order_of_the_chapters():
    assert list(CLAIMS) == list(RULES)
    assert all(claim.name == name and claim.where and claim.statement for name, claim in CLAIMS.items())
    assert [name for name, claim in CLAIMS.items() if claim.scaled] == [
        *("P3", "F2a", "F2b"),
        *("F3a", "F3b", "F3c", "F3d", "F3e", "F3f", "F3g", "S0", "F4a", "F4b", "TI", "TII", "TIII", "F5", "O2", "I1"),
    ]
    accelerated = [name for name, claim in CLAIMS.items() if claim.accelerated]
    assert accelerated == ["O1a", "O1b", "O1c", "O1d", "P3", "F2a", "F2b"]
    assert [name for name, claim in CLAIMS.items() if claim.on_gpu] == ["O1a", "O1b", "O1c", "O1d"]


def test_a_claim_needs_a_rule_a_measurement_quantities_and_a_judge():
    with pytest.raises(TypeError, match="judge.*measure.*quantities.*rule"):
        Claim()
