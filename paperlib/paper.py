"""The paper's own figures, and a run's beside them (arXiv 1805.07477, Tables I and II)."""

from __future__ import annotations

import math

import pandas as pd

from paperlib.config import RunConfig
from paperlib.models import build, parameter_count
from paperlib.records import Record

# Table II: parameters in millions, error in per cent on (CIFAR-10, CIFAR-100).
TABLE_II = {
    "resnet-164": (1.71, 5.46, 24.33),
    "resnet-1001": (10.32, 4.62, 22.71),
    "resnet-164-eraserelu": (1.70, 4.65, 22.41),
    "resnet-1001-eraserelu": (10.32, 4.10, 20.63),
    "procresnet-166": (1.72, 4.75, 22.61),
    "procresnet-1003": (10.33, 3.72, 19.99),
    "procresnet-166-eraserelu": (1.72, 4.53, 21.91),
    "procresnet-1003-eraserelu": (10.33, 3.42, 18.12),
}
# Table I: generalisation gap in points, mean and maximum over the first 100 epochs (constant rate, CIFAR-10).  The
# depths are inferred from the text: the table's first column was lost in our copy.
TABLE_I = {
    "plain-20": (6.7, 20.0),
    "resnet-20": (5.5, 23.1),
    "procresnet-22": (2.3, 8.3),
    "plain-83": (7.5, 30.1),
    "resnet-83": (5.1, 12.5),
    "procresnet-85": (2.0, 7.7),
    "resnet-164": (5.2, 18.7),
    "procresnet-166": (3.3, 8.7),
}
# A single run is called in agreement with the paper's (rounded, single or best-of-few) error within this many points:
# about the spread between the published ResNet-164 results, 5.46 and 5.90.
TOLERANCE = 0.5


def compare_sizes() -> pd.DataFrame:
    """The four networks' numbers of parameters, in millions, beside Table II's, and whether they agree to 0.01 million."""
    rows = []
    for arch, depth in (("resnet", 164), ("resnet", 1001), ("procresnet", 164), ("procresnet", 1001)):
        name = RunConfig(arch=arch, depth=depth).network
        here = parameter_count(build(arch, depth)) / 1e6
        printed = TABLE_II[name][0]
        rows.append(
            {"network": name, "paper": printed, "here": round(here, 3), "within 0.01": abs(here - printed) <= 0.01}
        )
    return pd.DataFrame(rows)


def compare(record: Record) -> pd.DataFrame:
    """A run's figures beside the paper's for the same network and data set, with a verdict by rule.

    Columns: ``quantity``, ``paper``, ``this run``, ``verdict``.  A run that is smaller than the paper's protocol gets the verdict
    "not tested at the paper's scale", whatever its figures; the rule for the others is a difference of at most ``TOLERANCE`` points.
    """
    config = record.config
    which = 1 if config["dataset"] == "cifar10" else 2
    steps = config["schedule"] == "steps"
    rows = []
    if record.network in TABLE_II:
        rows.append(
            ("test error, % (Table II)", TABLE_II[record.network][which], record.final.get("test_error"), steps)
        )
    if record.network in TABLE_I and which == 1:
        for name, key, paper in zip(("mean", "largest"), ("gap_mean", "gap_max"), TABLE_I[record.network], strict=True):
            rows.append((f"generalisation gap, {name}, points (Table I)", paper, record.final.get(key), not steps))
    out = []
    for quantity, paper, here, same_schedule in rows:
        if record.left_out or not same_schedule:
            verdict = "not tested at the paper's scale"
        elif record.status == "diverged" or here is None or not math.isfinite(here):
            verdict = "not reproduced (the run diverged)"
        else:
            verdict = "in agreement" if abs(here - paper) <= TOLERANCE else "not in agreement"
        out.append(
            {
                "quantity": quantity,
                "paper": paper,
                "this run": None if here is None else round(here, 2),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(out, columns=["quantity", "paper", "this run", "verdict"])
