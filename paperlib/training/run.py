"""One run in progress: its state, its checkpoints, the loop over steps and epochs, and what is recorded of it.

Nothing in a run draws from a shared random stream (:mod:`paperlib.training.batches`).  A checkpoint therefore needs no
generator's state: it holds the weights, the optimiser, the running sums and how far the run is, and a resumed run does
what an unbroken one does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from paperlib import checkpoints, cifar, fused, models
from paperlib.captured import READ_EVERY, Captured, CapturedEvaluation, Parts
from paperlib.config import ResolvedRun
from paperlib.divergence import first_bad_block
from paperlib.errors import CheckpointError, ProjectionError
from paperlib.events import Events
from paperlib.initial import BATCHES, initial_ratios
from paperlib.interrupts import Interrupts
from paperlib.machine import in_force, peak_memory
from paperlib.probes import GradientNorms
from paperlib.processes import World
from paperlib.progress import Progress, duration
from paperlib.records import Data, Divergence, Projections, Record
from paperlib.stopwatch import Stopwatch
from paperlib.store import Provenance, Session
from paperlib.training import evaluation, steps
from paperlib.training.batches import Batches
from paperlib.training.steps import ALONE, Step

CHECKPOINT_SECONDS = 300  # within a long epoch; a notebook's kernel may be ended without a signal
CHECKPOINT_PAUSE = 20  # at least, where an epoch is short beside the time to write one
EVAL_COST = 0.3  # of an image's forward pass, relative to a training step's: only for the estimate of the time left
NAN = float("nan")
SIDE_BY_SIDE = "runs side by side"  # in a record's settings
UNLIKE = "the processes of this run found different checkpoints: set PAPERLIB_RUNS to a folder that all of them share"


@dataclass
class State:
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


class Run:
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
        self.config, self.command, self.folder, self.world = config, command, folder, world
        self.device = torch.device(config.device)
        # Now: the files may change while the run goes on.
        in_use = in_force(self.device) | self.shortcuts() | world.settings()
        in_use |= {SIDE_BY_SIDE: str(others + 1)} if others else {}
        self.session = Session.here(self.device, config.threads, in_use)
        self.model = steps.make_network(config)
        if world.size > 1:
            self.model.fuse(False)  # the kernels would normalise by one process's part of a batch
        self.replica = world.replica(world.synchronised(self.model, self.device))
        self.optimizer = steps.make_optimizer(config, self.model)
        self.projection = steps.hold_transitions(config, self.model, self.optimizer)
        self.probe: GradientNorms | None = None
        if config.probe_every:
            self.probe = GradientNorms(self.model, every=config.probe_every, combine=world.norms)
        self.state = State()
        self.watch = Stopwatch()
        self.batches, self.data = Batches(config, data, world), Data.of(data)
        evaluated = len(self.batches.test_labels) + len(self.batches.clean[1])
        self.evaluation = EVAL_COST * evaluated / config.batch_size  # in steps
        self.saved = time.monotonic()
        self.interrupts = interrupts or Interrupts()
        self.captured: Captured | None = None
        self.captured_evaluation: CapturedEvaluation | None = None

    def shortcuts(self) -> dict[str, str]:
        """What is in use on CUDA of what only makes a run faster, for its record."""
        if self.device.type != "cuda":
            return {}
        fusing = fused.available(self.device) and self.world.size == 1 and self.config.memory_format == "channels_last"
        used = {"fused": fusing and self.config.fused, "cuda graphs": self.replays}
        return {name: on if isinstance(on, str) else "yes" if on else "no" for name, on in used.items()}

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
        self.world.agree((self.state.epoch - 1) * self.batches.steps + self.state.step, UNLIKE)

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
        self.state = State(**content["state"])
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
        per_epoch = self.batches.steps + self.evaluation
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
        for images, labels in self.timed(self.batches.of(self.state.epoch, self.state.step)):
            with self.watch("step"):
                divergence = self.step(images, labels)
            yield divergence

    def timed(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches, and the seconds that it takes to make them are counted."""
        left = iter(batches)
        while True:
            with self.watch("data"):
                batch = next(left, None)
            if batch is None:
                return
            yield batch

    def replayed(self) -> Iterator[Divergence | None]:
        """The rest of the epoch's steps as CUDA graphs, whose sums are read every so many steps."""
        state = self.state
        if self.captured is None:
            if self.projection is not None:
                self.projection.detach()  # it is a graph of its own, launched when it is due
            images, labels = self.batches.train_images, self.batches.train_labels
            self.captured = Captured(self.parts(), images, labels, self.config.batch_size)
        with self.watch("data"):
            order, flip, shift = self.batches.drawn(state.epoch)
            self.captured.begin(order, flip, shift, self.config.lr_at(state.epoch), state.step, state.sums)
        for number in range(state.step + 1, self.batches.steps + 1):
            failed: ProjectionError | None = None
            with self.watch("step"):
                try:
                    self.captured.launch()
                except ProjectionError as e:
                    failed = e
                last = number == self.batches.steps
                asked = failed or last or self.interrupts.received is not None or number % READ_EVERY == 0
                finite = self.catch_up() if asked else True
            if not finite:
                yield self.diagnosed(*next(self.batches.of(state.epoch, state.step)))
            yield self.unprojected(failed, state.step) if failed else None

    def parts(self) -> Parts:
        """What a captured step is made of."""
        return Parts(
            self.model, self.optimizer, self.batches.prepare, lambda model, x: steps.logits(model, x, self.config),
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
        """Measure the ratios before the first update, on the first batches that training will see.

        No image is taken twice: where there are few, that would take longer than the training, and tell little more.
        """
        state = self.state
        if self.probe is None or state.initial or state.epoch > 1 or state.step > 0:
            return
        with self.watch("initial"):
            state.initial = initial_ratios(
                self.model,
                itertools.islice(self.batches.of(1), BATCHES),
                lambda images, labels: self.world.mean_loss(steps.logits(self.model, images, self.config), labels),
                self.world,
            )

    def step(self, images: Tensor, labels: Tensor) -> Divergence | None:
        """One step; where loss or gradient is not finite, no update but a description of where that began."""
        state = self.state
        done = steps.backward(self.replica, self.optimizer, images, labels, self.config, self.world)
        if not done.finite:
            return self.divergence(images, done)
        try:
            self.update()
        except ProjectionError as e:
            return self.unprojected(e, state.step + 1)
        state.step += 1
        n = self.batches.images_in(state.step - 1)
        new = (n, done.loss * n, done.wrong, done.grad_norm)
        state.sums = [a + b for a, b in zip(state.sums, new, strict=True)]
        return None

    def diagnosed(self, images: Tensor, labels: Tensor) -> Divergence:
        """Where a replayed step that was not finite went wrong: it is made once more, one kernel at a time."""
        return self.divergence(images, steps.backward(self.model, self.optimizer, images, labels, self.config))

    def divergence(self, images: Tensor, done: Step) -> Divergence:
        """Where loss or gradient of the step just made is not finite, and since which block."""
        what = "loss" if not math.isfinite(done.loss) else "gradient"
        block = first_bad_block(
            self.model, lambda: steps.logits(self.model, images, self.config), self.probe, self.world
        )
        return Divergence(epoch=self.state.epoch, step=self.state.step + 1, what=what, block=block)

    def unnoticed(self) -> Divergence | None:
        """Where the epoch's last steps left a kernel that cannot be projected: on CUDA the news may not have come yet.

        It is waited for once an epoch: no checkpoint of whole epochs hides such a kernel.
        """
        try:
            if self.projection:
                self.projection.check()
        except ProjectionError as e:
            return self.unprojected(e, self.state.step)
        return None

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
        if self.replays:
            if self.captured_evaluation is None:
                logits = functools.partial(evaluation.clean_logits, self.model, self.batches)
                self.captured_evaluation = CapturedEvaluation(logits, tuple(images.shape[1:]), self.device)
            loss, wrong = self.captured_evaluation(images, labels).tolist()
        else:
            loss, wrong = evaluation.sums(self.model, self.batches, images, labels).tolist()
        self.model.train()
        return loss / len(labels), 100 * wrong / len(labels)

    def unevaluated(self, *losses: float) -> Divergence | None:
        """Where an evaluation, which these losses came of, was not finite, or would not be."""
        block = evaluation.first_not_finite(self.model, self.batches, losses)
        if block is None:
            return None
        return Divergence(epoch=self.state.epoch, step=self.state.step, what="evaluation", block=block)

    def end_epoch(
        self, divergence: Divergence | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]], Divergence | None]:
        """Evaluate, append this epoch's rows, and return them and where the run diverged.

        An epoch that diverged has NaN for what is evaluated.
        """
        state = self.state
        n, loss, wrong, norms = state.sums
        clean, test = (NAN, NAN), (NAN, NAN)
        divergence = divergence or self.unnoticed()
        if divergence is None:
            with self.watch("evaluation"):
                clean = self.evaluate(*self.batches.clean)
                test = self.evaluate(self.batches.test_images, self.batches.test_labels)
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
            data=self.data,
            parameters=models.parameter_count(self.model),
            epoch_seconds=self.state.epoch_seconds,
            peak_memory_bytes=peak_memory(self.device),
            divergence=divergence,
            spent=self.spent(),
            projections=None if self.projection is None else Projections(**self.projection.counts()),
            frames={name: pd.DataFrame(getattr(self.state, name)) for name in ("epochs", "blocks", "initial")},
        )
