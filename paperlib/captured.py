"""Training steps that wait for nothing: on CUDA each is one launch of a graph that was captured once.

A step of the paper's networks is some thousand small kernels, and launching them one by one takes longer than running
them.  Here the whole step is one CUDA graph: gather and augment the batch, forward, backward, the probe's norms, the
optimiser.  The data set, the epoch's order and the running sums stay on the device, so that the host only counts.

What a step finds is added up on the device and read every now and then.  From a step whose loss or gradient is not
finite on, no parameter is updated and nothing is counted: when the sums are read, the weights are still those that
failed, and the number of steps says where.  Only the running statistics of batch normalisation and their counters
follow every step, also the up to ``READ_EVERY - 1`` that are launched after it; training does not read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from paperlib.holding import NormPreserving
from paperlib.initial import kept_buffers
from paperlib.machine import aside
from paperlib.probes import GradientNorms

READ_EVERY = 100  # steps
EVAL_IMAGES = 500  # in a launch


class Parts(NamedTuple):
    """What a step is made of.

    ``prepare`` makes network inputs of uint8 images (N, 3, H, W), of whether to flip them (N,) and of their shifts
    (N, 2), or of the images alone; ``logits`` calls the network on them; ``low`` says whether it does so in bfloat16.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    prepare: Callable[..., Tensor]
    logits: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
    low: bool
    probe: GradientNorms | None
    projection: NormPreserving | None


class _Rounded:
    """A network whose weights are copied to bfloat16 once a step, all at once.

    Autocast would cast each weight, and each weight's gradient back, in a kernel of its own; the numbers are the same.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.weights = {name: p for name, p in model.named_parameters() if p.ndim > 1}
        self.copies = {name: p.detach().bfloat16().requires_grad_(p.requires_grad) for name, p in self.weights.items()}
        self.grads = {name: torch.zeros_like(p) for name, p in self.weights.items() if p.requires_grad}

    def __call__(self, images: Tensor) -> Any:
        with torch.no_grad():
            torch._foreach_copy_(list(self.copies.values()), list(self.weights.values()))
        for copy in self.copies.values():
            copy.grad = None
        return functional_call(self.model, self.copies, (images,))

    def take_gradients(self) -> None:
        """Make the copies' gradients those of the weights."""
        found = {name: copy.grad for name, copy in self.copies.items() if copy.grad is not None}
        torch._foreach_copy_([self.grads[name] for name in found], list(found.values()))
        for name in found:
            self.weights[name].grad = self.grads[name]


