"""Holding convolutions of a network norm-preserving while it is trained (Algorithm 1).

Which kernels are held, when they are projected, and what is saved of it.  *How* one kernel is projected is the
business of a :class:`Projector`: the paper's is :class:`Exact` (:mod:`paperlib.projection`), the authors' published
one is :class:`paperlib.published.Projector`.
"""

from __future__ import annotations

import copy
import time
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from paperlib import _checks
from paperlib._checks import one_of, whole_number
from paperlib._selection import SHARDED, by_reason, found, named
from paperlib.errors import ProjectionError
from paperlib.machine import aside
from paperlib.normalised import normalised
from paperlib.polar import Method
from paperlib.projection import MOST_PASSES, delta_orthogonal, project, project_unchecked, spread, stalls, target
from paperlib.trunk import TrunkConv, unwrap

Start = Literal["projected", "delta-orthogonal"]
PASSES = 50  # alternating projections of a kernel that starts projected
LOST = 0.5  # the smallest singular value over the largest, below which a kernel that stalls does not come back


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
    """The projection of the paper, :func:`paperlib.projection.project`, after every ``every``-th step.

    Parameters
    ----------
    method : {"eigh", "newton-schulz", "scaled-newton-schulz", "quintic"}, optional
        How to take the inverse square root, see :func:`paperlib.polar.inverse_sqrt`; by default it depends on the
        device.
    passes : int
        How many alternating projections each time (the paper: 1).  More of them come nearer to the target, and take
        as many times as long.

    Raises
    ------
    ValueError
        For an unknown ``method``, and for ``passes`` below 1.

    Examples
    --------
    >>> projector = Exact()
    >>> kernel, ok = projector(torch.randn(8, 4, 1, 1), (16, 16), stride=2, relu=False)
    >>> [round(x, 4) for x in spread(kernel, 16, stride=2)], ok.item()
    ([1.0, 1.0], True)
    >>> [projector.due(step, every=2) for step in (1, 2, 3, 4)]
    [False, True, False, True]
    """

    def __init__(self, method: Method | None = None, passes: int = 1) -> None:
        self.method = method if method is None else one_of("method", method, get_args(Method))
        self.passes = whole_number("passes", passes, most=MOST_PASSES)

    def __call__(self, weight: Tensor, size: tuple[int, int], stride: int, relu: bool) -> tuple[Tensor, Tensor]:
        return project_unchecked(weight, size, stride, relu, self.passes, self.method, "small")

    def due(self, step: int, every: int) -> bool:
        """Whether ``step`` is a multiple of ``every``."""
        return whole_number("step", step, least=0) % whole_number("every", every, unit="step") == 0


