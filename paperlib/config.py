"""One training run's parameters: names, defaults, presets, and the choices that the machine makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator

from paperlib import _checks, machine
from paperlib._text import markdown
from paperlib.cifar import DATASETS, available
from paperlib.errors import ConfigError
from paperlib.models import Arch, check_depth, network_name
from paperlib.parameters import (
    Count,
    Factors,
    Flag,
    Lr,
    Momentum,
    Parameters,
    Preset,
    Resolved,
    Seed,
    WeightDecay,
    check_device,
    resolve_device,
    resolve_preset,
)
from paperlib.sources import Source

Precision = Literal["float32", "bfloat16"]
MemoryFormat = Literal["contiguous", "channels_last"]
# A preset's own precision: that of a machine that is fast in it.  A run is named by what differs from its preset, and
# must have one name everywhere: on a slower machine "auto" is float32, and the name says so.
PRESET_PRECISION: Precision = "bfloat16"
LEAST_BYTES = 0.3e9  # torch and the images alone
LAYER_PARAMETERS = 10.4e3
RECOMPUTED = 0.15  # of the activations are kept where a block computes its own again; a fifth was measured
Threads = Annotated[int, Field(strict=True, ge=1, le=1024)]


class RunConfig(Parameters):
    """One training run.  ``None`` and ``"auto"`` leave a choice to the preset or the machine; :meth:`resolve` makes it.

    Raises
    ------
    ConfigError
        A name is unknown, a type is wrong, or a value is impossible.  It is a ``ValueError`` of one sentence.

    Examples
    --------
    >>> c = RunConfig(preset="paper", arch="procresnet", depth=164, device="cpu").resolve()
    >>> c.network, c.epochs, c.train_images
    ('procresnet-166', 300, 50000)
    >>> RunConfig(depth=21)
    Traceback (most recent call last):
    paperlib.errors.ConfigError: depth 21 is not of the form 9n+2 (n >= 1): the nearest are 20 and 29
    """

    preset: Literal["auto", Preset] = Field(
        "auto",
        description="size of the run: smoke (seconds, the embedded sample), desk (minutes on two CPU cores), paper",
    )
    arch: Arch = Field("resnet", description="plain, resnet or procresnet")
    depth: Annotated[int, Field(strict=True)] = Field(164, description="the base network's depth 9n+2")
    erase_relu: Flag = Field(False, description="drop the last ReLU of every block")
    project: Flag = Field(True, description="hold a ProcResNet's transition convolutions norm-preserving")
    projector: Literal["exact", "published", "fixed"] = Field(
        "exact",
        description="how to hold them: exact, as the paper says; published, as the authors' code does "
        "(:mod:`paperlib.published`); or fixed, projected once at the start and not trained",
    )
    hold_at: Factors = Field(
        1.0, description="what to hold them at, over the norm-preserving target: a number, or three, as '0.5 1 1'"
    )
    dataset: Literal["cifar10", "cifar100"] = Field("cifar10", description="what to train on")
    source: Source | None = Field(None, description="where the images come from")
    seed: Seed = 0
    # A run of the paper has 300; one of 10,000 takes a GPU over a month.
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = Field(
        None, description="how many; the preset's number by default"
    )
    train_images: Count | None = Field(
        None, description="train on a subset of so many, as many of each class; the preset's number by default"
    )
    test_images: Count | None = Field(
        None, description="test on a subset of so many, as many of each class; the preset's number by default"
    )
    batch_size: Annotated[int, Field(strict=True, ge=1, le=50_000)] = Field(  # all of the training images at once
        128, description="images of a training step"
    )
    lr: Lr = Field(0.1, description="initial learning rate")
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 1e-4
    schedule: Literal["steps", "constant"] = Field(
        "steps",
        description="steps: a tenth after 1/2 and 3/4 of the epochs (Table II); constant (Figures 3, 4, Table I)",
    )
    augment: Flag = Field(True, description="random flips and 4-pixel shifts")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", Precision] = Field("auto", description="of activations; weights stay float32")
    memory_format: Literal["auto", MemoryFormat] = Field(
        "auto", description="how feature maps lie in memory; auto is channels_last"
    )
    checkpoint_activations: Flag | None = Field(None, description="recompute activations to save memory")
    fused: Flag | Literal["blocks"] = Field(
        True,
        description="on CUDA: batch normalisation and ReLU in one, and small convolutions; blocks: whole blocks "
        "(:mod:`paperlib.fused`)",
    )
    cuda_graphs: Flag = Field(True, description="on CUDA: replay whole steps (:mod:`paperlib.captured`)")
    deterministic: Flag = Field(True, description="use deterministic kernels only")
    threads: Threads | None = Field(None, description="CPU threads; torch's choice by default")
    probe_every: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = Field(
        1, description="record gradient norms every so many steps; 0: never"
    )
    project_every: Count = Field(2, description="project every so many steps")

    @field_validator("precision", mode="before")
    @classmethod
    def _short_precision(cls, value: Any) -> Any:
        return {"bf16": "bfloat16", "fp32": "float32"}.get(value, value) if isinstance(value, str) else value

    @field_validator("depth")
    @classmethod
    def _known_depth(cls, value: int) -> int:
        check_depth(value)
        return value

    def resolve(self) -> ResolvedRun:
        """The same run with every choice made: no ``None``, no ``"auto"`` but the data source's.

        Raises
        ------
        ConfigError
            The device is not there, the source lacks the data set, or there are not so many images.
        """
        return self.resolve_on(resolve_device(self.device))

    def resolve_on(self, device: str) -> ResolvedRun:
        """:meth:`resolve` for a device that need not be here: a record, or a plan, may be about another machine."""
        preset = resolve_preset(self.preset, check_device(device))
        precision = self.precision
        if precision == "auto":
            precision = "bfloat16" if _fast_bfloat16(device) else "float32"
        source = self.source or ("sample" if preset == "smoke" else "auto")
        most = available(self.dataset, source)
        for name, limit in zip(("train_images", "test_images"), most, strict=True):
            _check_images(name, getattr(self, name), limit, source if source == "sample" else self.dataset)
        epochs, train, test = _sizes(preset, self.depth, self.schedule, precision)
        held = self.arch == "procresnet" and self.project
        if self.hold_at != 1.0 and not (held and self.projector != "published"):
            raise ConfigError(
                f"hold_at {_spelt(self.hold_at)} needs transitions that are held by the projection: give arch "
                "procresnet, project True, and projector exact or fixed"
            )
        checkpoint = self.checkpoint_activations
        if checkpoint is None:
            checkpoint = _needs_checkpoints(self.depth, self.batch_size, precision, device)
        chosen = {
            "preset": preset,
            "device": device,
            "precision": precision,
            "source": source,
            "epochs": self.epochs or epochs,
            "train_images": self.train_images or min(train, most[0]),
            "test_images": self.test_images or min(test, most[1]),
            "memory_format": "channels_last" if self.memory_format == "auto" else self.memory_format,
            "threads": self.threads or torch.get_num_threads(),
            "checkpoint_activations": checkpoint,
            # What has no meaning for a network must not tell two runs of it apart.
            "project": self.project if self.arch == "procresnet" else True,
            "projector": self.projector if held else "exact",
            "project_every": self.project_every if held and self.projector != "fixed" else 2,
        }
        return ResolvedRun(**dict(self) | chosen)


class ResolvedRun(RunConfig, Resolved):
    """A training run in which every choice is made: what :func:`paperlib.training.train` and its record go by."""

    # These change the rounding, as another processor does, and so, once it has grown, a run's figures.  A run is the
    # same work with any of them, and is found again on a machine with other cores: its record names the threads of
    # each session.
    NEUTRAL: ClassVar[frozenset[str]] = frozenset({"threads", "checkpoint_activations", "fused", "cuda_graphs"})
    NAMED: ClassVar[frozenset[str]] = frozenset(
        {"preset", "arch", "depth", "erase_relu", "project", "projector", "hold_at", "dataset", "seed", "device"}
    )
    # What the preset and the machine chose is spelt out in a command: another machine would choose otherwise.
    SPELT: ClassVar[tuple[str, ...]] = (
        "preset", "arch", "depth", "seed", "epochs", "train_images", "test_images", "device", "precision",
    )  # fmt: skip

    preset: Preset
    source: Source
    epochs: Count
    train_images: Count
    test_images: Count
    precision: Precision
    memory_format: MemoryFormat
    checkpoint_activations: Flag
    threads: Threads

    def resolve(self) -> ResolvedRun:
        """Itself."""
        return self

    def unchanged(self) -> ResolvedRun:
        names: dict[str, Any] = {name: getattr(self, name) for name in self.NAMED} | {"precision": PRESET_PRECISION}
        # The smoke preset's own source has no other data set.
        source = {} if self.dataset == "cifar10" else {"source": self.source}
        return RunConfig(**names | source, checkpoint_activations=False).resolve_on(self.device)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in an epoch (1, 2, ...)."""
        _checks.whole_number("epoch", epoch)
        if self.schedule == "constant":
            return self.lr
        done = (epoch - 1) / self.epochs
        return self.lr * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)

    def activation_bytes(self) -> float:
        """About what the activations of a training step take, in bytes; see :func:`activation_bytes`."""
        return activation_bytes(self.depth, min(self.batch_size, self.train_images), self.precision)

    def least_memory(self) -> float:
        """The bytes that the run needs at the very least: its kept activations, its weights and the process itself."""
        kept = self.activation_bytes() * (RECOMPUTED if self.checkpoint_activations else 1)
        weights = 12 * LAYER_PARAMETERS * self.depth  # with gradients and momentum
        return LEAST_BYTES + weights + kept

    def check_memory(self) -> None:
        """Raise ``ConfigError``, with the prediction, if the run cannot fit into the memory of its device here."""
        have = machine.device_memory(self.device)
        if (need := self.least_memory()) > have:
            more = "" if self.checkpoint_activations else ", or checkpoint_activations True"
            raise ConfigError(
                f"depth {self.depth} with batch_size {self.batch_size} needs at least {need / 1e9:.1f} GB of memory, "
                f"and there are {have / 1e9:.1f} GB here: take a smaller batch_size or depth{more}"
            )

    def factors(self) -> tuple[float, float, float]:
        """What each of the three transitions is held at, over the norm-preserving target."""
        return (self.hold_at,) * 3 if isinstance(self.hold_at, float) else self.hold_at

    # -- names -------------------------------------------------------------------------------------------------
    @property
    def num_classes(self) -> int:
        return len(DATASETS[self.dataset].classes)

    @property
    def guessing_error(self) -> float:
        """The test error of guessing, in per cent."""
        return 100 * (1 - 1 / self.num_classes)

    @property
    def network(self) -> str:
        """The network's name as in the paper: ``procresnet-166`` is ``arch="procresnet", depth=164``."""
        name = network_name(self.arch, self.depth)
        if self.erase_relu:
            name += "-eraserelu"
        if not self.project:
            name += "-noproject"
        elif self.projector != "exact":
            name += f"-{self.projector}"
        if self.hold_at != 1.0:
            name += f"-at{_spelt(self.hold_at, '-')}"
        return name

    def place(self) -> Path:
        """``<preset>/<dataset>/<network>/seed<k>``; a run that overrides its preset has ``<preset>-<digest>`` there."""
        return Path(self.labelled_preset(), self.dataset, self.network, f"seed{self.seed}")

    def stem(self) -> str:
        """What files about this run are called, without their suffix: one name for each :meth:`place`."""
        return f"{self.network}_{self.dataset}_{self.labelled_preset()}_seed{self.seed}"

    def command(self) -> str:
        """The command that makes this run again."""
        default, plain = RunConfig(), self.unchanged()
        mine = dict(self) | {"device": self.device.split(":")[0]}
        named = set(self.SPELT) | self.overrides().keys()
        named |= {name for name in self.NAMED if mine[name] != getattr(default, name)}
        named |= {"source"} if self.source != ("sample" if self.preset == "smoke" else "auto") else set()
        named |= {name for name in self.NEUTRAL if mine[name] != getattr(plain, name)}
        if not isinstance(self.hold_at, float):
            mine["hold_at"] = f"'{_spelt(self.hold_at)}'"
        options = " ".join(f"-p {name} {value}" for name, value in mine.items() if name in named)
        return f"papermill notebooks/04_cifar.ipynb out.ipynb {options}"

    def describe(self) -> str:
        """What the run is, in a paragraph of Markdown."""
        return (
            f"**{self.network}** on **{self.dataset}**, preset **{self.preset}**, seed {self.seed}: {self.epochs} "
            f"epochs of {self.train_images:,} training images, tested on {self.test_images:,}; SGD with momentum "
            f"{self.momentum}, batches of {self.batch_size}, learning rate {self.lr} ({self.schedule}), weight decay "
            f"{self.weight_decay}; {self.precision} activations in {self.memory_format.replace('_', '-')} format on "
            f"{markdown(self.device)}.\n\n{self.left_out()}"
        )

    def full_scale(self) -> bool:
        """Whether the run has the paper's epochs, images and hyperparameters; its precision may still be another."""
        return not self._changed()

    def left_out(self, several: bool = False) -> str:
        """One sentence on how the run departs from the paper's protocol, in scale or in precision; empty if not.

        Parameters
        ----------
        several : bool
            Whether the sentence is about more than one run of this kind.

        Returns
        -------
        str
            Plain text.

        Raises
        ------
        ValueError
            ``several`` is not True or False.
        """
        _checks.flag("several", several)
        who, are, have = ("These runs", "they are", "have") if several else ("This run", "it is", "has")
        precision = [] if self.precision == "float32" else [f"{self.precision} activations instead of float32"]
        if changed := self._changed():
            return f"{who} used {', '.join(changed + precision)}: {are} not at the paper's scale."
        return f"{who} {have} the paper's scale, but used {precision[0]}." if precision else ""

    def _changed(self) -> list[str]:
        """What is smaller than in the paper's protocol, or otherwise, but for the precision."""
        full = dict(zip(("epochs", "training images", "test images"), _paper_sizes(self.schedule), strict=True))
        here = (self.epochs, self.train_images, self.test_images)
        changed = [f"{n:,} of {most:,} {what}" for n, (what, most) in zip(here, full.items(), strict=True) if n < most]
        default = RunConfig()
        protocol = ("batch_size", "lr", "momentum", "weight_decay", "augment", "project_every")
        other = [name for name in protocol if getattr(self, name) != getattr(default, name)]
        changed += [f"{name} {getattr(self, name)} instead of {getattr(default, name)}" for name in other]
        changed += ["transitions that are not trained"] if self.projector == "fixed" else []
        at = "transitions held at {} times the norm-preserving target"
        return changed + ([at.format(_spelt(self.hold_at, ", "))] if self.hold_at != 1.0 else [])


