"""One training run: from its parameters to a record, resumable at any step, bit for bit.

Nothing in a run draws from a shared random stream: the weights depend on the seed, and an epoch's order and
augmentation on the seed and the epoch.  A checkpoint therefore needs no generator's state: it holds the weights, the
optimiser, the running sums and how far the run is, and a resumed run does what an unbroken one does.

Several processes can train one run together (:mod:`paperlib.processes`).  All of them run the same code on the same
weights, each on its part of a batch; only the first writes files.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib import _checks, augmentation, checkpoints, cifar, fused, models, published
from paperlib.captured import READ_EVERY, Captured, CapturedEvaluation, Parts
from paperlib.config import ResolvedRun, RunConfig
from paperlib.divergence import first_bad_block, first_bad_buffer
from paperlib.errors import CheckpointError, ConfigError, ProjectionError, RecordError
from paperlib.events import Events
from paperlib.holding import NormPreserving
from paperlib.initial import BATCHES, initial_ratios
from paperlib.interrupts import Interrupts
from paperlib.machine import full_float32, in_force, keep_freed_memory, peak_memory, settings
from paperlib.probes import GradientNorms
from paperlib.processes import World
from paperlib.progress import Progress, duration
from paperlib.projection import project
from paperlib.records import Data, Divergence, Projections, Record
from paperlib.stopwatch import Stopwatch
from paperlib.store import Provenance, Session
from paperlib.store.files import locked, remove_scraps

__all__ = ["Record", "RunConfig", "benchmark_step", "train", "train_together", "trained_network"]

CHECKPOINT_SECONDS = 300  # within a long epoch; a notebook's kernel may be ended without a signal
CHECKPOINT_PAUSE = 20  # at least, where an epoch is short beside the time to write one
EVAL_BATCH = 250
FIXED_PASSES = 50  # alternating projections of a kernel that is set once: within 0.01 % of the target
EVAL_COST = 0.3  # of an image's forward pass, relative to a training step's: only for the estimate of the time left
NAN = float("nan")
ALONE = World()
UNLIKE = "the processes of this run found different checkpoints: set PAPERLIB_RUNS to a folder that all of them share"


# -- one step ----------------------------------------------------------------------------------------------------
def make_network(config: ResolvedRun) -> models.Network:
    """The run's network with its initial weights, on its device; torch's global generator is left as it was."""
    projected = config.project and config.projector == "exact"  # the published code starts from ordinary kernels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.build(config.arch, config.depth, config.num_classes, config.erase_relu, projected)
    _set_transitions(config, model)
    model.checkpoint_activations = config.checkpoint_activations
    model.fuse(config.fused and fused.available(config.device))
    return model.to(config.device).to(memory_format=_format(config))


@torch.no_grad()
def _set_transitions(config: ResolvedRun, model: models.Network) -> None:
    """Begin with the transitions where they are to be held; fixed ones are no more trained."""
    for (conv, size), factor in zip(model.transition_convs(), config.factors(), strict=False):
        if config.projector == "fixed":
            conv.weight.copy_(project(conv.weight, size, conv.stride[0], passes=FIXED_PASSES))
            conv.weight.requires_grad_(False)
        if factor != 1.0:
            conv.weight.mul_(factor)


def make_optimizer(config: ResolvedRun, model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum; one fused kernel instead of three for each of some 500 parameters."""
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )


def hold_transitions(
    config: ResolvedRun, model: models.Network, optimizer: torch.optim.Optimizer
) -> NormPreserving | None:
    """What projects a ProcResNet's transitions after the optimiser's steps; None where none is trained and held."""
    if config.arch != "procresnet" or not config.project or config.projector == "fixed":
        return None
    projector = published.Projector() if config.projector == "published" else None
    held = NormPreserving(model, every=config.project_every, projector=projector, scale=config.factors())
    return held.attach(optimizer)


def _format(config: ResolvedRun) -> torch.memory_format:
    return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format


def _logits(model: Callable[[Tensor], Tensor], images: Tensor, config: ResolvedRun) -> Tensor:
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        return model(images).float()


class _Step(NamedTuple):
    """What a step found on the whole batch: the same in every process."""

    loss: float
    wrong: float  # number of errors
    grad_norm: float
    finite: bool  # loss and gradient