class _Failures:
    """Which of the held kernels could not be projected so far; on CUDA this is known without waiting for the device."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.flags: Tensor | None = None  # one for each kernel, on its device
        self.total: Tensor | None = None  # how many projections failed
        self.before = 0  # in earlier sessions
        self.copy: tuple[Tensor, torch.cuda.Event] | None = None  # in page-locked memory, once the event has happened

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"copy": None}

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


LARGEST_SCALE = 1e30  # times the target: a kernel is in float32, whose numbers end at 3e38


def _scales(scale: Any, names: list[str]) -> tuple[float, ...]:
    """One factor for each held kernel; ValueError for what is no such factor, or for another number of them."""
    found = tuple(scale) if isinstance(scale, list | tuple) else (scale,) * len(names)
    numbers = [x for x in found if isinstance(x, int | float) and not isinstance(x, bool) and 0 < x <= LARGEST_SCALE]
    if len(numbers) != len(names) or len(found) != len(names):
        raise ValueError(
            f"scale must be a number above 0, or one for each of the {len(names)} held convolutions, "
            f"not {_checks.shown(scale)}"
        )
    return tuple(map(float, numbers))


_ATTACHED: weakref.WeakSet[NormPreserving] = weakref.WeakSet()


# -- the hook ----------------------------------------------------------------------------------------------------
class NormPreserving:
    """Hold some convolutions of a network norm-preserving while it is trained (Algorithm 1).

    Attach it to the optimiser: after every ``every``-th step the kernels are projected, in place.  Nothing else
    changes.  The model keeps its modules, its state dict and its ``forward``, so that compiling, mixed precision,
    activation checkpointing and ``DistributedDataParallel`` (each process projects the same weights) work as without
    it, and what is trained is a plain model.  On CUDA the hook never waits for the device.

    Kernels with k ≤ stride (1×1, patch embeddings) are exact after each projection.  Others stay near the target once
    they are there, and ``start`` brings them there.  ``print`` shows how near each is now.  A kernel whose projections
    stall (:func:`paperlib.projection.stalls`: c = d and k > 1) can only start ``"delta-orthogonal"``.  One
    that :func:`paperlib.parametrization.orthogonal` makes is exact at any time, with c = d as well, and needs no
    projection.

    A normalisation directly after a held convolution divides by what its scale multiplies
    (:mod:`paperlib.normalised`).  There the singular values are held equal to each other, but the norm of the gradient
    is not decided by the target.  What ``scale`` changes there is how fast the kernel learns: under gradient descent it
    divides the learning rate by its square.

    Parameters
    ----------
    model : nn.Module
        Any module.
    every : int
        Project after every ``every``-th optimiser step (the paper: 2).
    convs : mapping or iterable of (nn.Conv2d or str, int or tuple of int), optional
        Which convolutions to hold: each one, or its name, with the side (or sides) of its output.  By default a
        ProcResNet's three transitions, or those that ``example`` leads to.
    example : Tensor, tuple or mapping, optional
        A batch of images like the ones the model will get, or all its arguments.  The convolutions that the gradient
        cannot get around are held (:func:`paperlib.trunk.trunk_convs`).
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
    start : {"projected", "delta-orthogonal"}, optional
        What the held kernels are made at once: ``"projected"`` moves each to the target near it, by 50 alternating
        projections; ``"delta-orthogonal"`` draws each anew by :func:`paperlib.projection.delta_orthogonal`, whatever
        it was.  By default they are left as they are until the first projection.  Unless the start is
        ``"delta-orthogonal"``, a kernel whose projections stall is not held: one that an ``example`` leads to is passed
        over, and one that ``convs`` names is refused.
    passes : int
        Alternating projections each time (the paper: 1).

    Attributes
    ----------
    convs : list of (str, nn.Conv2d, (int, int))
        What is held, as ``(name, conv, size)``; ``print`` shows it with the targets.
    passed_over : list of (str, str)
        With an ``example``: every other ``Conv2d`` of the model, and whatever other convolution is on the trunk, with
        the reason why it is not held; ``print`` shows them by reason.
    normalised : list of str
        The held convolutions whose output is taken by a normalisation alone, as far as ``example`` shows them.
    steps : int
        Optimiser steps so far.
    seconds : float
        Time spent on projecting, on the host's clock (on CUDA: to launch it).

    Raises
    ------
    ValueError
        If there is nothing to hold; for something that is not an ordinary, trained ``Conv2d`` of this model (one
        group, one stride for both directions, not dilated, not frozen, not pruned or reparametrised); for ``every``
        below 1; for a ``scale`` that is not above 0; for a kernel whose projections stall where it is; on attaching,
        for an optimiser that does not train all held kernels, and for a kernel that another one, which is attached and
        holds others, too, holds.
    ProjectionError
        After a step: a held kernel is not finite or has lost its rank.  It is left as the optimiser made it.  On CUDA
        this is noticed some steps later.  Also where a held convolution or its kernel was replaced, so that nothing
        holds what the model now has.  (A kernel that is frozen is left as it is, with a warning.)
    RuntimeError
        On entering it as a context manager while it is attached to no optimiser: nothing would be held.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 1, stride=2))
    >>> held = NormPreserving(model, every=2, example=torch.zeros(1, 3, 32, 32), start="projected")
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with held.attach(optimizer):
    ...     for _ in range(2):
    ...         optimizer.zero_grad()
    ...         model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    ...         optimizer.step()
    >>> print(held)
    NormPreserving(Sequential, every=2) holds 2 of 2 convolutions:
      convolution  kernel/stride  output  target  now / target
      0              3->16 3x3/1   32x32   2.309  1.00 to 1.00
      2             16->32 1x1/2   16x16   1.414  1.00 to 1.00
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 2,
        convs: Iterable[tuple[nn.Conv2d | str, int | tuple[int, int]]] | None = None,
        example: Tensor | tuple[Any, ...] | Mapping[str, Any] | None = None,
        relu: bool = False,
        method: Method | None = None,
        projector: Projector | None = None,
        scale: float | Sequence[float] = 1.0,
        start: Start | None = None,
        passes: int = 1,
    ) -> None:
        self.every = whole_number("every", every, unit="step")
        if projector is not None and (method is not None or passes != 1):
            raise ValueError("give either a projector or its method and passes, not both")
        self.projector: Projector = Exact(method, passes) if projector is None else projector
        if isinstance(projector, type) or not (callable(self.projector) and hasattr(self.projector, "due")):
            raise ValueError(
                f"projector must be an object such as Exact() or published.Projector(), not {_checks.shown(projector)}"
            )
        if start is not None:
            one_of("start", start, get_args(Start))
        self.relu = _checks.flag("relu", relu)
        self.model = unwrap(_checks.module("model", model))
        items, self.passed_over = found(self.model, convs, example)
        self.convs = [named(self.model, item) for item in items]
        if start != "delta-orthogonal" and isinstance(self.projector, Exact):
            self._leave_out_stalled(start, searched=example is not None)
        names = [held.name for held in self.convs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is listed twice in convs: a kernel can be held once")
        kernels = [held.conv.weight for held in self.convs]
        if tied := [h.name for h in self.convs if sum(kernel is h.conv.weight for kernel in kernels) > 1]:
            raise ValueError(f"{' and '.join(tied)} share one kernel: name one of them in convs")
        self.scale = _scales(scale, names)
        self.steps = 0
        self.seconds = 0.0
        self._done = 0  # kernels that were to be projected, each time counted
        self._handle: RemovableHandle | None = None
        self._entered = 0  # contexts within one another; the outermost one detaches
        self._graph: torch.cuda.CUDAGraph | None = None
        self._failures = _Failures(names)
        self._weights = [held.conv.weight for held in self.convs]
        self._frozen: set[str] = set()
        self._optimizer: torch.optim.Optimizer | None = None
        self.normalised: list[str] = []
        if example is not None:
            self.normalised = normalised(self.model, [(held.name, held.conv) for held in self.convs], example)
        if self.normalised:
            warnings.warn(self._cancelled(), stacklevel=2)
        if start is not None:
            self._start(start)

    def _leave_out_stalled(self, start: Start | None, searched: bool) -> None:
        """Pass over the convolutions whose projections stall where they are; refuse them if they were asked for."""
        lost = [held for held in self.convs if self._is_lost(held, start)]
        if not lost:
            return
        why = (
            "its projections stall, because its map at a frequency is square (c = d with k > 1): "
            'start="delta-orthogonal" draws it anew at the target'
        )
        if not searched:
            raise ValueError(f"{lost[0].name or 'the model'} cannot be held from where it is: {why}")
        self.convs = [held for held in self.convs if held not in lost]
        self.passed_over = [*self.passed_over, *((held.name, why) for held in lost)]
        if not self.convs:
            raise ValueError(
                f"{type(self.model).__name__} has no convolution that could be held ({lost[0].name}: {why})"
            )

    def _is_lost(self, held: TrunkConv, start: Start | None) -> bool:
        weight, stride = held.conv.weight, held.conv.stride[0]
        if not stalls(tuple(weight.shape), stride):
            return False
        if start == "projected":
            weight = self._projected(held)
        low, high = self._values(held, weight)
        return low < LOST * high

    @torch.no_grad()
    def _start(self, start: Start) -> None:
        kernels = []
        for held in self.convs:
            if start == "projected":
                kernels.append(self._projected(held))
            else:
                d, c, kh, kw = held.conv.weight.shape
                kernels.append(delta_orthogonal((d, c, kh, kw), held.conv.stride[0], self.relu))
        # Only now, when all of them are there.
        for held, kernel, scale in zip(self.convs, kernels, self.scale, strict=True):
            held.conv.weight.copy_(scale * kernel)

    def _projected(self, held: TrunkConv) -> Tensor:
        """The kernel that a held one starts as, near where it is."""
        try:
            return project(held.conv.weight, held.size, held.conv.stride[0], self.relu, PASSES)
        except ValueError as e:
            raise ValueError(
                f'{held.name or "the model"} cannot start projected: {e}; start="delta-orthogonal" draws it anew'
            ) from None

    def attach(self, optimizer: torch.optim.Optimizer) -> NormPreserving:
        """Project after this optimiser's steps from now on, in place of another one's to which this was attached.

        As a context manager it is detached at the end.  A kernel is held by one object at a time: another one that is
        attached to the same kernels, and to no others, is detached with a warning.  A copy, by ``copy.deepcopy`` or
        by pickling, is attached to nothing: attach it to the copied optimiser.
        """
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"optimizer must be a torch.optim.Optimizer, not {_checks.shown(optimizer)}: "
                "with another one call .step() of this object after each of its steps"
            )
        trained = _trained(optimizer)
        missing = [held.name for held in self.convs if held.conv.weight not in trained]
        if len(missing) == len(self.convs):
            raise ValueError("the optimiser trains none of the held kernels: was it made for another model?")
        if missing:
            raise ValueError(
                f"the optimiser does not train the held kernel of {', '.join(missing)}: freeze it before "
                "NormPreserving is made, or name the convolutions to hold with convs=[...]"
            )
        self.detach()
        self._take_over()
        _ATTACHED.add(self)
        self._optimizer = optimizer
        self._handle = optimizer.register_step_post_hook(lambda *_: self.step())
        return self

    def __getstate__(self) -> dict[str, Any]:
        # torch copies no hooks with an optimiser, and a graph writes to the kernels it was captured with.
        return self.__dict__ | {"_handle": None, "_optimizer": None, "_entered": 0, "_graph": None}

    def detach(self) -> None:
        """Stop projecting; the kernels stay as they are."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = self._optimizer = None
            _ATTACHED.discard(self)

    def _take_over(self) -> None:
        """Detach those that hold kernels of this one; ValueError if they hold others, too."""
        mine = {held.conv.weight for held in self.convs}
        for other in list(_ATTACHED):
            theirs = {held.conv.weight for held in other.convs}
            names = ", ".join(held.name or "the model" for held in self.convs if held.conv.weight in theirs)
            if names and not theirs <= mine:
                raise ValueError(
                    f"{names}: held by another NormPreserving, which holds more than that: call its detach(), or name "
                    "with convs=[...] what this one is to hold"
                )
            if names:
                other.detach()
                warnings.warn(f"{names}: held by another NormPreserving until now, which is detached", stacklevel=3)

    def __enter__(self) -> NormPreserving:
        if self._handle is None:
            raise RuntimeError(
                "NormPreserving is attached to no optimiser, so nothing would be held: write "
                "`with held.attach(optimizer):`"
            )
        self._entered += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._entered -= 1
        if not self._entered:
            self.detach()
        if kind is None:
            self.check()

    def step(self) -> None:
        """Count one optimiser step, and project if the projector says so; the hook does no more."""
        self.steps += 1
        self._failures.notice()
        self._look()
        if self.projector.due(self.steps, self.every):
            self.project()

    def _look(self) -> None:
        """Notice what became of the held convolutions since the last step: replaced ones, and frozen ones."""
        for i, (name, conv, _) in enumerate(self.convs):
            try:
                kept = self.model.get_submodule(name) is conv
            except AttributeError:
                kept = False
            if not kept:
                self._lost(name, "the convolution was replaced in the model")
            weight = conv._parameters.get("weight")
            if weight is None:
                self._lost(name, "its weight is now made anew before each call (pruning or a parametrisation)")
            if weight is not self._weights[i]:
                if _checks.sharded(weight):
                    self._lost(name, SHARDED)
                if self._optimizer is not None and weight not in _trained(self._optimizer):
                    self._lost(name, "its weight was replaced, and the optimiser does not train the new one")
                self._weights[i] = weight
            if weight.requires_grad:
                self._frozen.discard(name)
            elif name not in self._frozen:
                self._frozen.add(name)
                warnings.warn(f"{name} is frozen now: it is left as it is", stacklevel=4)

    def _lost(self, name: str, what: str) -> NoReturn:
        raise ProjectionError(
            f"{name or 'the model'} is no longer held: {what}. Make NormPreserving and attach it anew", [name]
        )

    def project(self) -> None:
        """Project every held kernel now, except those that are frozen."""
        began = time.perf_counter()
        trained = self._trained_now()
        if self._graph is None or trained < len(self.convs):
            self._project()
        else:
            self._graph.replay()
        self._done += trained
        self.seconds += time.perf_counter() - began
        self._failures.notice()

    def _trained_now(self) -> int:
        """How many of the held kernels are not frozen."""
        return sum(held.conv.weight.requires_grad for held in self.convs)

    @torch.no_grad()
    def _project(self, wanted: Tensor | None = None) -> None:
        """Project every held kernel, unless ``wanted``, a boolean scalar tensor, is false."""
        failed = []
        for (_, conv, size), scale in zip(self.convs, self.scale, strict=True):
            weight = conv.weight
            if not weight.requires_grad:
                failed.append(torch.zeros((), dtype=torch.bool, device=weight.device))
                continue
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
        steps = whole_number("steps", steps, least=0)
        later = sum(self.projector.due(step, self.every) for step in range(steps + 1, self.steps + 1))
        self._done -= later * self._trained_now()
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
        ``scale``), and the smallest and the largest singular value over the target, ``lowest`` and ``highest``.  These
        are over all frequencies of the output, which takes some seconds for a large one; ``print`` looks at a few.
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
        Kernels that are frozen now are copied as they are.
        """
        plain = copy.deepcopy(self.model)
        pairs = zip(self.convs, self.scale, strict=True)
        trained = [(held, scale) for held, scale in pairs if held.conv.weight.requires_grad]
        if trained:
            convs, scales = [(held.name, held.size) for held, _ in trained], [scale for _, scale in trained]
            other = NormPreserving(plain, convs=convs, relu=self.relu, projector=self.projector, scale=scales)
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
                f"the state of NormPreserving must be {{'steps': a whole number}}, not {_checks.shown(state)}"
            ) from None

    def _values(self, held: TrunkConv, weight: Tensor) -> tuple[float, float]:
        """The smallest and the largest singular value of the kernel over the target, at 2k-1 frequencies each way.

        Between these few the values change little, and a large kernel has an answer in a second.
        """
        _, conv, size = held
        h, w = (min(n, 2 * k - 1) for n, k in zip(size, conv.kernel_size, strict=True))
        return spread(weight, (h, w), conv.stride[0], self.relu)

    def _cancelled(self) -> str:
        """What the normalisations after held convolutions do, as a sentence."""
        some = "each of them" if len(self.normalised) == len(self.convs) else ", ".join(self.normalised)
        return (
            f"a normalisation directly after {some} cancels the scale: equal singular values are held, not the "
            "gradient's norm"
        )

    def __str__(self) -> str:
        total = sum(isinstance(m, nn.Conv2d) for m in self.model.modules())
        title = f"NormPreserving({type(self.model).__name__}, every={self.every})"
        lines = [f"{title} holds {len(self.convs)} of {total} convolutions:"]
        rows = [("convolution", "kernel/stride", "output", "target", "now / target")]
        for held, scale in zip(self.convs, self.scale, strict=True):
            (h, w), stride = held.size, held.conv.stride[0]
            d, c, kh, kw = held.conv.weight.shape
            sigma = scale * target((d, c, kh, kw), stride, self.relu)
            low, high = (value / scale for value in self._values(held, held.conv.weight))
            kernel = f"{c}->{d} {kh}x{kw}/{stride}"
            rows.append((held.name, kernel, f"{h}x{w}", f"{sigma:.3f}", f"{low:.2f} to {high:.2f}"))
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, *others in rows:
            cells = [f"{cell:>{n}}" for cell, n in zip(others, wide[1:], strict=True)]
            lines.append("  ".join(["", f"{name:{wide[0]}}", *cells]))
        if self.normalised:
            lines.append(f"  {self._cancelled()}")
        lines += [f"  passed over: {those}" for those in by_reason(self.passed_over)]
        return "\n".join(lines)

    __repr__ = __str__


def _trained(optimizer: torch.optim.Optimizer) -> set[Tensor]:
    """The parameters that an optimiser trains, compared by identity."""
    return {p for group in optimizer.param_groups for p in group["params"]}
