"""What a claim costs at the paper's scale."""

import pytest

from paperlib.claims import CLAIMS
from paperlib.config import RunConfig
from paperlib.scorecard.price import COSTS, Prices, here, rounded
from paperlib.store import Device, results_root
from paperlib.sweep.cost import Costs, images
from paperlib.sweep.file import Job


def job(depth, *groups, arch="plain", precision="float32"):
    given = {"preset": "paper", "arch": arch, "depth": depth, "precision": precision, "schedule": "constant"}
    return Job(config=RunConfig(**given, device="cpu").resolve(), given=given, groups=groups)


def prices(*jobs):
    timed = {"host": "h", "device": Device(type="cpu", name="Abacus"), "side_by_side": 2, "startup": 1.0}
    return Prices(list(jobs), Costs(**timed, per_image={"float32": (0.0, 1e-4)}))


def test_the_hours_are_those_of_the_claim_s_runs_in_its_group():
    mine, deeper, other = job(20, "a"), job(83, "a", "b"), job(20, "a", arch="resnet")
    known = prices(mine, deeper, other)
    hours = (2 + images(mine.config) * 1e-4 * (20 + 83)) / 2 / 3600
    assert known.hours([mine, deeper]) == pytest.approx(hours)
    said = known.of(CLAIMS["F3a"], "a")  # which is about Plain alone
    assert said.startswith(f"2 training runs: about {rounded(hours)} hours on 2 cores of an Abacus, predicted from")
    assert known.of(CLAIMS["F3a"], "b").startswith("1 training run: about")


def test_what_was_not_timed_is_not_estimated():
    assert Prices([], None).sentence() == "Not estimated."
    assert prices().of(CLAIMS["F3a"], "a") == "Not estimated."
    assert Prices([job(20, "a")], None).sentence() == "1 training run; hours not estimated."
    assert prices(job(20, "a", precision="bfloat16")).sentence() == "1 training run; hours not estimated."


def test_the_costs_on_record_are_read(tmp_path):
    assert here(tmp_path).costs is None and here(tmp_path).jobs
    known = here(results_root()).costs
    assert (results_root() / COSTS).exists() and "float32" in known.per_image
