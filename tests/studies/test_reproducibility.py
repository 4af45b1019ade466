"""The table of the trainings on record."""

import tiny

from paperlib.studies.reproducibility import trainings


def test_runs_of_one_kind_share_a_row():
    one, two, other = tiny.record(), tiny.record(), tiny.record()
    for record, seconds, precision in ((one, 60.0, "float32"), (two, 180.0, "float32"), (other, 30.0, "bfloat16")):
        record.config = record.config.model_copy(update={"precision": precision})
        record.provenance.sessions[0] = record.provenance.last.model_copy(update={"seconds": seconds})
        record.peak_memory_bytes = 2**30
    two.peak_memory_bytes = 3 * 2**30
    table = trainings([one, two, other]).reset_index().set_index("precision")
    assert table.runs.to_dict() == {"bfloat16": 1, "float32": 2}
    assert table.minutes.to_dict() == {"bfloat16": "0.5", "float32": "2.0 ± 1.4"}
    assert table["memory, GiB"]["float32"] == "3.0"


def test_without_records_the_table_is_empty():
    assert trainings([]).empty
