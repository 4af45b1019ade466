"""The tables of the trainings on record and of the faults that were tried, and what benchmarks measured."""

import time

import pytest
import tiny
from faults.tally import Tally

from paperlib.errors import RecordError
from paperlib.store import results_root
from paperlib.studies.reproducibility import benchmark, faults, trainings


def test_runs_of_one_kind_share_a_row():
    one, two, other = tiny.record(), tiny.record(), tiny.record()
    for record, seconds, precision in ((one, 60.0, "float32"), (two, 180.0, "float32"), (other, 30.0, "bfloat16")):
        record.config = record.config.model_copy(update={"precision": precision})
        record.provenance.sessions[0] = record.provenance.last.model_copy(update={"seconds": seconds})
        record.peak_memory_bytes = 2**30
    two.peak_memory_bytes = 3 * 2**30
    table = trainings([one, two, other]).reset_index().set_index("precision")
    assert table.runs.to_dict() == {"bfloat16": "1", "float32": "2"}
    assert table.minutes.to_dict() == {"bfloat16": "0.5", "float32": "2.0 ± 1.4"}
    assert table["memory, GiB"]["float32"] == "3.0"


def test_a_run_that_diverged_is_counted_as_such():
    ended = tiny.record()
    ended.status = "diverged"
    assert trainings([tiny.record(), ended]).runs.tolist() == ["2, 1 diverged"]


def test_without_records_the_table_is_empty():
    assert trainings([]).empty


def test_what_was_tried_is_told_with_its_outcomes(tmp_path):
    made = Tally()
    made.add("a run was killed", time.monotonic() - 8.2, left_a_checkpoint=1_200, left_none=3)
    made.add("an archive was read: a fifo", time.monotonic(), refused=1)
    made.add("an archive was read: a link", time.monotonic(), refused=1)
    made.save(tmp_path / "torture.json")
    table, said = faults(tmp_path / "torture.json")
    row = table.set_index("what was done").loc["a run was killed"]
    assert row.tolist() == [1_203, "left a checkpoint: 1,200, left none: 3"]
    assert table.set_index("what was done").loc["an archive was read"].tolist() == [2, "refused: 2"]
    assert said.startswith("These are 1,205 tries, made by `make torture` on ")


@pytest.mark.parametrize("damage", [lambda text: text.replace("1", "2"), lambda text: "[]", lambda text: text[:-9]])
def test_a_changed_file_of_tries_is_refused(tmp_path, damage):
    path = tmp_path / "torture.json"
    made = Tally()
    made.add("a run was killed", time.monotonic(), left_none=1)
    made.save(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError, match=r"torture.json is not what make torture made"):
        faults(path)
    path.unlink()
    with pytest.raises(RecordError, match=r"torture.json cannot be read .*: make torture makes it"):
        faults(path)


RESULTS = results_root().parent / "benchmarks" / "results"


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_a_changed_record_of_a_benchmark_is_refused(name, tmp_path):
    assert benchmark(name)["benchmark"] == name
    path = tmp_path / f"{name}.json"
    text = (RESULTS / path.name).read_text()
    at = text.index(".", text.index('"git"'))  # of some measured number
    path.write_text(f"{text[: at + 1]}{9 - int(text[at + 1])}{text[at + 2 :]}")
    with pytest.raises(
        RecordError, match=rf"{name}.json is damaged .*: make it again with python benchmarks/{name}.py"
    ):
        benchmark(name, tmp_path)
    path.unlink()
    with pytest.raises(RecordError, match=rf"{name}.json cannot be read .*: python benchmarks/{name}.py --save makes"):
        benchmark(name, tmp_path)
