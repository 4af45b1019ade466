"""The predicted hours that workflow/README.md shows are those of the record, and the prediction holds at smoke."""

from pathlib import Path

import pytest
from scripts import script

from paperlib.store.provenance import device_here
from paperlib.studies.reproducibility import benchmark
from paperlib.sweep import cost, read

ROOT = Path(__file__).resolve().parents[2]
RECORD = benchmark("plan")


@pytest.fixture(scope="module")
def plan():
    """The benchmark's script as a module."""
    return script("plan")


def test_the_readme_shows_the_records_table(plan):
    text = (ROOT / "workflow" / "README.md").read_text(encoding="utf-8")
    assert plan.wrote(text, RECORD) == text


def test_the_hours_follow_from_the_recorded_costs(plan):
    given = RECORD["costs"] | {"host": "", "device": device_here("cpu")}
    assert plan.predicted(cost.Costs.model_validate(given), "cpu") == RECORD["paper"]
    assert sum(row["runs"] for row in RECORD["paper"]) == len(read(plan.CONFIGS / "paper.yaml").jobs())


def test_the_prediction_is_within_a_factor_of_two_of_what_was_measured():
    """Of the record: nothing is timed here."""
    assert {row["run"] for row in RECORD["smoke"]} == {
        job.name for job in read(ROOT / "workflow" / "config" / "smoke.yaml").jobs()
    }
    assert 0.5 < RECORD["predicted_over_measured"] < 2
