"""Tables II and III, Figure 5, and projecting less often, by the final test error: the rules."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from paperlib import paper
from paperlib.claims._wording import written
from paperlib.claims.claim import Claim, Compared, Measured, Outcome
from paperlib.claims.reading import once
from paperlib.claims.section4.base import ENOUGH, Comparison, FromRecords, below, monotone, names, ordered, outcome
from paperlib.config import ResolvedRun
from paperlib.models import title
from paperlib.records import Record
from paperlib.store import Frames
from paperlib.studies import section4 as studies
from paperlib.studies.sentences import titled

CHANCE = {"cifar10": 90.0, "cifar100": 99.0}  # the test error of guessing, per cent
DIVERGED = "A run that diverged counts with the error of guessing"
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


class Errors(FromRecords):
    """A claim about final test errors."""

    PROTOCOL = {"schedule": "steps", "project_every": 2}
    GUESSING: ClassVar[dict[str, float]] = CHANCE

    def tables(self, records: list[Record]) -> Frames:
        return {}

    def errors(self, tables: Frames) -> pd.DataFrame:
        """The runs with their final test errors, in per cent."""
        runs = tables["endings"]
        guessing = runs.dataset.map(self.GUESSING)
        return runs.assign(test_error=runs.test_error.where(runs.status == "finished", guessing))

    def error(self, tables: Frames, network: str, dataset: str = "cifar10") -> pd.Series:
        """A network's final test error, in per cent, by seed."""
        runs = self.errors(tables).query("network == @network and dataset == @dataset")
        return runs.set_index("seed").test_error

    def compared(self, tables: Frames) -> list[Compared]:
        networks = sorted(tables["endings"].network.unique(), key=len, reverse=True)
        found = super().compared(tables)
        for network in networks:
            found = [Compared(name.replace(f" {network},", f" {titled(network)},"), text) for name, text in found]
        return found

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        return {
            f"test error, %, {network}, {TITLES[dataset]}": part.set_index("seed").test_error
            for (dataset, network), part in self.errors(tables).groupby(["dataset", "network"])
        }


class TableII(Errors):
    """Table II: test errors of eight networks on two data sets."""

    name = "TII"
    where = "Table II"
    statement = "ProcResNet's test error is below its ResNet's, on both data sets, with and without EraseReLU"
    PAIRS = (
        ("procresnet-166", "resnet-164"),
        ("procresnet-1003", "resnet-1001"),
        ("procresnet-166-eraserelu", "resnet-164-eraserelu"),
        ("procresnet-1003-eraserelu", "resnet-1001-eraserelu"),
    )
    NETWORKS = tuple(network for pair in PAIRS for network in pair)
    DATASETS = ("cifar10", "cifar100")
    TOLERANCE = 0.5  # points

    @property
    def rule(self) -> str:
        return (
            f"final test error on CIFAR-10 and CIFAR-100: in each of {len(self.PAIRS)} pairs ProcResNet's below its "
            f"ResNet's, and the mean of each network within {self.TOLERANCE} points of the printed figure. {DIVERGED}. "
            f"{self.COMPARED}"
        )

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return [
            Comparison(self.error(tables, ours, dataset), self.error(tables, theirs, dataset))
            for ours, theirs in self.PAIRS
            for dataset in self.DATASETS
        ]

    def limits(self, tables: Frames) -> bool:
        return all(
            abs(self.error(tables, network, dataset).mean() - self._printed(network, dataset)) <= self.TOLERANCE
            for network in self.NETWORKS
            for dataset in self.DATASETS
        )

    def decide(self, tables: Frames) -> Outcome:
        in_order = all(below(low, high) for low, high in self.comparisons(tables))
        return outcome(in_order and self.limits(tables))

    @staticmethod
    def _printed(network: str, dataset: str) -> float:
        return paper.TABLE_II[network][1 if dataset == "cifar10" else 2]

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        return {
            f"test error, %, {network}, {TITLES[dataset]}, paper {self._printed(network, dataset)}": (
                self.error(tables, network, dataset)
            )
            for dataset in self.DATASETS
            for network in self.NETWORKS
        }


