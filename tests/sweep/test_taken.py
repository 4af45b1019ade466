"""What trainings took, beside what is predicted."""

import math

import pytest
import tiny

from paperlib import records
from paperlib.store import results_root
from paperlib.store.provenance import Device
from paperlib.sweep import cost, taken
from paperlib.training.run import SIDE_BY_SIDE


def made(**session):
    record = tiny.record()
    record.config = record.config.model_copy(update={"precision": "float32", "epochs": 4})
    record.provenance.sessions[0] = record.provenance.last.model_copy(update=session)
    record.peak_memory_bytes = 3 * 2**30
    return record


def test_an_images_time_is_that_of_the_epochs_which_were_made():
    record = made(device=Device(type="cpu", name="A"))
    (row,) = taken.taken([record]).to_dict("records")
    # Two of four epochs were made, in 1.5 s.
    assert row["milliseconds"] == pytest.approx(1e3 * 1.5 / (cost.images(record.config) / 2))
    assert (row["kind"], row["depth"], row["memory"]) == ("A, float32", 20, 3.0)
    assert row["predicted"] == pytest.approx(cost.memory_bytes(record.config) / 2**30)


def test_runs_side_by_side_share_their_time_and_a_gpus_memory_is_not_the_hosts():
    gpu = Device(type="cuda", name="G")
    alone, together = made(device=gpu), made(device=gpu, settings={SIDE_BY_SIDE: "3"})
    one, three = taken.taken([alone, together]).milliseconds
    assert three == pytest.approx(one / 3)
    assert math.isnan(taken.taken([alone]).predicted[0])


def test_lines_are_those_of_the_costs():
    known = cost.Costs(
        host="h",
        device=Device(type="cpu", name="A"),
        side_by_side=1,
        startup=9.0,
        per_image={"float32": (0.002, 0.001)},
    )
    table = taken.times([known], [20, 164])
    assert table.milliseconds.tolist() == pytest.approx([22.0, 166.0])
    space = taken.memory([32, 128], [20, 164], known).set_index(["batch", "depth"]).memory
    kept = space[128, 164] - cost.PROCESS_BYTES / 2**30
    assert kept == pytest.approx(4 * (space[32, 164] - cost.PROCESS_BYTES / 2**30))
    assert set(taken.memory([32], [20], known).kind) == set(table.kind) == {"A, float32"}


def test_without_records_there_is_a_sentence():
    assert taken.agreement(taken.taken([])).startswith("No run on a processor is on record")


def test_the_memory_of_every_run_on_record_was_predicted_within_thirty_per_cent():
    runs = taken.taken(records.read_all(results_root())).dropna()
    assert len(runs) > 100
    assert (runs.predicted / runs.memory).between(0.7, 1.3).all()
    low, high = (runs.predicted / runs.memory).agg(["min", "max"])
    assert f"For the {len(runs)} runs on record" in taken.agreement(runs)
    assert f"is {low:.2f} to {high:.2f} times what was used" in taken.agreement(runs)
