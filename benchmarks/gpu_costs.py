"""What a run at the paper's scale costs on a GPU: a straight line through two measured rates, runs made side by side.

Nothing is timed here.  The first rate is that of the runs on record (``results/h200``): all images of the three
networks at depth 20, evaluations included, over the seconds that they took together.  The second is that of training
steps at depth 164, four networks side by side (``benchmarks/results/gpu_step.json``).  The line through the two is
continued to depth 1001, which was not measured.

With ``--save`` the costs are written to ``results/costs/h200.json``, which the scorecard and the plan read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from paperlib.records import Record, read_all
from paperlib.studies.reproducibility import benchmark
from paperlib.sweep import cost

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "results" / "h200"
COSTS = ROOT / "results" / "costs" / "h200.json"
PRECISION, DEPTH = "bfloat16", 164
RATE = f"{PRECISION}, 4 side by side: images per second"


def of_records(records: list[Record]) -> tuple[float, float]:
    """The mean depth of runs that were made side by side, and the seconds that each of their images took."""
    together = max(record.provenance.seconds for record in records)
    images = [cost.images(record.config) for record in records]
    depth = sum(record.config.depth * n for record, n in zip(records, images, strict=True)) / sum(images)
    return depth, together / sum(images)


def costs() -> cost.Costs:
    """The line, as the costs of one worker that has the device to itself."""
    records = [r for r in read_all(RUNS) if r.config.precision == PRECISION]
    depth, at_first = of_records(records)
    at_second = 1 / benchmark("gpu_step")[f"depth {DEPTH}"][RATE]
    slope = (at_second - at_first) / (DEPTH - depth)
    return cost.Costs(
        host="a machine with one GPU",
        device=records[0].provenance.last.device,
        side_by_side=1,
        startup=cost.stored(COSTS.with_name("two-cores.json")).startup,
        per_image={PRECISION: (at_first - slope * depth, slope)},
        depths=(round(depth), DEPTH),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help=f"write {COSTS.relative_to(ROOT)}")
    found = costs()
    print(json.dumps(found.model_dump(mode="json"), indent=2))
    if parser.parse_args().save:
        found.save(COSTS)
