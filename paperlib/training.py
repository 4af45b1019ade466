"""One training run: from a configuration to a record, resumable at any step, bit for bit.

Nothing in a run draws from a shared random stream: the weights depend on the seed, an epoch's order and
augmentation on the seed and the epoch.  A checkpoint therefore needs no generator's state: it holds the weights, the optimiser, the
running sums and how far the run is, and a resumed run does what an unbroken one does.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperlib import cifar, models, published, records
from paperlib.config import RunConfig
from paperlib.errors import CheckpointError, ProjectionError, RecordError
from paperlib.machine import keep_freed_memory, peak_memory, settings
from paperlib.probes import GradientNorms
from paperlib.progress import Progress, duration
from paperlib.projection import NormPreserving
from paperlib.records import Record

__all__ = ["Record", "RunConfig", "benchmark_step", "train", "trained_network"]

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SCHEMA = 1
CHECKPOINT_SECONDS = 300  # within a long epoch; a notebook's kernel may be ended without a signal
EVAL_BATCH = 250
EVAL_COST = 0.3  # of an image's forward pass, relative to a training step's: only for the estimate of the time left


# -- the machine -------------------------------------------------------------------------------------------------
class _Signals:
    """Turns SIGINT and SIGTERM into a flag, so that the step under way is finished and saved; the second one is obeyed at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None:
            self.stop()
        self.received = number

    def stop(self) -> None:
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


# -- one step ----------------------------------------------------------------------------------------------------
def make_network(config: RunConfig) -> models.Network:
    """The run's network with its initial weights, on its device; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.build(
            config.arch,
            config.depth,
            config.num_classes,
            config.erase_relu,
            config.project and not config.resolve().reference_quirks,
        )
    model.checkpoint_activations = bool(config.checkpoint_activations)
    return model.to(config.device, memory_format=_format(config))


def make_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum; one fused kernel instead of three for each of some 500 parameters."""
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )


def _format(config: RunConfig) -> torch.memory_format:
    return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format


def _logits(model: nn.Module, images: Tensor, config: RunConfig) -> Tensor:
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        return model(images).float()


def _backward(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, config: RunConfig):
    """Loss, number of errors, gradient norm and whether loss and gradient are finite; one synchronisation with the device."""
    optimizer.zero_grad(set_to_none=True)
    logits = _logits(model, images, config)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    grad_norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    wrong = (logits.detach().argmax(1) != labels).sum()
    values = torch.stack([loss.detach().double(), wrong.double(), grad_norm.double()]).tolist()
    if math.isfinite(values[0]) and not math.isfinite(values[2]):  # the squares may have left float32's range
        grads = [p.grad.double() for p in model.parameters() if p.grad is not None]
        values[2] = torch.nn.utils.get_total_norm(grads).item()
    return *values, math.isfinite(values[0]) and math.isfinite(values[2])


def benchmark_step(
    arch: str,
    depth: int,
    images: Tensor,
    labels: Tensor,
    device: str = "auto",
    precision: str = "auto",
    memory_format: str = "auto",
) -> Callable[[], float]:
    """A closure that does one full training step as :func:`train` does it and returns the loss.

    ``images`` is uint8 or float, ``(N, 3, H, W)``, ``labels`` int64, ``(N,)``.  The closure has the attributes ``model``,
    ``optimizer`` and ``config``, to attach a probe or a projection.  It exists for ``benchmarks/``.

    Examples
    --------
    >>> step = benchmark_step("resnet", 20, torch.zeros(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64))
    >>> step() > 0
    True
    """
    config = RunConfig(arch=arch, depth=depth, device=device, precision=precision, memory_format=memory_format,
                       checkpoint_activations=False).resolve()  # fmt: skip
    if config.device == "cpu":
        keep_freed_memory()
    model = make_network(config)
    optimizer = make_optimizer(config, model)
    images = images.to(config.device)
    images = images.float().div(255) if images.dtype == torch.uint8 else images
    images = images.contiguous(memory_format=_format(config))
    labels = labels.to(config.device)

    def step() -> float:
        loss, _, _, finite = _backward(model, optimizer, images, labels, config)
        if finite:
            optimizer.step()
        return loss

    step.model, step.optimizer, step.config = model, optimizer, config
    return step


