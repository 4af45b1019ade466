"""What a run costs: seconds, memory and disk, predicted from steps that were timed on the machine at hand."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import joblib
import torch
from pydantic import BaseModel, ConfigDict, Field

from paperlib import machine
from paperlib.config import LAYER_PARAMETERS, ResolvedRun, RunConfig
from paperlib.errors import ConfigError, PaperlibError
from paperlib.initial import BATCHES
from paperlib.store import Device, files, runs_root
from paperlib.store.provenance import device_here
from paperlib.store.stored import sealed, unsealed
from paperlib.training import BenchmarkRun, BenchmarkStep
from paperlib.training.run import EVAL_COST

DEPTHS = (20, 83)  # a step takes about as long as a straight line through its times at these
IMAGES, STEPS, LONG = 64, 3, 10.0  # LONG in seconds: steps that take longer together are not repeated
REPLAYED = 20  # steps that are timed on CUDA, and as many before
WORTH = 10  # times what the timing takes: a shorter run is over before a prediction is of use
PROCESS_BYTES = 1.3e9  # the job and its notebook's kernel, each with torch: measured
CUDA_BYTES = 3e9  # CUDA's libraries and context in the host's memory: assumed, not measured
PARAMETER_BYTES = LAYER_PARAMETERS * 8  # a layer's parameters, as weights and momentum
PAGES_BYTES = 2e6  # the executed notebook, its page, and the record
Line = tuple[float, float]


class Costs(BaseModel):
    """What was timed on one machine.

    Attributes
    ----------
    host : str
        The machine's name.
    device : Device
        What computed.
    side_by_side : int
        How many processes were timed at the same time, as that many jobs run.
    startup : float
        Seconds of the smallest run with its notebook: nearly all of it is the start of processes, and plots.
    per_image : dict of str to (float, float)
        By precision: seconds of a training step for one image, as intercept and slope over the depth.
    depths : (int, int)
        Where the line was measured.
    """

    model_config = ConfigDict(extra="forbid")

    host: str
    device: Device
    side_by_side: int
    startup: Annotated[float, Field(gt=0)]
    per_image: dict[str, Line]
    depths: tuple[int, int] = DEPTHS

    def seconds(self, config: ResolvedRun) -> float:
        """How long a run takes, its notebook included."""
        base, slope = self.per_image[config.precision]
        return self.startup + images(config) * (base + slope * config.depth)

    def hours(self, configs: Iterable[ResolvedRun]) -> float:
        """How long some runs take one after another, in hours."""
        return sum(map(self.seconds, configs)) / 3600

    def save(self, path: Path) -> None:
        """Keep it in a file."""
        files.write_atomically(path, json.dumps(sealed(self.model_dump(mode="json")), indent=2).encode())


def images(config: ResolvedRun) -> float:
    """The work of a run, in images of a training step: training, both evaluations, and the first ratios."""
    clean = min(config.test_images, config.train_images)
    first = min(BATCHES * config.batch_size, config.train_images)
    return config.epochs * (config.train_images + EVAL_COST * (config.test_images + clean)) + first


def memory_bytes(config: ResolvedRun) -> float:
    """The memory that a run's job needs at once on the host."""
    kept = config.activation_bytes()
    if config.device.startswith("cuda"):
        kept = CUDA_BYTES
    elif config.checkpoint_activations:
        kept *= 0.5
    return PROCESS_BYTES + kept


def disk_bytes(config: ResolvedRun) -> float:
    """What a run leaves on the disk: its checkpoint, its record, its notebook and its page."""
    return PARAMETER_BYTES * config.depth + PAGES_BYTES


def in_words(hours: float, at_a_time: int = 1) -> str:
    """The hours of runs in words, always first those of one run at a time, so that all pages give the same number.

    Parameters
    ----------
    hours : float
        What the runs take one after another.
    at_a_time : int
        How many can be made at the same time.

    Returns
    -------
    str
        Part of a sentence.

    Examples
    --------
    >>> in_words(25_558, 2)
    'about 26,000 hours, one run at a time; 2 at a time: about 13,000 hours'
    """
    one = f"about {rounded(hours)} hours, one run at a time"
    return one if at_a_time == 1 else f"{one}; {at_a_time} at a time: about {rounded(hours / at_a_time)} hours"


def rounded(hours: float) -> str:
    """Hours to two digits, which is more than a prediction knows.

    Examples
    --------
    >>> rounded(1234.5), rounded(7.04)
    ('1,200', '7')
    """
    digits = 1 - math.floor(math.log10(hours)) if hours > 0 else 0
    return f"{round(hours, digits):,g}"


# -- timing --------------------------------------------------------------------------------------------------------
def file_here(device: str) -> Path:
    """Where the costs of this machine are kept, below ``PAPERLIB_RUNS``."""
    host = re.sub(r"[^\w.-]", "_", platform.node())[:100]
    return runs_root() / "costs" / f"{host or 'here'}-{device.split(':')[0]}.json"


