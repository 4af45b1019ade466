"""Figure 3, the ratios of gradient norms while networks of three depths train, and their beginning: the rules."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from paperlib import mean_field
from paperlib.claims._wording import averaged, counted, percent, row, spelled, written
from paperlib.claims.claim import Compared, Former, Outcome
from paperlib.claims.reading import once
from paperlib.claims.section4.base import (
    DEPTHS,
    ENOUGH,
    Comparison,
    FromRecords,
    below,
    monotone,
    names,
    outcome,
    over_depths,
    per_seed,
    within,
)
from paperlib.models import TITLES, Arch, title
from paperlib.records import Record
from paperlib.store import Frames
from paperlib.studies import section4 as studies
from paperlib.studies.sentences import titled

DEV = "dev = |ln r|, r the geometric mean of a block's ratio over the steps of an epoch"
LISTED = ", ".join(map(str, DEPTHS))
ALL = names("plain", *DEPTHS) + names("resnet", *DEPTHS) + names("procresnet", *DEPTHS)


def trained(tables: Frames) -> pd.DataFrame:
    """The medians of the epochs from 1 on; epoch 0 is before the first update."""
    medians = tables["medians"]
    return medians[medians.epoch > 0]


class Medians(FromRecords):
    """A claim about the medians over blocks in each epoch."""

    def tables(self, records: list[Record]) -> Frames:
        return {"medians": studies.medians(studies.ratios(records))}

    def lacking(self, tables: Frames) -> list[str]:
        lacks = super().lacking(tables)
        return lacks + self.unwatched(trained(tables), lacks)

    @staticmethod
    def over_epochs(tables: Frames, column: str, arch: str, depth: int) -> pd.Series:
        """A column's mean over the epochs from 1 on, by seed."""
        return per_seed(trained(tables), column, arch, depth)


class PlainDiverges(Medians):
    """Figure 3: Plain keeps the norm before its first update, and soon no longer."""

    name = "F3a"
    where = "Figure 3"
    statement = "Plain is norm-preserving at the start, then diverges from it"
    NETWORKS = names("plain", *DEPTHS)
    NEAR = 1.5
    EPOCHS = 10
    GROWS = 2

    @property
    def rule(self) -> str:
        return (
            f"Plain at depths {DEPTHS}, median dev over residual-position blocks, mean over seeds: before the first "
            f"update at most ln {self.NEAR} at every depth, and in some epoch up to {self.EPOCHS} at least "
            f"{self.GROWS} times its value there, at every depth; with a correction if only the second holds. {DEV}. "
            f"Theory says that a Plain block begins at r = {mean_field.PLAIN:.3f}"
        )

    def lacking(self, tables: Frames) -> list[str]:
        begun = tables["medians"].query("epoch == 0").network.unique()
        return super().lacking(tables) + [f"{name} before its first update" for name in self.NETWORKS
                                          if name not in begun]  # fmt: skip

    @once
    def _start_and_later(self, tables: Frames) -> tuple[pd.Series, pd.Series]:
        """By depth, the median dev before the first update, and its largest value in the first epochs."""
        curves = tables["medians"].groupby(["depth", "epoch"]).residual.mean().unstack("epoch").loc[list(DEPTHS)]
        return curves[0], curves[[epoch for epoch in curves if 1 <= epoch <= self.EPOCHS]].max(axis=1)

    def shown(self, tables: Frames) -> list[Compared]:
        table = tables["medians"]
        n = counted(table[table.depth == depth].seed.nunique() for depth in DEPTHS)
        return [
            Compared(f"median |ln r|, Plain-{LISTED}, {when}", f"{', '.join(map(written, values))} {n}")
            for when, values in zip(
                (
                    f"before the first update (at most {math.log(self.NEAR):.3f} asked)",
                    f"the largest in epochs 1 to {self.EPOCHS} of the mean over the runs that live "
                    f"(at least {self.GROWS} times that asked)",
                ),
                self._start_and_later(tables), strict=True,
            )
        ]  # fmt: skip

    def decide(self, tables: Frames) -> Outcome:
        start, later = self._start_and_later(tables)
        grows = bool((later >= self.GROWS * start).all())
        return outcome(grows and bool((start <= math.log(self.NEAR)).all()), corrected=grows)

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        table, found = tables["medians"], {}
        for depth in DEPTHS:
            start = per_seed(table[table.epoch == 0], "residual", "plain", depth)
            early = table[table.epoch.between(1, self.EPOCHS) & (table.depth == depth)]
            found[f"median dev before the first update, {title('plain', depth)}"] = start
            found[f"largest median dev up to epoch {self.EPOCHS}, {title('plain', depth)}"] = early.groupby(
                "seed"
            ).residual.max()
        return found


