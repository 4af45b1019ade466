"""Holding convolutions of a network norm-preserving while it is trained (Algorithm 1).

Which kernels are held, when they are projected, and what is saved of it.  *How* one kernel is projected is the
business of a :class:`Projector`: the paper's is :class:`Exact` (:mod:`paperlib.projection`), the authors' published
one is :class:`paperlib.published.Projector`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from paperlib._checks import one_of, sides, whole_number
from paperlib.errors import ProjectionError
from paperlib.machine import aside
from paperlib.polar import Method
from paperlib.projection import project_unchecked, spread, target
from paperlib.trunk import TrunkConv, trunk_convs, unwrap


class Projector(Protocol):
    """How a held kernel is projected, and after which optimiser steps.

    It is called with the kernel ``weight`` ``(d, c, kh, kw)``, the sides ``size`` of the convolution's output, its
    ``stride``, and whether a ReLU follows directly.  It returns the projected kernel, of the same shape, dtype and
    device, and a boolean scalar tensor on that device that says whether the kernel can be trusted.
    """

    def __call__(self, weight: Tensor, size: tuple[int, int], stride: int, relu: bool) -> tuple[Tensor, Tensor]: ...

    def due(self, step: int, every: int) -> bool:
        """Whether a projection follows the optimiser step of this number, counted from 1."""
        ...


class Exact:
    """The projection of the paper, one pass of :func:`paperlib.projection.project`, after every ``every``-th step.

    Parameters
    ----------
    method : {"eigh", "newton-schulz", "scaled-newton-schulz", "quintic"}, optional
        How to take the inverse square root, see :func:`paperlib.polar.inverse_sqrt`; by default it depends on the
        device.

    Raises
    ------
    ValueError
        For an unknown ``method``.

    Examples
    --------
    >>> projector = Exact()
    >>> kernel, ok = projector(torch.randn(8, 4, 1, 1), (16, 16), stride=2, relu=False)
    >>> [round(x, 4) for x in spread(kernel, 16, stride=2)], ok.item()
    ([1.0, 1.0], True)
    >>> [projector.due(step, every=2) for step in (1, 2, 3, 4)]
    [False, True, False, True]
    """

    def __init__(self, method: Method | None = None) -> None:
        self.method = method if method is None else one_of("method", method, get_args(Method))

    def __call__(self, weight: Tensor, size: tuple[int, int], stride: int, relu: bool) -> tuple[Tensor, Tensor]:
        return project_unchecked(weight, size, stride, relu, 1, self.method, "small")

    def due(self, step: int, every: int) -> bool:
        """Whether ``step`` is a multiple of ``every``."""
        return step % every == 0


# -- which convolutions ------------------------------------------------------------------------------------------
def _why_not(conv: nn.Module) -> str | None:
    """Why the kernel of ``conv`` cannot be held norm-preserving; None if it can."""
    if type(conv) is not nn.Conv2d:
        return f"it is a {type(conv).__name__}, not a Conv2d"
    if conv.groups != 1:
        return f"it has {conv.groups} groups"
    if conv.stride[0] != conv.stride[1]:
        return f"its stride differs in the two directions: {conv.stride}"
    if conv.dilation != (1, 1) and conv.kernel_size != (1, 1):
        return f"it is dilated: {conv.dilation}"
    if "weight" not in conv._parameters:
        return "its weight is made anew before each call (pruning, weight_norm or spectral_norm)"
    if not conv.weight.requires_grad:
        return "it is frozen (its weight does not require a gradient)"
    return None


def _named(model: nn.Module, item: Any) -> TrunkConv:
    """The entry that an item of ``convs`` stands for; ValueError for what is not a convolution of ``model`` to hold."""
    if not isinstance(item, tuple) or len(item) not in (2, 3):
        raise ValueError(f"convs must hold pairs (convolution or its name, side of its output), not {item!r:.80}")
    conv, size = item[-2:]
    if isinstance(conv, str):
        try:
            conv = model.get_submodule(conv)
        except AttributeError:
            raise ValueError(f"{type(model).__name__} has no submodule {conv!r}") from None
    name = next((name for name, module in model.named_modules() if module is conv), None)
    if name is None:
        raise ValueError(f"{conv!r:.80} is not a submodule of {type(model).__name__}")
    if why := _why_not(conv):
        raise ValueError(f"{name or 'the model'} cannot be held: {why}")
    h, w = sides(size)
    return TrunkConv(name, conv, (h, w))


def _found(model: nn.Module, convs: Iterable[Any] | None, example: Tensor | None) -> tuple[list[Any], list[Any]]:
    """Items of ``convs`` for the convolutions to hold, and those that were found but cannot be held, with the reason.

    ``ValueError`` if there is nothing to hold.
    """
    if example is not None:
        if convs is not None:
            raise ValueError("give either convs or example, not both")
        found = [(conv, _why_not(conv.conv)) for conv in trunk_convs(model, example)]
        held, passed_over = [c for c, why in found if not why], [(c.name, why) for c, why in found if why]
        if not held:
            reasons = "; ".join(f"{name}: {why}" for name, why in passed_over) or "no skip leaves one"
            raise ValueError(f"{type(model).__name__} has no convolution that could be held ({reasons})")
        return held, passed_over
    if convs is None:
        find = getattr(model, "transition_convs", None)
        convs = find() if callable(find) else []
    convs = list(convs)
    if not convs:
        raise ValueError(
            f"{type(model).__name__} has no stand-alone transition convolution to hold: give an example batch to find "
            "what the gradient cannot get around, or name them with convs=[(conv, output_size), ...]"
        )
    return convs, []


class _Failures:
    """Which of the held kernels could not be projected so far; on CUDA this is known without waiting for the device."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.flags: Tensor | None = None  # one for each kernel, on its device
        self.total: Tensor | None = None  # how many projections failed
        self.before = 0  # in earlier sessions
        self.copy: tuple[Tensor, torch.cuda.Event] | None = None  # in page-locked memory, once the event has happened

    def add(self, failed: list[Tensor]) -> None:
        first = failed[0].device
        flags = torch.stack([bad.to(first, non_blocking=True) for bad in failed])
        if self.flags is None or self.flags.device != first:
            self.flags = torch.zeros_like(flags) if self.flags is None else self.flags.to(first)
        if self.total is None or self.total.device != first:
            self.total = torch.zeros_like(flags.sum()) if self.total is None else self.total.to(first)
        # In place: a captured projection adds to the same memory each time.
        self.total += flags.sum()
        self.flags |= flags

    def count(self) -> int:
        """How many projections failed so far; this waits for the device."""
        return self.before + (0 if self.total is None else int(self.total))

    def notice(self, wait: bool = False) -> None:
        """Raise for kernels that could not be projected, once the news has arrived from the device."""
        if self.flags is None:
            return
        if wait or not self.flags.is_cuda:
            self._raise_for(self.flags.tolist())
            return
        if self.copy is None:
            self.copy = torch.empty(len(self.names), dtype=torch.bool, pin_memory=True), torch.cuda.Event()
        elif not self.copy[1].query():
            return
        else:
            self._raise_for(self.copy[0].tolist())
        seen, arrived = self.copy
        seen.copy_(self.flags, non_blocking=True)
        arrived.record(torch.cuda.current_stream(self.flags.device))

    def _raise_for(self, failed: list[bool]) -> None:
        if not any(failed):
            return
        assert self.flags is not None
        self.flags.zero_()  # in place: a captured projection writes there
        self.copy = None
        names = [name for name, bad in zip(self.names, failed, strict=True) if bad]
        raise ProjectionError(
            f"the kernel of {', '.join(names)} could not be projected: it holds NaN or infinite values, or has lost "
            "its rank at some frequency",
            names,
        )