# -- the run's state -----------------------------------------------------------------------------------------------
@dataclass
class _State:
    """Everything that changes while a run goes on, besides weights, optimiser, probe and projection."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])  # images, loss, errors, gradient norms
    epochs: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0
    sessions: int = 1
    started: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    threads: int = 0


class _Run:
    """One run in progress."""

    def __init__(self, config: RunConfig, folder: Path, data: cifar.Cifar) -> None:
        self.config, self.folder, self.data = config, folder, data
        self.device = torch.device(config.device)
        self.model = make_network(config)
        self.optimizer = make_optimizer(config, self.model)
        held = config.arch == "procresnet" and config.project
        projector = published.Projector() if config.reference_quirks else None
        self.projection = (
            NormPreserving(self.model, every=config.project_every, projector=projector).attach(self.optimizer)
            if held
            else None
        )
        self.probe = GradientNorms(self.model, every=config.probe_every) if config.probe_every else None
        self.state = _State(threads=config.threads)
        self.train_images = data.train_images.to(self.device)
        self.test_images = data.test_images.to(self.device)
        self.train_labels = data.train_labels.to(self.device)
        self.test_labels = data.test_labels.to(self.device)
        self.mean, self.std = data.mean.to(self.device), data.std.to(self.device)
        self.steps = math.ceil(len(self.train_labels) / config.batch_size)
        self.began = self.saved = time.monotonic()
        self.signals = _Signals()
        self.git = records.git_state()  # now: the files may change while the run goes on

    # -- checkpoints
    def save(self) -> None:
        self.saved = time.monotonic()
        state = vars(self.state) | {"wall_seconds": self.wall_seconds()}
        content = {
            "schema": CHECKPOINT_SCHEMA,
            "digest": self.config.digest(),
            "config": self.config.model_dump(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "probe": self.probe.state_dict() if self.probe else None,
            "projection": self.projection.state_dict() if self.projection else None,
            "state": state,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path = self.folder / CHECKPOINT
        try:
            records.write_atomically(path, records.seal(buffer.getvalue()))
        except OSError as e:
            raise CheckpointError(
                f"the checkpoint {path} could not be written ({e.strerror or e}): make room, or set PAPERLIB_RUNS to another folder, "
                "and run again; an older checkpoint was left whole"
            ) from e

    def load(self) -> bool:
        """Go on from the folder's checkpoint; False where there is none."""
        path = self.folder / CHECKPOINT
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as e:
            raise CheckpointError(f"the checkpoint {path} cannot be read: {e.strerror or e}") from e
        content = _unpacked(raw, path, self.device)
        if content["digest"] != self.config.digest():
            raise CheckpointError(
                f"the checkpoint {path} belongs to another run ({_differences(content['config'], self.config)}): "
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
        self.state.sessions += 1
        if self.state.threads != self.config.threads:
            warnings.warn(
                f"this run was started with {self.state.threads} threads and goes on with {self.config.threads}: "
                "its last digits may differ from an unbroken run's",
                stacklevel=4,
            )
            self.state.threads = self.config.threads
        return True

    def wall_seconds(self) -> float:
        return self.state.wall_seconds + time.monotonic() - self.began

    # -- the loop
    def go(self, quiet: bool) -> Record:
        """Train from the current state to the end and return the record (not yet saved)."""
        state, config = self.state, self.config
        evaluation = EVAL_COST * len(self.test_labels) / config.batch_size
        per_epoch = self.steps + evaluation
        done = (state.epoch - 1) * per_epoch + state.step
        progress = Progress(self.folder, config.epochs * per_epoch, done, quiet)
        last = f"test error {state.epochs[-1]['test_error']:.1f} %" if state.epochs else ""
        divergence, closing = None, "interrupted: run it again to go on"
        try:
            with self.signals as signals, self.probe or contextlib.nullcontext():
                while state.epoch <= config.epochs and divergence is None:
                    began = time.monotonic()
                    for group in self.optimizer.param_groups:
                        group["lr"] = config.lr_at(state.epoch)
                    for images, labels in self.batches():
                        divergence = self.step(images, labels)
                        if divergence:
                            break
                        mean = state.sums[1] / state.sums[0]
                        progress.advance(1, f"epoch {state.epoch}/{config.epochs}  loss {mean:.3f}  {last}")
                        if signals.received is not None:
                            self.save()
                            signals.stop()
                        if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                            self.save()
                    row = self.end_epoch(divergence)
                    state.epoch_seconds.append(time.monotonic() - began)
                    if divergence is None:
                        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0] * 4
                        self.save()
                        last = f"test error {row['test_error']:.1f} %"
                        progress.advance(
                            evaluation, f"epoch {state.epoch - 1}/{config.epochs}  loss {row['train_loss']:.3f}  {last}"
                        )
                        if signals.received is not None and state.epoch <= config.epochs:
                            signals.stop()
            closing = f"{config.network}: {len(state.epochs)} epochs in {duration(self.wall_seconds())}  {last}"
            if divergence:
                closing = f"{config.network} diverged in epoch {divergence['epoch']}, first in {divergence['block']}"
        finally:
            progress.close(closing)
            if closing.startswith("interrupted") and not quiet and not sys.stderr.isatty():
                print(closing, file=sys.stderr)  # where there is no bar to say it
            if self.projection:
                self.projection.detach()
        return self.record(divergence)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The rest of this epoch's batches, normalised and augmented; the same whenever they are asked for."""
        config, state, n = self.config, self.state, len(self.train_labels)
        generator = cifar.epoch_generator(config.seed, state.epoch)
        order = torch.randperm(n, generator=generator).to(self.device)
        if config.augment:
            flip, shift = (x.to(self.device) for x in cifar.draw_augmentation(n, generator))
        for step in range(state.step, self.steps):
            part = slice(step * config.batch_size, (step + 1) * config.batch_size)
            images = self.prepare(self.train_images[order[part]])
            if config.augment:
                images = cifar.apply_augmentation(images, flip[part], shift[part])
            yield images, self.train_labels[order[part]]

    def prepare(self, images: Tensor) -> Tensor:
        images = cifar.normalise(images, self.mean, self.std)
        return images.contiguous(memory_format=_format(self.config))

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """One step; where loss or gradient is not finite, no update but a description of where that began."""
        state = self.state
        loss, wrong, grad_norm, finite = _backward(self.model, self.optimizer, images, labels, self.config)
        if not finite:
            what = "loss" if not math.isfinite(loss) else "gradient"
            return {"epoch": state.epoch, "step": state.step + 1, "what": what, "block": self.first_bad_block(images)}
        try:
            self.optimizer.step()
        except ProjectionError as e:
            block = e.names[0].removeprefix("chain.")
            return {"epoch": state.epoch, "step": state.step + 1, "what": "projection", "block": block}
        state.step += 1
        n = len(labels)
        state.sums = [a + b for a, b in zip(state.sums, (n, loss * n, wrong, grad_norm), strict=True)]
        return None

    @torch.no_grad()
    def first_bad_block(self, images: Tensor) -> str:
        """The block where non-finite values began: forward if an activation is, else the first on the gradient's way back."""
        bad: list[str] = []

        def watch(name: str) -> Callable:
            return lambda module, args, out: None if bad or torch.isfinite(out).all() else bad.append(name)

        hooks = [block.module.register_forward_hook(watch(block.name)) for block in self.model.blocks]
        hooks.append(self.model.register_forward_hook(watch("head")))
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        try:
            _logits(self.model, images, self.config)
        finally:
            for hook in hooks:
                hook.remove()
            for name, buffer in self.model.named_buffers():
                buffer.copy_(before[name])
        if bad:
            return bad[0]
        if self.probe:
            with contextlib.suppress(RuntimeError):
                finite = torch.isfinite(self.probe.norms()[:, 0]).tolist()
                for name, ok in reversed(list(zip(self.probe.names, finite, strict=True))):
                    if not ok:
                        return name
        for name, parameter in reversed(list(self.model.named_parameters())):
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                part = name.split(".")
                return part[1] if part[0] == "chain" else "stem" if part[0] == "stem" else "head"
        return "unknown"

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss and error (per cent) on the test images."""
        self.model.eval()
        loss = wrong = 0.0
        for images, labels in zip(self.test_images.split(EVAL_BATCH), self.test_labels.split(EVAL_BATCH), strict=True):
            logits = _logits(self.model, self.prepare(images), self.config)
            loss += F.cross_entropy(logits, labels, reduction="sum").double()
            wrong += (logits.argmax(1) != labels).sum()
        self.model.train()
        n = len(self.test_labels)
        return float(loss) / n, 100 * float(wrong) / n

    def end_epoch(self, divergence: dict[str, Any] | None) -> dict[str, Any]:
        """Evaluate and append this epoch's rows; an epoch that diverged has no test figures and is marked by NaN."""
        state = self.state
        n, loss, wrong, norms = state.sums
        nan = float("nan")
        test_loss, test_error = (nan, nan) if divergence else self.evaluate()
        row = {
            "epoch": state.epoch,
            "lr": self.config.lr_at(state.epoch),
            "train_loss": loss / n if n else nan,
            "train_error": 100 * wrong / n if n else nan,
            "test_loss": test_loss,
            "test_error": test_error,
            "grad_norm": norms / state.step if state.step else nan,
        }
        state.epochs.append(row)
        if self.probe:
            state.blocks.extend({"epoch": state.epoch} | r for r in self.probe.averages())
            self.probe.reset()
        return row

    def record(self, divergence: dict[str, Any] | None) -> Record:
        config, state = self.config, self.state
        whole = [row for row in state.epochs if math.isfinite(row["test_error"])]
        final: dict[str, float] = {}
        if whole:
            gaps = [row["test_error"] - row["train_error"] for row in whole[:100]]  # Table I: the first 100 epochs
            final = {k: v for k, v in whole[-1].items() if k.startswith(("train", "test"))}
            final |= {"gap_mean": sum(gaps) / len(gaps), "gap_max": max(gaps)}
        return Record(
            status="diverged" if divergence else "finished",
            network=config.network,
            config=config.model_dump(),
            config_hash=config.digest(),
            command=config.command(),
            git=self.git,
            versions=records.versions(),
            device={"type": self.device.type, "name": records.device_name(self.device)},
            threads=config.threads,
            precision=config.precision,
            memory_format=config.memory_format,
            determinism={
                "deterministic_algorithms": config.deterministic,
                "cudnn_benchmark": self.device.type == "cuda" and not config.deterministic,
            },
            data={
                "dataset": config.dataset,
                "source": self.data.source,
                "checksum": self.data.checksum,
                "train_images": len(self.train_labels),
                "test_images": len(self.test_labels),
            },
            parameters=models.parameter_count(self.model),
            started=state.started,
            wall_seconds=self.wall_seconds(),
            sessions=state.sessions,
            epoch_seconds=state.epoch_seconds,
            peak_memory_bytes=peak_memory(self.device),
            final=final,
            left_out=config.left_out(),
            divergence=divergence,
        ).with_tables(pd.DataFrame(state.epochs), pd.DataFrame(state.blocks))


