"""The printed tables beside what is found here: sizes, and a run's verdict by rule."""

import pytest

from paperlib import paper, records
from paperlib.config import RunConfig, results_root


@pytest.fixture(scope="module")
def record():
    """A run that is smaller than the paper's protocol, of a network in Table I alone."""
    finished = next(r for r in records.read_all(results_root()) if r.status == "finished")
    return finished.model_copy(update={"network": "resnet-20"})


def test_verdicts_follow_the_rule(record):
    def verdict(**changes):
        r = record.model_copy(update=changes)
        return list(paper.compare(r).verdict)

    full = RunConfig(preset="paper").resolve().model_dump()
    assert set(verdict()) == {"not tested at the paper's scale"}
    assert verdict(network="resnet-164", config=full)[0] == "not tested at the paper's scale"  # left_out is set
    at_scale = {"network": "resnet-164", "config": full, "left_out": ""}
    assert verdict(**at_scale, final={"test_error": 5.9})[0] == "in agreement"
    assert verdict(**at_scale, final={"test_error": 6.0})[0] == "not in agreement"
    assert verdict(**at_scale, final={}, status="diverged")[0] == "not reproduced (the run diverged)"
    flat = at_scale | {"config": full | {"schedule": "constant"}}
    assert verdict(**flat, final={"test_error": 5.5, "gap_mean": 5.0, "gap_max": 30.0}) == [
        "not tested at the paper's scale",
        "in agreement",
        "not in agreement",
    ]


def test_a_runs_quantities_stand_beside_the_printed_ones(record):
    flat = RunConfig(preset="paper", schedule="constant").resolve().model_dump()
    found = paper.compare(record.model_copy(update={"config": flat, "final": {"gap_mean": 5.126}}))
    assert found.quantity.tolist() == [
        f"generalisation gap, {which}, points (Table I)" for which in ("mean", "largest")
    ]
    assert found.paper.tolist() == [5.5, 23.1]
    assert found["this run"][0] == 5.13 and not found["this run"].notna()[1]
    elsewhere = paper.compare(record.model_copy(update={"network": "resnet-8"}))
    assert elsewhere.empty and list(elsewhere) == ["quantity", "paper", "this run", "verdict"]
    hundred = {"network": "resnet-164", "config": flat | {"dataset": "cifar100", "schedule": "steps"}}
    assert paper.compare(record.model_copy(update=hundred)).paper.tolist() == [24.33]  # Table I is of CIFAR-10 alone


def test_the_networks_have_the_printed_sizes():
    found = paper.compare_sizes()
    assert found.network.tolist() == ["resnet-164", "resnet-1001", "procresnet-166", "procresnet-1003"]
    assert found.paper.tolist() == [1.71, 10.32, 1.72, 10.33] and found["within 0.01"].all()