def stored(path: Path, kind: str | None = None) -> Costs:
    """The costs in a file, of a device of this kind (``"cpu"``, ``"cuda"``) or, for None, of any.

    Raises
    ------
    ConfigError
        It is missing, was changed, or holds something else.
    """
    try:
        found = Costs.model_validate(unsealed(path.read_bytes()))
    except OSError as e:
        raise ConfigError(f"the costs in {path} cannot be read: {e.strerror or e}") from None
    except ValueError:  # also a ValidationError
        raise ConfigError(
            f"{path} holds no costs of this paperlib, or was changed: if paperlib wrote it, delete it, and they are "
            "measured again; else name another file"
        ) from None
    if kind and found.device.type != kind:
        raise ConfigError(f"{path} holds the costs of {found.device.name}, which is no {kind}: move it away")
    return found


def costs_here(device: str, precisions: set[str], side_by_side: int) -> Costs | None:
    """This machine's costs: those on its disk, or measured now; None where the device is not here.

    Parameters
    ----------
    device : str
        ``"cpu"`` or ``"cuda"``.
    precisions : set of str
        Those of the runs.
    side_by_side : int
        How many jobs will run at the same time; as many are timed together.

    Returns
    -------
    Costs or None
        They are kept for the next time.
    """
    kind = device.split(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        return None
    path, known = file_here(kind), None
    if path.exists():
        known = stored(path, kind)
        if precisions <= known.per_image.keys() and known.side_by_side == side_by_side:
            return known
    print("timing a few steps and the smallest run on this machine (once, about a minute)", file=sys.stderr, flush=True)
    found = measured(kind, precisions, side_by_side)
    found.save(path)
    return found


def measured(device: str, precisions: set[str], side_by_side: int = 1) -> Costs:
    """Time steps and the smallest run, in several processes of one thread at the same time."""
    with joblib.parallel_config("loky", n_jobs=side_by_side, inner_max_num_threads=1):
        runs = joblib.Parallel()(joblib.delayed(_smallest_run)(device) for _ in range(side_by_side))
        steps = joblib.Parallel()(joblib.delayed(_lines)(device, sorted(precisions)) for _ in range(side_by_side))
    per_image = {p: tuple(statistics.mean(one[p][i] for one in steps) for i in (0, 1)) for p in precisions}
    return Costs.model_validate(
        {
            "host": platform.node(),
            "device": device_here(device),
            "side_by_side": side_by_side,
            "startup": statistics.mean(runs),
            "per_image": per_image,
        }
    )


def seconds_here(config: ResolvedRun) -> float | None:
    """How long a training takes on this machine: a few of its own steps are timed, which takes that long.

    Parameters
    ----------
    config : ResolvedRun
        The training.

    Returns
    -------
    float or None
        Seconds, without the start.  On CUDA they are those of the stored costs, because a step of the training is a
        graph there, which takes long to make; None without such costs.  None as well for a training that is so short
        that the timing would take a good part of it.

    Examples
    --------
    >>> from paperlib.config import RunConfig
    >>> seconds_here(RunConfig(preset="smoke", device="cpu").resolve()) is None
    True
    """
    if config.device.startswith("cuda"):
        path = file_here(config.device)
        known = stored(path, "cuda") if path.exists() else None
        return known.seconds(config) if known and config.precision in known.per_image else None
    batch = min(config.batch_size, config.train_images)
    if images(config) < WORTH * (1 + STEPS) * batch:
        return None
    with machine.settings(config.device, config.threads, config.deterministic):
        return images(config) * _step_seconds(config, batch) / batch


def _lines(device: str, precisions: list[str]) -> dict[str, Line]:
    """Seconds per image over the depth, for each precision."""
    found = {}
    for precision in precisions:
        at = [
            _seconds_an_image(RunConfig(depth=depth, device=device, precision=precision).resolve()) for depth in DEPTHS
        ]
        slope = max(at[1] - at[0], 0.0) / (DEPTHS[1] - DEPTHS[0])
        found[precision] = (max(at[0] - slope * DEPTHS[0], 0.0), slope)
    return found


def _seconds_an_image(config: ResolvedRun) -> float:
    """Of a training step: on CUDA by those that a run makes, in its own batches, because they are graphs."""
    if config.device.startswith("cuda"):
        return _run_seconds(config) / config.batch_size
    return _step_seconds(config, IMAGES) / IMAGES


def _run_seconds(config: ResolvedRun) -> float:
    """The mean time of a run's steps after the first ones, in which graphs are captured."""
    with machine.settings(config.device, config.threads, config.deterministic), machine.full_float32():
        steps = BenchmarkRun(config)
        steps(REPLAYED)
        torch.cuda.synchronize()
        began = time.perf_counter()
        steps(REPLAYED)
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / REPLAYED


def _step_seconds(config: ResolvedRun, batch: int) -> float:
    """The median time of a step after the first one; fewer are timed where they take long."""
    step = BenchmarkStep(config, torch.zeros(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.int64))
    step()
    times: list[float] = []
    while len(times) < STEPS and sum(times) < LONG:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _smallest_run(device: str) -> float:
    """Seconds of a run of ten images, from its command to its page."""
    words = "preset smoke depth 11 epochs 1 train_images 10 test_images 10 batch_size 10 threads 1".split()
    options = [w for name, value in zip(words[::2], words[1::2], strict=True) for w in ("-p", name, value)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "paperlib", "run", *options, "-p", "device", device, "--out", folder]
        began = time.perf_counter()
        done = subprocess.run(
            command, env=os.environ | {"PAPERLIB_RUNS": folder}, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        raise PaperlibError(f"the smallest run failed ({' '.join(done.stderr.split())[-300:]}): nothing can be timed")
    return seconds