def check_memory_together(configs: Sequence[ResolvedRun]) -> None:
    """Raise ``ConfigError`` if runs cannot fit into the memory of their device, each by itself or side by side.

    Only CUDA graphs keep to themselves what their steps take; otherwise a run's step takes what another's has freed.
    """
    for config in configs:
        config.check_memory()
    kept = [c.least_memory() - LEAST_BYTES for c in configs if c.device.startswith("cuda") and c.cuda_graphs]
    need, have = LEAST_BYTES + sum(kept), machine.device_memory(configs[0].device)
    if need > have:
        raise ConfigError(
            f"{len(kept)} runs side by side need at least {need / 1e9:.1f} GB of memory, and there are "
            f"{have / 1e9:.1f} GB here: train fewer of them at a time"
        )


def _spelt(factors: float | tuple[float, ...], between: str = " ") -> str:
    """Factors as text: a name for each value that there is, so that two runs never share one."""
    numbers = factors if isinstance(factors, tuple) else (factors,)
    return between.join(repr(number).removesuffix(".0") for number in numbers)


def _check_images(name: str, given: int | None, limit: int, where: str) -> None:
    """Raise ConfigError for more images than there are, and for a number that cannot be balanced over the classes."""
    if given is None:
        return
    if given > limit:
        raise ConfigError(f"{name} {given} is more than there is: {where} has {limit}")
    classes = len(DATASETS["cifar10" if where == "sample" else where].classes)
    if given % classes:
        raise ConfigError(
            f"{name} must be a multiple of the {classes} classes, so that they stay balanced, not {given}"
        )


