"""What a job of the workflow asks its scheduler for, and the command lines of jobs other than runs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from paperlib import claims
from paperlib.channel_grid import GridConfig
from paperlib.errors import PaperlibError
from paperlib.parameters import resolve_device
from paperlib.sweep import cost
from paperlib.sweep.file import Job, Sweep

UNKNOWN_MINUTES = 24 * 60
SLACK = 3.0  # a limit that ends a job costs more than one that is too generous
CUDA_THREADS = 4
ONE_GPU: dict[str, int | str] = {"gpu": 1, "gpu_manufacturer": "nvidia"}


def threads(job: Job) -> int:
    """The CPU threads of a run; on a GPU its host's."""
    if "threads" in job.given:
        return job.config.threads
    return CUDA_THREADS if job.config.device.startswith("cuda") else 1


def mem_mb(job: Job) -> int:
    """The host's memory, in MB."""
    return math.ceil(1.2 * cost.memory_bytes(job.config) / 1e6)


def gpu(sweep: Sweep) -> dict[str, int | str]:
    """What a run asks for on a GPU: one, in the words of the executors for Slurm and Kubernetes; nothing on a CPU."""
    return ONE_GPU if any(job.config.device.startswith("cuda") for job in sweep.jobs()) else {}


def minutes(job: Job) -> int:
    """The limit on a run's time: three times the prediction and ten minutes; a day where nothing was timed."""
    try:
        known = cost.stored(cost.file_here(job.config.device))
        return math.ceil(10 + SLACK * known.seconds(job.config) / 60)
    except (PaperlibError, KeyError):
        return UNKNOWN_MINUTES


def grid_gpu(grid: GridConfig) -> dict[str, int | str]:
    """The same for a channel grid."""
    return {} if _device(grid) == "cpu" else ONE_GPU


def grid_threads(grid: GridConfig, cores: int | None) -> int:
    """The processes of a channel grid: all cores, or one where it is tiny or only read.

    On a GPU there are as many as a run has threads of the host: some measure there while another trains.
    """
    if grid.preset == "smoke" or grid.stored:
        return 1
    return min(cores or CUDA_THREADS, CUDA_THREADS) if grid_gpu(grid) else max(1, cores or 1)


def grid_arguments(sweep: Sweep) -> list[str]:
    """The channel grid's parameters for the command line."""
    given = {"preset": sweep.preset} | (sweep.channel_grid or {})
    texts = {name: " ".join(map(str, v)) if isinstance(v, list) else str(v) for name, v in given.items()}
    return [word for name, text in texts.items() for word in ("-p", name, text)]


def _device(grid: GridConfig) -> str:
    return "cuda" if grid.device.startswith("cuda") else resolve_device(grid.device)


def claims_from_records(sweep: Sweep, without: Iterable[str] = ()) -> list[str]:
    """The claims that are judged by the records of some of the sweep's runs, except those named in ``without``."""
    left_out = {*without}
    runs = [job.config for job in sweep.jobs() if job.name not in left_out]
    return [name for name, claim in claims.CLAIMS.items() if any(claim.counts(run, sweep.preset) for run in runs)]
