"""What the paper's scale would take on this machine, predicted from timed steps, and how good such a prediction is.

The costs are timed as ``paperlib plan`` times them, as many processes at once as runs would be made at once.  The hours
of ``workflow/config/paper.yaml`` are predicted from them, group by group.  To see what a prediction is worth, the runs
of ``workflow/config/smoke.yaml`` are made in the same way, and the predicted time is divided by the measured one.
Where the machine has other work to do, ``--costs FILE`` takes the hours from costs that were timed before; the
comparison needs costs that were timed beside the same work as the runs.

With ``--save`` the table in ``workflow/README.md`` is written anew, too, for the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import joblib
import torch
from paired import arguments, report

from paperlib.store.files import write_atomically
from paperlib.sweep import cost, read
from paperlib.sweep.file import Job

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "workflow" / "config"
README = ROOT / "workflow" / "README.md"
GPU_COSTS = ROOT / "results" / "costs" / "h200.json"
MARKS = ("<!-- written by benchmarks/plan.py -->\n", "<!-- until here -->\n")
PRECISION = "float32"


def on(device: str, job: Job) -> Any:
    """The run's configuration, as if it were made on this device."""
    return job.config.model_copy(update={"device": device})


def predicted(costs: cost.Costs, device: str, precision: str = PRECISION) -> list[dict[str, Any]]:
    """Runs, images and hours of one worker, by group; a run of several groups counts with the first."""
    rows: dict[str, dict[str, Any]] = {}
    for job in read(CONFIGS / "paper.yaml").jobs():
        row = rows.setdefault(job.groups[0], {"group": job.groups[0], "runs": 0, "million_images": 0.0, "hours": 0.0})
        row["runs"] += 1
        row["million_images"] += cost.images(on(device, job)) / 1e6
        row["hours"] += costs.seconds(on(device, job).model_copy(update={"precision": precision})) / 3600
    return [row | {key: float(f"{row[key]:.4g}") for key in ("million_images", "hours")} for row in rows.values()]


def measured_seconds(job: Job, device: str, folder: str) -> float:
    """How long one run takes with its notebook, by the command that the workflow gives."""
    words = [word for name, value in (job.given | {"device": device}).items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "paperlib", "run", *words, "--out", folder]
    began = time.perf_counter()
    subprocess.run(
        command, env=os.environ | {"PAPERLIB_RUNS": folder, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True
    )
    return time.perf_counter() - began


def compared(costs: cost.Costs, device: str) -> list[dict[str, Any]]:
    """Predicted and measured seconds of the smoke grid's runs, made as many at a time as the costs were timed."""
    jobs = read(CONFIGS / "smoke.yaml").jobs()
    with tempfile.TemporaryDirectory() as folder:
        taken = joblib.Parallel(n_jobs=costs.side_by_side, backend="threading")(
            joblib.delayed(measured_seconds)(job, device, folder) for job in jobs
        )
    pairs = [(job.name, costs.seconds(on(device, job)), seconds) for job, seconds in zip(jobs, taken, strict=True)]
    return [
        {"run": n, "predicted_s": round(p, 1), "measured_s": round(m, 1), "ratio": round(p / m, 2)} for n, p, m in pairs
    ]


def table(record: dict[str, Any]) -> str:
    """The hours as a table in Markdown: for one worker, for all side by side in days, and on the GPU on record."""
    workers, rows = record["side_by_side"], record["paper"]
    gpu = cost.stored(GPU_COSTS)
    there = {row["group"]: row["hours"] for row in predicted(gpu, "cpu", next(iter(gpu.per_image)))}
    whole = {"group": "all", **{key: sum(row[key] for row in rows) for key in ("runs", "million_images", "hours")}}
    there["all"] = sum(there.values())
    lines = [
        "| group of `config/paper.yaml` | runs | million images | hours, one run at a time | days, "
        f"{workers} at a time | hours on one {gpu.device.name} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in [*rows, whole]:
        hours = row["hours"]
        lines.append(
            f"| {row['group']} | {row['runs']} | {row['million_images']:,.0f} | {hours:,.0f} | "
            f"{hours / workers / 24:,.0f} | {there[row['group']]:.1f} |"
        )
    return "\n".join(lines) + "\n"


def wrote(text: str, record: dict[str, Any]) -> str:
    """The README with the record's table between the marks."""
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + "\n" + table(record) + "\n" + MARKS[1] + rest.split(MARKS[1])[1]


if __name__ == "__main__":
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    a = arguments(
        __doc__,
        rounds=1,
        device={"choices": ["cpu", "cuda"], "default": kind},
        costs={"type": Path, "metavar": "FILE", "help": "costs for the hours (default: those that are timed now)"},
    )
    workers = 1 if a.device == "cuda" else (joblib.cpu_count() or 1)
    load = os.getloadavg()[0]
    now = cost.measured(a.device, {PRECISION}, workers)
    costs = cost.stored(a.costs) if a.costs else now
    runs = compared(now, a.device)
    record = {
        "cores": joblib.cpu_count(),
        "side_by_side": workers,
        "precision": PRECISION,
        "costs": costs.model_dump(mode="json", exclude={"host"}),
        "costs_were_timed": "before (--costs)" if a.costs else "now",
        "paper": predicted(costs, a.device),
        "load_before": round(load, 2),
        "smoke_costs": now.model_dump(mode="json", exclude={"host"}),
        "smoke": runs,
        "predicted_over_measured": round(sum(r["predicted_s"] for r in runs) / sum(r["measured_s"] for r in runs), 2),
    }
    report("plan", record, a.save, "" if a.device == "cpu" else f"_{a.device}")
    if a.save and a.device == "cpu":
        write_atomically(README, wrote(README.read_text(encoding="utf-8"), record).encode())
