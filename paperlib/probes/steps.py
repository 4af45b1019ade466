"""What belongs to one step: one forward pass, and the first backward pass that reaches it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from paperlib.probes.norms import norm
from paperlib.probes.tensors import transformed

_NAN = float("nan")
_REMEMBERED = 64  # forward passes of compiled code whose backward pass may still come
Scale = torch.amp.GradScaler | Callable[[], float | Tensor]


def backward_pass() -> int | None:
    """A number that stands for the backward pass under way in this thread; None outside of one."""
    number = torch._C._current_graph_task_id()
    return None if number == -1 else number


class _Seen(NamedTuple):
    """A tensor that one block returned or took, in which version, and whose slots its gradient's norm belongs to.

    What is one block's output and the next one's input has one hook for both.
    """

    tensor: weakref.ref[Tensor]
    version: int
    slots: list[int]


class Step:
    """The norms of one step, as far as they are known.

    Slot 2i has the norm at block i's input, slot 2i+1 the one at its output.

    Parameters
    ----------
    number : int
        Of the forward pass, counted from 1.
    blocks : int
        How many blocks there are.
    due : bool
        Whether it is recorded.
    """

    def __init__(self, number: int, blocks: int, due: bool = True) -> None:
        self.number, self.due = number, due
        self.norms: list[Tensor | None] = [None] * (2 * blocks)
        self.seen: list[_Seen | None] = [None] * (2 * blocks)
        self.why: dict[int, str] = {}  # for blocks without a ratio
        self.called: set[int] = set()  # blocks
        self.in_graph = False  # in compiled code calls are not seen
        self.began = backward_pass()  # where a whole network is recomputed, its forward pass lies in a backward pass
        self.reached = False  # by a backward pass
        self.backward: int | None = None  # that one
        self.scale: Tensor | float = 1.0  # of the loss, then
        self.closed = False  # nothing more is written to it

    def is_recomputed(self) -> bool:
        """Whether a forward pass that begins now computes this step's activations once more, for its backward pass."""
        now = backward_pass()
        return now is not None and not self.closed and self.began in (None, now) and self.backward in (None, now)

    def was_seen(self, slot: int, x: Tensor) -> bool:
        """Whether ``x`` is the tensor last seen in the slot.

        It must be in the same version: an operation in place between two blocks makes it another one.
        """
        seen = self.seen[slot]
        return seen is not None and seen.tensor() is x and seen.version == x._version

    def changed(self, slot: int) -> bool:
        """Whether the tensor last seen in the slot was changed in place since."""
        seen = self.seen[slot]
        x = None if seen is None else seen.tensor()
        return x is not None and seen is not None and seen.version != x._version

    def see(self, slot: int, x: Tensor) -> list[int] | None:
        """Remember ``x`` as the slot's tensor; the slots whose gradient is to be looked at there, None for none."""
        if self.was_seen(slot, x):  # a recomputed forward pass hands in the same tensor again
            return None
        if self.seen[slot] is not None and backward_pass() is not None:
            return None  # recomputed: this copy of the tensor gets no gradient
        self.seen[slot] = seen = _Seen(weakref.ref(x), x._version, [slot])
        return seen.slots

    def share(self, slot: int, other: int) -> None:
        """Let what comes to the tensor last seen in a slot belong to another slot, too."""
        seen = self.seen[slot]
        if seen is not None and other not in seen.slots:
            seen.slots.append(other)

    def pairs(self) -> Tensor:
        """The norms (blocks, 2), NaN where no gradient came; at least one did."""
        known = next(x for x in self.norms if x is not None)
        nan = torch.full_like(known, _NAN)
        values = [nan if x is None else x.to(nan.device) for x in self.norms]
        pairs = torch.stack(values).view(-1, 2)
        return pairs if isinstance(self.scale, float) and self.scale == 1.0 else pairs / self.scale

    def reasons(self) -> list[str]:
        """Why a block has no ratio; an empty text where it has one."""
        found = []
        for i in range(len(self.norms) // 2):
            grad_in, grad_out = self.norms[2 * i : 2 * i + 2]
            place = "output" if grad_out is None else "input" if grad_in is None else ""
            why = f"no gradient came to its {place}" if self.in_graph or i in self.called else "it was not called"
            found.append(place and self.why.get(i, why))
        return found


class Recorder:
    """The steps under way.

    Parameters
    ----------
    blocks : int
        How many blocks there are.
    every : int
        Every so many forward passes one is recorded.
    scale : GradScaler or callable, optional
        By what the loss is multiplied.
    finish : callable
        What to do with finished steps (:meth:`take`) before the next one begins.
    """

    def __init__(self, blocks: int, every: int, scale: Scale | None, finish: Callable[[], None]) -> None:
        self.blocks, self.every, self.scale, self.finish = blocks, every, scale, finish
        self.forwards = 0  # forward passes that built a graph
        self.started = 0
        self.seconds = 0.0
        self.evaluating = False  # within a forward pass without gradients
        self.clear()

    def __getstate__(self) -> dict[str, object]:
        """A copy has no step under way: its hooks are the original's."""
        return self.__dict__ | {"step": None, "reached": [], "recent": {}}

    def clear(self) -> None:
        """Forget the steps under way."""
        self.step: Step | None = None  # of the last forward pass
        self.ended: Step | None = None  # the last one when the probe was detached
        self.reached: list[Step] = []  # those that a backward pass has come to
        self.recent: dict[int, Step] = {}  # by number, for compiled code

    def end(self) -> None:
        """No forward pass is under way any more."""
        self.ended, self.step = self.step or self.ended, None

    def why_nothing(self) -> str:
        """Why nothing was recorded, as a sentence to act on."""
        step = self.step or self.ended
        rest = (
            "and not within a transform of torch.func (if the model was compiled, give the probe what torch.compile "
            "returned)"
        )
        if step is None:
            return (
                "run a forward and a backward pass inside the context first, by calling the model: model(x), and not "
                f"model.forward(x) (for a loop that calls its parts there is attach(calls_start_steps=False)); {rest}"
            )
        if not step.due:
            return f"every={self.every}, and no forward pass that is due has been followed by a backward pass"
        if not step.called and not step.in_graph:
            return (
                "none of the blocks was called in the last forward pass: name modules that are called themselves, and "
                "not a list of them (a ModuleList is not called, its entries are)"
            )
        return f"no gradient came to a block since the last forward pass: run a backward pass, {rest}"

    def start(self) -> None:
        """A forward pass begins."""
        self.evaluating = not torch.is_grad_enabled()
        if self.evaluating or (self.step is not None and self.step.is_recomputed()):
            return
        self.finish()
        self.started += 1
        self.step = Step(self.started, self.blocks, self.forwards % self.every == 0)
        self.forwards += 1
        self.recent[self.started] = self.step
        if len(self.recent) > _REMEMBERED:
            self.recent.pop(next(iter(self.recent)))

    def number(self) -> int:
        """The number of the step under way, 0 if it is not recorded."""
        return self.step.number if self.step is not None and self.step.due else 0

    def wants(self, i: int) -> Step | None:
        """The step under way, if it is recorded; a block i that is called without gradients is noted."""
        step = self.step if self.step is not None and self.step.due else None
        if step and not self.evaluating:
            step.called.add(i)
        if step and not self.evaluating and not torch.is_grad_enabled():
            step.why.setdefault(i, "it was called without gradients (torch.no_grad or torch.inference_mode)")
        return step

    def watch(self, step: Step, slot: int, x: Tensor) -> None:
        """Take the norm of the gradient at ``x`` when it comes."""
        if slots := step.see(slot, x):
            x.register_hook(lambda grad: self._note(step, slots, grad))

    def note(self, number: int, slot: int, grad: Tensor) -> None:
        """Take the norm of a gradient that comes from compiled code, for the step of that number."""
        if number in self.recent:
            self.recent[number].in_graph = True
            self._note(self.recent[number], [slot], grad)

    def _note(self, step: Step, slots: list[int], grad: Tensor) -> None:
        # Of several calls of a block the last one's gradient comes first.
        slots = [slot for slot in slots if step.norms[slot] is None]
        if step.closed or not slots:
            return
        if transformed(grad):  # of a batched backward pass
            for slot in slots:
                step.why.setdefault(slot // 2, "its gradient came in a batch of several, which have no one norm")
            return
        scale = self._scale(grad.device) if not step.reached else step.scale
        began = time.perf_counter()
        found = norm(grad.detach())
        self.seconds += time.perf_counter() - began
        # Only now, since the scale and the norm may raise: a step that is reached has a norm.
        for slot in slots:
            step.norms[slot] = found
        if not step.reached:
            step.reached, step.backward, step.scale = True, backward_pass(), scale
            self.reached.append(step)

    def _scale(self, device: torch.device) -> Tensor | float:
        """By what the loss is multiplied now."""
        if isinstance(self.scale, torch.amp.GradScaler):
            return self.scale.scale(torch.ones((), device=device))
        return 1.0 if self.scale is None else self.scale()

    def take(self) -> list[Step]:
        """The steps that a backward pass has come to, in the order of their forward passes; they are closed."""
        steps = sorted(self.reached, key=lambda step: step.number)
        self.reached = []
        for step in steps:
            step.closed = True
            self.recent.pop(step.number, None)
        return steps
