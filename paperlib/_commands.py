"""What each command of ``paperlib`` does, once its options are read (``paperlib.__main__``).

The functions here return the command's exit status; what goes wrong raises a ``PaperlibError``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paperlib import (
    channel_grid,
    cifar,
    claims,
    evidence,
    processes,
    progress,
    records,
    scorecard,
    training,
)
from paperlib._page import self_contained
from paperlib._text import say
from paperlib.config import ResolvedRun, RunConfig
from paperlib.errors import PaperlibError
from paperlib.store import files, results_root, runs_root
from paperlib.studies import norm_preservation
from paperlib.sweep import cost, drive, gpus, state
from paperlib.sweep import plan as planning

UNFINISHED = ".unfinished.ipynb"  # the suffix of a notebook that is being executed
KERNEL_STARTS = 3
NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_cifar.ipynb"


def refuse_torchrun(command: str) -> None:
    """Raise ``PaperlibError`` where torchrun has started a command that is not for several processes."""
    if command != "train" and processes.started() > 1:
        raise PaperlibError(f"torchrun is for paperlib train: start paperlib {command} without it")


# -- run ---------------------------------------------------------------------------------------------------------
def run(parameters: dict[str, Any], out: Path) -> int:
    """Train one network in a copy of chapter 4, and leave it in ``out`` as a notebook and as a page."""
    gpus.take()
    config = RunConfig(**parameters).resolve()
    if not NOTEBOOK.exists():
        raise PaperlibError(
            "the notebooks are not part of the installed package: run this from a checkout of the repository"
        )
    began = time.monotonic()
    folder = config.folder()
    _announce(config)
    cifar.load(config.dataset, config.source)

    notebook = out / f"{config.stem()}.ipynb"
    # What ends this process ends the kernel in good order: it gets SIGTERM, and the training writes a checkpoint.
    with _watched(folder / progress.FILE):
        try:
            page = _executed(parameters, notebook)
        except OSError as e:
            with contextlib.suppress(OSError):
                notebook.with_suffix(UNFINISHED).unlink()
            raise PaperlibError(
                f"the notebook and its page could not be written to {out} ({e.strerror or e}): make room, or name "
                f"another folder with --out, and run the same command again, which goes on from what lies in {folder}"
            ) from None
    _summarise(records.read(folder), time.monotonic() - began, {"notebook": notebook, "page": page})
    return 0


def train(parameters: dict[str, Any]) -> int:
    """Train one network, in this process or in all that torchrun started."""
    began = time.monotonic()
    with processes.joined() as world:
        config = RunConfig(**parameters).resolve()
        if world.is_first:
            _announce(config, world.size)
        record = training.train(config, world=world)
        if world.is_first:
            _summarise(record, time.monotonic() - began, {})
    return 0


def _announce(config: ResolvedRun, devices: int = 1) -> None:
    """Say what is about to be trained, and what it will take on this machine, before anything is downloaded."""
    say(
        f"{config.network} on {config.dataset}, preset {config.preset}: {config.epochs} epochs of "
        f"{config.train_images:,} images"
    )
    if not (config.folder() / records.Record.FILE).exists():
        config.check_memory()
        if devices == 1 and (seconds := cost.seconds_here(config)):
            takes = f"about {cost.memory_bytes(config) / 1e9:.1f} GB of memory"
            say(f"predicted from a few steps: {progress.duration(seconds)} of training in all, {takes}")
    if config.source != "sample":
        say(f"getting {config.dataset} (once; kept in {cifar.data_folder()})")


def _summarise(record: records.Record, seconds: float, made: dict[str, Path]) -> None:
    """Say how a run ended after ``seconds`` of this command, and where its record, and what else was made, is."""
    say(f"\n{record.network}: {record.status}, {len(record.epochs)} epochs")
    if record.final:
        say(f"test error   {record.final['test_error']:.2f} %  (of {record.data.test_images:,} test images)")
    trained = progress.duration(record.provenance.seconds)
    say(f"wall time    {trained} training, {progress.duration(seconds)} in all")
    for what, path in (made | {"record": (record.folder or Path()) / record.FILE}).items():
        say(f"{what:13}{path}")
    if record.left_out:
        say(record.left_out)


def _executed(parameters: dict[str, Any], notebook: Path) -> Path:
    """Execute chapter 4 into ``notebook``, which is there once it is whole; returns the page that is made of it."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook.parent.mkdir(parents=True, exist_ok=True)
    part = notebook.with_suffix(UNFINISHED)
    options = {"progress_bar": False, "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]}
    execute = partial(papermill.execute_notebook, str(NOTEBOOK), str(part), parameters=parameters, **options)
    try:
        with _nothing_logged():
            executed = _with_a_kernel(execute)
    except PapermillExecutionError as e:
        raise PaperlibError(f"{e.ename}: {e.evalue} (the notebook so far: {part})") from None
    except DeadKernelError:
        raise PaperlibError(
            "the notebook's kernel died, probably out of memory: use a smaller batch_size or depth"
        ) from None
    page = notebook.with_suffix(".html")
    files.write_atomically(page, self_contained(executed).encode())
    part.replace(notebook)
    return page


def _with_a_kernel(execute: Callable[[], Any], left: int = KERNEL_STARTS - 1) -> Any:
    """What ``execute`` returns; it is called again where its kernel did not start, and so has done nothing.

    Kernels that start at the same moment, as in a sweep, can be given the same port; then one of them ends.
    """
    try:
        return execute()
    except RuntimeError as e:
        if "before replying" not in str(e):
            raise
        if not left:
            raise PaperlibError(f"the notebook's kernel did not start in {KERNEL_STARTS} tries ({e})") from None
    say("the notebook's kernel did not start, perhaps for want of a port of its own; once more", sys.stderr)
    return _with_a_kernel(execute, left - 1)


@contextlib.contextmanager
def _nothing_logged() -> Iterator[None]:
    """Within it, and once it was interrupted, no module logs anything: what goes wrong is told as an error.

    The kernel that is stopped, and the tasks that wait for it, would log pages of it.
    """
    logging.disable()
    try:
        yield
    finally:
        if not isinstance(sys.exc_info()[1], KeyboardInterrupt | SystemExit):
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _watched(file: Path) -> Iterator[None]:
    """Within it the progress file of a run is shown as a bar."""
    stop = threading.Event()
    work = ("training", lambda: stop.wait(1.0), lambda: progress.read(file))
    watcher = threading.Thread(target=progress.follow, args=work, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


# -- grid and measure --------------------------------------------------------------------------------------------
def grid(parameters: dict[str, Any]) -> int:
    """Train a channel grid, and say where its record is."""
    gpus.take()
    record = channel_grid.run(channel_grid.GridConfig(**parameters))
    table = record.measurements
    cells = len(table[["c", "d", "variant"]].drop_duplicates())
    steps = ", ".join(map(str, sorted(table.step.unique())))
    seeds = table.seed.nunique()
    say(f"{cells} cells and variants, {seeds} seed{'s' * (seeds != 1)}, measured after {steps} steps")
    say(f"wall time    {progress.duration(record.provenance.seconds)}")
    say(f"record       {(record.folder or Path()) / record.FILE}")
    return 0


def claims_in_words() -> str:
    """The names of all claims, for a help text."""
    trained = [name for name, claim in claims.CLAIMS.items() if claim.scaled]
    return f"claims: {', '.join(claims.CLAIMS)}; of these, train networks: {', '.join(trained)}"


def measure(names: list[str], preset: str, seeds: int | None, root: Path | None) -> int:
    """Measure claims one after another, all that need no training if none is named, and save what was found."""
    names = names or [name for name, claim in claims.CLAIMS.items() if not claim.scaled]
    root = root or runs_root()
    for name in names:  # all of them, before anything is measured
        claims.check(name, preset, seeds)
    _check_folder(root)
    for name in tqdm(dict.fromkeys(names), desc="measuring", disable=None, file=sys.stderr):
        finding = claims.measure(name, preset, seeds)
        folder = claims.save(finding, root)
        say(f"{name}: {claims.spoken(finding)}  ({finding.provenance.seconds:.0f} s, {folder})")
        say(f"    rule: {claims.CLAIMS[name].rule}")
        for what, quantity in finding.quantities.items():
            say(f"    {what}: {quantity}")
    return 0


def _check_folder(path: Path) -> None:
    """Refuse a place that is no folder before what is to be written there is measured."""
    if path.exists() and not path.is_dir():
        raise PaperlibError(f"{path} is a file: name a folder with --out")


def spectra(root: Path | None) -> int:
    """Measure the singular values of Theorem 1's blocks, and save the table."""
    record = norm_preservation.measure_spectra()
    folder = record.save(norm_preservation.spectra_folder(root or runs_root()))
    say(f"{len(record.blocks):,} blocks  ({record.provenance.seconds:.0f} s, {folder})")
    return 0


# -- scorecard and evidence ----------------------------------------------------------------------------------------
def show_scorecard(root: Path | None, path: Path | None) -> int:
    """Print the scorecard of the findings below ``root``, by default the committed ones, and write it as JSON."""
    root = root or results_root()
    claims.check_root(root)
    card, path = scorecard.build(root), path or root / scorecard.FILE
    scorecard.write(card, path)
    say(f"{scorecard.describe(card)}\n\nwritten to {path}")
    return 0


def measure_again(named: list[str], preset: str | None, committed: Path | None, out: Path) -> int:
    """Measure claims again that need no training, all or those ``named``, and tell what changes.

    The status is 1 where an outcome or a counted number does, or where a claim that was named is not compared.
    """
    for name in named:
        claims.check(name)
    _check_folder(out)
    bar = tqdm(dict.fromkeys(named or claims.CLAIMS), desc="measuring again", disable=None, file=sys.stderr)
    found = list(evidence.gather(bar, committed or results_root(), out, preset))
    say(evidence.report(found))
    if any(comparison.now for comparison in found):
        say(f"the new findings are in {out / 'claims'}")
    lost = [comparison.claim for comparison in found if named and not comparison.compared]
    if lost:
        raise PaperlibError(f"not compared with a finding on record: {', '.join(lost)}; the lines above say why")
    return int(any(comparison.failed for comparison in found))


# -- plan and sweep ------------------------------------------------------------------------------------------------
def plan(file: Path, out: Path | None, costs: Path | None, workers: int | None, status: bool) -> int:
    """Say what a sweep will take and how far it is, or only what became of its runs."""
    out = planning.folder(file, out)
    if status:
        say(planning.ending([state.look(job, out) for job in planning.read(file).jobs()]))
    else:
        say(planning.describe(planning.make(file, out, costs, workers)))
    return 0


def sweep(file: Path, out: Path | None, costs: Path | None, workers: int | None, arguments: list[str]) -> int:
    """Say what a sweep will take, and make all of it."""
    out = planning.folder(file, out)
    planned = planning.make(file, out, costs, workers)
    say(planning.describe(planned))
    return drive.drive(file, out, planned, arguments)
