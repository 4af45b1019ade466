"""Does norm preservation explain the accuracy?  The rule for interventions on a ProcResNet's transitions.

The rule was written, and committed, before any of these runs was made.  What would be concluded from what:

* Worse at half of the target **and** at twice the target: the target is where the error is lowest, as it should be if
  norm preservation is what helps.
* Worse on one side alone: something depends on the size of the kernels, but it is not their distance from the target.
* Worse on neither side: nothing is found that the accuracy owes to the target.  That is no proof that there is nothing;
  how large a difference the runs would have missed is what the intervals beside it say.

Shown beside it and not judged: factors nearer to 1 (is there a dose?), one transition alone (does one suffice?), fixed
kernels (no worse means that the transitions need not learn), free ones (no worse means that holding them is not what
helps), and the published projection.  An interval that holds 0 says only that these runs cannot tell the two apart.
"""

from __future__ import annotations

import math

import pandas as pd

from paperlib.claims._wording import percent, row
from paperlib.claims.claim import Compared, Outcome
from paperlib.claims.reading import once
from paperlib.claims.section4.base import ENOUGH, LEVEL
from paperlib.claims.section4.tables import DIVERGED, Errors
from paperlib.config import ResolvedRun
from paperlib.records import Record
from paperlib.store import Frames
from paperlib.studies import interventions as studies


class Interventions(Errors):
    """Table III's explanation: the transitions help because they preserve the norm."""

    name = "I1"
    where = "ours, on Table III"
    statement = "norm preservation is what makes the changed transitions improve the performance"
    NETWORKS = ()
    PROTOCOL = {"arch": "procresnet", "erase_relu": False, "project_every": 2}
    FACTORS = (0.5, 2.0)
    SEEDS = ENOUGH
    ONE_ALONE = LEVEL / 2  # either of the two would do
    MOVED = 0.5

    @property
    def rule(self) -> str:
        low, high = (f"{factor:g}" for factor in self.FACTORS)
        return (
            f"ProcResNets on CIFAR-10 that differ only in what their three transitions are held at, {self.SEEDS} seeds "
            f"or more, paired by seed: the final test error at {low} and at {high} times the norm-preserving target "
            f"lies above that at the target (one-sided paired t-test at {percent(LEVEL)} each), in every setting in "
            f"which all three were trained: reproduced; at the same one of the two (at {percent(self.ONE_ALONE)}): "
            "with a correction. Only settings count in which the transitions' mean log ratio moved by at least "
            f"{self.MOVED:g} times minus the factor's logarithm. {DIVERGED}"
        )

    def takes(self, config: ResolvedRun) -> bool:
        asked = config.dataset in self.DATASETS
        return asked and all(getattr(config, name) == value for name, value in self.PROTOCOL.items())

    def counts(self, config: ResolvedRun, preset: str) -> bool:
        """Whether the run is an intervention: below the paper's scale of any size, as its baseline has the same."""
        return studies.of_preset(config, preset) and config.hold_at != 1.0 and self.takes(config)

    def stored(self, preset: str) -> list[Record]:
        return studies.stored(preset)

    def tables(self, records: list[Record]) -> Frames:
        return {"interventions": studies.runs(records)}

    def said_of(self, records: list[Record]) -> Outcome:
        """What the rule says of records, without a finding on record; ``"undecided"`` where there are none."""
        return self.judge(self.gathered(records)) if records else "undecided"

    @once
    def effects(self, tables: Frames) -> pd.DataFrame:
        """The paired differences' means, tests and intervals: see :func:`paperlib.studies.interventions.effects`."""
        return studies.effects(studies.differences(tables["interventions"]))

    @once
    def _judged(self, tables: Frames) -> list[pd.DataFrame]:
        """The two effects of each setting that has both, with seeds enough, and with ratios that moved."""
        table = self.effects(tables)
        held = studies.all_held(table)
        asked = held[held["factor"].isin(self.FACTORS)]
        found = []
        for _, rows in asked.groupby("setting"):
            wanted = -rows["factor"].astype(float).map(math.log)
            moved = rows["shift"] * wanted >= self.MOVED * wanted**2
            if len(rows) == len(self.FACTORS) and (rows["n"] >= self.SEEDS).all() and moved.all():
                found.append(rows.set_index("factor"))
        return found

    def lacking(self, tables: Frames) -> list[str]:
        held = ", ".join(f"{factor:g}" for factor in sorted((1.0, *self.FACTORS)))
        what = f"ProcResNet held at {held} times the target with {self.SEEDS} seeds, its ratios moved as they should be"
        return [] if self._judged(tables) else [what]

    def shown(self, tables: Frames) -> list[Compared]:
        judged = {rows["setting"].iloc[0] for rows in self._judged(tables)}
        pairs = studies.all_held(studies.differences(tables["interventions"]))
        asked = pairs[pairs["setting"].isin(judged) & pairs["factor"].isin(self.FACTORS)]
        at = " and ".join(f"{factor:g}" for factor in self.FACTORS)
        return [
            Compared(
                f"test error minus that at the target, points, at {at} times the target: {setting}",
                row(group[group["factor"] == factor]["error"].astype(float) for factor in self.FACTORS),
            )
            for setting, group in asked.groupby("setting", sort=False)
        ]

    def smallest(self, tables: Frames) -> int | None:
        return None  # fewer than SEEDS decide nothing

    def decide(self, tables: Frames) -> Outcome:
        settings = self._judged(tables)

        def worse(factor: float, level: float) -> bool:
            return all(rows.loc[factor, "above"] <= level for rows in settings)

        if all(worse(factor, LEVEL) for factor in self.FACTORS):
            return "reproduced"
        one = any(worse(factor, self.ONE_ALONE) for factor in self.FACTORS)
        return "reproduced with a correction" if one else "not reproduced"

    def numbers(self, tables: Frames) -> dict[str, pd.Series]:
        pairs = studies.differences(tables["interventions"])
        return {
            f"test error less that at the target, points, {setting}, {label}": group.set_index("seed").error
            for (setting, label), group in pairs.groupby(["setting", "label"], sort=False)
        }


CLAIMS = (Interventions(),)
