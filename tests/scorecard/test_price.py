"""What a claim costs at the paper's scale."""

from pathlib import Path

import pytest
from scripts import script

from paperlib import scorecard
from paperlib.claims import CLAIMS
from paperlib.config import RunConfig
from paperlib.records import read_all
from paperlib.scorecard.price import COSTS, GPU_COSTS, SWEEP, Prices, here
from paperlib.store import Device, results_root
from paperlib.studies.reproducibility import benchmark
from paperlib.sweep import plan
from paperlib.sweep.cost import Costs, images, in_words, rounded, stored
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
    hours = (2 + images(mine.config) * 1e-4 * (20 + 83)) / 3600
    assert known.hours([mine, deeper]) == pytest.approx(hours)
    said = known.of(CLAIMS["F3a"], "a")  # which is about Plain alone
    both = f"about {rounded(hours)} hours, one run at a time; 2 at a time: about {rounded(hours / 2)} hours"
    assert said.startswith(f"2 training runs: {both}, predicted for 2 cores of an Abacus from steps")
    assert "run at a time, predicted" in known.of(CLAIMS["F3a"], "b")  # one run alone


def test_a_gpu_has_a_sentence_of_its_own():
    one = job(20, "a")
    assert prices(one).sentence().endswith("On a GPU: not estimated.")
    device, line = Device(type="cuda", name="Calculator"), {"bfloat16": (0.0, 1e-4)}
    gpu = Costs(host="h", device=device, side_by_side=1, startup=1.0, per_image=line, depths=(20, 164))
    said = prices(one)._replace(gpu=gpu).sentence()
    hours = rounded((1 + images(one.config) * 1e-4 * 20) / 3600)
    assert f"On one Calculator in bfloat16, several runs side by side: about {hours} hours" in said
    assert said.endswith("depths 20 and 164; in float32, the paper's precision, more.")
    known = prices(one)
    assert (
        known._replace(gpu=gpu).briefly()
        == f"1 training run, predicted to take about {hours} hours on one Calculator in bfloat16"
    )
    assert known.briefly().endswith("hours, one run at a time") and known._replace(costs=None).briefly() == ""


def test_the_gpu_s_costs_follow_from_the_records():
    gpu_costs = script("gpu_costs")
    found = gpu_costs.costs()
    assert found == stored(results_root() / GPU_COSTS)
    runs = [r for r in read_all(results_root() / "h200") if r.config.precision == "bfloat16"]
    base, slope = found.per_image["bfloat16"]
    together = sum(images(r.config) for r in runs) * (base + slope * 20)
    assert together == pytest.approx(max(r.provenance.seconds for r in runs))
    assert 1 / (base + slope * 164) == pytest.approx(benchmark("gpu_step")["depth 164"][gpu_costs.RATE])


def test_what_was_not_timed_is_not_estimated():
    assert Prices([], None).sentence() == "Not estimated."
    assert prices().of(CLAIMS["F3a"], "a") == "Not estimated."
    assert Prices([job(20, "a")], None).sentence() == "1 training run; hours not estimated."
    assert prices(job(20, "a", precision="bfloat16")).sentence() == "1 training run; hours not estimated."


def test_the_costs_on_record_are_read(tmp_path):
    assert here(tmp_path).costs is None and here(tmp_path).jobs
    known = here(results_root()).costs
    assert (results_root() / COSTS).exists() and "float32" in known.per_image


def test_the_scorecard_and_the_plan_have_the_same_hours(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    root = results_root()
    made = plan.make(root.parent / SWEEP, Path(tmp_path) / "out", root / COSTS, workers=2)
    hours = plan.table(made).set_index("group").hours["all"]
    assert here(root).hours(made.jobs) == pytest.approx(hours)
    assert in_words(hours, 2) in plan.describe(made) and in_words(hours, 2) in scorecard.build(root).cost
