"""What a training run leaves behind: its record, one folder with ``record.json`` and three tidy tables.

Layout: ``<root>/<preset>/<dataset>/<network>/seed<k>/``.  The table ``epochs`` has one row per epoch, ``blocks`` one
per epoch and block, and ``initial`` one per block before the first update.  What follows from the parameters or from
the tables is derived from them, and not stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from paperlib import _checks
from paperlib.config import ResolvedRun
from paperlib.models import block_names
from paperlib.store import Stored

if TYPE_CHECKING:
    from paperlib.cifar import Cifar

GAP_EPOCHS = 100  # Table I looks at the first 100 epochs


class Data(BaseModel):
    """The images that were used; ``checksum`` and ``source`` are those of :class:`paperlib.cifar.Cifar`."""

    model_config = ConfigDict(extra="forbid")

    dataset: str = Field(description="its name")
    source: str = Field(description="where the images came from")
    checksum: str = Field(description="of all images and labels that were used")
    train_images: int = Field(description="how many")
    test_images: int = Field(description="how many")

    @classmethod
    def of(cls, data: Cifar) -> Data:
        """The facts about a data set in memory."""
        return cls(
            dataset=data.name,
            source=data.source,
            checksum=data.checksum,
            train_images=len(data.train_labels),
            test_images=len(data.test_labels),
        )


class Divergence(BaseModel):
    """Where a run met a value that is not finite: the step, the block or the buffer, and what was not finite."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = Field(description="in which it happened, from 1 on")
    step: int = Field(description="in that epoch, from 1 on; the last one for an evaluation")
    what: Literal["loss", "gradient", "projection", "evaluation"] = Field(description="what was not finite")
    block: str = Field(description="the block or the buffer; unknown where none can be named")


class Projections(BaseModel):
    """How many projections of a kernel a run has done, and how many were refused (the kernel was left as it was)."""

    model_config = ConfigDict(extra="forbid")

    done: int = Field(description="how many kernels were projected")
    refused: int = Field(description="how many were left as they were")