def _unpacked(raw: bytes, path: Path, device: torch.device | str) -> dict[str, Any]:
    """The content of a checkpoint file, once its checksum has been found right; CheckpointError for anything else."""
    payload = records.unseal(raw)
    if payload is None:
        raise CheckpointError(f"the checkpoint {path} is damaged: delete it to start this run anew")
    try:
        content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as e:
        raise CheckpointError(f"the checkpoint {path} is damaged or foreign: delete it to start this run anew") from e
    if not isinstance(content, dict) or "schema" not in content:
        raise CheckpointError(f"{path} is not a checkpoint of this library: delete it to start this run anew")
    if content["schema"] != CHECKPOINT_SCHEMA:
        raise CheckpointError(
            f"the checkpoint {path} has schema {content['schema']}, this paperlib writes {CHECKPOINT_SCHEMA}: delete it to start anew"
        )
    return content


def trained_network(record: Record) -> models.Network:
    """The network of a run as its last checkpoint has it, on the CPU, in training mode.

    Raises
    ------
    CheckpointError : the record's folder holds no checkpoint (committed records come without), or a damaged one.

    Examples
    --------
    >>> import tempfile
    >>> tiny = RunConfig(preset="smoke", depth=11, epochs=1, train_images=100, test_images=50)
    >>> record = train(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> len(trained_network(record).blocks)
    3
    """
    config = RunConfig(**record.config | {"device": "cpu"})
    path = Path(record.folder or ".") / CHECKPOINT
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise CheckpointError(
            f"the run's weights are not there ({path}: {e.strerror or e}): make the run again with {record.command}"
        ) from e
    model = make_network(config)
    model.load_state_dict(_unpacked(raw, path, "cpu")["model"])
    return model


