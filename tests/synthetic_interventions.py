"""Records of ProcResNets, made by hand, whose transitions are held in several ways."""

import math

import tiny

from paperlib.config import RunConfig
from paperlib.records import Divergence

WAYS = ({}, {"hold_at": 0.5}, {"hold_at": 2.0})


def record(error, seed=0, follows=1.0, **how):
    """A record that ends with this test error; its transitions' log ratios follow minus the factor's logarithm."""
    made = tiny.record()
    config = {"preset": "smoke", "arch": "procresnet", "depth": 20, "precision": "float32", "device": "cpu"}
    made.config = RunConfig(**config | {"seed": seed} | how).resolve()
    made = tiny.fitted(made)
    made.frames["epochs"] = made.epochs.assign(test_error=[95.0, error])
    moved = {f"transition{i}": -follows * math.log(factor) for i, factor in enumerate(made.config.factors(), 1)}
    kinds = ["transition" if name in moved else "residual" for name in made.blocks.name]
    made.frames["blocks"] = made.blocks.assign(log_ratio=made.blocks.name.map(moved).fillna(-0.1), kind=kinds)
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
