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
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# No more than this: what the commands need is imported once the command line is understood, which takes seconds.
import paperlib
from paperlib import interrupts
from paperlib._text import say
from paperlib.errors import PaperlibError

INTERRUPTED = {
    "run": "run the same command again to go on from the last checkpoint",
    "train": "run the same command again to go on from the last checkpoint",
    "grid": "finished cells are kept; run the same command again to go on",
    "measure": "what was finished is saved; measure the other claims again",
    "evidence": "what was finished is saved; run the same command again",
    "sweep": "run the same command again to go on; unfinished trainings go on from their checkpoints",
}


def path(text: str) -> Path:
    """A path of the command line, which is not empty: that would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is empty: name a file or a folder")
    return Path(text)


def _value(text: str) -> Any:
    """A parameter's value as papermill's -p reads it."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


class _Parser(argparse.ArgumentParser):
    """One whose help ends with what is known only once the library is loaded."""

    ending: Callable[[], str] | None = None

    def format_help(self) -> str:
        if self.ending is not None:
            self.epilog = self.ending()
        return super().format_help()


def _claims_parsers(add: Callable[..., _Parser]) -> None:
    """The commands about claims."""
    one = add("measure", "measure claims of the paper and save the findings")
    one.ending = lambda: _commands().claims_in_words()
    named = "some of those below (default: all that need no training)"
    one.add_argument("claims", nargs="*", metavar="CLAIM", help=named)
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
    parser = argparse.ArgumentParser(
        prog="paperlib", description="Train the paper's networks, measure its claims, and make whole sweeps of runs."
    )
    parser.add_argument("--version", action="version", version=paperlib.__version__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    def add(name: str, summary: str, parameter: str = "") -> _Parser:
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
            one.add_argument(
                "arguments", nargs="*", default=[], help="options for snakemake, after --: -- --profile FOLDER"
            )
    return parser


def _parsed(words: list[str]) -> argparse.Namespace:
    """The options of a command line; what follows ``--`` is for Snakemake.

    argparse by itself refuses that where an option stands between FILE and ``--``.
    """
    parser, cut = _parser(), words.index("--") if "--" in words else len(words)
    options, rest = parser.parse_args(words[:cut]), words[cut + 1 :]
    if options.command == "sweep":
        options.arguments = [*options.arguments, *rest]
    elif rest:
        parser.error("only sweep takes options after --")
    return options


def _commands() -> Any:
    """The module of all commands; where a package that it needs is missing, a sentence says how to get it.

    An interruption waits for it, for some seconds: torch, if it is cut off while it is imported, can abort the process.
    """
    try:
        with interrupts.delayed():
            return paperlib._load("_commands")
    except ModuleNotFoundError as e:
        if (e.name or "paperlib").startswith("paperlib"):
            raise
        raise PaperlibError(str(e).replace("paperlib._commands needs", "paperlib's commands need")) from None


def _done(options: argparse.Namespace) -> int:
    """Do what the command line says; returns its exit status."""
    commands = _commands()
    commands.refuse_torchrun(options.command)
    if options.command == "plan":
        return commands.plan(options.file, options.out, options.costs, options.workers, options.status)
    if options.command == "sweep":
        return commands.sweep(options.file, options.out, options.costs, options.workers, options.arguments)
    interrupts.end_job_with_parent()
    if options.command == "measure":
        return commands.measure(options.claims, options.preset, options.seeds, options.out)
    if options.command == "spectra":
        return commands.spectra(options.out)
    if options.command == "scorecard":
        return commands.show_scorecard(options.root, options.json)
    if options.command == "evidence":
        return commands.measure_again(options.claims, options.preset, options.against, options.out)
    names = [name for name, _ in options.p]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PaperlibError(f"parameter {twice[0]!r} is given twice: give it once")
    parameters = {name: _value(value) for name, value in options.p}
    if options.command == "run":
        return commands.run(parameters, options.out.resolve())
    return commands.train(parameters) if options.command == "train" else commands.grid(parameters)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns its exit status.  What ends it early is one sentence."""
    command = ""
    try:
        with interrupts.sigterm_raises():
            options = _parsed(sys.argv[1:] if arguments is None else arguments)
            command = options.command
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
    say(f"\ninterrupted: {INTERRUPTED.get(command, 'run the same command again')}", sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