def train(config: RunConfig, root: str | Path | None = None, quiet: bool = False) -> Record:
    """Train one network and return its record, which is also saved in ``config.folder(root)``.

    A finished run returns its record at once.  An interrupted one goes on from its checkpoint (one an epoch, one every five
    minutes, and one when this process gets Ctrl-C or SIGTERM) and ends with the same weights and tables, bit for bit, as if it had never been interrupted (on the
    same device with the same number of threads).  A non-finite loss or gradient ends a run with status
    ``"diverged"``, the epoch, and the block where it began.

    Parameters
    ----------
    config : what to run.
    root : the folder that holds all runs; by default ``PAPERLIB_RUNS``, else ``runs/`` in the checkout.
    quiet : show no progress.

    Raises
    ------
    ConfigError, DataError, CheckpointError, RecordError : each with one sentence that says what to do.
    KeyboardInterrupt, SystemExit : after SIGINT or SIGTERM, once the checkpoint is written.

    Examples
    --------
    >>> import tempfile
    >>> tiny = RunConfig(preset="smoke", depth=11, epochs=1, train_images=100, test_images=50)
    >>> record = train(tiny, root=tempfile.mkdtemp(), quiet=True)
    >>> record.status, len(record.epochs), len(record.blocks)
    ('finished', 1, 3)
    """
    folder = config.folder(root)
    resolved = config.resolve()
    if (folder / records.FILE).exists():
        return _finished(folder, resolved)
    with records.hold(folder, "run"), settings(resolved.device, resolved.threads, resolved.deterministic):
        if (folder / records.FILE).exists():  # another process finished it meanwhile
            return _finished(folder, resolved)
        if resolved.device == "cpu":
            keep_freed_memory()
        data = cifar.load(resolved.dataset, resolved.source).subset(
            resolved.train_images, resolved.test_images, resolved.seed
        )
        for scrap in folder.glob(f".{CHECKPOINT}.*"):  # of a process that was killed while it wrote
            scrap.unlink(missing_ok=True)
        run = _Run(resolved, folder, data)
        run.load()
        record = run.go(quiet)
        record.command = config.command()
        records.save(record, folder)
        if run.signals.received is not None:  # it came in the last moments: the run is done, but the caller should stop
            run.signals.stop()
        return record


def _differences(found: dict[str, Any], config: RunConfig) -> str:
    """In which parameters a stored configuration differs from ``config``."""
    mine = config.model_dump()
    other = [f"{k} {v!r} instead of {mine.get(k)!r}" for k, v in found.items() if v != mine.get(k)]
    return ", ".join(other) or "made by another paperlib"


def _finished(folder: Path, config: RunConfig) -> Record:
    record = records.read(folder)
    if record.config_hash != config.digest():
        raise RecordError(
            f"{folder} holds the record of another run ({_differences(record.config, config)}): "
            "move it away, or choose another folder with PAPERLIB_RUNS"
        )
    return record
