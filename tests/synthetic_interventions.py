"""Records of ProcResNets, made by hand, whose transitions are held in several ways."""

import math

import pandas as pd
import tiny

from paperlib.config import RunConfig
from paperlib.records import Divergence

WAYS = ({}, {"hold_at": 0.5}, {"hold_at": 2.0})


def record(error, seed=0, follows=1.0, **how):
    """A record that ends with this test error; its transitions' log ratios follow minus the factor's logarithm."""
    made = tiny.record()
    config = {"preset": "smoke", "arch": "procresnet", "depth": 20, "precision": "float32", "device": "cpu"}
    made.config = RunConfig(**config | {"seed": seed} | how).resolve()
    made.frames["epochs"] = made.epochs.assign(test_error=[95.0, error])
    rows = [
        {"epoch": epoch, "block": block, "name": kind, "kind": kind, "log_ratio": value}
        for epoch in (1, 2)
        for block, (kind, value) in enumerate(
            [("transition", -follows * math.log(f)) for f in made.config.factors()] + [("residual", -0.1)] * 2, 1
        )
    ]
    made.frames["blocks"] = pd.DataFrame(rows)
    return made


def diverged(seed=0, **how):
    """A record of a run that did not finish."""
    made = record(math.nan, seed, **how)
    made.status, made.divergence = "diverged", Divergence(epoch=2, step=1, what="loss", block="transition1")
    return made


def family(low=3.0, high=4.0, seeds=(0, 1, 2), spread=0.5, **how):
    """A baseline, and the two factors, worse by ``low`` and ``high`` points, with a paired spread."""
    found = []
    for seed in seeds:
        base = 50.0 + 5 * seed  # seeds differ by more than the interventions do: pairing takes it away
        jitter = spread * (seed % 3 - 1)
        found += [
            record(base + more, seed, **way | how)
            for way, more in zip(WAYS, (0, low + jitter, high - jitter), strict=True)
        ]
    return found