class Captured:
    """The steps of a run as CUDA graphs; one for each size of a batch.

    Parameters
    ----------
    parts : Parts
        The network and what belongs to a step.  The probe must be attached, the projection must not.
    images : Tensor, uint8 (N, 3, H, W)
        The training images, on the device.
    labels : Tensor, int64 (N,)
        Their labels.
    batch_size : int
        Images in a step; the last step of an epoch has what is left.
    """

    def __init__(self, parts: Parts, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.parts, self.images, self.labels, self.batch_size = parts, images, labels, batch_size
        n, device = len(labels), images.device
        self.order = torch.arange(n, device=device)
        self.flip = torch.zeros(n, dtype=torch.bool, device=device)
        self.shift = torch.zeros(n, 2, dtype=torch.int64, device=device)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)  # images, loss, errors, gradient norms, steps
        self.alive = torch.ones((), dtype=torch.bool, device=device)  # every step so far was finite
        self.stopped = torch.zeros((), device=device)  # 1 where that is false: what the optimiser's kernel looks at
        self.lr = torch.zeros((), device=device)
        self.launched = 0  # steps of this epoch
        self._began = (0, 0)  # steps of this epoch and forward passes of the probe when it was gone on with
        self._projected = 0  # the projection's steps then
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # for warming up and capturing
        self._graphs: dict[tuple[int, bool], torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        self._rounded = _Rounded(parts.model) if parts.low else None
        for group in parts.optimizer.param_groups:
            for p in group["params"]:
                # A first step without a buffer would be another kernel than the following ones.
                if p.requires_grad and "momentum_buffer" not in parts.optimizer.state[p]:
                    parts.optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        if parts.projection is not None:
            parts.projection.capture(self.alive)

    # -- an epoch
    def begin(self, order: Tensor, flip: Tensor, shift: Tensor, lr: float, step: int, sums: list[float]) -> None:
        """Go on with an epoch at ``step`` (steps that are done), with the sums so far."""
        self.order.copy_(order)
        self.flip.copy_(flip)
        self.shift.copy_(shift)
        self.lr.fill_(lr)
        self.position.fill_(step * self.batch_size)
        self.sums.copy_(torch.tensor([*sums, step], dtype=torch.float64))
        self.launched = step
        probe, projection = self.parts.probe, self.parts.projection
        self._began = step, 0 if probe is None else probe.forwards
        self._projected = 0 if projection is None else projection.steps

    def launch(self) -> None:
        """Launch the next step.

        Raises
        ------
        ProjectionError
            After one of the last steps a kernel could not be projected.
        """
        parts = self.parts
        size = min(self.batch_size, len(self.labels) - self.launched * self.batch_size)
        probed = parts.probe is not None and parts.probe.due()
        if (size, probed) not in self._graphs:
            self._graphs[size, probed] = self._capture(size)
        self._graphs[size, probed].replay()
        if parts.probe is not None:
            parts.probe.count()
        self.launched += 1
        if parts.projection is not None:
            parts.projection.step()

    def read(self) -> tuple[list[float], int, bool]:
        """The sums, the steps that they are of, and whether all steps were finite; this waits for the device.

        Where one was not, the steps launched after it did nothing, and nobody has counted them afterwards.
        """
        *sums, steps, alive = torch.cat([self.sums, self.alive.double().view(1)]).tolist()
        if not alive:
            done = int(steps) - self._began[0]
            if self.parts.probe is not None:
                self.parts.probe.forget(self._began[1] + done)
            if self.parts.projection is not None:
                self.parts.projection.rewind(self._projected + done)
        return sums, int(steps), bool(alive)

    # -- a step
    def _step(self, size: int) -> None:
        parts = self.parts
        place = self.position + torch.arange(size, device=self.position.device)
        index = self.order[place]
        images = parts.prepare(self.images[index], self.flip[place], self.shift[place])
        labels = self.labels[index]
        parts.optimizer.zero_grad(set_to_none=True)
        logits = parts.logits(self._rounded or parts.model, images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        if self._rounded is not None:
            self._rounded.take_gradients()
        grads = [p.grad for group in parts.optimizer.param_groups for p in group["params"] if p.grad is not None]
        # In float64, which no square leaves.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, torch.float64)))
        with torch.no_grad():
            loss = loss.detach().double()
            wrong = (logits.argmax(1) != labels).sum().double()
            self.alive &= torch.isfinite(loss) & torch.isfinite(norm)
            self.stopped.copy_(~self.alive)
            parts.optimizer.step()
            new = torch.stack([torch.full_like(loss, size), loss * size, wrong, norm, torch.ones_like(loss)])
            self.sums += torch.where(self.alive, new, 0.0)
            self.position += size
            if parts.probe is not None:
                parts.probe._flush(self.alive)

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        """The graph of a step.  Nothing is changed by capturing it, nor by the steps that warm up for it."""
        assert self._stream is not None
        parts = self.parts
        rates = [group["lr"] for group in parts.optimizer.param_groups]
        kept = [x.clone() for x in (self.alive, self.position, self.sums)]
        forwards = None if parts.probe is None else parts.probe.forwards
        try:
            for group in parts.optimizer.param_groups:
                group["lr"] = self.lr  # read from the device in each step
            parts.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]
            with kept_buffers(parts.model):
                with aside(self._stream):
                    for _ in range(2):
                        self.alive.zero_()
                        self.position.zero_()
                        self._set_probe(forwards)
                        self._step(size)
                graph = torch.cuda.CUDAGraph()
                self._set_probe(forwards)
                parts.optimizer.zero_grad(set_to_none=True)
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    self._step(size)
                self._pool = self._pool or graph.pool()
        finally:
            for group, rate in zip(parts.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            del parts.optimizer.found_inf  # type: ignore[attr-defined]
            self._set_probe(forwards)
            for x, before in zip((self.alive, self.position, self.sums), kept, strict=True):
                x.copy_(before)
        return graph

    def _set_probe(self, forwards: int | None) -> None:
        if self.parts.probe is not None and forwards is not None:
            self.parts.probe.forget(forwards)


class CapturedEvaluation:
    """Loss and errors of a network in evaluation, some hundred images a launch.

    Parameters
    ----------
    logits : callable
        Calls the network on uint8 images (N, 3, H, W).
    shape : tuple of int
        The shape (3, H, W) of an image.
    device : torch.device
        Where the network is.
    """

    def __init__(self, logits: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device) -> None:
        self.logits = logits
        self.images = torch.zeros(EVAL_IMAGES, *shape, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(EVAL_IMAGES, dtype=torch.int64, device=device)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Add the loss and the errors of some images to the sums."""
        logits = self.logits(images)
        loss = F.cross_entropy(logits, labels, reduction="sum").double()
        self.sums += torch.stack([loss, (logits.argmax(1) != labels).sum().double()])

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The sums (2,) of losses and errors; the model is in evaluation mode."""
        self.sums.zero_()
        full = len(labels) // EVAL_IMAGES * EVAL_IMAGES
        for start in range(0, full, EVAL_IMAGES):
            if self._graph is None:
                self._capture()
            assert self._graph is not None
            self.images.copy_(images[start : start + EVAL_IMAGES])
            self.labels.copy_(labels[start : start + EVAL_IMAGES])
            self._graph.replay()
        if full < len(labels):
            self.add(images[full:], labels[full:])
        return self.sums

    def _capture(self) -> None:
        stream = torch.cuda.Stream(self.images.device)
        with aside(stream):
            self.add(self.images, self.labels)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self.add(self.images, self.labels)
        self.sums.zero_()
