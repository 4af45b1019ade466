"""A channel grid: its parameters, and the record that it leaves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import joblib
import pandas as pd
from pydantic import Field, field_validator

from paperlib import machine
from paperlib._checks import shown
from paperlib._text import markdown
from paperlib.channel_grid.cell import Cell, Recipe
from paperlib.channel_grid.networks import MIDDLE_VARIANTS, VARIANTS, check_variant
from paperlib.cifar import available
from paperlib.errors import ConfigError
from paperlib.parameters import (
    MOST_ITEMS,
    Channels,
    Count,
    Flag,
    Preset,
    Resolved,
    Stages,
    resolve_device,
    resolve_preset,
    words,
)
from paperlib.progress import duration
from paperlib.records import Data
from paperlib.sources import Source
from paperlib.store import Stored

# What is measured as a part of a whole; float32's rounding may leave it a little above 1.
SHARES = ("active", "relu_share", "energy_fraction", "white_fraction", "fresh_fraction")
# Steps per epoch of 50,000 images in batches of 128: at the paper preset the stages are the ends of epochs 1, 2, 5, 10.
# Its channels and variants are those that the rules of Figure 2 and of equation 7 ask for; the paper's own numbers are
# missing from the text that this book had.  With 64 and 128 channels there would be some 14 times as much to multiply.
_EPOCH = 391
PROCESS_BYTES = 3e9
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"channels": (2, 8), "seeds": 2, "stages": (0, 6), "batch_size": 64, "probe_images": 64},
    "desk": {"channels": (2, 4, 8, 16, 32), "seeds": 10, "stages": (0, 25, 50, 100)},
    "paper": {
        "channels": (2, 4, 8, 16, 32),
        "variants": ("conv-relu", "free"),
        "seeds": 10,
        "stages": (0, _EPOCH, 2 * _EPOCH, 5 * _EPOCH, 10 * _EPOCH),
    },
}


class GridConfig(Recipe):
    """One grid.  ``None`` and ``"auto"`` leave a choice to the preset or the machine; :meth:`resolve` makes it.

    Lists may be given as text, ``"2 4 8"``.

    Raises
    ------
    ConfigError
        A name is unknown, a type is wrong, or a value is impossible.

    Examples
    --------
    >>> GridConfig(preset="desk", in_channels="2 32", device="cpu").resolve().cells()[:3]
    [(2, 2), (2, 4), (2, 8)]
    >>> GridConfig(seed=3)
    Traceback (most recent call last):
    paperlib.errors.ConfigError: unknown parameter 'seed': did you mean 'seeds'?
    """

    preset: Literal["auto", Preset] = Field(
        "auto", description="smoke (seconds, the embedded sample), desk (one to two hours on two cores), paper"
    )
    in_channels: Channels | None = Field(None, description="the numbers c of input channels")
    out_channels: Channels | None = Field(None, description="the numbers d of output channels")
    variants: tuple[str, ...] | None = Field(
        None,
        description="keys of ``paperlib.channel_grid.VARIANTS``; by default those that differ in the middle alone, at "
        "``paper`` the two that the claims compare",
    )
    seeds: Annotated[int, Field(strict=True, ge=1, le=MOST_ITEMS)] | None = Field(None, description="how many: 0, 1, …")
    stages: Stages | None = Field(None, description="numbers of steps after which to measure; the largest ends a run")
    batch_size: Count | None = Field(None, description="images of a training step; the preset's number by default")
    probe_images: Count | None = Field(None, description="measure on the first so many training images")
    source: Source | None = Field(None, description="where the images come from")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    # How the work is done, and not what: these two are no part of a grid's content.
    workers: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = Field(
        None,
        exclude=True,
        description="processes that train cells at the same time; by default as many as there are cores, as far as "
        "memory allows, and on CUDA at most eight, some of which measure on the CPU while another trains",
    )
    stored: Flag = Field(
        False,
        exclude=True,
        description="read the committed record, where ``results/`` has one of this very grid, instead of training",
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _known(cls, value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        names = words(value)
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"variants must name some of {', '.join(VARIANTS)}, not {shown(value)}")
        for name in names:
            check_variant(name)
        return tuple(v for v in VARIANTS if v in names)

    def resolve(self) -> ResolvedGrid:
        """The same grid with every choice made: no ``None``, no ``"auto"`` but the data source's.

        Raises
        ------
        ConfigError
            The device is not there, or there are fewer images than a batch or the probe takes.
        """
        device = resolve_device(self.device)
        preset = resolve_preset(self.preset, device)
        size = _PRESETS[preset]
        defaults = {
            "in_channels": size["channels"],
            "out_channels": size["channels"],
            "variants": size.get("variants", MIDDLE_VARIANTS),
            "seeds": size["seeds"],
            "stages": size["stages"],
            "batch_size": size.get("batch_size", 128),
            "probe_images": size.get("probe_images", 128),
            "source": "sample" if preset == "smoke" else "auto",
            # A smoke grid is over before a second process has started.
            "workers": 1 if preset == "smoke" else min(joblib.cpu_count(), _room(device)),
        }
        given = {name: value for name, value in self if value is not None}
        chosen = ResolvedGrid(**defaults | given | {"preset": preset, "device": device})
        images, _ = available("cifar10", chosen.source)
        for name in ("batch_size", "probe_images"):
            if getattr(chosen, name) > images:
                where = "sample" if chosen.source == "sample" else "cifar10"
                raise ConfigError(
                    f"{name} {getattr(chosen, name)} is more than there is: {where} has {images} training images"
                )
        return chosen


def _room(device: str) -> int:
    """For how many processes there is memory: each holds the images and torch, some 1.5 GB, and is given twice that.

    On a CUDA device, which has to have room for them as well, eight at most: they take turns on it.
    """
    room = min(machine.memory(), machine.device_memory(device)) // PROCESS_BYTES
    return int(max(1, min(room, 1024 if device == "cpu" else 8)))


class ResolvedGrid(GridConfig, Resolved):
    """A grid in which every choice is made: what :func:`paperlib.channel_grid.run` and its record go by."""

    preset: Preset
    in_channels: Channels
    out_channels: Channels
    variants: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Count
    stages: Stages
    batch_size: Count
    probe_images: Count
    source: Source

    def resolve(self) -> ResolvedGrid:
        """Itself."""
        return self

    def unchanged(self) -> ResolvedGrid:
        return GridConfig(preset=self.preset).resolve()  # on this machine's own device

    def cells(self) -> list[tuple[int, int]]:
        """All pairs (c, d)."""
        return [(c, d) for c in self.in_channels for d in self.out_channels]

    def cell(self, c: int, d: int, variant: str) -> Cell:
        """One cell and variant, with all seeds."""
        shared = Cell.model_fields.keys() & type(self).model_fields.keys() - {"seeds"}
        values = {name: getattr(self, name) for name in shared}
        return Cell(c=c, d=d, variant=variant, seeds=range(self.seeds), **values)

    def place(self) -> Path:
        """``channel_grid/<preset>``; a grid that overrides its preset has ``<preset>-<digest>`` there."""
        return Path("channel_grid", self.labelled_preset())

    def command(self) -> str:
        """The command that makes this grid again."""
        parts = ["python -m paperlib grid", f"-p preset {self.preset}"]
        for name, value in sorted(self.overrides().items(), key=lambda item: item[0] in Recipe.model_fields):
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            parts.append(f"-p {name} '{text}'" if " " in text else f"-p {name} {text}")
        return " ".join(parts)


class GridRecord(Stored):
    """One finished grid: its parameters, where and how it was made, and one table, ``measurements``.

    A session's ``seconds`` are the sum over the cells that it trained, several of which train at the same time.
    """

    FILE: ClassVar[str] = "grid.json"
    NOUN: ClassVar[str] = "grid"
    REMEDY: ClassVar[str] = "delete it and run it again"
    TABLES: ClassVar[tuple[str, ...]] = ("measurements",)

    kind: Literal["channel grid"] = "channel grid"
    config: ResolvedGrid = Field(description="its parameters")
    data: Data = Field(description="the images that were used")

    @property
    def measurements(self) -> pd.DataFrame:
        """One row per cell, variant, seed and stage.

        Columns: those of :func:`paperlib.channel_grid.train_cell`, ``seconds`` (the time that the cell's variant took
        with all of its seeds), and ``commit``.
        """
        return self.frames["measurements"]

    def contradictions(self) -> dict[str, bool]:
        c, table = self.config, self.measurements
        keys = itertools.product(c.in_channels, c.out_channels, c.variants, range(c.seeds), c.stages)
        shares = table[[name for name in SHARES if name in table]].to_numpy(float)
        return {
            "its rows are not those of its channels, variants, seeds and steps": (
                sorted(zip(table.c, table.d, table.variant, table.seed, table.step, strict=True)) != sorted(keys)
            ),
            "a loss is negative": (table.loss < 0).any(),
            "a share is not between 0 and 1": (shares < 0).any() or (shares > 1 + 1e-3).any(),
            "its images are not those of its parameters": (
                (self.data.dataset, self.data.source == "sample") != ("cifar10", c.source == "sample")
            ),
        }

    def describe(self) -> str:
        """What was run, and where, in a paragraph of Markdown."""
        c, p = self.config, self.provenance
        where = f"commit {self.commit}" if len(p.commits) == 1 else "several commits"
        seeds = f"{c.seeds} seeds (0 to {c.seeds - 1})" if c.seeds > 1 else "1 seed (0)"
        images = f"{c.batch_size} images ({markdown(self.data.dataset)}, {markdown(self.data.source)})"
        return (
            f"Preset **{c.preset}**: {len(c.in_channels)} × {len(c.out_channels)} pairs of channel numbers, "
            f"{len(c.variants)} variant{'s' * (len(c.variants) != 1)}, {seeds}; {max(c.stages)} steps of "
            f"{images}, learning rate {c.lr:g}, momentum {c.momentum:g}, weight decay {c.weight_decay:g}; "
            f"measured after {', '.join(map(str, c.stages))} steps on "
            f"{c.probe_images} images{', linear head' * (c.head == 'linear')}. "
            f"{markdown(p.device.name)} ({markdown(p.device.type)}), {where}, {markdown(p.started[:10])}; "
            f"{duration(p.seconds)} over all cells. {self.again} makes it again."
        )


def read(folder: str | Path) -> GridRecord:
    """The grid in ``folder``.

    Raises
    ------
    RecordError
        It is missing, damaged, was changed after it was saved, or is of another schema version.
    """
    return GridRecord.read(folder)
