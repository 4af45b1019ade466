"""Snakemake's command line for a sweep: for jobs on this machine, on a cluster that sees its files, or in pods.

A pod of Kubernetes sees nothing of this machine but the volumes that are mounted in both.  It gets the Snakefile from
Snakemake, everything else from its image, and ``PAPERLIB_RUNS`` from there, too: no path of this machine is sent.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from paperlib.errors import ConfigError
from paperlib.store import runs_root
from paperlib.store.places import RUNS_VARIABLE
from paperlib.sweep import state
from paperlib.sweep.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = ROOT / "workflow" / "Snakefile"
AFTERWARDS = "conclusions"  # the rule of what is made of the runs
PODS = "kubernetes"


class Place(NamedTuple):
    """Where Snakemake's options put the jobs.

    Attributes
    ----------
    given : bool
        Whether they say anything about it; else the jobs run here.
    executor : str
        The executor's name; empty for jobs on this machine.
    volumes : tuple of Path
        Where Kubernetes mounts its persistent volumes.
    """

    given: bool
    executor: str
    volumes: tuple[Path, ...]


def place(arguments: list[str]) -> Place:
    """Read off Snakemake's options, and off the profile that they name, where jobs run.

    Parameters
    ----------
    arguments : list of str
        Options for Snakemake.

    Returns
    -------
    Place
        The options come before the profile.

    Raises
    ------
    ConfigError
        The profile is there but cannot be read.

    Examples
    --------
    >>> place(["--executor", "slurm"]).executor
    'slurm'
    >>> place(["--quiet"])
    Place(given=False, executor='', volumes=())
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile")
    parser.add_argument("--executor", "-e")
    parser.add_argument("--cores", "-c", nargs="?", const="all")
    parser.add_argument("--kubernetes-persistent-volumes", nargs="+")
    options, _ = parser.parse_known_args(arguments)
    profile = _profile(options.profile) if options.profile else {}
    volumes = options.kubernetes_persistent_volumes or profile.get("kubernetes-persistent-volumes") or []
    mounts = [str(volume).partition(":")[2] for volume in (volumes if isinstance(volumes, list) else [volumes])]
    return Place(
        given=any((options.profile, options.executor, options.cores)),
        executor=options.executor or str(profile.get("executor", "")),
        volumes=tuple(map(Path, mounts)),
    )


def _profile(name: str) -> dict[str, Any]:
    """What a profile's file says; nothing where Snakemake must look for the profile elsewhere."""
    for file in (Path(name, "config.v8+.yaml"), Path(name, "config.yaml")):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise ConfigError(f"the profile {file} cannot be read: {' '.join(str(e).split())}") from None
        return content if isinstance(content, dict) else {}
    return {}


def command(
    file: Path, out: Path, plan: Plan, arguments: list[str] | None = None, without: list[str] | None = None
) -> list[str]:
    """Snakemake's command line for a sweep.

    Parameters
    ----------
    file : Path
        The sweep.
    out : Path
        Its folder, absolute.
    plan : Plan
        Its plan.
    arguments : list of str, optional
        More options for Snakemake: a profile or an executor among them says where jobs run, else it is here.
    without : list of str, optional
        Runs that have not succeeded.  With these, only what is made of the other runs is made, and made anew.

    Returns
    -------
    list of str
        The words.

    Raises
    ------
    ConfigError
        Jobs in pods would not see a file that they need, or the profile cannot be read.
    """
    arguments, without = arguments or [], without or []
    where = place(arguments)
    pods = where.executor == PODS
    files = _in_pods(file, out, where) if pods else _on_disk(file, out)
    fresh = [
        str(state.notebook(s.job, out).relative_to(out))  # whose record is gone
        for s in plan.states
        if s.notebook and s.status not in state.DONE and not without
    ]
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)),
        *("--keep-going", "--rerun-incomplete", "--nolock", "--rerun-triggers", "mtime", "--scheduler", "greedy"),
        *(["--forcerun", *(["findings"] if without else fresh)] if without or fresh else []),
        *([] if where.given else ["--cores", str(plan.workers), *_gpus(plan)]),
        *arguments,
        *files,
        *([f"without={','.join(without)}", "--", AFTERWARDS] if without else []),
    ]


def _on_disk(file: Path, out: Path) -> list[str]:
    """Where things are for jobs that see this machine's files; ends within the words of ``--config``."""
    return ["--directory", str(out), "--config", f"sweep={file.resolve()}", f"runs={runs_root().resolve()}"]


def _in_pods(file: Path, out: Path, where: Place) -> list[str]:
    """The same for jobs that see the volumes and their image alone."""
    runs = runs_root().resolve()
    if Path.cwd() != ROOT:  # Snakemake sends the Snakefile by its path from here, and --directory as it stands
        raise ConfigError(f"for pods this command must be given in the checkout: cd {ROOT}")
    for what, folder in ((f"{RUNS_VARIABLE} ({runs})", runs), (f"--out ({out})", out)):
        if not any(folder.is_relative_to(volume) for volume in where.volumes):
            raise ConfigError(
                f"{what} is on none of the volumes that pods mount ({', '.join(map(str, where.volumes)) or 'none'}): "
                "mount the volume at the same place here, and name a folder on it"
            )
    sweep = file.resolve()
    if sweep.is_relative_to(ROOT):
        sweep = sweep.relative_to(ROOT)  # the image has it at another place
    elif not any(sweep.is_relative_to(volume) for volume in where.volumes):
        raise ConfigError(f"pods do not see {file}: put it into the checkout and build the image again, or on a volume")
    return ["--default-storage-prefix", str(out), "--config", f"sweep={sweep}"]  # outputs go to the sweep's folder


def _gpus(plan: Plan) -> list[str]:
    """The limit on runs at a time where each takes a GPU."""
    return ["--resources", f"gpu={plan.workers}"] if plan.on_gpus else []
