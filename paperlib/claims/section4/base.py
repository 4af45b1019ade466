"""What the claims about Section 4's training runs have in common: their records, and how groups are compared."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from paperlib.claims._wording import averaged, percent, spelled
from paperlib.claims.claim import Claim, Compared, Direction, Measured, Outcome
from paperlib.claims.reading import Reading, once
from paperlib.config import ResolvedRun
from paperlib.errors import RecordError
from paperlib.models import Arch, network_name
from paperlib.records import Record
from paperlib.store import Frames, Provenance
from paperlib.store.provenance import merged
from paperlib.studies import section4 as studies

ENOUGH = 3  # seeds a group, for a test to be made
LEVEL = 0.05
EVERY_SEED = 10_000  # stands for all the seeds that there are
DEPTHS = studies.GRID_DEPTHS


def names(arch: str, *depths: int) -> tuple[str, ...]:
    """The networks' names, as in the paper: a ProcResNet has two layers more than its depth says."""
    return tuple(network_name(arch, depth) for depth in depths)


def below(low: pd.Series, high: pd.Series) -> bool:
    """Whether the first group's mean lies below the second's.

    With ``ENOUGH`` seeds in each group that is Welch's one-sided test at ``LEVEL``, with fewer the order of the means.
    Values that are not finite do not count, and an empty group is below nothing.
    """
    from scipy.stats import ttest_ind_from_stats  # here, because it would take a quarter of every command's start

    a, b = (group[np.isfinite(group.astype(float))].astype(float) for group in (low, high))
    if not len(a) or not len(b):
        return False
    if min(len(a), len(b)) < ENOUGH or a.std() == b.std() == 0:
        return bool(a.mean() < b.mean())
    test = ttest_ind_from_stats(
        a.mean(), a.std(), len(a), b.mean(), b.std(), len(b), equal_var=False, alternative="less"
    )
    return bool(test.pvalue <= LEVEL)


class Comparison(NamedTuple):
    """Two groups of seeds, of which the claim says that the first lies below the second."""

    low: pd.Series
    high: pd.Series

    @property
    def way(self) -> str:
        """``passed``, ``order``, ``turned`` or ``against``: which way the means lie, and whether :func:`below` says so.

        Examples
        --------
        >>> low, high = pd.Series([1.0, 1.1, 1.2]), pd.Series([1.1, 1.2, 1.9])
        >>> Comparison(low, high + 9).way, Comparison(low, high).way, Comparison(high, low).way
        ('passed', 'order', 'turned')
        >>> Comparison(high + 9, low).way
        'against'
        """
        if below(self.low, self.high):
            return "passed"
        if below(self.high, self.low):
            return "against"
        return "order" if self.low.mean() < self.high.mean() else "turned"


def ordered(groups: list[pd.Series]) -> list[Comparison]:
    """The comparisons of each group with the next, of which the claim says that each lies below the next."""
    return [Comparison(a, b) for a, b in pairwise(groups)]


def over_depths(groups: dict[Arch, list[pd.Series]]) -> list[Comparison]:
    """Those of a claim that numbers rise with the depth for Plain, and fall for the networks with skips."""
    return [c for arch, of in groups.items() for c in ordered(of if arch == "plain" else of[::-1])]