class Deeper(Medians):
    """Figure 3: with depth, identity skips bring the ratios nearer to 1; without them they go farther."""

    name = "F3b"
    where = "Figure 3"
    statement = "blocks with identity skips get closer to norm-preserving with depth, and Plain's get farther"
    NETWORKS = ALL

    @property
    def rule(self) -> str:
        return (
            f"median dev over residual-position blocks, mean over epochs: falls over the depths {DEPTHS} for ResNet "
            "and for ProcResNet, and rises for Plain; with a correction if only the first two hold. A run that "
            f"diverged counts with the epochs that it lived. {DEV}. {self.COMPARED}"
        )

    @once
    def _groups(self, tables: Frames) -> dict[Arch, list[pd.Series]]:
        return {a: [self.over_epochs(tables, "residual", a, depth) for depth in DEPTHS] for a in TITLES}

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return over_depths(self._groups(tables))

    def shown(self, tables: Frames) -> list[Compared]:
        return [
            Compared(f"median |ln r| of the blocks of constant width, {TITLES[arch]}, depths {LISTED}", row(groups))
            for arch, groups in self._groups(tables).items()
        ]

    def remark(self, tables: Frames) -> str:
        corrected = self.judge(tables) == "reproduced with a correction"
        return (
            "it holds for the networks with skips; Plain does not meet the rule"
            if corrected
            else super().remark(tables)
        )

    def decide(self, tables: Frames) -> Outcome:
        groups = self._groups(tables)
        skips = monotone(groups["resnet"][::-1]) and monotone(groups["procresnet"][::-1])
        return outcome(skips and monotone(groups["plain"]), corrected=skips)

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        return {
            f"median dev, residual-position blocks, {title(a, depth)}": self.over_epochs(tables, "residual", a, depth)
            for a in TITLES
            for depth in DEPTHS
        }


