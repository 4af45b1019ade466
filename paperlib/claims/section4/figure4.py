"""Figure 4 and Table I, loss and errors while networks of three depths train: the rules."""

from __future__ import annotations

import math

import pandas as pd

from paperlib import paper
from paperlib.claims._wording import counted, row
from paperlib.claims.claim import Compared, Outcome
from paperlib.claims.reading import once
from paperlib.claims.section4.base import (
    DEPTHS,
    Comparison,
    FromRecords,
    below,
    diverged,
    monotone,
    names,
    ordered,
    outcome,
    over_depths,
    per_seed,
)
from paperlib.claims.section4.figure3 import ALL, LISTED
from paperlib.models import TITLES, Arch, title
from paperlib.records import Record
from paperlib.store import Frames
from paperlib.studies import section4 as studies

GUESSING = math.log(10)  # the loss of ten equal guesses


class TrainingLoss(FromRecords):
    """Figure 4: depth makes Plain's training worse, and that of the residual networks better."""

    name = "F4a"
    where = "Figure 4"
    statement = "deeper Plain networks train worse, deeper ResNets and ProcResNets better"
    NETWORKS = ALL
    LARGEST_LOSS = GUESSING

    @property
    def rule(self) -> str:
        return (
            f"training loss of the last epoch over the depths {DEPTHS}: rises for Plain, falls for ResNet and for "
            "ProcResNet. A run that diverged counts with its last finite training loss, at most "
            f"{self.LARGEST_LOSS:.2f}, that of guessing: a loss that blew up must not carry a mean. {self.COMPARED}"
        )

    def tables(self, records: list[Record]) -> Frames:
        return {"curves": studies.curves(records)[[*studies.RUN, "epoch", "train_loss"]]}

    @once
    def _groups(self, tables: Frames) -> dict[Arch, list[pd.Series]]:
        return {arch: [self._final(tables, arch, depth) for depth in DEPTHS] for arch in TITLES}

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return over_depths(self._groups(tables))

    def shown(self, tables: Frames) -> list[Compared]:
        return [
            Compared(f"final training loss, {TITLES[arch]}, depths {LISTED}", row(groups))
            for arch, groups in self._groups(tables).items()
        ]

    def decide(self, tables: Frames) -> Outcome:
        return outcome(all(below(low, high) for low, high in self.comparisons(tables)))

    def _final(self, tables: Frames, arch: str, depth: int) -> pd.Series:
        endings, curves = (t[(t.arch == arch) & (t.depth == depth)] for t in (tables["endings"], tables["curves"]))
        runs, table = endings.set_index("seed").status, curves.sort_values("epoch")
        finite = table[table.train_loss.abs() < math.inf]
        last = finite.groupby("seed").train_loss.last().reindex(runs.index).fillna(self.LARGEST_LOSS)
        return last.where(runs == "finished", last.clip(upper=self.LARGEST_LOSS))

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        return {f"final training loss, {title(a, d)}": self._final(tables, a, d) for a in TITLES for d in DEPTHS}


class Fluctuation(FromRecords):
    """Figure 4: how much the test error changes from one epoch to the next."""

    name = "F4b"
    where = "Figure 4"
    statement = "the test error fluctuates most for Plain, less for ResNet, least for ProcResNet, there at any depth"
    COMPARED_AT = (20, 83)
    DEEPEST = 164
    NETWORKS = names("plain", *COMPARED_AT) + names("resnet", *COMPARED_AT) + names("procresnet", *COMPARED_AT, DEEPEST)
    ALSO = names("resnet", DEEPEST) + names("plain", DEEPEST)
    EPOCHS = (11, 100)
    GROWS = 1.25
    CHANGES = 3  # fewer have no deviation to speak of

    @property
    def rule(self) -> str:
        first, last = self.EPOCHS
        return (
            f"standard deviation of the test error's change from epoch to epoch, epochs {first} to {last}: Plain > "
            f"ResNet > ProcResNet at depths {self.COMPARED_AT}, and ProcResNet's mean at {self.DEEPEST} at most "
            f"{self.GROWS} times that at {self.COMPARED_AT[0]}. A Plain or a ResNet that diverged counts with the "
            f"epochs that it lived, if they give {self.CHANGES} changes, and a ProcResNet that diverged says no. "
            f"{self.COMPARED}"
        )

    def tables(self, records: list[Record]) -> Frames:
        table = studies.curves(records)
        table = table[table.epoch.between(*self.EPOCHS)].sort_values([*studies.RUN, "epoch"])
        changes = table.assign(change=table.groupby(studies.RUN).test_error.diff()).groupby(studies.RUN).change
        found = changes.agg(changes="count", sd="std").reset_index()
        return {"fluctuation": found[found.changes >= self.CHANGES].reset_index(drop=True)}

    def lacking(self, tables: Frames) -> list[str]:
        lacks, there = super().lacking(tables), tables["fluctuation"].network.unique()
        epochs = f"with {self.CHANGES + 1} epochs from {self.EPOCHS[0]} on"
        return lacks + [f"{name} {epochs}" for name in self.NETWORKS if name not in {*there, *lacks}]

    @once
    def _groups(self, tables: Frames) -> dict[int, list[pd.Series]]:
        """By depth, the fluctuation of ProcResNet, of ResNet and of Plain."""
        archs = ("procresnet", "resnet", "plain")
        return {d: [per_seed(tables["fluctuation"], "sd", arch, d) for arch in archs] for d in self.COMPARED_AT}

    @once
    def _growth(self, tables: Frames) -> tuple[float, float]:
        table = tables["fluctuation"]
        shallow, deep = (per_seed(table, "sd", "procresnet", d).mean() for d in (self.COMPARED_AT[0], self.DEEPEST))
        return shallow, deep

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return [comparison for groups in self._groups(tables).values() for comparison in ordered(groups)]

    def limits(self, tables: Frames) -> bool:
        shallow, deep = self._growth(tables)
        return not diverged(tables, "procresnet") and deep <= self.GROWS * shallow

    def shown(self, tables: Frames) -> list[Compared]:
        shallow, deep = self._growth(tables)
        return [
            *(Compared(f"change of the test error from epoch to epoch, sd, points, depth {depth}: "
                       "ProcResNet, ResNet, Plain", row(groups)) for depth, groups in self._groups(tables).items()),
            Compared(f"ProcResNet's at {self.DEEPEST} over that at {self.COMPARED_AT[0]}", f"{deep / shallow:.2f}"),
        ]  # fmt: skip

    def decide(self, tables: Frames) -> Outcome:
        return outcome(self.limits(tables) and all(map(monotone, self._groups(tables).values())))

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        table = tables["fluctuation"]
        return {
            f"change of the test error, sd, points, {title(arch, depth)}": per_seed(table, "sd", arch, depth)
            for arch in TITLES
            for depth in DEPTHS
        }