def _backward(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    config: ResolvedRun,
    world: World = ALONE,
) -> _Step:
    """A forward and a backward pass, with one synchronisation with the device."""
    optimizer.zero_grad(set_to_none=True)
    logits = _logits(model, images, config)
    loss = world.mean_loss(logits, labels)
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    grad_norm = torch.nn.utils.get_total_norm(grads)
    wrong = (logits.detach().argmax(1) != labels).sum()
    found = world.sum(torch.stack([loss.detach().double() / world.size, wrong.double()]))
    values = torch.cat([found, grad_norm.double().view(1)]).tolist()
    if math.isfinite(values[0]) and not math.isfinite(values[2]):  # the squares may have left float32's range
        values[2] = torch.nn.utils.get_total_norm([grad.double() for grad in grads]).item()
    loss_value, errors, norm = values
    return _Step(loss_value, errors, norm, math.isfinite(loss_value) and math.isfinite(norm))


class BenchmarkStep:
    """One full training step on the same images each time: what :func:`benchmark_step` returns.

    It has the attributes ``model``, ``optimizer`` and ``config``, to attach a probe or a projection.
    """

    def __init__(self, config: ResolvedRun, images: Tensor, labels: Tensor) -> None:
        if config.device == "cpu":
            keep_freed_memory()
        self.config = config
        self.model = make_network(config)
        self.optimizer = make_optimizer(config, self.model)
        images = images.to(config.device)
        images = images.float().div(255) if images.dtype == torch.uint8 else images
        self.images = images.contiguous(memory_format=_format(config))
        self.labels = labels.to(config.device)

    def __call__(self) -> float:
        done = _backward(self.model, self.optimizer, self.images, self.labels, self.config)
        if done.finite:
            self.optimizer.step()
        return done.loss


def benchmark_step(
    arch: str,
    depth: int,
    images: Tensor,
    labels: Tensor,
    device: str = "auto",
    precision: str = "auto",
    memory_format: str = "auto",
) -> BenchmarkStep:
    """A closure that does one full training step as :func:`train` does it and returns the loss.

    It exists for ``benchmarks/``.

    Parameters
    ----------
    arch : str
        As in :class:`paperlib.config.RunConfig`, like ``depth``, ``device``, ``precision`` and ``memory_format``.
    depth : int
        The base network's depth 9n+2.
    images : Tensor, (N, 3, H, W)
        uint8, or floats.
    labels : Tensor, (N,)
        int64.
    device : str
        Where to train.
    precision : str
        Of the activations.
    memory_format : str
        Of images and weights.

    Returns
    -------
    BenchmarkStep
        Call it without arguments.

    Examples
    --------
    >>> step = benchmark_step("resnet", 20, torch.zeros(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64))
    >>> step() > 0
    True
    """
    _checks.images("images", images)
    _checks.labels("labels", labels)
    values = {"arch": arch, "depth": depth, "device": device, "precision": precision, "memory_format": memory_format}
    return BenchmarkStep(RunConfig(**values, checkpoint_activations=False).resolve(), images, labels)