class Unstable(FromRecords):
    """Figure 3: Plain-164 stops after some ten epochs, because of one transition."""

    name = "F3c"
    where = "Figure 3"
    statement = "Plain-164 becomes unstable and stops after about 10 epochs; one transition is enough to cause it"
    NETWORKS = names("plain", 83, 164)
    PRECISIONS = ("float32",)
    EPOCHS = (2, 20)
    SHARE = 0.5
    SIMILAR = 1.25
    STUCK = studies.STUCK  # per cent of test images

    @property
    def rule(self) -> str:
        first, last = self.EPOCHS
        return (
            f"Plain-164 in float32: at least {percent(self.SHARE)} of the runs are not finite between epochs {first} "
            f"and {last}; in the epochs that those lived (means over epochs and runs) the block with the largest dev "
            f"is a transition, and the median dev of the others is at most {self.SIMILAR} times that of Plain-83's "
            f"blocks in the same epochs. With a correction if at least {percent(self.SHARE)} are not finite at some "
            f"time or stay at a test error of {self.STUCK:g} % or more, but the rest is not so. bfloat16 is shown, not "
            f"judged. {DEV}"
        )

    def tables(self, records: list[Record]) -> Frames:
        return {"ratios": studies.ratios(records).drop(columns="prediction").query("epoch > 0")}

    def lacking(self, tables: Frames) -> list[str]:
        lacks = super().lacking(tables)
        return lacks + self.unwatched(tables["ratios"], lacks)

    @once
    def _ends(self, tables: Frames) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
        """Plain-164's runs; which stopped in the claim's epochs; and which stopped at some time or never learnt."""
        runs = tables["endings"].query("depth == 164")
        stuck = (runs.status == "diverged") | (runs.lowest_test_error >= self.STUCK)
        return runs, runs.divergence_epoch.between(*self.EPOCHS), stuck

    def shown(self, tables: Frames) -> list[Compared]:
        runs, stopped, stuck = self._ends(tables)
        first, last = self.EPOCHS
        return [
            Compared(f"runs of Plain-164 that stopped between epochs {first} and {last}",
                     f"{stopped.sum()} of {len(runs)}"),
            Compared(f"runs of it that stopped at some time, or stayed at a test error of {self.STUCK:g} % or more",
                     f"{stuck.sum()} of {len(runs)}"),
        ]  # fmt: skip

    def remark(self, tables: Frames) -> str:
        if self.judge(tables) != "reproduced with a correction":
            return super().remark(tables)
        runs, _, _ = self._ends(self._choice(tables)[1])
        ended = (runs.status == "diverged").sum()
        if not ended:
            return f"none of the {spelled(len(runs))} runs stopped, and none learnt"
        return f"{spelled(ended)} of {spelled(len(runs))} runs stopped; the others never learnt"

    def decide(self, tables: Frames) -> Outcome:
        runs, stopped, stuck = self._ends(tables)
        cause = stopped.mean() >= self.SHARE and self._one_transition(tables["ratios"], runs[stopped])
        return outcome(cause, corrected=bool(stuck.mean() >= self.SHARE))

    def _one_transition(self, ratios: pd.DataFrame, runs: pd.DataFrame) -> bool:
        """Whether in these runs one transition is far off, and the other blocks are as those of Plain-83."""
        dev = ratios.assign(dev=ratios.log_ratio.abs())
        deep = dev[(dev.depth == 164) & dev.seed.isin(runs.seed)]
        shallow = dev[(dev.depth == 83) & (dev.epoch <= runs.divergence_epoch.max())].groupby("block").dev.mean()
        blocks = deep.groupby("block").agg(dev=("dev", "mean"), kind=("kind", "first"))
        if not blocks.dev.notna().any():
            return False
        worst = blocks.dev.idxmax()
        similar = blocks.dev.drop(worst).median() <= self.SIMILAR * shallow.median()
        return bool(blocks.kind[worst] == "transition" and similar)

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        runs = tables["endings"].query("depth == 164").set_index("seed")
        ratios = tables["ratios"].query("depth == 164")
        dev = ratios.assign(dev=ratios.log_ratio.abs()).groupby(["seed", "block"]).dev.mean()
        return {
            "share of Plain-164's runs that are not finite": (runs.status == "diverged").astype(float),
            "epoch in which Plain-164 is not finite": runs.divergence_epoch,
            "lowest test error of Plain-164, %": runs.lowest_test_error,
            "largest dev of a block, Plain-164": dev.groupby("seed").max(),
            "median dev of the blocks, Plain-164": dev.groupby("seed").median(),
        }


class Shallow(Medians):
    """Figure 3: at depth 20 skips make no difference to the ratios, and norm-preserving transitions do."""

    name = "F3d"
    where = "Figure 3"
    statement = "at depth 20 ResNet and Plain behave alike, and ProcResNet is closer to norm-preserving"
    DEPTH = 20
    after = (
        "When the rule was written, the summary of another training of ResNet-20 at the paper's scale had been seen."
    )
    NETWORKS = names("plain", DEPTH) + names("resnet", DEPTH) + names("procresnet", DEPTH)
    ALIKE = 1.25

    @property
    def rule(self) -> str:
        return (
            f"depth {self.DEPTH}, median dev over all blocks, mean over epochs: Plain's and ResNet's means within a "
            f"factor {self.ALIKE} of each other, and ProcResNet's below both. {DEV}. {self.COMPARED}"
        )

    @once
    def _groups(self, tables: Frames) -> list[pd.Series]:
        return [self.over_epochs(tables, "all", arch, self.DEPTH) for arch in TITLES]

    def comparisons(self, tables: Frames) -> list[Comparison]:
        plain, resnet, ours = self._groups(tables)
        return [Comparison(ours, plain), Comparison(ours, resnet)]

    @once
    def _apart(self, tables: Frames) -> float:
        """Plain's and ResNet's means, the larger over the smaller."""
        plain, resnet, _ = self._groups(tables)
        low, high = sorted((plain.mean(), resnet.mean()))
        return high / low

    def limits(self, tables: Frames) -> bool:
        return self._apart(tables) <= self.ALIKE

    def shown(self, tables: Frames) -> list[Compared]:
        return [
            *(Compared(f"median |ln r| of all blocks, {title(arch, self.DEPTH)}", averaged(group))
              for arch, group in zip(TITLES, self._groups(tables), strict=True)),
            Compared("factor between Plain's and ResNet's", f"{self._apart(tables):.2f}"),
        ]  # fmt: skip

    def decide(self, tables: Frames) -> Outcome:
        plain, resnet, ours = self._groups(tables)
        return outcome(self.limits(tables) and below(ours, plain) and below(ours, resnet))

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        return {
            f"median dev, all blocks, {title(a, self.DEPTH)}": self.over_epochs(tables, "all", a, self.DEPTH)
            for a in TITLES
        }


