"""The printed tables beside what is found here: sizes, and a run's verdict by rule."""

import pandas as pd
import pytest

from paperlib import paper, records
from paperlib.config import RunConfig
from paperlib.store import results_root


@pytest.fixture(scope="module")
def record():
    """A run that is smaller than the paper's protocol."""
    return next(r for r in records.read_all(results_root()) if r.status == "finished")


@pytest.fixture(scope="module")
def compared(record):
    """What is compared of a run with these parameters, which ended with this test error and these gaps."""

    def compare(error=None, gaps=(), status="finished", **parameters):
        gaps = gaps or ([] if error is None else [0.0])
        # The training error is what makes the gap; the test error is the same in all epochs.
        error = 50.0 if error is None else error
        epochs = pd.DataFrame({"train_error": [error - gap for gap in gaps], "test_error": [error] * len(gaps)})
        changes = {
            "config": RunConfig(**{"preset": "paper", "device": "cpu", "precision": "float32"} | parameters).resolve(),
            "status": status,
            "frames": {"epochs": epochs, "blocks": record.blocks},
        }
        return paper.compare(record.model_copy(update=changes))

    return compare


def test_verdicts_follow_the_rule(record, compared):
    def verdict(*arguments, **changes):
        return list(compared(*arguments, **changes).verdict)

    assert set(verdict(5.9, preset="desk")) == {"not tested at the paper's scale"}
    assert set(paper.compare(record).verdict) == {"not tested at the paper's scale"}
    assert verdict(5.9)[0] == "in agreement"
    assert verdict(6.0)[0] == "not in agreement"
    assert verdict(5.9, epochs=299)[0] == "not tested at the paper's scale"  # something is left out
    assert verdict(status="diverged")[0] == "not reproduced (the run diverged)"
    assert verdict(5.9, precision="bfloat16")[0] == "in agreement, in bfloat16"
    gaps = [-20.0, 30.0]  # 5 in the mean, and 30 at the most
    assert verdict(5.5, gaps, schedule="constant") == [
        "not tested at the paper's scale",
        "compared, not judged",
        "compared, not judged",
    ]


@pytest.mark.parametrize("gaps", [[-8.3, 18.7], [5.2, 5.2]])
def test_a_gap_of_table_1_is_never_judged(compared, gaps):
    """However near it is, and whether the run diverged or not."""
    full = {"depth": 164, "schedule": "constant"}
    for status in ("finished", "diverged"):
        found = compared(5.5, gaps, status=status, **full)
        judged = found.quantity.str.contains("Table I,").map({True: "compared, not judged"})
        assert found.verdict[1:].tolist() == judged[1:].tolist() == ["compared, not judged"] * 2
    in_bfloat16 = compared(5.5, gaps, precision="bfloat16", **full)
    assert set(in_bfloat16.verdict[1:]) == {"compared, not judged, in bfloat16"}
    assert set(compared(5.5, gaps, preset="desk", **full).verdict) == {"not tested at the paper's scale"}


def test_a_runs_quantities_stand_beside_the_printed_ones(compared):
    found = compared(50.0, [5.126], depth=20, schedule="constant")
    assert found.quantity.tolist() == [
        f"{which} gap, points (Table I, depth inferred)" for which in ("mean", "largest")
    ]
    assert found.paper.tolist() == [5.5, 23.1]
    assert found["this run"].tolist() == [5.13, 5.13]
    # On a page, pandas cuts what is longer.
    assert found[["quantity", "verdict"]].map(len).max(axis=None) < pd.get_option("display.max_colwidth")
    assert not compared(depth=20, schedule="constant")["this run"].notna().any()
    elsewhere = compared(depth=11)
    assert elsewhere.empty and list(elsewhere) == ["quantity", "paper", "this run", "verdict"]
    assert compared(30.0, dataset="cifar100").paper.tolist() == [24.33]  # Table I is of CIFAR-10 alone


def test_the_networks_have_the_printed_sizes():
    found = paper.compare_sizes()
    assert found.network.tolist() == ["resnet-164", "resnet-1001", "procresnet-166", "procresnet-1003"]
    assert found.paper.tolist() == [1.71, 10.32, 1.72, 10.33] and found["within 0.01"].all()
