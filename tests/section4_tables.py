"""Tables of Section 4's runs, made by hand, for chapter 5's figures and sentences."""

import math

import pandas as pd
from synthetic_runs import ARCHS, DEPTHS, diverged, ending, run

BLOCKS = ("transition", "residual", "residual", "transition", "residual")


def ratios(archs=ARCHS, depths=DEPTHS, seeds=(0, 1), epochs=3, value=0.1):
    """As ``section4.ratios``: all blocks have the log ratio ``value``, with the opposite sign in every second block."""
    return pd.DataFrame(
        run(arch, depth, seed)
        | {"epoch": epoch, "block": block, "name": f"stage{1 + block // 4}_block{block}", "kind": kind}
        | {"log_ratio": value * (-1) ** block, "prediction": -0.2 if epoch == 0 else math.nan}
        for arch in archs
        for depth in depths
        for seed in seeds
        for epoch in range(epochs + 1)
        for block, kind in enumerate(BLOCKS, 1)
    )


def beginnings(**grid):
    """As ``beginning.beginnings``."""
    table = ratios(**grid).query("epoch == 0").drop(columns="epoch")
    return table.assign(stage=table.name.str[5].astype(int), unmeasured=-0.3, variance=1.0)


def curves(archs=ARCHS, depths=DEPTHS, seeds=(0, 1), epochs=3):
    """As ``section4.curves``: loss and error fall over the epochs, and seeds differ by 2 in the error."""
    return pd.DataFrame(
        run(arch, depth, seed)
        | {"epoch": epoch, "train_loss": 2.0 / epoch, "train_error": 50.0, "clean_train_error": 40.0}
        | {"test_error": 90.0 - 10 * epoch + 2 * seed}
        for arch in archs
        for depth in depths
        for seed in seeds
        for epoch in range(1, epochs + 1)
    )


def errors():
    """As ``section4.final_errors``: one network that learns, one that diverged, one that is stuck."""
    rows = [
        ending("resnet", 20, 0, 50.0) | {"stuck": False},
        ending("resnet", 20, 1, 54.0) | {"stuck": False},
        ending("plain", 83, 0) | diverged(7) | {"test_error": 90.0, "stuck": False},
        ending("plain", 164, 0, 90.0) | {"stuck": True},
    ]
    return pd.DataFrame(rows)