class Blocks(FromRecords):
    """A claim about single blocks."""

    WINDOW = studies.WINDOW  # epochs

    def tables(self, records: list[Record]) -> Frames:
        return {"blocks": studies.by_block(studies.ratios(records), self.WINDOW)}

    def lacking(self, tables: Frames) -> list[str]:
        lacks = super().lacking(tables)
        return lacks + self.unwatched(tables["blocks"], lacks)

    @staticmethod
    def transitions(tables: Frames) -> pd.DataFrame:
        """The rows of the transitions."""
        return tables["blocks"].query("kind == 'transition'")


class FirstTransition(Blocks):
    """Figure 3: a ProcResNet's first transition, from three channels, is the one that does not keep the norm."""

    name = "F3e"
    where = "Figure 3"
    statement = "in ProcResNet only the first transition (RGB → 64 channels) is less norm-preserving"
    NETWORKS = names("procresnet", *DEPTHS)
    FIRST = "transition1"
    TIMES = 2

    @property
    def rule(self) -> str:
        return (
            f"ProcResNet at depths {DEPTHS}, dev of each block, mean over epochs and seeds: the first transition's is "
            f"the largest of the three and at least {self.TIMES} times the next, and no residual-position block's is "
            f"larger, at every depth. {DEV}"
        )

    def decide(self, tables: Frames) -> Outcome:
        return outcome(all(self._only_the_first(tables["blocks"].query("depth == @d")) for d in DEPTHS))

    def _farthest(self, table: pd.DataFrame) -> tuple[float, float, float]:
        """The dev of the first transition, of the next, and of the residual-position block that is farthest from 1."""
        dev = table.groupby(["kind", "name"]).dev.mean()
        transitions = dev["transition"]
        return (
            transitions[self.FIRST],
            transitions.drop(self.FIRST).max(),
            dev["residual"].max() if "residual" in dev else 0.0,
        )

    def shown(self, tables: Frames) -> list[Compared]:
        parts = [tables["blocks"].query("depth == @depth") for depth in DEPTHS]
        n = counted(part.seed.nunique() for part in parts)
        rows = zip(*map(self._farthest, parts), strict=True)
        return [
            Compared(f"|ln r| of the {which}, ProcResNet, depths {LISTED}", f"{', '.join(map(written, row))} {n}")
            for which, row in zip(("first transition", "next transition", "farthest other block"), rows, strict=True)
        ]

    def _only_the_first(self, table: pd.DataFrame) -> bool:
        first, next_one, residual = self._farthest(table)
        return bool(first >= self.TIMES * next_one and first > next_one and first >= residual)

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        rows = self.transitions(tables)
        found = {}
        for (depth, name), part in rows.groupby(["depth", "name"]):
            found[f"dev of {name}, {title('procresnet', depth)}"] = part.groupby("seed").dev.mean()
        for depth, part in tables["blocks"].query("kind == 'residual'").groupby("depth"):
            found[f"largest dev of another block, {title('procresnet', depth)}"] = part.groupby("seed").dev.max()
        return found