# -- the run's state -----------------------------------------------------------------------------------------------
@dataclass
class _State:
    """Everything that changes while a run goes on, besides weights, optimiser, probe and projection: plain values."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)  # images, loss, errors, gradient norms
    epochs: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    initial: list[dict[str, Any]] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)  # seconds, by the parts of the work
    sessions: list[dict[str, Any]] = field(default_factory=list)  # those before this one


class _Run:
    """One run in progress."""

    def __init__(
        self,
        config: ResolvedRun,
        command: str,
        folder: Path,
        data: cifar.Cifar,
        world: World = ALONE,
        interrupts: Interrupts | None = None,
        others: int = 0,
    ) -> None:
        self.config, self.command, self.folder, self.data, self.world = config, command, folder, data, world
        self.device = torch.device(config.device)
        # Now: the files may change while the run goes on.
        in_use = in_force(self.device) | self.shortcuts() | world.settings()
        in_use |= {"runs side by side": str(others + 1)} if others else {}
        self.session = Session.here(self.device, config.threads, in_use)
        self.model = make_network(config)
        self.replica = world.replica(world.synchronised(self.model, self.device))
        self.optimizer = make_optimizer(config, self.model)
        self.projection = hold_transitions(config, self.model, self.optimizer)
        self.probe: GradientNorms | None = None
        if config.probe_every:
            self.probe = GradientNorms(self.model, every=config.probe_every, combine=world.norms)
        self.state = _State()
        self.watch = Stopwatch()
        self.train_images = data.train_images.to(self.device)
        self.test_images = data.test_images.to(self.device)
        self.train_labels = data.train_labels.to(self.device)
        self.test_labels = data.test_labels.to(self.device)
        self.mean, self.std = data.mean.to(self.device), data.std.to(self.device)
        self.steps = math.ceil(len(self.train_labels) / config.batch_size)
        # As many training images as test images are evaluated without augmentation: the gap has two like sides.
        self.clean = min(len(self.test_labels), len(self.train_labels))
        self.evaluation = EVAL_COST * (len(self.test_labels) + self.clean) / config.batch_size  # in steps
        self.saved = time.monotonic()
        self.interrupts = interrupts or Interrupts()
        self.captured: Captured | None = None
        self.captured_evaluation: CapturedEvaluation | None = None

    def shortcuts(self) -> dict[str, str]:
        """What is in use on CUDA of what only makes a run faster, for its record."""
        if self.device.type != "cuda":
            return {}
        fusing = self.config.fused and fused.available(self.device) and self.world.size == 1
        used = {"fused": fusing and self.config.memory_format == "channels_last", "cuda graphs": self.replays}
        return {name: "yes" if on else "no" for name, on in used.items()}

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        """Within it the device works for this run on a stream of its own."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        own = torch.cuda.Stream(self.device)
        own.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(own)

    @property
    def replays(self) -> bool:
        """Whether steps are CUDA graphs."""
        return self.device.type == "cuda" and self.config.cuda_graphs and self.world.size == 1

    # -- checkpoints
    def sessions(self) -> list[dict[str, Any]]:
        """The sessions so far, this one included."""
        self.session.clock()
        return [*self.state.sessions, self.session.model_dump()]

    def spent(self) -> dict[str, float]:
        """The seconds so far, by part; the training step without the probe and the projection within it."""
        spent = dict(self.watch.seconds)
        for name, part in (("probe", self.probe), ("projection", self.projection)):
            seconds = part.seconds if part else 0.0
            spent[name] = self.state.spent.get(name, 0.0) + seconds
            spent["step"] = spent.get("step", 0.0) - seconds
        return spent

    def save(self) -> None:
        self.catch_up()
        self.saved = time.monotonic()
        content = {
            "config": self.config.model_dump(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "probe": self.probe.state_dict() if self.probe else None,
            "projection": self.projection.state_dict() if self.projection else None,
            "state": vars(self.state) | {"sessions": self.sessions(), "spent": self.spent()},
        }
        self.world.by_first(lambda: checkpoints.write(self.folder, content))

    def load(self) -> None:
        """Go on from the folder's checkpoint, if there is one."""
        content = checkpoints.read(self.folder, self.device)
        if content is not None:
            self.restore(content)
        self.world.agree((self.state.epoch - 1) * self.steps + self.state.step, UNLIKE)

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        path = self.folder / checkpoints.FILE
        if not self.config.is_that_of(content["config"]):
            raise CheckpointError(
                f"the checkpoint {path} belongs to another run ({self.config.differences(content['config'])}): "
                "delete it, or choose another folder with PAPERLIB_RUNS"
            )
        try:
            self.model.load_state_dict(content["model"])
        except RuntimeError as e:
            raise CheckpointError(f"{path} was made by another version of the networks: delete it to start anew") from e
        self.optimizer.load_state_dict(content["optimizer"])
        if self.probe:
            self.probe.load_state_dict(content["probe"])
        if self.projection:
            self.projection.load_state_dict(content["projection"])
        self.state = _State(**content["state"])
        self.watch = Stopwatch(dict(self.state.spent))
        self.warn_of_rounding(Session(**self.state.sessions[-1]))

    def warn_of_rounding(self, before: Session) -> None:
        """Say so if the sums of this session are made in another order than those of the one before."""
        was, now = ((s.threads, int(s.settings.get("processes", 1))) for s in (before, self.session))
        if was == now or not self.world.is_first:
            return
        i = int(was[1] != now[1])
        warnings.warn(
            f"this run was started with {was[i]} {('threads', 'processes')[i]} and goes on with {now[i]}: its sums are "
            "made in another order, and training makes the difference grow, so that its errors will not be an unbroken "
            "run's; its record names both numbers",
            stacklevel=6,
        )

    # -- the loop
    def go(self, quiet: bool) -> Generator[None, None, Record]:
        """Train from the current state to the end and return the record (not yet saved); pause after each step."""
        state, config = self.state, self.config
        per_epoch = self.steps + self.evaluation
        done = (state.epoch - 1) * per_epoch + state.step
        quiet = quiet or not self.world.is_first
        folder = self.folder if self.world.is_first else None
        progress = Progress(folder, config.epochs * per_epoch, done, quiet)
        divergence, closing = None, "interrupted: run it again to go on"
        try:
            self.measure_initial()
            with self.probe or contextlib.nullcontext(), Events(folder, state.epoch) as events:
                while state.epoch <= config.epochs and divergence is None:
                    divergence = yield from self.train_epoch(progress, events)
            seconds = sum(session["seconds"] for session in self.sessions())
            closing = f"{config.network}: {len(state.epochs)} epochs in {duration(seconds)}  {self.last_error()}"
            if divergence:
                closing = f"{config.network} diverged in epoch {divergence.epoch}, first in {divergence.block}"
        finally:
            progress.close(closing)
            failed = isinstance(sys.exc_info()[1], Exception)  # which has a sentence of its own
            if closing.startswith("interrupted") and not (quiet or failed or sys.stderr.isatty()):
                print(closing, file=sys.stderr)  # where there is no bar to say it
            if self.projection:
                self.projection.detach()
        return self.record(divergence)

    def train_epoch(self, progress: Progress, events: Events) -> Generator[None, None, Divergence | None]:
        """The rest of the current epoch, its evaluation, and its checkpoint; where it diverged, if it did."""
        state, config, began = self.state, self.config, time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr_at(state.epoch)
        divergence, done = None, state.step
        for divergence in self.replayed() if self.replays else self.stepped():
            if divergence:
                break
            if state.step > done:
                mean = state.sums[1] / state.sums[0]
                text = f"epoch {state.epoch}/{config.epochs}  loss {mean:.3f}  {self.last_error()}"
                progress.advance(state.step - done, text)
                done = state.step
                self.save_if_due()
            yield
        row, blocks, divergence = self.end_epoch(divergence)
        events.write(row, blocks)
        state.epoch_seconds.append(time.monotonic() - began)
        if divergence is None:
            state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0] * 4
            saved = self.save_epoch()
            text = f"epoch {row['epoch']}/{config.epochs}  loss {row['train_loss']:.3f}  {self.last_error()}"
            progress.advance(self.evaluation, text)
            self.interrupts.adopt(*self.world.largest(self.interrupts.received or 0))
            if self.interrupts.received is not None and state.epoch <= config.epochs:
                if not saved:
                    self.save()
                self.interrupts.stop()
        return divergence

    def save_epoch(self) -> bool:
        """Save at an epoch's end, unless epochs are short and it was done a moment ago; whether it was saved."""
        if self.captured is not None:
            self.captured.launched = 0
        last = self.state.epoch > self.config.epochs
        due = not self.replays or last or time.monotonic() - self.saved > CHECKPOINT_PAUSE
        if due:
            self.save()
        return due

    def stepped(self) -> Iterator[Divergence | None]:
        """The rest of the epoch's steps, one by one."""
        for images, labels in self.batches(self.state.epoch, self.state.step):
            with self.watch("step"):
                divergence = self.step(images, labels)
            yield divergence

    def replayed(self) -> Iterator[Divergence | None]:
        """The rest of the epoch's steps as CUDA graphs, whose sums are read every so many steps."""
        state = self.state
        if self.captured is None:
            parts = self.parts()
            self.captured = Captured(parts, self.train_images, self.train_labels, self.config.batch_size)
        with self.watch("data"):
            order, flip, shift = self.drawn(state.epoch)
            self.captured.begin(order, flip, shift, self.config.lr_at(state.epoch), state.step, state.sums)
        for step in range(state.step + 1, self.steps + 1):
            failed: ProjectionError | None = None
            with self.watch("step"):
                try:
                    self.captured.launch()
                except ProjectionError as e:
                    failed = e
                asked = failed or self.interrupts.received is not None or step % READ_EVERY == 0 or step == self.steps
                finite = self.catch_up() if asked else True
            if not finite:
                yield self.diagnosed(*next(self.batches(state.epoch, state.step)))
            yield self.unprojected(failed, state.step) if failed else None

    def parts(self) -> Parts:
        """What a captured step is made of."""

        def prepare(images: Tensor, flip: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
            images = self.prepare(images)
            if flip is None or shift is None or not self.config.augment:
                return images
            return augmentation.apply_augmentation(images, flip, shift)

        if self.projection is not None:
            self.projection.detach()  # it is a graph of its own, launched when it is due
        return Parts(
            self.model, self.optimizer, prepare, lambda model, x: _logits(model, x, self.config),
            self.config.precision == "bfloat16", self.probe, self.projection,
        )  # fmt: skip

    def catch_up(self) -> bool:
        """Read what replayed steps have found so far; whether all of them were finite."""
        if self.captured is None or self.captured.launched == 0:
            return True
        self.state.sums, self.state.step, finite = self.captured.read()
        return finite

    def last_error(self) -> str:
        epochs = self.state.epochs
        return f"test error {epochs[-1]['test_error']:.1f} %" if epochs else ""

    def save_if_due(self) -> None:
        """Save after a signal to any of the processes, and stop; save if the last checkpoint is old."""
        old = time.monotonic() - self.saved > CHECKPOINT_SECONDS
        received, due = self.world.largest(self.interrupts.received or 0, old)
        if received or due:
            self.save()
        if received:
            self.interrupts.adopt(received)
            self.interrupts.stop()

    def measure_initial(self) -> None:
        """Measure the ratios before the first update, on the first batches that training will see."""
        state = self.state
        if self.probe is None or state.initial or state.epoch > 1 or state.step > 0:
            return
        first = itertools.chain.from_iterable(self.batches(epoch) for epoch in itertools.count(1))
        with self.watch("initial"):
            state.initial = initial_ratios(
                self.model,
                itertools.islice(first, BATCHES),
                lambda images, labels: self.world.mean_loss(_logits(self.model, images, self.config), labels),
                self.world,
            )

    def drawn(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """An epoch's order (n,), flips (n,) and shifts (n, 2), the same whenever they are asked for, on the device."""
        n = len(self.train_labels)
        generator = augmentation.epoch_generator(self.config.seed, epoch)
        order = torch.randperm(n, generator=generator)
        flip, shift = augmentation.draw_augmentation(n, generator)
        return order.to(self.device), flip.to(self.device), shift.to(self.device)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of an epoch's batches from step ``start`` on, normalised and augmented.

        They are the same whenever they are asked for.
        """
        config, n = self.config, len(self.train_labels)
        order, flip, shift = self.drawn(epoch)
        for step in range(start, self.steps):
            part = self.world.part(step * config.batch_size, min((step + 1) * config.batch_size, n))
            with self.watch("data"):
                images = self.prepare(self.train_images[order[part]])
                if config.augment:
                    images = augmentation.apply_augmentation(images, flip[part], shift[part])
            yield images, self.train_labels[order[part]]

    def prepare(self, images: Tensor) -> Tensor:
        images = augmentation.normalise(images, self.mean, self.std)
        return images.contiguous(memory_format=_format(self.config))

    def step(self, images: Tensor, labels: Tensor) -> Divergence | None:
        """One step; where loss or gradient is not finite, no update but a description of where that began."""
        state = self.state
        done = _backward(self.replica, self.optimizer, images, labels, self.config, self.world)
        if not done.finite:
            return self.divergence(images, done)
        try:
            self.update()
        except ProjectionError as e:
            return self.unprojected(e, state.step + 1)
        state.step += 1
        n = min(self.config.batch_size, len(self.train_labels) - (state.step - 1) * self.config.batch_size)
        new = (n, done.loss * n, done.wrong, done.grad_norm)
        state.sums = [a + b for a, b in zip(state.sums, new, strict=True)]
        return None

    def diagnosed(self, images: Tensor, labels: Tensor) -> Divergence:
        """Where a replayed step that was not finite went wrong: it is made once more, one kernel at a time."""
        return self.divergence(images, _backward(self.model, self.optimizer, images, labels, self.config))

    def divergence(self, images: Tensor, done: _Step) -> Divergence:
        """Where loss or gradient of the step just made is not finite, and since which block."""
        what = "loss" if not math.isfinite(done.loss) else "gradient"
        block = first_bad_block(self.model, lambda: _logits(self.model, images, self.config), self.probe, self.world)
        return Divergence(epoch=self.state.epoch, step=self.state.step + 1, what=what, block=block)

    @torch.no_grad()
    def unevaluated(self, *losses: float) -> Divergence | None:
        """Where an evaluation, which these losses came of, was not finite, or would not be."""
        block = first_bad_buffer(self.model)
        if block is None and all(map(math.isfinite, losses)):
            return None

        def forward() -> None:
            for images in self.test_images.split(EVAL_BATCH):
                _logits(self.model, self.prepare(images), self.config)

        self.model.eval()
        block = block or first_bad_block(self.model, forward, world=self.world)
        self.model.train()
        return Divergence(epoch=self.state.epoch, step=self.state.step, what="evaluation", block=block)

    def unprojected(self, error: ProjectionError, step: int) -> Divergence:
        """Which kernel a step has left where it cannot be projected; replayed steps are counted with that one."""
        block = error.names[0].removeprefix("chain.")
        return Divergence(epoch=self.state.epoch, step=step, what="projection", block=block)

    def update(self) -> None:
        """The optimiser's step and the projection after it.

        Each process projects its own kernels.  They are the same everywhere, and so is what becomes of them.

        Raises
        ------
        ProjectionError
            In all processes, if one has noticed that a kernel cannot be projected: on CUDA the news may come late.
        """
        error: ProjectionError | None = None
        try:
            self.optimizer.step()
        except ProjectionError as e:
            error = e
        if self.projection:
            (failed,) = self.world.largest(error is not None)
            if failed and error is None:
                self.projection.check()
        if error is not None:
            raise error

    # -- results
    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Mean loss and error (per cent) on some images, without augmentation."""
        self.model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        n = len(labels)
        if self.replays:
            if self.captured_evaluation is None:
                self.captured_evaluation = CapturedEvaluation(self.parts(), tuple(images.shape[1:]), self.device)
            found = self.captured_evaluation(images, labels).tolist()
            self.model.train()
            return found[0] / n, 100 * found[1] / n
        for start in range(0, n, EVAL_BATCH):
            part = self.world.part(start, min(start + EVAL_BATCH, n))
            right = labels[part]
            logits = _logits(self.model, self.prepare(images[part]), self.config)
            loss += F.cross_entropy(logits, right, reduction="sum").double()
            wrong += (logits.argmax(1) != right).sum()
        self.model.train()
        all_loss, all_wrong = self.world.sum(torch.stack([loss, wrong.double()])).tolist()
        return all_loss / n, 100 * all_wrong / n

    def end_epoch(
        self, divergence: Divergence | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]], Divergence | None]:
        """Evaluate, append this epoch's rows, and return them and where the run diverged.

        An epoch that diverged has NaN for what is evaluated.
        """
        state = self.state
        n, loss, wrong, norms = state.sums
        clean, test = (NAN, NAN), (NAN, NAN)
        if divergence is None:
            with self.watch("evaluation"):
                clean = self.evaluate(self.train_images[: self.clean], self.train_labels[: self.clean])
                test = self.evaluate(self.test_images, self.test_labels)
                divergence = self.unevaluated(clean[0], test[0])
        if divergence is not None:
            clean, test = (NAN, NAN), (NAN, NAN)
        row = {
            "epoch": state.epoch,
            "lr": self.config.lr_at(state.epoch),
            "train_loss": loss / n if n else NAN,
            "train_error": 100 * wrong / n if n else NAN,
            "clean_train_loss": clean[0],
            "clean_train_error": clean[1],
            "test_loss": test[0],
            "test_error": test[1],
            "grad_norm": norms / state.step if state.step else NAN,
        }
        state.epochs.append(row)
        blocks: list[dict[str, Any]] = []
        if self.probe:
            blocks = [{"epoch": state.epoch} | r for r in self.probe.averages()]
            state.blocks.extend(blocks)
            self.probe.reset()
        return row, blocks, divergence

    def record(self, divergence: Divergence | None) -> Record:
        return Record(
            status="diverged" if divergence else "finished",
            config=self.config,
            provenance=Provenance(command=self.command, sessions=self.sessions()),
            data=Data.of(self.data),
            parameters=models.parameter_count(self.model),
            epoch_seconds=self.state.epoch_seconds,
            peak_memory_bytes=peak_memory(self.device),
            divergence=divergence,
            spent=self.spent(),
            projections=None if self.projection is None else Projections(**self.projection.counts()),
            frames={name: pd.DataFrame(getattr(self.state, name)) for name in ("epochs", "blocks", "initial")},
        )