class Gap(FromRecords):
    """Table I: the generalisation gap over the first 100 epochs."""

    name = "TI"
    where = "Table I"
    statement = "ProcResNet's generalisation gap is smaller than ResNet's, and fluctuates less"
    NETWORKS = names("resnet", *DEPTHS) + names("procresnet", *DEPTHS)
    ALSO = names("plain", *DEPTHS)
    TRAINING = {"running": "running, augmented", "clean": "not augmented, at the epoch's end"}

    @property
    def rule(self) -> str:
        return (
            f"test error less training error, epochs 1 to {studies.GAP_EPOCHS}, depths {DEPTHS}: ProcResNet's mean "
            "below ResNet's, and its largest less its mean, too, at every depth and with either training error "
            f"({'; '.join(self.TRAINING.values())}), since the paper does not say which. A ProcResNet that diverged "
            f"says no. The printed figures are compared, not judged. {self.COMPARED}"
        )

    def tables(self, records: list[Record]) -> Frames:
        table = studies.gaps(studies.curves(records))
        return {"gaps": table.assign(excess=table.largest - table["mean"])}

    def lacking(self, tables: Frames) -> list[str]:
        lacks, table = super().lacking(tables), tables["gaps"].dropna()
        there = set(zip(table.network, table.training, strict=True))
        return lacks + [
            f"training error ({title}) of {name}"
            for name in self.NETWORKS
            for training, title in self.TRAINING.items()
            if name not in lacks and (name, training) not in there
        ]

    @once
    def _compared(self, tables: Frames) -> dict[tuple[str, str], list[Comparison]]:
        """By training error and number, ProcResNet's and ResNet's at each depth."""
        table = tables["gaps"]
        return {
            (training, column): [
                Comparison(*(per_seed(table[table.training == training], column, arch, depth)
                             for arch in ("procresnet", "resnet")))
                for depth in DEPTHS
            ]
            for column in ("mean", "excess")
            for training in self.TRAINING
        }  # fmt: skip

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return [comparison for of in self._compared(tables).values() for comparison in of]

    def limits(self, tables: Frames) -> bool:
        return not diverged(tables, "procresnet")

    def shown(self, tables: Frames) -> list[Compared]:
        words = {"mean": "mean gap", "excess": "largest gap minus mean gap"}
        return [
            Compared(
                f"{words[column]}, points, {self.TRAINING[training]}, depths {LISTED}: ProcResNet's and ResNet's",
                f"{'; '.join(f'{c.low.mean():.1f} and {c.high.mean():.1f}' for c in of)} "
                f"{counted(min(len(c.low), len(c.high)) for c in of)}",
            )
            for (training, column), of in self._compared(tables).items()
        ]

    def decide(self, tables: Frames) -> Outcome:
        return outcome(self.limits(tables) and all(below(low, high) for low, high in self.comparisons(tables)))

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        found = {}
        for (network, training), part in tables["gaps"].groupby(["network", "training"], sort=False):
            for i, column in enumerate(("mean", "largest")):
                printed = f", paper {paper.TABLE_I[network][i]}" if network in paper.TABLE_I else ""
                found[f"{column} gap, {network}, {self.TRAINING[training]}{printed}"] = part.set_index("seed")[column]
        return found


CLAIMS = (TrainingLoss(), Fluctuation(), Gap())