class TransitionsImprove(Blocks):
    """Figure 3: training brings a ResNet's transitions nearer to norm-preservation."""

    name = "F3f"
    where = "Figure 3"
    statement = "ResNet's transitions become more norm-preserving in training"
    NETWORKS = names("resnet", *DEPTHS)

    @property
    def rule(self) -> str:
        return (
            f"ResNet at depths {DEPTHS}, each of the three transitions: dev, mean of the last {self.WINDOW} epochs, "
            f"below that of epochs 1 to {self.WINDOW}. A run that diverged counts as one that did not change. {DEV}. "
            f"{self.COMPARED}"
        )

    def lacking(self, tables: Frames) -> list[str]:
        lacks, ended = super().lacking(tables), tables["endings"].query("status == 'finished'")
        short = ended[ended.epochs < 2 * self.WINDOW].network.unique()
        return lacks + [f"run of {name} over {2 * self.WINDOW} epochs" for name in self.NETWORKS if name in short]

    @once
    def _changes(self, tables: Frames) -> dict[tuple[int, str], Comparison]:
        """By depth and transition, the dev in the last epochs and in the first ones."""
        status = tables["endings"].set_index(["network", "seed"]).status
        rows = self.transitions(tables).set_index(["network", "seed"])
        early = rows.early.fillna(rows.dev)
        late = rows.late.where(status.reindex(rows.index) == "finished", early)
        groups = rows.assign(early=early, late=late).groupby(["depth", "name"])
        return {key: Comparison(part.late, part.early) for key, part in groups}

    def comparisons(self, tables: Frames) -> list[Comparison]:
        return list(self._changes(tables).values())

    def shown(self, tables: Frames) -> list[Compared]:
        changes = self._changes(tables)
        found = []
        for depth in DEPTHS:
            of = [change for (at, _), change in changes.items() if at == depth]
            said = ", ".join(f"{written(c.high.mean())} → {written(c.low.mean())}" for c in of)
            name = f"|ln r| of the three transitions, first → last epochs, {title('resnet', depth)}"
            found.append(Compared(name, f"{said} {counted(len(c.low) for c in of)}"))
        return found

    def decide(self, tables: Frames) -> Outcome:
        return outcome(all(below(late, early) for late, early in self.comparisons(tables)))

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        found = {}
        for (depth, name), part in self.transitions(tables).groupby(["depth", "name"]):
            change = (part.late / part.early).set_axis(part.seed)
            found[f"dev of {name} at the end over the beginning, {title('resnet', depth)}"] = change
        return found


class Concentrated(Medians):
    """Figure 3: as long as training is stable, the ratios of all networks lie around 1."""

    name = "F3g"
    where = "Figure 3"
    statement = "while training is stable, all networks' ratios concentrate around 1"
    NETWORKS = ALL
    NEAR = 1.25

    @property
    def rule(self) -> str:
        return (
            f"geometric mean of r over all blocks between 1/{self.NEAR} and {self.NEAR} in every epoch of every run "
            f"that finished, Plain included; depths {DEPTHS}. r: geometric mean over the steps of an epoch"
        )

    def lacking(self, tables: Frames) -> list[str]:
        finished = tables["endings"].query("status == 'finished'").arch.unique()
        return super().lacking(tables) + [f"{TITLES[arch]} that finished" for arch in TITLES if arch not in finished]

    def decide(self, tables: Frames) -> Outcome:
        return outcome(within(self._finished(tables).mean_log, self.NEAR))

    def shown(self, tables: Frames) -> list[Compared]:
        found = self.numbers(tables)
        rows = {arch: [part for name, part in found.items() if f" {TITLES[arch]}-" in name] for arch in TITLES}
        return [
            Compared(f"largest factor from 1 in an epoch, {TITLES[arch]}, depths {LISTED}",
                     f"{', '.join(written(part.max()) for part in parts)}, the worst runs {counted(map(len, parts))}")
            for arch, parts in rows.items() if parts
        ]  # fmt: skip

    @staticmethod
    def _finished(tables: Frames) -> pd.DataFrame:
        ended = tables["endings"].query("status == 'finished'")[["network", "seed"]]
        return trained(tables).merge(ended, on=["network", "seed"])

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        table = self._finished(tables)
        farthest = table.assign(factor=np.exp(table.mean_log.abs())).groupby(["arch", "depth", "seed"]).factor.max()
        return {
            f"geometric mean of r, largest factor from 1 in an epoch, {title(arch, depth)}": part.droplevel([0, 1])
            for (arch, depth), part in farthest.groupby(level=[0, 1])
        }