def trained_network(record: Record) -> models.Network:
    """The network of a run as its last checkpoint has it, on the CPU, in training mode.

    Raises
    ------
    CheckpointError
        The record's folder holds no checkpoint (committed records come without), or a damaged one.

    Examples
    --------
    >>> import tempfile
    >>> tiny = RunConfig(preset="smoke", depth=11, epochs=1, train_images=100, test_images=50)
    >>> record = train(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> len(trained_network(record).blocks)
    3
    """
    _checks.instance("record", record, Record, "a Record")
    folder = record.folder or Path()
    content = checkpoints.read(folder, "cpu")
    if content is None:
        raise CheckpointError(
            f"the run's weights are not there ({folder / checkpoints.FILE} is missing): make the run again with "
            f"{record.provenance.command}"
        )
    if not record.config.is_that_of(content["config"]):
        raise CheckpointError(
            f"the checkpoint in {folder} belongs to another run ({record.config.differences(content['config'])})"
        )
    model = make_network(record.config.model_copy(update={"device": "cpu"}))
    model.load_state_dict(content["model"])
    return model


def train(config: RunConfig, root: str | Path | None = None, quiet: bool = False, world: World | None = None) -> Record:
    """Train one network and return its record, which is also saved in the run's folder below ``root``.

    A finished run returns its record at once.  An interrupted one goes on from its checkpoint: one per epoch, one every
    five minutes, and one when this process gets Ctrl-C or SIGTERM.  (On CUDA epochs can be short: there is no more than
    one in twenty seconds.)  It ends with the same weights and tables, bit for bit, as if it had never been interrupted,
    on the same device with the same number of threads.  A loss, a gradient or an evaluation that is not finite ends a
    run with status ``"diverged"``, the epoch, and the block where it began.

    Parameters
    ----------
    config : RunConfig
        What to run.
    root : str or Path, optional
        The folder that holds all runs; by default ``PAPERLIB_RUNS``, else ``runs/`` in the checkout.
    quiet : bool
        Show no progress.
    world : World, optional
        The processes that train this run together (:func:`paperlib.processes.joined`); all of them call this function
        with the same parameters.  By default this process is alone.  The run is the same with any number of them, up to
        rounding: a checkpoint of one is a checkpoint of the other.

    Returns
    -------
    Record
        Its :attr:`~paperlib.store.Stored.folder` is where it was saved; None but in the first process.

    Raises
    ------
    ConfigError, DataError, CheckpointError, RecordError
        Each with one sentence that says what to do.
    KeyboardInterrupt, SystemExit
        After SIGINT or SIGTERM, once the checkpoint is written.

    Examples
    --------
    >>> import tempfile
    >>> tiny = RunConfig(preset="smoke", depth=11, epochs=1, train_images=100, test_images=50)
    >>> record = train(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> record.status, len(record.epochs), len(record.blocks)
    ('finished', 1, 3)
    """
    return train_together([RunConfig.checked(config)], root, quiet, world)[0]


