"""The commands: ``python -m paperlib run``, ``grid`` and ``measure``.

``run`` makes one training run as an executed notebook, with a progress bar and a summary: what ``make run`` calls.  It adds to ``papermill notebooks/04_cifar.ipynb`` the download before it, a bar for the training
inside the notebook's kernel (papermill only sees that a cell takes long), and the HTML page after it.

``grid`` trains the channel grid of Figure 2 (:mod:`paperlib.grid_runs`), or what is missing of it.

``measure`` measures claims of the paper (:mod:`paperlib.claims`) and saves what it finds.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path

from tqdm import tqdm

from paperlib import cifar, claims, grid_runs, progress, records
from paperlib.config import RunConfig, runs_root
from paperlib.errors import ConfigError, PaperlibError

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_cifar.ipynb"


def _value(text: str):
    """A parameter's value as papermill's -p reads it."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _watch(file: Path, stop: threading.Event) -> None:
    """Show the progress file of a run as a bar until ``stop``; without a terminal, as a line every half minute."""
    bar = tqdm(
        total=1.0,
        desc="training",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
        disable=None,
        file=sys.stderr,
    )
    spoken = time.monotonic()
    while not stop.wait(1.0):
        try:
            state = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        left = "" if state["seconds_left"] is None else f"  {progress.duration(state['seconds_left'])} left"
        share = min(state["done"] / state["total"], 1.0)
        bar.n = round(share, 4)
        bar.set_postfix_str(f"{state['text']}{left}", refresh=True)
        if bar.disable and time.monotonic() - spoken > 30:
            spoken = time.monotonic()
            print(f"{share:4.0%}  {state['text']}{left}", file=sys.stderr, flush=True)
    bar.close()


def run(parameters: dict, out: Path) -> int:
    config = RunConfig(**parameters)
    chosen = config.resolve()
    if not NOTEBOOK.exists():
        raise PaperlibError(
            "the notebooks are not part of the installed package: run this from a checkout of the repository"
        )
    import papermill
    from nbclient.exceptions import DeadKernelError
    from nbconvert import HTMLExporter
    from papermill.exceptions import PapermillExecutionError

    began = time.monotonic()
    print(
        f"{chosen.network} on {chosen.dataset}, preset {chosen.preset}: {chosen.epochs} epochs of {chosen.train_images:,} images"
    )
    if chosen.source != "sample":
        print(f"getting {chosen.dataset} (once; kept in {cifar.data_folder()})", flush=True)
    cifar.load(chosen.dataset, chosen.source)

    out.mkdir(parents=True, exist_ok=True)
    notebook = out / f"{chosen.network}_{chosen.dataset}_{chosen.preset}_seed{chosen.seed}.ipynb"
    folder = config.folder()
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(folder / progress.FILE, stop), daemon=True)
    watcher.start()
    try:
        executed = papermill.execute_notebook(str(NOTEBOOK), str(notebook), parameters=parameters, progress_bar=False)
    except PapermillExecutionError as e:
        raise PaperlibError(f"{e.ename}: {e.evalue} (the notebook so far: {notebook})") from None
    except DeadKernelError:
        raise PaperlibError(
            "the notebook's kernel died, probably out of memory: use a smaller batch_size or depth"
        ) from None
    finally:
        stop.set()
        watcher.join()
    page = notebook.with_suffix(".html")
    exporter = HTMLExporter(require_js_url="", exclude_input_prompt=True, exclude_output_prompt=True)
    records.write_atomically(page, exporter.from_notebook_node(executed)[0].encode())

    record = records.read(folder)
    print(f"\n{record.network}: {record.status}, {len(record.epochs)} epochs")
    if "test_error" in record.final:
        print(f"test error   {record.final['test_error']:.2f} %  (of {record.data['test_images']:,} test images)")
    print(
        f"wall time    {progress.duration(record.wall_seconds)} training, {progress.duration(time.monotonic() - began)} in all"
    )
    print(f"notebook     {notebook}\npage         {page}\nrecord       {folder / records.FILE}")
    if record.left_out:
        print(record.left_out)
    return 0


def grid(parameters: dict) -> int:
    record = grid_runs.run(grid_runs.GridConfig(**parameters))
    table = record.measurements
    cells = len(table[["c", "d", "variant"]].drop_duplicates())
    print(
        f"{cells} cells and variants, {table.seed.nunique()} seeds, measured after {', '.join(map(str, sorted(table.step.unique())))} steps"
    )
    print(f"wall time    {progress.duration(record.wall_seconds)}\nrecord       {record.folder / grid_runs.FILE}")
    return 0


def measure(names: list[str], preset: str, seeds: int | None, root: Path) -> int:
    for name in names:  # all of them, before anything is measured
        claims.check(name, preset, seeds)
    for name in tqdm(dict.fromkeys(names), desc="measuring", disable=None, file=sys.stderr):
        finding = claims.measure(name, preset, seeds)
        folder = claims.save(finding, root)
        print(f"{name}: {claims.spoken(finding)}  ({finding.wall_seconds:.0f} s, {folder})")
        for what, quantity in finding.quantities.items():
            print(f"    {what}: {quantity}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m paperlib", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="execute notebooks/04_cifar.ipynb with a progress bar")
    one.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter, as for papermill"
    )
    one.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of the executed notebook and its page (default: out)"
    )
    cells = commands.add_parser("grid", help="train the Conv-ReLU channel grid of Figure 2")
    cells.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter; lists as '2 4 8'"
    )
    trained = [name for name, claim in claims.CLAIMS.items() if claim.scaled]
    other = commands.add_parser("measure", help="measure claims of the paper and save the findings")
    other.add_argument(
        "claims",
        nargs="*",
        metavar="CLAIM",
        help=f"some of {', '.join(claims.CLAIMS)} (default: all but those that train, {', '.join(trained)})",
    )
    other.add_argument("--preset", default="desk", help="desk (default), smoke, or paper where a claim has it")
    other.add_argument("--seeds", type=int, help="how many (default: 5, or as many as the preset trains)")
    other.add_argument("--out", type=Path, default=None, help="root of the findings (default: PAPERLIB_RUNS or runs)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "measure":
            root = runs_root() if options.out is None else options.out
            return measure(
                options.claims or [name for name in claims.CLAIMS if name not in trained],
                options.preset,
                options.seeds,
                root,
            )
        if options.command == "grid":
            return grid({name: _value(value) for name, value in options.p})
        return run({name: _value(value) for name, value in options.p}, options.out.resolve())
    except (PaperlibError, ConfigError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        then = {
            "run": "run the same command again to go on from the last checkpoint",
            "grid": "finished cells are kept; run the same command again to go on",
            "measure": "what was finished is saved; measure the other claims again",
        }[options.command]
        print(f"\ninterrupted: {then}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
