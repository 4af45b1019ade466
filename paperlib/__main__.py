"""The commands: ``paperlib run``, ``train``, ``grid``, ``measure``, ``scorecard``, …; also ``python -m paperlib …``.

``run`` makes one training run as an executed notebook, with a progress bar and a summary: what ``make run`` calls.  It
adds to ``papermill notebooks/04_cifar.ipynb`` the download before it, a bar for the training inside the notebook's
kernel (papermill only sees that a cell takes long), and the HTML page after it.

``train`` makes the run alone, without a notebook.  ``torchrun --nproc-per-node=2 -m paperlib train …`` makes it on two
devices (:mod:`paperlib.processes`).

``grid`` trains the channel grid of Figure 2 (:mod:`paperlib.channel_grid`), or what is missing of it.

``measure`` measures claims of the paper (:mod:`paperlib.claims`) and saves what it finds.

``spectra`` measures the blocks of Theorem 1 at many depths and saves the table that chapter 1 shows.

``scorecard`` shows from the findings on record which claims hold (:mod:`paperlib.scorecard`); ``evidence`` measures the
claims again that need no training, and tells what changes (:mod:`paperlib.evidence`).

``plan`` says what a sweep of runs will take (:mod:`paperlib.sweep`), and how far it is; ``sweep`` makes all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import pydantic  # noqa: F401
    from tqdm import tqdm
except ModuleNotFoundError:
    sys.exit("paperlib's commands need pip install 'norm-preservation[training]'")

from paperlib import (
    channel_grid,
    cifar,
    claims,
    evidence,
    interrupts,
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
NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_cifar.ipynb"
INTERRUPTED = {
    "run": "run the same command again to go on from the last checkpoint",
    "train": "run the same command again to go on from the last checkpoint",
    "grid": "finished cells are kept; run the same command again to go on",
    "measure": "what was finished is saved; measure the other claims again",
    "spectra": "run the same command again",
    "scorecard": "run the same command again",
    "evidence": "what was finished is saved; run the same command again",
    "plan": "run the same command again",
    "sweep": "run the same command again to go on; unfinished trainings go on from their checkpoints",
}


def path(text: str) -> Path:
    """A path of the command line, which is not empty: that would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is empty: name a file or a folder")
    return Path(text)


# -- run ---------------------------------------------------------------------------------------------------------
def run(parameters: dict[str, Any], out: Path) -> int:
    """Train one network in a copy of chapter 4, and leave it in ``out`` as a notebook and as a page."""
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
    try:
        with _nothing_logged():
            executed = papermill.execute_notebook(str(NOTEBOOK), str(part), parameters=parameters, **options)
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
    record = channel_grid.run(channel_grid.GridConfig(**parameters))
    table = record.measurements
    cells = len(table[["c", "d", "variant"]].drop_duplicates())
    steps = ", ".join(map(str, sorted(table.step.unique())))
    seeds = table.seed.nunique()
    say(f"{cells} cells and variants, {seeds} seed{'s' * (seeds != 1)}, measured after {steps} steps")
    say(f"wall time    {progress.duration(record.provenance.seconds)}")
    say(f"record       {(record.folder or Path()) / record.FILE}")
    return 0


def measure(names: list[str], preset: str, seeds: int | None, root: Path) -> int:
    """Measure claims one after another, and save what was found."""
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


def spectra(root: Path) -> int:
    """Measure the singular values of Theorem 1's blocks, and save the table."""
    record = norm_preservation.measure_spectra()
    folder = record.save(norm_preservation.spectra_folder(root))
    say(f"{len(record.blocks):,} blocks  ({record.provenance.seconds:.0f} s, {folder})")
    return 0


# -- scorecard and evidence ----------------------------------------------------------------------------------------
def show_scorecard(root: Path, path: Path | None) -> int:
    """Print the scorecard of the findings below ``root``, and write it as JSON."""
    claims.check_root(root)
    card, path = scorecard.build(root), path or root / scorecard.FILE
    scorecard.write(card, path)
    say(f"{scorecard.describe(card)}\n\nwritten to {path}")
    return 0


def measure_again(named: list[str], preset: str | None, committed: Path, out: Path) -> int:
    """Measure claims again that need no training, all or those ``named``, and tell what changes.

    The status is 1 where an outcome or a counted number does, or where a claim that was named is not compared.
    """
    for name in named:
        claims.check(name)
    _check_folder(out)
    bar = tqdm(dict.fromkeys(named or claims.CLAIMS), desc="measuring again", disable=None, file=sys.stderr)
    found = list(evidence.gather(bar, committed, out, preset))
    say(evidence.report(found))
    if any(comparison.now for comparison in found):
        say(f"the new findings are in {out / 'claims'}")
    lost = [comparison.claim for comparison in found if named and not comparison.compared]
    if lost:
        raise PaperlibError(f"not compared with a finding on record: {', '.join(lost)}; the lines above say why")
    return int(any(comparison.failed for comparison in found))


# -- plan and sweep ------------------------------------------------------------------------------------------------
def plan(file: Path, out: Path, costs: Path | None, workers: int | None, status: bool) -> int:
    """Say what a sweep will take and how far it is, or only what became of its runs."""
    if status:
        say(planning.ending([state.look(job, out) for job in planning.read(file).jobs()]))
    else:
        say(planning.describe(planning.make(file, out, costs, workers)))
    return 0


def sweep(file: Path, out: Path, costs: Path | None, workers: int | None, arguments: list[str]) -> int:
    """Say what a sweep will take, and make all of it."""
    planned = planning.make(file, out, costs, workers)
    say(planning.describe(planned))
    return drive.drive(file, out, planned, arguments)