class Parameters(Claim):
    """Table II: what the norm-preserving transitions add to the number of parameters."""

    name = "TIIp"
    exact = True
    where = "Table II"
    statement = "the norm-preserving transitions add under 1 % to the number of parameters"
    PER_CENT = 1

    @property
    def rule(self) -> str:
        return (
            f"counted: ProcResNet has under {self.PER_CENT} % more parameters than its ResNet, for both depths of "
            "Table II, with and without EraseReLU, for 10 and for 100 classes"
        )

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        return Measured({"sizes": studies.sizes()})  # a count has no seed

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        table = tables["sizes"]
        shown = table[~table.erase_relu]
        return {
            f"more parameters, %, ProcResNet-{row.depth + 2}, {row.classes} classes": pd.Series([share])
            for row, share in zip(shown.itertuples(), self._more(shown), strict=True)
        }

    def compared(self, tables: Frames) -> list[Compared]:
        more = self._more(tables["sizes"])
        return [
            Compared("more parameters, the largest share", f"{more.max():.2f} % (of {len(more)} pairs of networks)")
        ]

    def judge(self, tables: Frames) -> Outcome:
        more = self._more(tables["sizes"])
        return "undecided" if more.empty else outcome(bool((more < self.PER_CENT).all()))

    def missing(self, tables: Frames) -> str:
        return "there is no network" if tables["sizes"].empty else ""

    @staticmethod
    def _more(table: pd.DataFrame) -> pd.Series:
        return 100 * (table.procresnet / table.resnet - 1)


class TableIII(Errors):
    """Table III: the changed transition with and without the projection."""

    name = "TIII"
    where = "Table III"
    statement = "moving the convolution before the skip helps, and projecting it helps again"
    # From the lowest error to the highest, with what the paper prints for CIFAR-100.
    ORDER = {"procresnet-166": 22.61, "procresnet-166-noproject": 23.06, "resnet-164": 24.33}
    NETWORKS = tuple(ORDER)
    DATASETS = ("cifar100",)
    EXTENSION = "cifar10"

    @property
    def rule(self) -> str:
        return (
            f"final test error on CIFAR-100: {' < '.join(self.NETWORKS)}. CIFAR-10 is shown, not judged. {DIVERGED}. "
            f"{self.COMPARED}"
        )

    def takes(self, config: ResolvedRun) -> bool:
        asked = config.network in self.NETWORKS and config.dataset in (*self.DATASETS, self.EXTENSION)
        return asked and all(getattr(config, name) == value for name, value in self.PROTOCOL.items())

    @once
    def _groups(self, tables: Frames) -> list[pd.Series]:
        return [self.error(tables, network, "cifar100") for network in self.ORDER]

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return ordered(self._groups(tables))

    def decide(self, tables: Frames) -> Outcome:
        return outcome(monotone(self._groups(tables)))

    def smallest(self, tables: Frames) -> int | None:
        judged = tables["endings"].query("dataset in @self.DATASETS")
        return super().smallest({"endings": judged})


class Figure5(Errors):
    """Figure 5: a ProcResNet is as good as a ResNet of about four times its parameters."""

    name = "F5"
    where = "Figure 5"
    statement = "ProcResNet-274 slightly outperforms ResNet-1001, with about a quarter of its parameters"
    NETWORKS = (*names("procresnet", 272), *names("resnet", 1001))

    @property
    def rule(self) -> str:
        ours, theirs = self.NETWORKS
        return f"final test error on CIFAR-10: {ours} < {theirs}. {DIVERGED}. {self.COMPARED}"

    def comparisons(self, tables: Frames) -> list[Comparison]:
        ours, theirs = (self.error(tables, network) for network in self.NETWORKS)
        return [Comparison(ours, theirs)]

    def decide(self, tables: Frames) -> Outcome:
        ours, theirs = (self.error(tables, network) for network in self.NETWORKS)
        return outcome(below(ours, theirs))

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        runs = tables["endings"]
        return super().numbers(tables) | {
            f"parameters, millions, {network}": part.set_index("seed").parameters / 1e6
            for network, part in runs.groupby("network")
        }