# -- choices -----------------------------------------------------------------------------------------------------
def _paper_sizes(schedule: str) -> tuple[int, int, int]:
    """Epochs, training images and test images of the paper's protocol."""
    return (300 if schedule == "steps" else 100), 50_000, 10_000


def _sizes(preset: str, depth: int, schedule: str, precision: str) -> tuple[int, int, int]:
    """Epochs, training images and test images of a preset."""
    if preset == "paper":
        return _paper_sizes(schedule)
    if preset == "smoke":
        return 2, 150, 50
    if schedule == "constant":
        # desk, for Figures 3 and 4: fluctuations over the epochs need many of them, and the same at every depth.
        return 25, 1_200, 500
    # desk: about four minutes on two cores.  Milliseconds per image (forward and backward), measured at depths 20 and
    # 164 with bfloat16; float32 takes about 1.9 times as long.
    cost = (0.4 + 0.06 * depth) * (1.0 if precision == "bfloat16" else 1.9)
    passes = 220_000 / cost
    epochs = 6 if passes >= 6 * 1_280 else 3
    train = min(50_000, max(300, int(passes / epochs) // 100 * 100))  # divisible by 10 and by 100 classes
    return epochs, train, min(10_000, max(100, train // 4 // 100 * 100))


def _fast_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def activation_bytes(depth: int, batch_size: int, precision: str) -> float:
    """About what the activations kept for the backward pass take: 0.085 MB per image and layer in bfloat16."""
    return 0.085e6 * depth * batch_size * (1 if precision == "bfloat16" else 2)


def _needs_checkpoints(depth: int, batch_size: int, precision: str, device: str) -> bool:
    """Whether the kept activations would fill over half of the memory."""
    return activation_bytes(depth, batch_size, precision) > 0.5 * machine.device_memory(device)