class FromRecords(Claim):
    """A claim that is judged on training records: those below ``PAPERLIB_RUNS``, and the committed ones.

    Runs of several precisions are not mixed: float32 is judged where it is complete, else bfloat16.
    """

    scaled = True
    NETWORKS: ClassVar[tuple[str, ...]]
    """The networks without which nothing is decided."""
    ALSO: ClassVar[tuple[str, ...]] = ()
    """Networks whose numbers are shown beside them."""
    DATASETS: ClassVar[tuple[str, ...]] = ("cifar10",)
    """The data sets on which each network is asked for."""
    PROTOCOL: ClassVar[dict[str, Any]] = {"schedule": "constant", "project_every": 2}
    """Parameters that a record must have."""
    free: ClassVar[tuple[str, ...]] = ()
    """Parameters of its preset that a run may override."""
    PRECISIONS: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    """The precisions that are judged, the first that is complete."""
    COMPARED = (
        f"< and > between groups of {ENOUGH} seeds or more: Welch's one-sided t-test at {percent(LEVEL)}; of fewer, "
        "the order of the means"
    )

    def seeds(self, preset: str) -> int:
        """More than there are: all of them are taken."""
        return EVERY_SEED

    def takes(self, config: ResolvedRun) -> bool:
        asked = config.network in self.NETWORKS + self.ALSO and config.dataset in self.DATASETS
        return asked and all(getattr(config, name) == value for name, value in self.PROTOCOL.items())

    def counts(self, config: ResolvedRun, preset: str) -> bool:
        return studies.standard(config, preset, self.free) and self.takes(config)

    def stored(self, preset: str) -> list[Record]:
        """The records of a preset among which ``takes`` chooses."""
        return studies.stored(preset, but=self.free)

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        """Gather the tables from the records.  Raises ``RecordError`` if there is no record for the claim."""
        everything = len(seeds) >= EVERY_SEED
        records = [r for r in self.stored(preset) if self.takes(r.config) and (everything or r.config.seed in seeds)]
        if not records:
            raise RecordError(
                f"there is no training run for {self.name} at the {preset} preset: make some with `paperlib run`, or "
                "set PAPERLIB_RUNS to the folder that has them"
            )
        sessions = merged(session for record in records for session in record.provenance.sessions)
        source = Provenance(command="", sessions=sessions)
        found = sorted({record.config.seed for record in records})
        return Measured(self.gathered(records), source, found)

    def gathered(self, records: list[Record]) -> Frames:
        """All tables that the rule takes."""
        return {"endings": studies.endings(records)} | self.tables(records)

    @abstractmethod
    def tables(self, records: list[Record]) -> Frames:
        """The tables that the rule needs besides ``endings``."""

    @abstractmethod
    def decide(self, tables: Frames) -> Outcome:
        """What the rule says of whole tables of one precision."""

    @abstractmethod
    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        """The numbers to quote of tables of one precision: one value per seed."""

    def lacking(self, tables: Frames) -> list[str]:
        """What tables of one precision lack."""
        runs = tables["endings"]
        there = set(zip(runs.network, runs.dataset, strict=True))
        asked = [(network, dataset) for dataset in self.DATASETS for network in self.NETWORKS]
        usual = self.DATASETS == ("cifar10",)
        return [n + f" on {d}" * (not usual) for n, d in asked if (n, d) not in there]

    def unwatched(self, table: pd.DataFrame, lacks: list[str]) -> list[str]:
        """Networks that are not lacking, but have no ratios in the table."""
        known = {*table.network.unique(), *lacks}
        return [f"epoch of {name} with ratios" for name in self.NETWORKS if name not in known]

    # -- by precision ------------------------------------------------------------------------------------------
    @once
    def _choice(self, tables: Frames) -> tuple[str, Frames, list[str]]:
        """The precision that lacks least, its tables, and what they lack.

        Of those that lack nothing it is the first one, else of those that lack as little the one with most runs.
        """
        choices = []
        for precision in self.PRECISIONS:
            part = at_precision(tables, precision)
            choices.append((precision, part, self.lacking(part)))
        return min(choices, key=lambda choice: (len(choice[2]), -len(choice[1]["endings"]) if choice[2] else 0))

    def precision(self, tables: Frames) -> str:
        return self._choice(tables)[0]

    def missing(self, tables: Frames) -> str:
        precision, _, lacks = self._choice(tables)
        return f"in {precision} there is no {', '.join(lacks)}" if lacks else ""

    def briefly(self, tables: Frames) -> str:
        _, _, lacks = self._choice(tables)
        asked = len(self.NETWORKS) * len(self.DATASETS)
        if not 0 < len(lacks) <= asked:
            return self.missing(tables)
        there = f"the {spelled(asked)} networks that the rule asks for"
        if len(lacks) == asked:
            return f"none of {there} is on record"
        return f"{spelled(len(lacks))} of {there} {'are' if len(lacks) > 1 else 'is'} not on record"

    @once
    def smallest(self, tables: Frames) -> int | None:
        _, part, lacks = self._choice(tables)
        runs = part["endings"]
        runs = runs[runs.network.isin(self.NETWORKS)] if self.NETWORKS else runs
        counts = runs.groupby(["network", "dataset", "schedule", "project_every"]).seed.nunique()
        return None if lacks or counts.empty else int(counts.min())

    @once
    def judge(self, tables: Frames) -> Outcome:
        _, part, lacks = self._choice(tables)
        return "undecided" if lacks else self.decide(part)

    # -- beside the outcome ------------------------------------------------------------------------------------
    def comparisons(self, tables: Frames) -> list[Comparison]:
        """The comparisons that the rule asks for, of whole tables of one precision; none where it has limits alone."""
        return []

    def limits(self, tables: Frames) -> bool:
        """Whether what the rule asks for besides the comparisons holds."""
        return True

    def shown(self, tables: Frames) -> list[Compared]:
        """The numbers that the rule compares, of tables of one precision; by default all."""
        return [Compared(name, averaged(values)) for name, values in self.numbers(tables).items() if len(values)]

    def compared(self, tables: Frames) -> list[Compared]:
        _, part, lacks = self._choice(tables)
        return super().compared(tables) if lacks else self.shown(part)

    @once
    def _ways(self, tables: Frames) -> Counter[str]:
        _, part, lacks = self._choice(tables)
        return Counter() if lacks else Counter(comparison.way for comparison in self.comparisons(part))

    def direction(self, tables: Frames) -> Direction:
        if self.judge(tables) != "not reproduced":
            return ""
        ways = self._ways(tables)
        if not ways or ways["against"] or not self.limits(self._choice(tables)[1]):
            return "against"
        return "mixed" if ways["turned"] else "order"

    def tally(self, tables: Frames) -> str:
        ways = self._ways(tables)
        few = self.smallest(tables)
        if not ways or few is None or few < ENOUGH:
            return ""
        parts = {
            "passed": "as claimed, beyond the scatter",
            "order": "as claimed, but within the scatter",
            "turned": "the other way, within the scatter",
            "against": "the other way, beyond the scatter",
        }
        said = "; ".join(f"{ways[way]} {words}" for way, words in parts.items() if ways[way])
        return f"Of {ways.total()} comparison{'s' * (ways.total() > 1)}: {said}."

    def remark(self, tables: Frames) -> str:
        _, part, lacks = self._choice(tables)
        runs = part["endings"]
        runs = runs[runs.network.isin(self.NETWORKS)] if self.NETWORKS else runs
        single = not lacks and self.smallest(tables) == 1 == runs.groupby(["network", "dataset"]).seed.nunique().max()
        return "one run of each network; another seed, or another machine, could turn it" * bool(single)

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        found = {}
        for precision in ("float32", "bfloat16"):
            part = at_precision(tables, precision)
            if part["endings"].empty:
                continue
            for name, values in self.numbers(part).items():
                finite = values[np.isfinite(values.astype(float))].astype(float)
                if len(finite):
                    found[f"{name} ({precision})"] = finite
        return found