class Seldom(Errors):
    """Section 4: the test error where the projection is made less often."""

    name = "O2"
    where = "section 4"
    statement = "projecting every second step hardly hurts"
    NETWORKS = ()
    PROTOCOL = {"arch": "procresnet", "project": True, "projector": "exact", "erase_relu": False}
    EVERY = (1, 2, 4, 8)
    DEVIATIONS = 1
    SEEDS = ENOUGH

    @property
    def rule(self) -> str:
        return (
            f"ProcResNet on CIFAR-10, {self.SEEDS} seeds or more, projected every {', '.join(map(str, self.EVERY))} "
            f"steps: the mean final test errors lie within {self.DEVIATIONS} standard deviation of each other (the "
            "root of the mean variance within the four), at every depth and schedule for which all four were trained. "
            f"{DIVERGED}"
        )

    def takes(self, config: ResolvedRun) -> bool:
        asked = config.dataset in self.DATASETS and config.project_every in self.EVERY
        return asked and all(getattr(config, name) == value for name, value in self.PROTOCOL.items())

    def lacking(self, tables: Frames) -> list[str]:
        every = ", ".join(map(str, self.EVERY))
        return [] if self._whole(tables) else [f"ProcResNet projected every {every} steps with {self.SEEDS} seeds"]

    def smallest(self, tables: Frames) -> int | None:
        return None  # fewer than SEEDS decide nothing

    @once
    def _whole(self, tables: Frames) -> dict[tuple[int, str], pd.DataFrame]:
        """Mean, standard deviation and number of seeds by how often, of the settings in which none is missing."""
        if tables["endings"].empty:
            return {}
        found = {}
        for setting, runs in self.errors(tables).groupby(["depth", "schedule"]):
            groups = runs.groupby("project_every").test_error.agg(["mean", "std", "count"]).reindex(list(self.EVERY))
            if (groups["count"] >= self.SEEDS).all():
                found[setting] = groups
        return found

    def _spread(self, groups: pd.DataFrame) -> tuple[float, float]:
        """The largest difference of two means, and the largest that the rule allows."""
        allowed = self.DEVIATIONS * (groups["std"] ** 2).mean() ** 0.5
        return groups["mean"].max() - groups["mean"].min(), allowed

    def decide(self, tables: Frames) -> Outcome:
        spreads = map(self._spread, self._whole(tables).values())
        return outcome(all(bool(spread <= allowed) for spread, allowed in spreads))

    def shown(self, tables: Frames) -> list[Compared]:
        found = []
        for (depth, schedule), groups in self._whole(tables).items():
            n, (spread, allowed) = f"(n = {int(groups['count'].min())} each)", self._spread(groups)
            where = f"{title('procresnet', depth)}, {schedule}"
            means = ", ".join(written(*row) for row in zip(groups["mean"], groups["std"], strict=True))
            every = ", ".join(map(str, self.EVERY))
            found += [
                Compared(f"test error, %, {where}, projected every {every} steps", f"{means} {n}"),
                Compared("largest difference of the means, points", f"{spread:.2f}, and {allowed:.2f} is allowed"),
            ]
        return found

    def remark(self, tables: Frames) -> str:
        settings = self._whole(self._choice(tables)[1])
        said = "a difference within the scatter passes; a harm as small as that would not be seen"
        return said if settings and self.judge(tables) == "reproduced" else ""

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        groups = self.errors(tables).groupby(["network", "schedule", "project_every"])
        return {
            f"test error, %, {network}, {schedule}, projected every {every}": part.set_index("seed").test_error
            for (network, schedule, every), part in groups
        }


CLAIMS = (TableII(), Parameters(), TableIII(), Figure5(), Seldom())
