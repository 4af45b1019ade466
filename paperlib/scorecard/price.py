"""What it would cost to test a claim at the paper's scale: the runs it is judged by, and their predicted hours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from paperlib.claims import Claim
from paperlib.errors import ConfigError
from paperlib.store import results_root
from paperlib.sweep import cost, file

SWEEP = Path("workflow") / "config" / "paper.yaml"
COSTS = Path("costs") / "two-cores.json"
GPU_COSTS = Path("costs") / "h200.json"
GPU_PRECISION = "bfloat16"


class Prices(NamedTuple):
    """The runs of the paper's scale, and what was timed of their steps.

    Attributes
    ----------
    jobs : list of Job
        The runs.
    costs : Costs or None
        What was timed; None where nothing is on record.
    gpu : Costs or None
        The same of a GPU.
    """

    jobs: list[file.Job]
    costs: cost.Costs | None
    gpu: cost.Costs | None = None

    def of(self, claim: Claim, group: str) -> str:
        """The price of a group's runs that judge a claim, as a sentence."""
        return self.sentence([job for job in self.jobs if group in job.groups and claim.takes(job.config)])

    def sentence(self, jobs: Iterable[file.Job] | None = None) -> str:
        """The price of some runs, or of all, as a sentence: how many, and :func:`paperlib.sweep.cost.in_words`."""
        asked = list(self.jobs if jobs is None else jobs)
        if not asked:
            return "Not estimated."
        runs = f"{len(asked)} training run{'s' * (len(asked) > 1)}"
        hours = self.hours(asked)
        if hours is None:
            return f"{runs}; hours not estimated."
        known = self.costs
        assert known is not None
        said = cost.in_words(hours, min(len(asked), known.side_by_side))
        return (
            f"{runs}: {said}, predicted for {known.side_by_side} cores of an {known.device.name} from steps timed at "
            f"depths {_and(known.depths)}. {self._on_gpu(asked)}"
        )

    def briefly(self) -> str:
        """The price of all runs in a few words, for the end of a sentence; empty if unknown, on a GPU if known."""
        runs = f"{len(self.jobs)} training run{'s' * (len(self.jobs) > 1)}"
        if self.gpu is not None and self.jobs:
            hours = cost.rounded(self._gpu_hours(self.jobs))
            return f"{runs}, predicted to take about {hours} hours on one {self.gpu.device.name} in {GPU_PRECISION}"
        alone = self.hours(self.jobs) if self.jobs else None
        return "" if alone is None else f"{runs}, predicted to take {cost.in_words(alone)}"

    def _gpu_hours(self, jobs: Iterable[file.Job]) -> float:
        assert self.gpu is not None
        return self.gpu.hours(job.config.model_copy(update={"precision": GPU_PRECISION}) for job in jobs)

    def _on_gpu(self, jobs: Iterable[file.Job]) -> str:
        """The price of some runs on a GPU, as a sentence."""
        if self.gpu is None:
            return "On a GPU: not estimated."
        hours = cost.rounded(self._gpu_hours(jobs))
        return (
            f"On one {self.gpu.device.name} in {GPU_PRECISION}, several runs side by side: about {hours} hours, "
            f"predicted from rates measured at depths {_and(self.gpu.depths)}; in float32, the paper's precision, more."
        )

    def hours(self, jobs: Iterable[file.Job]) -> float | None:
        """The predicted hours of some runs, one at a time; None if unknown."""
        configs = [job.config for job in jobs]
        if self.costs is None or any(config.precision not in self.costs.per_image for config in configs):
            return None
        return self.costs.hours(configs)


def _and(depths: tuple[int, ...]) -> str:
    return " and ".join(map(str, depths))


def here(root: str | Path) -> Prices:
    """The paper's runs as this checkout has them, with the costs on record below ``root``.

    An installed package has no workflow; nothing is estimated there.

    Raises
    ------
    ConfigError
        The file of the runs, or of the costs, is damaged.
    """
    sweep = results_root().parent / SWEEP
    known = [cost.stored(path) if (path := Path(root) / name).exists() else None for name in (COSTS, GPU_COSTS)]
    for name, found, kind in zip((COSTS, GPU_COSTS), known, ("cpu", "cuda"), strict=True):
        if found and found.device.type != kind:
            raise ConfigError(f"{Path(root) / name} holds the costs of {found.device.name}: put back those of a {kind}")
    return Prices(file.read(sweep).jobs() if sweep.exists() else [], *known)