def train_together(
    configs: Sequence[RunConfig], root: str | Path | None = None, quiet: bool = False, world: World | None = None
) -> list[Record]:
    """Train several networks side by side on one device, as :func:`train` would one after another.

    Each keeps its own order, record and checkpoint.  On CUDA their steps are launched in turn, each run on a stream of
    its own: small networks leave most of a large device idle.  Elsewhere nothing is gained.

    Parameters
    ----------
    configs : sequence of RunConfig
        What to run: different runs, on the same device, with the same number of threads, all deterministic or none.
    root : str or Path, optional
        As for :func:`train`, like ``quiet``.
    quiet : bool
        Show no progress; of several runs none is shown.
    world : World, optional
        As for :func:`train`.  Several processes can share one run, not several.

    Returns
    -------
    list of Record
        In the order of ``configs``.

    Raises
    ------
    ConfigError, DataError, CheckpointError, RecordError, KeyboardInterrupt, SystemExit
        As :func:`train`, and for runs that do not fit together.

    Examples
    --------
    >>> import tempfile
    >>> tiny = {"preset": "smoke", "depth": 11, "epochs": 1, "train_images": 100, "test_images": 50}
    >>> configs = [RunConfig(**tiny, seed=seed) for seed in (0, 1)]
    >>> [record.config.seed for record in train_together(configs, root=tempfile.mkdtemp(), quiet=True)]
    [0, 1]
    """
    _checks.flag("quiet", quiet)
    configs = _checks.items("configs", configs, "RunConfigs")
    if world is not None:
        _checks.instance("world", world, World, "a paperlib.processes.World")
    world = world or ALONE
    resolved = [RunConfig.checked(config).resolve() for config in configs]
    folders = [config.folder(root) for config in resolved]
    _check_together(resolved, folders, world)
    records = [_finished(folder, config, world) for folder, config in zip(folders, resolved, strict=True)]
    if all(records):
        return [record for record in records if record]
    for config in resolved:
        config.check_memory()
    # Now: within the settings this machine would choose the runs' own threads.
    commands = [config.command() for config in resolved]
    first, interrupts = resolved[0], Interrupts()
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(world.held_by_first(functools.partial(locked, folder, "run")))
        stack.enter_context(_arithmetic(first))
        records = [_finished(folder, config, world) for folder, config in zip(folders, resolved, strict=True)]
        pending = [i for i, record in enumerate(records) if record is None]  # another process may have finished some
        runs = {}
        for i in pending:
            data = cifar.load(resolved[i].dataset, resolved[i].source)
            data = data.subset(resolved[i].train_images, resolved[i].test_images, resolved[i].seed)
            world.by_first(functools.partial(remove_scraps, folders[i], checkpoints.FILE))
            runs[i] = _Run(resolved[i], commands[i], folders[i], data, world, interrupts, others=len(pending) - 1)
            runs[i].load()
        with interrupts:
            for i, record in _in_turns(runs, quiet or len(runs) > 1):
                world.by_first(functools.partial(record.save, folders[i]))
                records[i] = record
        if interrupts.received is not None:  # in the last moments: the runs are done, but the caller should stop
            interrupts.stop()
    return [record for record in records if record]


