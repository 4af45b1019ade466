"""One training run: from its parameters to a record, resumable at any step, bit for bit.

Several processes can train one run together (:mod:`paperlib.processes`).  All of them run the same code on the same
weights, each on its part of a batch; only the first writes files.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from paperlib import _checks, checkpoints, cifar, models
from paperlib.config import ResolvedRun, RunConfig, check_memory_together
from paperlib.errors import CheckpointError, ConfigError
from paperlib.interrupts import Interrupts
from paperlib.machine import full_float32, keep_freed_memory, settings
from paperlib.processes import World
from paperlib.records import Record
from paperlib.store.files import locked, remove_scraps
from paperlib.training.benchmark import BenchmarkRun, BenchmarkStep, benchmark_step
from paperlib.training.run import Run
from paperlib.training.steps import ALONE, make_network

__all__ = [
    "BenchmarkRun",
    "BenchmarkStep",
    "Record",
    "RunConfig",
    "benchmark_step",
    "train",
    "train_together",
    "trained_network",
]


def trained_network(record: Record) -> models.Network:
    """The network of a run as its last checkpoint has it, on the CPU, in training mode.

    Raises
    ------
    CheckpointError
        The record's folder holds no checkpoint (committed records come without), or a damaged one.

    Examples
    --------
    >>> import tempfile
    >>> tiny = RunConfig(preset="smoke", depth=11, epochs=1, train_images=100, test_images=50)
    >>> record = train(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> len(trained_network(record).blocks)
    3
    """
    _checks.instance("record", record, Record, "a Record")
    folder = record.folder or Path()
    content = checkpoints.read(folder, "cpu")
    if content is None:
        raise CheckpointError(
            f"the run's weights are not there ({folder / checkpoints.FILE} is missing): make the run again with "
            f"{record.provenance.command}"
        )
    if not record.config.is_that_of(content["config"]):
        raise CheckpointError(
            f"the checkpoint in {folder} belongs to another run ({record.config.differences(content['config'])})"
        )
    model = make_network(record.config.model_copy(update={"device": "cpu"}))
    model.load_state_dict(content["model"])
    return model


def train(config: RunConfig, root: str | Path | None = None, quiet: bool = False, world: World | None = None) -> Record:
    """Train one network and return its record, which is also saved in the run's folder below ``root``.

    A finished run returns its record at once.  An interrupted one goes on from its checkpoint: one per epoch, one every
    five minutes, and one when this process gets Ctrl-C or SIGTERM.  (On CUDA epochs can be short: there is no more than
    one in twenty seconds.)  It ends with the same weights and tables, bit for bit, as if it had never been interrupted,
    on the same device with the same number of threads.  A loss, a gradient or an evaluation that is not finite ends a
    run with status ``"diverged"``, the epoch, and the block where it began.

    Parameters
    ----------
    config : RunConfig
        What to run.
    root : str or Path, optional
        The folder that holds all runs; by default ``PAPERLIB_RUNS``, else ``runs/`` in the checkout.
    quiet : bool
        Show no progress.
    world : World, optional
        The processes that train this run together (:func:`paperlib.processes.joined`); all of them call this function
        with the same parameters.  By default this process is alone.  The run is the same with any number of them, up to
        rounding: a checkpoint of one is a checkpoint of the other.

    Returns
    -------
    Record
        Its :attr:`~paperlib.store.Stored.folder` is where it was saved; None but in the first process.

    Raises
    ------
    ConfigError, DataError, CheckpointError, RecordError
        Each with one sentence that says what to do.
    KeyboardInterrupt, SystemExit
        After SIGINT or SIGTERM, once the checkpoint is written.

    Examples
    --------
    >>> import tempfile
    >>> tiny = RunConfig(preset="smoke", depth=11, epochs=1, train_images=100, test_images=50)
    >>> record = train(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> record.status, len(record.epochs), len(record.blocks)
    ('finished', 1, 3)
    """
    return train_together([RunConfig.checked(config)], root, quiet, world)[0]


def train_together(
    configs: Sequence[RunConfig], root: str | Path | None = None, quiet: bool = False, world: World | None = None
) -> list[Record]:
    """Train several networks side by side on one device, as :func:`train` would one after another.

    Each keeps its own order, record and checkpoint.  On CUDA their steps are launched in turn, each run on a stream of
    its own: small networks leave most of a large device idle.  Elsewhere nothing is gained.

    Parameters
    ----------
    configs : sequence of RunConfig
        What to run: different runs, on the same device, with the same number of threads, all deterministic or none.
    root : str or Path, optional
        As for :func:`train`, like ``quiet``.
    quiet : bool
        Show no progress; of several runs none is shown.
    world : World, optional
        As for :func:`train`.  Several processes can share one run, not several.

    Returns
    -------
    list of Record
        In the order of ``configs``.

    Raises
    ------
    ConfigError, DataError, CheckpointError, RecordError, KeyboardInterrupt, SystemExit
        As :func:`train`, and for runs that do not fit together.

    Examples
    --------
    >>> import tempfile
    >>> tiny = {"preset": "smoke", "depth": 11, "epochs": 1, "train_images": 100, "test_images": 50}
    >>> configs = [RunConfig(**tiny, seed=seed) for seed in (0, 1)]
    >>> [record.config.seed for record in train_together(configs, root=tempfile.mkdtemp(), quiet=True)]
    [0, 1]
    """
    _checks.flag("quiet", quiet)
    configs = _checks.items("configs", configs, "RunConfigs")
    if world is not None:
        _checks.instance("world", world, World, "a paperlib.processes.World")
    world = world or ALONE
    resolved = [RunConfig.checked(config).resolve() for config in configs]
    folders = [config.folder(root) for config in resolved]
    _check_together(resolved, folders, world)
    records = [_finished(folder, config, world) for folder, config in zip(folders, resolved, strict=True)]
    if all(records):
        return [record for record in records if record]
    check_memory_together([config for config, record in zip(resolved, records, strict=True) if record is None])
    # Now: within the settings this machine would choose the runs' own threads.
    commands = [config.command() for config in resolved]
    first, interrupts = resolved[0], Interrupts()
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(world.held_by_first(functools.partial(locked, folder, "run")))
        stack.enter_context(_arithmetic(first))
        records = [_finished(folder, config, world) for folder, config in zip(folders, resolved, strict=True)]
        pending = [i for i, record in enumerate(records) if record is None]  # another process may have finished some
        runs = {}
        for i in pending:
            data = cifar.load(resolved[i].dataset, resolved[i].source)
            data = data.subset(resolved[i].train_images, resolved[i].test_images, resolved[i].seed)
            world.by_first(functools.partial(remove_scraps, folders[i], checkpoints.FILE))
            runs[i] = Run(resolved[i], commands[i], folders[i], data, world, interrupts, others=len(pending) - 1)
            runs[i].load()
        with interrupts:
            for i, record in _in_turns(runs, quiet or len(runs) > 1):
                world.by_first(functools.partial(record.save, folders[i]))
                records[i] = record
        if interrupts.received is not None:  # in the last moments: the runs are done, but the caller should stop
            interrupts.stop()
    return [record for record in records if record]


@contextlib.contextmanager
def _arithmetic(config: ResolvedRun) -> Iterator[None]:
    """Within it the process computes as the run asks for."""
    with settings(config.device, config.threads, config.deterministic), full_float32():
        if config.device == "cpu":
            keep_freed_memory()
            yield
            return
        with torch.cuda.device(config.device if ":" in config.device else torch.cuda.current_device()):
            torch.cuda.reset_peak_memory_stats()
            yield


def _check_together(configs: list[ResolvedRun], folders: list[Path], world: World) -> None:
    """Raise ``ConfigError`` for runs that cannot be trained side by side."""
    if not configs:
        raise ConfigError("there is no run to train: give at least one configuration")
    for config in configs:
        world.check(config.device)
    if len(set(folders)) < len(folders):
        raise ConfigError("two of the runs are the same: give each another seed or another network")
    if len({(config.device, config.threads, config.deterministic) for config in configs}) > 1:
        raise ConfigError("runs side by side need the same device, threads and deterministic")
    if len(configs) > 1 and world.size > 1:
        raise ConfigError("several processes can share one run, not several: start them without torchrun")


def _in_turns(runs: dict[int, Run], quiet: bool) -> Iterator[tuple[int, Record]]:
    """Let each run make a step in turn, and give each its record when it is done; runs that are done are let go of.

    Where one stops, by a signal or an error, it has done what there was to do for itself.  The others are between two
    steps, and are saved.
    """
    streams = {i: contextlib.nullcontext() if len(runs) == 1 else run.stream() for i, run in runs.items()}
    going = {i: run.go(quiet) for i, run in runs.items()}
    now: int | None = None
    try:
        while going:
            for now in list(going):
                try:
                    with streams[now]:
                        next(going[now])
                except StopIteration as done:
                    i, now = now, None
                    del going[i], runs[i]
                    yield i, done.value
    except BaseException:
        for i in going.keys() - {now}:
            with contextlib.suppress(CheckpointError), streams[i]:
                runs[i].save()
        raise


def _finished(folder: Path, config: ResolvedRun, world: World) -> Record | None:
    """The record of this run, if it has one."""
    if not world.by_first((folder / Record.FILE).exists):
        return None
    record = Record.read(folder)
    config.check_record(record.config, f"{folder} holds the record of another run")
    return record
