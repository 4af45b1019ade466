"""Tables as training records give them, made by hand: which runs there are, and what each measured."""

import math

import pandas as pd

from paperlib.claims import CLAIMS

SEEDS = (0, 1, 2)
JITTER = (1.0, 1.01, 0.99)  # by seed: a spread of a per cent
DEPTHS = (20, 83, 164)
ARCHS = ("plain", "resnet", "procresnet")


def run(arch, depth, seed=0, precision="float32", suffix=""):
    """The columns that every table begins with."""
    network = f"{arch}-{depth + 2 * (arch == 'procresnet')}{suffix}"
    return {"network": network, "arch": arch, "depth": depth, "seed": seed, "precision": precision}


def ending(arch, depth, seed=0, test_error=50.0, precision="float32", suffix="", **changes):
    """A row of ``endings``: by default of a run of 100 epochs that finished."""
    row = {"project_every": 2, "dataset": "cifar10", "schedule": "constant", "status": "finished", "epochs": 100}
    row |= {"divergence_epoch": math.nan, "divergence_block": "", "parameters": 1, "test_error": test_error}
    return run(arch, depth, seed, precision, suffix) | row | {"lowest_test_error": test_error} | changes


def diverged(epoch):
    """Changes of an ending that make it one of a run that diverged."""
    return {"status": "diverged", "epochs": epoch, "divergence_epoch": float(epoch), "test_error": math.nan}


def endings(archs=ARCHS, depths=DEPTHS, seeds=SEEDS, precision="float32"):
    """The ``endings`` of a grid of runs."""
    return pd.DataFrame([ending(a, d, s, precision=precision) for a in archs for d in depths for s in seeds])


def check(name, tables, expected):
    """The claim's rule says ``expected`` of these tables, and its quantities can be taken."""
    claim = CLAIMS[name]
    assert claim.judge(tables) == expected
    assert bool(claim.missing(tables)) == (expected == "undecided")
    assert claim.quantities(tables) or expected == "undecided"


def check_small(name, tables, left="seed < 1"):
    """With one seed the outcome is that of the order, and n is told; without one network nothing is decided."""
    claim = CLAIMS[name]
    one = {key: table.query(left) for key, table in tables.items()}
    assert claim.judge(one) == claim.judge(tables) and claim.smallest(one) == 1
    network = claim.NETWORKS[-1]
    fewer = {key: table[table.network != network] for key, table in tables.items()}
    check(name, fewer, "undecided")
    assert network in claim.missing(fewer) and claim.smallest(fewer) is None