def at_precision(tables: Frames, precision: str) -> Frames:
    """The rows of one precision."""

    def part() -> Frames:
        return {name: table[table.precision == precision] for name, table in tables.items()}

    if isinstance(tables, Reading):
        return tables.answer(("at_precision", precision), lambda: Reading(part()))
    return part()


def diverged(tables: Frames, arch: str) -> bool:
    """Whether a run of these networks diverged."""
    runs = tables["endings"]
    return bool(((runs.arch == arch) & (runs.status == "diverged")).any())


def per_seed(table: pd.DataFrame, column: str, arch: str, depth: int) -> pd.Series:
    """A column of one network's rows, by seed: the mean of what each seed has."""
    rows = table[(table.arch == arch) & (table.depth == depth)]
    return rows.assign(value=rows[column].astype(float)).groupby("seed").value.mean()


def monotone(groups: list[pd.Series]) -> bool:
    """Whether each group lies below the next."""
    return all(below(low, high) for low, high in ordered(groups))


def outcome(holds: bool, corrected: bool = False) -> Outcome:
    """Reproduced if it holds, with a correction if only the weaker form does, else not."""
    return "reproduced" if holds else "reproduced with a correction" if corrected else "not reproduced"


def within(values: pd.Series, factor: float) -> bool:
    """Whether all logarithms lie between those of 1/factor and factor; NaN does not."""
    return bool((values.abs() <= math.log(factor)).all())