@contextlib.contextmanager
def _arithmetic(config: ResolvedRun) -> Iterator[None]:
    """Within it the process computes as the run asks for."""
    with settings(config.device, config.threads, config.deterministic), full_float32():
        if config.device == "cpu":
            keep_freed_memory()
            yield
            return
        with torch.cuda.device(config.device if ":" in config.device else torch.cuda.current_device()):
            torch.cuda.reset_peak_memory_stats()
            yield


def _check_together(configs: list[ResolvedRun], folders: list[Path], world: World) -> None:
    """Raise ``ConfigError`` for runs that cannot be trained side by side."""
    if not configs:
        raise ConfigError("there is no run to train: give at least one configuration")
    for config in configs:
        world.check(config.device)
    if len(set(folders)) < len(folders):
        raise ConfigError("two of the runs are the same: give each another seed or another network")
    if len({(config.device, config.threads, config.deterministic) for config in configs}) > 1:
        raise ConfigError("runs side by side need the same device, threads and deterministic")
    if len(configs) > 1 and world.size > 1:
        raise ConfigError("several processes can share one run, not several: start them without torchrun")


def _in_turns(runs: dict[int, _Run], quiet: bool) -> Iterator[tuple[int, Record]]:
    """Let each run make a step in turn, and give each its record when it is done; runs that are done are let go of.

    Where one stops, by a signal or an error, it has done what there was to do for itself.  The others are between two
    steps, and are saved.
    """
    streams = {i: contextlib.nullcontext() if len(runs) == 1 else run.stream() for i, run in runs.items()}
    going = {i: run.go(quiet) for i, run in runs.items()}
    now: int | None = None
    try:
        while going:
            for now in list(going):
                try:
                    with streams[now]:
                        next(going[now])
                except StopIteration as done:
                    i, now = now, None
                    del going[i], runs[i]
                    yield i, done.value
    except BaseException:
        for i in going.keys() - {now}:
            with contextlib.suppress(CheckpointError), streams[i]:
                runs[i].save()
        raise


def _finished(folder: Path, config: ResolvedRun, world: World) -> Record | None:
    """The record of this run, if it has one."""
    if not world.by_first((folder / Record.FILE).exists):
        return None
    record = Record.read(folder)
    if record.config.digest() != config.digest():
        raise RecordError(
            f"{folder} holds the record of another run ({config.differences(record.config.model_dump())}): "
            "move it away, or choose another folder with PAPERLIB_RUNS"
        )
    return record