def _scales(scale: Any, names: list[str]) -> tuple[float, ...]:
    """One factor for each held kernel; ValueError for what is no such factor, or for another number of them."""
    found = tuple(scale) if isinstance(scale, list | tuple) else (scale,) * len(names)
    numbers = [x for x in found if isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < math.inf]
    if len(numbers) != len(names) or len(found) != len(names):
        raise ValueError(
            f"scale must be a number above 0, or one for each of the {len(names)} held convolutions, not {scale!r:.80}"
        )
    return tuple(map(float, numbers))


# -- the hook ----------------------------------------------------------------------------------------------------
class NormPreserving:
    """Hold some convolutions of a network norm-preserving while it is trained (Algorithm 1).

    Attach it to the optimiser: after every ``every``-th step the kernels are projected, in place.  Nothing else
    changes.  The model keeps its modules, its state dict and its ``forward``, so that compiling, mixed precision,
    activation checkpointing and ``DistributedDataParallel`` (each process projects the same weights) work as without
    it, and what is trained is a plain model.  On CUDA the hook never waits for the device.

    Kernels with k ≤ stride (1×1, patch embeddings) are exact after each projection.  Others stay near the target once
    they are there.  Start them with :func:`paperlib.projection.project` (``passes=50``) or, where c = d, with
    :func:`paperlib.projection.delta_orthogonal`.

    Parameters
    ----------
    model : nn.Module
        Any module.
    every : int
        Project after every ``every``-th optimiser step (the paper: 2).
    convs : iterable of (nn.Conv2d or str, int or tuple of int), optional
        Which convolutions to hold, as pairs of a convolution, or its name, and the side (or sides) of its output.  By
        default a ProcResNet's three transitions, or those that ``example`` leads to.
    example : Tensor, optional
        A batch of images like the ones the model will get.  The convolutions that the gradient cannot get around are
        held (:func:`paperlib.trunk.trunk_convs`).
    relu : bool
        Whether each held convolution is followed directly by a ReLU, see :func:`paperlib.projection.target`.
    method : {"eigh", "newton-schulz", "scaled-newton-schulz", "quintic"}, optional
        See :func:`paperlib.projection.project`; by default it depends on the device.
    projector : Projector, optional
        What projects, and when; by default ``Exact(method)``, the paper's projection.  Another one can be given to
        measure what it changes.
    scale : float or sequence of float
        What to hold the kernels at, over the target: a number for all of them, or one for each.  1 keeps the norm; any
        other value is for measuring what that is good for.

    Attributes
    ----------
    convs : list of (str, nn.Conv2d, (int, int))
        What is held, as ``(name, conv, size)``; ``print`` shows it with the targets.
    passed_over : list of (str, str)
        Convolutions on the network's shortest path that cannot be held, with the reason.
    steps : int
        Optimiser steps so far.
    seconds : float
        Time spent on projecting, on the host's clock (on CUDA: to launch it).

    Raises
    ------
    ValueError
        If there is nothing to hold; for something that is not an ordinary, trained ``Conv2d`` of this model (one
        group, one stride for both directions, not dilated, not frozen, not pruned or reparametrised); for ``every``
        below 1; for a ``scale`` that is not above 0; on attaching, for an optimiser that does not train all held
        kernels.
    ProjectionError
        After a step: a held kernel is not finite or has lost its rank.  It is left as the optimiser made it.  On CUDA
        this is noticed some steps later.

    Examples
    --------
    >>> import torchvision
    >>> model = torchvision.models.resnet18(num_classes=10)
    >>> held = NormPreserving(model, every=2, example=torch.zeros(1, 3, 64, 64))
    >>> print(held)
    NormPreserving(ResNet, every=2) holds 4 of 20 convolutions:
      conv1                     3->64   7x7 stride 2  output 32x32  target 2.309
      layer2.0.downsample.0    64->128  1x1 stride 2  output 8x8    target 1.414
      layer3.0.downsample.0   128->256  1x1 stride 2  output 4x4    target 1.414
      layer4.0.downsample.0   256->512  1x1 stride 2  output 2x2    target 1.414
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with held.attach(optimizer):
    ...     for _ in range(2):
    ...         optimizer.zero_grad()
    ...         model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    ...         optimizer.step()
    >>> kernel = model.layer2[0].downsample[0].weight
    >>> [round(x, 4) for x in spread(kernel, 8, stride=2)]
    [1.0, 1.0]
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 2,
        convs: Iterable[tuple[nn.Conv2d | str, int | tuple[int, int]]] | None = None,
        example: Tensor | None = None,
        relu: bool = False,
        method: Method | None = None,
        projector: Projector | None = None,
        scale: float | Sequence[float] = 1.0,
    ) -> None:
        self.every = whole_number("every", every, unit="step")
        if method is not None and projector is not None:
            raise ValueError("give either method or projector, not both")
        self.projector: Projector = projector or Exact(method)
        if isinstance(projector, type) or not (callable(self.projector) and hasattr(self.projector, "due")):
            raise ValueError(
                f"projector must be an object such as Exact() or published.Projector(), not {projector!r:.80}"
            )
        self.relu = relu
        self.model = unwrap(model)
        items, self.passed_over = _found(self.model, convs, example)
        self.convs = [_named(self.model, item) for item in items]
        names = [held.name for held in self.convs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is listed twice in convs: a kernel can be held once")
        self.scale = _scales(scale, names)
        self.steps = 0
        self.seconds = 0.0
        self._done = 0  # kernels that were to be projected, each time counted
        self._handle: RemovableHandle | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._failures = _Failures(names)

    def attach(self, optimizer: torch.optim.Optimizer) -> NormPreserving:
        """Project after this optimiser's steps from now on.  As a context manager it is detached at the end."""
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"attach needs a torch.optim.Optimizer, not {type(optimizer).__name__}: "
                "with another one call .step() of this object after each of its steps"
            )
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = [held.name for held in self.convs if id(held.conv.weight) not in trained]
        if len(missing) == len(self.convs):
            raise ValueError("the optimiser trains none of the held kernels: was it made for another model?")
        if missing:
            raise ValueError(
                f"the optimiser does not train the held kernel of {', '.join(missing)}: freeze it before "
                "NormPreserving is made, or name the convolutions to hold with convs=[...]"
            )
        self.detach()
        self._handle = optimizer.register_step_post_hook(lambda *_: self.step())
        return self

    def detach(self) -> None:
        """Stop projecting; the kernels stay as they are."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def __enter__(self) -> NormPreserving:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.detach()
        if kind is None:
            self.check()

    def step(self) -> None:
        """Count one optimiser step, and project if the projector says so; the hook does no more."""
        self.steps += 1
        self._failures.notice()
        if self.projector.due(self.steps, self.every):
            self.project()

    def project(self) -> None:
        """Project every held kernel now."""
        began = time.perf_counter()
        if self._graph is None:
            self._project()
        else:
            self._graph.replay()
        self._done += len(self.convs)
        self.seconds += time.perf_counter() - began
        self._failures.notice()

    @torch.no_grad()
    def _project(self, wanted: Tensor | None = None) -> None:
        """Project every held kernel, unless ``wanted``, a boolean scalar tensor, is false."""
        failed = []
        for (_, conv, size), scale in zip(self.convs, self.scale, strict=True):
            weight = conv.weight
            kernel, ok = self.projector(weight, size, conv.stride[0], self.relu)
            kernel = kernel if scale == 1.0 else scale * kernel
            taken = ok if wanted is None else ok & wanted
            if weight.is_cuda:
                weight.copy_(torch.where(taken, kernel, weight))
            elif taken:
                weight.copy_(kernel)
            failed.append(~ok if wanted is None else ~ok & wanted)
        self._failures.add(failed)

    def capture(self, wanted: Tensor) -> None:
        """Project by replaying a CUDA graph from now on: some hundred small kernels in one launch.

        Parameters
        ----------
        wanted : Tensor, bool ()
            On the kernels' device.  Where it is false when a projection comes, the kernels stay as they are.
        """
        kept = wanted.clone()
        wanted.zero_()
        side = torch.cuda.Stream(wanted.device)
        try:
            with aside(side):  # what is made at the first call is not part of the graph
                self._project(wanted)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side):
                self._project(wanted)
            self._graph = graph
        finally:
            wanted.copy_(kept)

    def rewind(self, steps: int) -> None:
        """Count as after so many steps: those that came later, with ``wanted`` false, did nothing."""
        later = sum(self.projector.due(step, self.every) for step in range(steps + 1, self.steps + 1))
        self._done -= later * len(self.convs)
        self.steps = min(steps, self.steps)

    def check(self) -> None:
        """Raise ``ProjectionError`` if a kernel could not be projected so far; this waits for the device."""
        self._failures.notice(wait=True)

    def counts(self) -> dict[str, int]:
        """How many projections of a kernel were ``done`` so far, and ``refused``; this waits for the device."""
        refused = self._failures.count()
        return {"done": self._done - refused, "refused": refused}

    # -- what it does, and what is left ----------------------------------------------------------------------------
    def describe(self) -> list[dict[str, Any]]:
        """One dict per held convolution: what it is, its target, and how far its singular values are from it now.

        The keys are ``name``, ``shape`` of the weight, ``stride``, ``size`` of the output, ``target`` (times the
        ``scale``), and the smallest and the largest singular value over the target, ``lowest`` and ``highest``.
        """
        rows = []
        for (name, conv, size), scale in zip(self.convs, self.scale, strict=True):
            shape, stride = tuple(conv.weight.shape), conv.stride[0]
            low, high = spread(conv.weight, size, stride, self.relu)
            sigma = scale * target(shape, stride, self.relu)
            rows.append(
                {"name": name, "shape": shape, "stride": stride, "size": size}
                | {"target": sigma, "lowest": low / scale, "highest": high / scale}
            )
        return rows

    def export(self) -> nn.Module:
        """A copy of the model with every held kernel projected: a plain module.  The model itself is not changed.

        After a last step that no projection followed, the model's own kernels are a step off; the copy's are not.
        """
        plain = copy.deepcopy(self.model)
        convs = [(name, size) for name, _, size in self.convs]
        other = NormPreserving(plain, convs=convs, relu=self.relu, projector=self.projector, scale=self.scale)
        other.project()
        other.check()
        return plain

    def state_dict(self) -> dict[str, int]:
        """The step counter, so that a resumed run projects at the same steps, and :meth:`counts`."""
        return {"steps": self.steps} | self.counts()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from the step of a :meth:`state_dict`; ``ValueError`` for anything else."""
        try:
            self.steps = whole_number("steps", state["steps"], least=0)
            refused = whole_number("refused", state.get("refused", 0), least=0)
            self._done = refused + whole_number("done", state.get("done", 0), least=0)
            self._failures.before = refused
        except (TypeError, LookupError, ValueError, AttributeError):
            raise ValueError(
                f"the state of NormPreserving must be {{'steps': a whole number}}, not {state!r:.80}"
            ) from None

    def __str__(self) -> str:
        total = sum(isinstance(m, nn.Conv2d) for m in self.model.modules())
        title = f"NormPreserving({type(self.model).__name__}, every={self.every})"
        lines = [f"{title} holds {len(self.convs)} of {total} convolutions:"]
        wide = max(len(held.name) for held in self.convs)
        broad = max(len(f"{h}x{w}") for _, _, (h, w) in self.convs)
        for (name, conv, (h, w)), scale in zip(self.convs, self.scale, strict=True):
            d, c, kh, kw = conv.weight.shape
            stride = conv.stride[0]
            sigma = scale * target((d, c, kh, kw), stride, self.relu)
            kernel = f"{c:>4}->{d:<4} {kh}x{kw} stride {stride}"
            lines.append(f"  {name:{wide}}  {kernel}  output {f'{h}x{w}':<{broad}}  target {sigma:.3f}")
        lines += [f"  passed over: {name}: {why}" for name, why in self.passed_over]
        return "\n".join(lines)

    __repr__ = __str__