# -- the command line --------------------------------------------------------------------------------------------
def _value(text: str) -> Any:
    """A parameter's value as papermill's -p reads it."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _trained() -> list[str]:
    """The claims that train networks, and are measured only when they are asked for."""
    return [name for name, claim in claims.CLAIMS.items() if claim.scaled]


def _claims_parsers(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands about claims."""
    one = add("measure", "measure claims of the paper and save the findings")
    names = ", ".join(claims.CLAIMS)
    untrained = f"default: all but those that train, {', '.join(_trained())}"
    one.add_argument("claims", nargs="*", metavar="CLAIM", help=f"some of {names} ({untrained})")
    one.add_argument("--preset", default="desk", help="desk (default), smoke, or paper where a claim has it")
    one.add_argument(
        "--seeds", type=int, help="how many (default: 5, or all that the preset trains or that are recorded)"
    )
    one.add_argument("--out", type=path, help="root of the findings (default: PAPERLIB_RUNS or runs)")
    one = add("spectra", "measure the blocks of Theorem 1 at many depths, for chapter 1, and save the table")
    one.add_argument("--out", type=path, help="root of the table (default: PAPERLIB_RUNS or runs)")
    one = add("scorecard", "show which of the paper's claims hold, from the findings on record")
    one.add_argument("--root", type=path, help="root of the findings (default: the committed ones, results)")
    one.add_argument("--json", type=path, help="where to write it (default: scorecard.json in the root)")
    one = add("evidence", "measure again what needs no training, and tell what differs from the findings on record")
    one.add_argument("claims", nargs="*", metavar="CLAIM", help="some of them (default: all)")
    one.add_argument("--preset", help="smoke, desk or paper (default: that of the finding on record)")
    one.add_argument("--against", type=path, help="root of the findings on record (default: the committed ones)")
    one.add_argument("--out", type=path, default=Path("out/evidence"), help="root of the new ones (out/evidence)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paperlib", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, summary: str, parameter: str = "") -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=summary)
        if parameter:
            one.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=parameter)
        return one

    one = add("run", "execute notebooks/04_cifar.ipynb with a progress bar", "a parameter, as for papermill")
    one.add_argument("--out", type=path, default=Path("out"), help="folder of notebook and page (default: out)")
    add("train", "train one network without a notebook, with torchrun on several devices", "a parameter, as of run")
    add("grid", "train the Conv-ReLU channel grid of Figure 2", "a parameter; lists as '2 4 8'")
    _claims_parsers(add)
    for name, summary in (
        ("plan", "say what a sweep of runs will take, and how far it is"),
        ("sweep", "make all runs of a sweep, and what follows from them"),
    ):
        one = add(name, summary)
        one.add_argument("file", type=path, metavar="FILE", help="the sweep, such as workflow/config/desk.yaml")
        one.add_argument("--out", type=path, help="folder of notebooks and logs (default: out/<name of the file>)")
        one.add_argument("--costs", type=path, help="costs that were timed on another machine (default: this one's)")
        one.add_argument("--workers", type=int, help="runs at the same time (default: as cores and memory allow)")
        if name == "plan":
            one.add_argument("--status", action="store_true", help="only what became of the runs; nothing is timed")
        else:
            one.add_argument("arguments", nargs="*", help="options for snakemake, after --: -- --profile FOLDER")
    return parser


def _parsed(words: list[str]) -> argparse.Namespace:
    """The options of a command line; what follows ``--`` is for Snakemake.

    argparse by itself refuses that where an option stands between FILE and ``--``.
    """
    parser, cut = _parser(), words.index("--") if "--" in words else len(words)
    options, rest = parser.parse_args(words[:cut]), words[cut + 1 :]
    if options.command == "sweep":
        options.arguments += rest
    elif rest:
        parser.error("only sweep takes options after --")
    return options


def _done(options: argparse.Namespace) -> int:
    """Do what the command line says; returns its exit status."""
    if options.command != "train" and processes.started() > 1:
        raise PaperlibError(f"torchrun is for paperlib train: start paperlib {options.command} without it")
    if options.command in ("plan", "sweep"):
        file, out = options.file, planning.folder(options.file, options.out)
        if options.command == "plan":
            return plan(file, out, options.costs, options.workers, options.status)
        return sweep(file, out, options.costs, options.workers, options.arguments)
    interrupts.end_job_with_parent()
    if options.command == "measure":
        root = runs_root() if options.out is None else options.out
        names = options.claims or [name for name in claims.CLAIMS if name not in _trained()]
        return measure(names, options.preset, options.seeds, root)
    if options.command == "spectra":
        return spectra(options.out or runs_root())
    if options.command == "scorecard":
        return show_scorecard(options.root or results_root(), options.json)
    if options.command == "evidence":
        return measure_again(options.claims, options.preset, options.against or results_root(), options.out)
    if options.command in ("run", "grid"):
        gpus.take()
    names = [name for name, _ in options.p]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PaperlibError(f"parameter {twice[0]!r} is given twice: give it once")
    parameters = {name: _value(value) for name, value in options.p}
    if options.command == "train":
        return train(parameters)
    return grid(parameters) if options.command == "grid" else run(parameters, options.out.resolve())


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns its exit status.  What ends it early is one sentence."""
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        with interrupts.sigterm_raises():
            return _done(options)
    except (PaperlibError, OSError) as e:
        say(f"error: {e}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except SystemExit as e:
        status = 128 + signal.SIGTERM
        if e.code != status:
            raise
    say(f"\ninterrupted: {INTERRUPTED[options.command]}", sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
