"""The parameters of one run: names, defaults, presets, checks, and the folder that a run lives in."""

from __future__ import annotations

import difflib
import hashlib
import json
import operator
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from paperlib import machine
from paperlib.errors import ConfigError
from paperlib.models import Arch, check_depth

if TYPE_CHECKING:
    from typing_extensions import Self

PRESET_VARIABLE = "PAPERLIB_PRESET"
RUNS_VARIABLE = "PAPERLIB_RUNS"
SIZES = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "sample": (1_000, 250)}
CLASSES = {"cifar10": 10, "cifar100": 100}
Preset = Literal["smoke", "desk", "paper"]

Count = Annotated[int, Field(strict=True, ge=1)]
Rate = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Lr = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Momentum = Annotated[float, Field(strict=True, ge=0, lt=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Channel = Annotated[int, Field(strict=True, ge=1, le=4096)]


def words(value: Any) -> Any:
    """``"2 4,8"`` as a list of words, a single number as a list of one; anything else as it is."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _numbers(value: Any, info: ValidationInfo) -> Any:
    found = words(value)
    found = list(found) if isinstance(found, Iterable) and not isinstance(found, Mapping) else []
    wrong = ValueError(f"{info.field_name} must be a list of whole numbers, such as '2 4 8', not {value!r:.80}")
    try:
        numbers = [int(word) if isinstance(word, str) else operator.index(word) for word in found]
    except (ValueError, TypeError):
        raise wrong from None
    if not numbers or any(isinstance(word, bool) for word in found):
        raise wrong
    return tuple(sorted(set(numbers)))


# Lists of numbers, sorted and each once; also as text, which is all that a command line has.
Channels = Annotated[tuple[Channel, ...], BeforeValidator(_numbers)]
Stages = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], BeforeValidator(_numbers)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_numbers)]

# What names a run in its folder; any other parameter that differs from the preset marks the folder.
_IDENTITY = {"preset", "arch", "depth", "erase_relu", "project", "reference_quirks", "dataset", "seed"}
# What does not change a run's numbers.
_NEUTRAL = {"threads", "checkpoint_activations"}


class Parameters(BaseModel):
    """Checked parameters: what is wrong with a value is said in one sentence, as a ``ConfigError``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        unknown = [name for name in values if name not in type(self).model_fields]
        if unknown:
            raise ConfigError(_unknown(unknown[0], list(type(self).model_fields)))
        try:
            super().__init__(**values)
        except ValidationError as e:
            raise ConfigError("; ".join(_sentence(error) for error in e.errors())) from None

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """The configuration that a notebook's ``parameters`` cell (and papermill's injected one) defines.

        Every public name that holds a plain value (text, number, True, False, None, a list) counts as a parameter, so that
        a misspelt one, which papermill itself only warns about, is refused.
        """
        shell = {"In", "Out", "exit", "quit", "open", "get_ipython"}
        values = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_")
            and name not in shell
            and (value is None or isinstance(value, str | int | float | list | tuple))
        }
        return cls(**values)


class RunConfig(Parameters):
    """One training run.  ``None`` and ``"auto"`` leave a choice to the preset or the machine; :meth:`resolve` makes it.

    Raises ``ConfigError`` (a ``ValueError``), in one sentence, for an unknown name, a wrong type or an impossible value.

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
    reference_quirks: Flag = Field(
        False, description="project as the authors' published code does, see :mod:`paperlib.published`"
    )
    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    source: Literal["auto", "torchvision", "npm", "sample"] | None = Field(
        None, description="where the images come from"
    )
    seed: Seed = 0
    epochs: Count | None = None
    train_images: Count | None = None
    test_images: Count | None = None
    batch_size: Count = 128
    lr: Lr = Field(0.1, description="initial learning rate")
    momentum: Momentum = 0.9
    weight_decay: Rate = 1e-4
    schedule: Literal["steps", "constant"] = Field(
        "steps",
        description="steps: a tenth after 1/2 and 3/4 of the epochs (Table II); constant (Figures 3, 4, Table I)",
    )
    augment: Flag = Field(True, description="random flips and 4-pixel shifts")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of activations; weights stay float32"
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    checkpoint_activations: Flag | None = Field(None, description="recompute activations to save memory")
    deterministic: Flag = Field(True, description="use deterministic kernels only")
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = Field(
        None, description="CPU threads; torch's choice by default"
    )
    probe_every: Annotated[int, Field(strict=True, ge=0)] = Field(
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

    # -- choices -----------------------------------------------------------------------------------------------
    def resolve(self) -> RunConfig:
        """The same run with every choice made: no ``None``, no ``"auto"`` (but the data source's).  Idempotent.

        Raises ``ConfigError`` for a device that is not there and for more images than the data set has.
        """
        device = resolve_device(self.device)
        preset = resolve_preset(self.preset, device)
        precision = self.precision
        if precision == "auto":
            precision = "bfloat16" if _fast_bfloat16(device) else "float32"
        source = self.source or ("sample" if preset == "smoke" else "auto")
        if source == "sample" and self.dataset != "cifar10":
            raise ConfigError(
                f"there is no embedded sample of {self.dataset}: use dataset cifar10, or another preset or source"
            )
        if source == "npm" and self.dataset != "cifar10":
            raise ConfigError(f"the npm source has no {self.dataset}: use source auto or torchvision")
        epochs, train, test = _sizes(preset, self.depth, self.schedule, precision)
        most = SIZES["sample" if source == "sample" else self.dataset]
        for name, given, limit in (
            ("train_images", self.train_images, most[0]),
            ("test_images", self.test_images, most[1]),
        ):
            if given is not None and given > limit:
                raise ConfigError(
                    f"{name} {given} is more than there is: {source if source == 'sample' else self.dataset} has {limit}"
                )
            if given is not None and given % self.num_classes:
                raise ConfigError(
                    f"{name} must be a multiple of the {self.num_classes} classes, so that they stay balanced, not {given}"
                )
        values = self.model_dump() | {
            "preset": preset,
            "device": device,
            "precision": precision,
            "source": source,
            "epochs": self.epochs or epochs,
            "train_images": self.train_images or min(train, most[0]),
            "test_images": self.test_images or min(test, most[1]),
            "memory_format": "channels_last" if self.memory_format == "auto" else self.memory_format,
            "threads": self.threads or torch.get_num_threads(),
            # What has no meaning for a network must not tell two runs of it apart.
            "project": self.project if self.arch == "procresnet" else True,
            "reference_quirks": self.reference_quirks and self.arch == "procresnet" and self.project,
            "project_every": self.project_every if self.arch == "procresnet" and self.project else 2,
        }
        if self.checkpoint_activations is None:
            values["checkpoint_activations"] = _needs_checkpoints(self.depth, self.batch_size, precision, device)
        return RunConfig(**values)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in an epoch (1, 2, ...)."""
        if self.schedule == "constant":
            return self.lr
        done = (epoch - 1) / self.resolve().epochs
        return self.lr * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)

    # -- names -------------------------------------------------------------------------------------------------
    @property
    def num_classes(self) -> int:
        return CLASSES[self.dataset]

    @property
    def network(self) -> str:
        """The network's name as in the paper: ``procresnet-166`` is ``arch="procresnet", depth=164``."""
        name = f"{self.arch}-{self.depth + 2 * (self.arch == 'procresnet')}"
        if self.erase_relu:
            name += "-eraserelu"
        if self.arch == "procresnet" and not self.project:
            name += "-noproject"
        elif self.arch == "procresnet" and self.reference_quirks:
            name += "-reference"
        return name

    def digest(self) -> str:
        """SHA-256 over every resolved parameter that changes the numbers: runs with the same digest are the same run."""
        values = self.resolve().model_dump(exclude=_NEUTRAL) | self._content()
        values["device"] = values["device"].split(":")[0]
        if not values["reference_quirks"]:  # newer than the first records, which know nothing of it
            del values["reference_quirks"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        """The data source as far as it matters: the full data sets are the same from everywhere, the sample is not."""
        return {"source": "sample" if self.resolve().source == "sample" else "auto"}

    def overrides(self) -> dict[str, Any]:
        """The parameters in which this run differs from its preset, by name."""
        mine = self.resolve().model_dump(exclude=_IDENTITY | _NEUTRAL | {"device"}) | self._content()
        kept = {name: getattr(self.resolve(), name) for name in _IDENTITY} | {"device": self.device}
        if self.dataset != "cifar10":
            kept["source"] = self.source  # the smoke preset's own has no other data set
        plain = RunConfig(**kept).resolve()
        plain = plain.model_dump() | plain._content()
        return {name: value for name, value in mine.items() if value != plain[name]}

    def folder(self, root: str | Path | None = None) -> Path:
        """``<root>/<preset>/<dataset>/<network>/seed<k>``; a run that overrides its preset has ``<preset>-<hash>`` instead."""
        preset = self.resolve().preset
        if changed := self.overrides():
            preset += "-" + hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return (runs_root() if root is None else Path(root)) / preset / self.dataset / self.network / f"seed{self.seed}"

    def command(self) -> str:
        """The command that makes this run again."""
        named = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        default = RunConfig()
        named = {k: v for k, v in named.items() if v != getattr(default, k)}
        # What the preset and the machine chose is spelt out: another machine would choose otherwise.
        spelt = ("preset", "arch", "depth", "seed", "epochs", "train_images", "test_images", "precision")
        named |= {name: getattr(self.resolve(), name) for name in spelt}
        ordered = [name for name in type(self).model_fields if name in named]
        return "papermill notebooks/04_cifar.ipynb out.ipynb " + " ".join(f"-p {n} {named[n]}" for n in ordered)

    def describe(self) -> str:
        """What the run is, in a paragraph of Markdown."""
        c = self.resolve()
        return (
            f"**{c.network}** on **{c.dataset}**, preset **{c.preset}**, seed {c.seed}: {c.epochs} epochs of "
            f"{c.train_images:,} training images, tested on {c.test_images:,}; SGD with momentum {c.momentum}, batches of "
            f"{c.batch_size}, learning rate {c.lr} ({c.schedule}), weight decay {c.weight_decay}; {c.precision} activations "
            f"in {c.memory_format.replace('_', '-')} format on {c.device}.\n\n{c.left_out()}"
        )

    def left_out(self) -> str:
        """One sentence on what a smaller preset leaves out of the paper's protocol; empty at its full scale."""
        c = self.resolve()
        full_epochs, full_train, full_test = _sizes("paper", c.depth, c.schedule, c.precision)
        missing = []
        if c.epochs < full_epochs:
            missing.append(f"{c.epochs} of {full_epochs} epochs")
        if c.train_images < full_train:
            missing.append(f"{c.train_images:,} of {full_train:,} training images")
        if c.test_images < full_test:
            missing.append(f"{c.test_images:,} of {full_test:,} test images")
        default = RunConfig()
        protocol = ("batch_size", "lr", "momentum", "weight_decay", "augment", "project_every")
        other = [n for n in protocol if getattr(c, n) != getattr(default, n)]
        missing += [f"{n} {getattr(c, n)} instead of {getattr(default, n)}" for n in other]
        if not missing:
            return ""
        return f"This run used {', '.join(missing)}: its figures are not the paper's scale."


def _home() -> Path:
    """The checkout that holds the package, else the current folder."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "_toc.yml").exists() else Path.cwd()


def runs_root() -> Path:
    """Where runs go: ``PAPERLIB_RUNS``, else ``runs/`` in the checkout that holds the package, else below the current folder."""
    if given := os.environ.get(RUNS_VARIABLE):
        return Path(given).expanduser()
    return _home() / "runs"


def results_root() -> Path:
    """The committed records: ``results/`` in the checkout that holds the package, else below the current folder."""
    return _home() / "results"


def _sizes(preset: str, depth: int, schedule: str, precision: str) -> tuple[int, int, int]:
    """Epochs, training images and test images of a preset."""
    if preset == "paper":
        return (300 if schedule == "steps" else 100), 50_000, 10_000
    if preset == "smoke":
        return 2, 300, 100
    # desk: about four minutes on two cores.  Milliseconds an image (forward and backward), measured at depths 20 and 164
    # with bfloat16; float32 takes about 1.9 times as long.
    cost = (0.4 + 0.06 * depth) * (1.0 if precision == "bfloat16" else 1.9)
    passes = 220_000 / cost
    epochs = 6 if passes >= 6 * 1_280 else 3
    train = min(50_000, max(300, int(passes / epochs) // 100 * 100))  # divisible by 10 and by 100 classes
    return epochs, train, min(10_000, max(100, train // 4 // 100 * 100))


def resolve_preset(name: str, device: str) -> str:
    """``"auto"``: what ``PAPERLIB_PRESET`` says, else ``"paper"`` on CUDA and ``"desk"`` elsewhere.  Raises ``ConfigError``."""
    if name != "auto":
        return name
    name = os.environ.get(PRESET_VARIABLE) or ("paper" if device.startswith("cuda") else "desk")
    if name not in get_args(Preset):
        raise ConfigError(f"{PRESET_VARIABLE} must be {', '.join(get_args(Preset)[:-1])} or paper, not {name!r}")
    return name


def resolve_device(name: str) -> str:
    """``"auto"``: CUDA where there is one.  Raises ``ConfigError`` for a device that is unknown or not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ConfigError(f"device {name!r} is not there (CUDA devices found: {count}): use device cpu or auto")
    return name


def _fast_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def _needs_checkpoints(depth: int, batch_size: int, precision: str, device: str) -> bool:
    """Whether the kept activations (about 0.085 MB an image and layer in bfloat16) would fill over half of the memory."""
    need = 0.085e6 * depth * batch_size * (1 if precision == "bfloat16" else 2)
    if device.startswith("cuda"):
        return need > 0.5 * torch.cuda.get_device_properties(device).total_memory
    return need > 0.5 * machine.memory()


# -- sentences ---------------------------------------------------------------------------------------------------
def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown parameter {name!r}: " + (
        f"did you mean {near[0]!r}?" if near else f"the parameters are {', '.join(known)}"
    )


def _sentence(error: dict[str, Any]) -> str:
    name, value, kind, context = error["loc"][0], error["input"], error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"{name} {value!r} is unknown: choose {context['expected']}"
    wanted = {
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "bool_type": "True or False",
        "string_type": "a text",
        "greater_than": f"greater than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
    }.get(kind)
    return f"{name} must be {wanted}, not {value!r}" if wanted else f"{name}: {error['msg']} (got {value!r})"