class Beginning(FromRecords):
    """Ours: the ratios before the first update are those of mean-field theory."""

    name = "S0"
    where = "ours, not the paper's"
    statement = "before the first update the ratios follow a theory without parameters"
    after = "When its limits were written, one seed of ResNet-164, ProcResNet-166 and each Plain network had been seen."
    DEPTHS = (20, 83, 164, 1001)
    NETWORKS = names("plain", *DEPTHS) + names("resnet", *DEPTHS) + names("procresnet", *DEPTHS)
    PROTOCOL = {}  # before the first update no schedule matters
    free = ("epochs", "test_images")  # nor do these
    OFF = 0.03
    PLAIN_OFF = 0.15
    SEEDS = ENOUGH
    former = (
        Former(
            until="2026-11-29",
            sentence="the same, at the paper's scale alone",
            outcome="undecided (desk): depth 1001 was not on record, and ProcResNet-22 (0.079) was beyond the limit",
            reason="nothing is trained before the first update, so that a short training has the first ratios of a "
            "whole one",
        ),
    )

    @property
    def rule(self) -> str:
        return (
            f"residual-position blocks before the first update, at depths {self.DEPTHS}, {self.SEEDS} seeds or more, "
            f"mean over seeds: median |ln r − ln prediction| at most {self.OFF} for ResNet and for ProcResNet, with "
            f"the measured variance put in, and Plain's median r within {percent(self.PLAIN_OFF)} of "
            f"{mean_field.PLAIN:.3f}. Blocks whose gradients leave float32's range do not count"
        )

    def elsewhere(self, preset: str, device: str) -> str:
        # Nothing is trained before the first update: a short training has the same first ratios as a whole one.
        return "at the smoke preset" if preset == "smoke" else ""

    def tables(self, records: list[Record]) -> Frames:
        table = studies.ratios(records).query("epoch == 0 and kind == 'residual'")
        return {"initial": table.drop_duplicates([*studies.RUN, "block"]).reset_index(drop=True)}

    def lacking(self, tables: Frames) -> list[str]:
        rows = tables["initial"].dropna(subset=["log_ratio", "prediction"])
        seeds = rows.groupby("network").seed.nunique()
        return [f"{n} with {self.SEEDS} seeds" for n in self.NETWORKS if seeds.get(n, 0) < self.SEEDS]

    def decide(self, tables: Frames) -> Outcome:
        off, plain = self._off(tables), self._plain(tables)
        near = (plain / mean_field.PLAIN - 1).abs() <= self.PLAIN_OFF
        return outcome(bool((off <= self.OFF).all() and near.all()))

    @once
    def smallest(self, tables: Frames) -> int | None:
        _, part, lacks = self._choice(tables)  # a network's seeds, of all schedules together
        return None if lacks else int(part["initial"].groupby("network").seed.nunique().min())

    def remark(self, tables: Frames) -> str:
        _, part, lacks = self._choice(tables)
        seeds = part["initial"].groupby("network").seed.nunique()
        off = self._off(part).reindex(seeds[seeds >= self.SEEDS].index).dropna()
        beyond = [f"{titled(network)} ({written(value)})" for network, value in off.items() if value > self.OFF]
        verb = ("is" if len(beyond) == 1 else "are") + " already" * bool(lacks)
        return f"{', '.join(beyond)} {verb} beyond the rule's limit of {self.OFF}" if beyond else ""

    def compared(self, tables: Frames) -> list[Compared]:
        _, part, _ = self._choice(tables)
        found = []
        for arch in ("procresnet", "resnet", "plain"):
            values = self._by_seed(part, plain=arch == "plain")
            groups = {n: values[n] for n in self.NETWORKS if n.startswith(f"{arch}-") and n in values.index.levels[0]}
            what = "median r" if arch == "plain" else "median |ln r − ln prediction|"
            if groups:
                found.append(Compared(f"{what}, {', '.join(map(titled, groups))}", row(groups.values())))
        return found

    @once
    def _off(self, tables: Frames) -> pd.Series:
        return self._by_seed(tables, plain=False).groupby("network").mean()

    @once
    def _plain(self, tables: Frames) -> pd.Series:
        return self._by_seed(tables, plain=True).groupby("network").mean()

    @staticmethod
    def _by_seed(tables: Frames, plain: bool) -> pd.Series:
        """By network and seed: the median ratio of Plain, or the median distance of the others from the prediction."""
        rows = tables["initial"]
        rows = rows[(rows.arch == "plain") == plain]
        values = np.exp(rows.log_ratio) if plain else (rows.log_ratio - rows.prediction).abs()
        return rows.assign(value=values).groupby(["network", "seed"]).value.median()

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        found = {}
        for plain, what in ((True, "median r before the first update"), (False, "median |ln r − ln prediction|")):
            for network, part in self._by_seed(tables, plain).groupby(level="network"):
                found[f"{what}, {network}"] = part.droplevel("network")
        return found


CLAIMS = (
    PlainDiverges(), Deeper(), Unstable(), Shallow(), FirstTransition(), TransitionsImprove(), Concentrated(),
    Beginning(),
)  # fmt: skip