class Record(Stored):
    """One run: its parameters, where and how it was made, and what came out.

    Times are in seconds, memory in bytes, errors in per cent; times and memory are the first process's, where several
    made the run.  ``spent`` has ``data`` (batches prepared), ``step`` (forward, backward, update), ``probe``,
    ``projection``, ``evaluation``, and ``initial`` (the ratios before the first update), on the host's clock.  Records
    from before these were kept have none, and no ``projections``.
    """

    FILE: ClassVar[str] = "record.json"
    NOUN: ClassVar[str] = "record"
    REMEDY: ClassVar[str] = "delete this file and run it again (a checkpoint beside it is used)"
    TABLES: ClassVar[tuple[str, ...]] = ("epochs", "blocks")

    kind: Literal["run"] = "run"
    status: Literal["finished", "diverged"] = Field(description="how it ended")
    config: ResolvedRun = Field(description="its parameters")
    data: Data = Field(description="the images that were used")
    parameters: int = Field(description="the network's trainable parameters")
    epoch_seconds: list[float] = Field(description="the time of each epoch, with its evaluation")
    peak_memory_bytes: int = Field(description="the most memory that it took")
    divergence: Divergence | None = Field(None, description="where it diverged, if it did")
    spent: dict[str, float] = Field({}, description="where the time of all epochs went")
    projections: Projections | None = Field(None, description="how many kernels were projected")

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per epoch.

        Columns: ``epoch``, ``lr``, ``train_loss`` and ``train_error`` (means over the epoch, of augmented images, while
        the weights change), ``clean_train_loss`` and ``clean_train_error`` (at the epoch's end, of training images
        without augmentation, as many as there are test images; older records lack the two), ``test_loss``,
        ``test_error``, ``grad_norm``.
        """
        return self.frames["epochs"]

    @property
    def blocks(self) -> pd.DataFrame:
        """One row per epoch and block: ``epoch``, and the columns of :meth:`paperlib.probes.GradientNorms.averages`."""
        return self.frames["blocks"]

    @property
    def initial(self) -> pd.DataFrame:
        """One row per block before the first update: what :func:`paperlib.initial.initial_ratios` measures.

        Empty for a run that was not watched, and in older records.
        """
        return self.frames.get("initial", pd.DataFrame())

    def contradictions(self) -> dict[str, bool]:
        c, epochs, blocks = self.config, self.epochs, self.blocks
        n = c.epochs if self.divergence is None else self.divergence.epoch
        losses, errors = (
            epochs[[name for name in epochs if what in name]].to_numpy(float) for what in ("_loss", "_error")
        )
        data = (self.data.dataset, self.data.train_images, self.data.test_images, self.data.source == "sample")
        asked = (c.dataset, c.train_images, c.test_images, c.source == "sample")
        rates = [c.lr_at(epoch) for epoch in epochs.epoch]
        names = block_names(c.arch, c.depth) if c.probe_every else ()
        place = self.folder.name if self.folder else ""
        return {
            f"it is the run of seed {c.seed}, and lies in {place}": (
                re.fullmatch(r"seed\d+", place) is not None and place != f"seed{c.seed}"
            ),
            f"its status is {self.status}, and it has {'no' if self.divergence is None else 'a'} divergence": (
                (self.status == "diverged") != (self.divergence is not None)
            ),
            f"it has other epochs than 1 to {n}": n > c.epochs or [*epochs.epoch] != [*range(1, n + 1)],
            "its learning rates are not those of its schedule": not np.allclose(epochs.lr, rates),
            "a loss is negative": (losses < 0).any(),
            "it is finished, and its last epoch has no test error": (
                self.status == "finished" and not math.isfinite(epochs.test_error.iloc[-1])
            ),
            "an error is not between 0 and 100 %": (errors < 0).any() or (errors > 100).any(),
            "its images are not those of its parameters": data != asked,
            f"its blocks are not those of {self.network} in each epoch": (
                [*zip(blocks.get("epoch", ()), blocks.get("name", ()), strict=True)]
                != [(epoch, name) for epoch in range(1, n + 1) for name in names]
            ),
            "it has another number of times than of epochs": len(self.epoch_seconds) != n,
            "a number is below the least that there can be": (
                not all(value >= 0 for value in (self.parameters - 1, self.peak_memory_bytes, *self.epoch_seconds))
            ),
        }

    @property
    def network(self) -> str:
        """The network's name, as in the paper."""
        return self.config.network

    @property
    def left_out(self) -> str:
        """One sentence on what the run leaves out of the paper's protocol; empty at its full scale."""
        return self.config.left_out()

    @property
    def final(self) -> dict[str, float]:
        """Loss and error of the last epoch that was evaluated, and the generalisation gap; empty if there was none.

        The gap is the test error less the training error, in points: ``gap_mean`` is its mean and ``gap_max`` its
        maximum over the first 100 epochs (Table I).  ``clean_gap_mean`` and ``clean_gap_max`` take the training error
        without augmentation, where it was measured.
        """
        whole = [row for row in self.epochs.to_dict("records") if math.isfinite(row["test_error"])]
        if not whole:
            return {}
        found = {name: value for name, value in whole[-1].items() if name.startswith(("train", "clean", "test"))}
        for kind in ("", "clean_"):
            gaps = [row["test_error"] - row.get(f"{kind}train_error", math.nan) for row in whole[:GAP_EPOCHS]]
            if all(map(math.isfinite, gaps)):
                found |= {f"{kind}gap_mean": sum(gaps) / len(gaps), f"{kind}gap_max": max(gaps)}
        return found

    @property
    def label(self) -> str:
        """A short name that tells the runs of one plot apart: the network, the precision, and where it diverged."""
        precision = self.config.precision
        notes: list[str] = [precision] if precision != "bfloat16" else []
        if self.divergence:
            notes.append(f"diverged in epoch {self.divergence.epoch}")
        return f"{self.network} ({', '.join(notes)})" if notes else self.network

    def ending(self) -> str:
        """How the run ended, in a sentence."""
        d = self.divergence
        if d is None:
            return f"{self.network} finished its {len(self.epochs)} epochs."
        where = f"epoch {d.epoch}, step {d.step}"
        return f"{self.network} diverged in {where}: the {d.what} was not finite, first in {d.block}."

    def summary(self) -> dict[str, Any]:
        """The row of an overview table."""
        c, final, nan = self.config, self.final, float("nan")
        return {
            "network": self.network,
            "dataset": c.dataset,
            "preset": c.preset,
            "seed": c.seed,
            "epochs": len(self.epochs),
            "images": self.data.train_images,
            "status": self.status,
            "train error %": round(final.get("train_error", nan), 2),
            "test error %": round(final.get("test_error", nan), 2),
            "minutes": round(self.provenance.seconds / 60, 1),
            "device": self.provenance.device.name,
            "commit": self.provenance.short_commit,
        }


def save(record: Record, folder: str | Path) -> Path:
    """Write a record into ``folder`` (made if need be) and return the folder.

    Raises
    ------
    RecordError
        The folder cannot be written; an earlier record in it is left whole.
    """
    _checks.instance("record", record, Record, "a Record")
    return record.save(folder)


def read(folder: str | Path) -> Record:
    """Read the record in ``folder``.

    Raises
    ------
    RecordError
        It is missing, damaged, was changed after it was saved, or is of another schema version.
    """
    return Record.read(folder)


def read_all(root: str | Path, only: Callable[[ResolvedRun], bool] | None = None) -> list[Record]:
    """The records below ``root``, sorted by path.

    Parameters
    ----------
    root : str or Path
        Such as ``results``.
    only : callable, optional
        Whether to read a run, from its parameters.  The tables of others are not opened, which saves most of the time.

    Returns
    -------
    list of Record
        Perhaps empty.

    Raises
    ------
    RecordError
        As :func:`read` does.

    Examples
    --------
    >>> from paperlib.store import results_root
    >>> sorted({record.network for record in read_all(results_root(), only=lambda config: config.depth == 83)})
    ['plain-83', 'procresnet-85', 'resnet-83']
    """
    if only is None:
        return Record.read_all(root)
    _checks.function("only", only)
    return Record.read_all(root, only=lambda record: only(record.config))
