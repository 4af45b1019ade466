"""Gradient-norm ratios of a network's blocks while it trains (Section 4.1 and Figure 3 of the paper).

For a chain x_1 -> x_2 -> ... of blocks and a loss E the paper looks at ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖.  A ratio of 1 means
that a block preserves the gradient's norm on its way back.  Above 1 the block shrinks it, below 1 it makes it grow.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from paperlib import _checks, fused

_NAN = float("nan")


def norm(x: Tensor) -> Tensor:
    """The Euclidean norm of all entries.

    On a CPU it is taken by rows, because torch's single reduction over millions of entries runs on one thread, adds in
    one float32 (7e-5 off at 8 million entries) and has no fast path from bfloat16 to float32.  Where squares would
    leave float32's range, as the gradients of a Plain network do, the sum is made in float64.

    The row norms of a bfloat16 tensor above a million entries are rounded to bfloat16, each independently.  With 65,536
    rows or more that is a relative error of about 5e-6 (standard deviation).  Below a million entries it is 1e-7.

    Parameters
    ----------
    x : Tensor
        Any shape and floating dtype.

    Returns
    -------
    Tensor, ()
        float64 for a float64 ``x``, else float32, on its device.

    Examples
    --------
    >>> norm(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    tensor(5.)
    """
    dense = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    if dense and 0 < x.numel() < 2**31 and x.is_floating_point() and fused.available(x.device):
        return fused.euclidean_norm(x)
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or not dense or x.numel() < 1 << 12:
        total = torch.linalg.vector_norm(x, dtype=torch.float64)
        return total if x.dtype == torch.float64 else total.float()
    flat = torch.as_strided(x, (x.numel(),), (1,))
    if x.dtype == torch.bfloat16 and x.numel() <= 1 << 20:
        flat = flat.float()  # too few rows for their rounding errors to average out
    width = 1024 if flat.dtype == torch.float32 else min(128, 1 << ((x.numel() >> 16).bit_length() - 1))
    body = x.numel() // width * width
    total = torch.linalg.vector_norm(torch.linalg.vector_norm(flat[:body].view(-1, width), dim=1).double())
    if body < x.numel():
        total = torch.hypot(total, torch.linalg.vector_norm(flat[body:], dtype=torch.float64))
    if not 1e-14 * x.numel() ** 0.5 < total.item() < 1e17:  # an entry's square below 1e-28 or above 1e34
        total = torch.linalg.vector_norm(x, dtype=torch.float64)
    return total.float()


def _named_blocks(model: nn.Module, blocks: Iterable[Any] | None) -> list[tuple[str, str, nn.Module]]:
    """(name, kind, module) of every block to watch."""
    if blocks is None:
        blocks = getattr(model, "blocks", None)
        if blocks is None:
            raise ValueError(
                f"{type(model).__name__} has no attribute 'blocks': "
                "pass blocks=[...], its blocks (or their names) in forward order"
            )
    names = {module: name for name, module in model.named_modules()}
    found: list[tuple[str, str, nn.Module]] = []
    for item in blocks:
        if isinstance(item, str):
            try:
                found.append((item, "block", model.get_submodule(item)))
            except AttributeError:
                raise ValueError(f"{type(model).__name__} has no submodule {item!r}") from None
            continue
        module = item if isinstance(item, nn.Module) else getattr(item, "module", None)
        if module is None or module not in names:
            raise ValueError(f"block {item!r:.80} is not a submodule of {type(model).__name__}")
        found.append((getattr(item, "name", None) or names[module], getattr(item, "kind", "block"), module))
    if not found:
        raise ValueError("there is no block to watch: the list of blocks is empty")
    if len({id(m) for _, _, m in found}) < len(found):
        raise ValueError("a block is listed twice: each module can be watched once")
    return found


class _Hook:
    """A hook that belongs to one probe: copied or pickled with a model, it does nothing."""

    def __init__(self, function: Callable[..., Any] | None = None):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return None if self.function is None else self.function(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:  # copy.deepcopy asks here, too
        return _Hook, ()


def _compiled(model: nn.Module) -> bool:
    return any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in model.modules())


class GradientNorms:
    """Watch the norms of the gradients at the inputs and outputs of a network's blocks.

    A context manager over any ``nn.Module`` whose forward pass calls its blocks, each with a tensor as its first
    argument and a tensor as its result.  It hooks these tensors, keeps one number for each (no graph, no gradient), and
    does not wait for the device until a result is read.  It changes nothing in the computation, except that a block
    that takes the raw input gets a copy of it that requires a gradient.  A compiled model is compiled anew when the
    probe is attached and when it is detached, because compiled code does not look for hooks.

    One backward pass belongs to one forward pass of ``model``.  Of several forward passes before a backward pass the
    last one is recorded.  Of several backward passes through one graph it is the first, and of a block that is called
    repeatedly its last call.

    Parameters
    ----------
    model : nn.Module
        The module to watch.  A call of it starts a step.
    blocks : iterable, optional
        The blocks in forward order: modules, names of submodules, or objects with ``name``, ``kind`` and ``module``.
        By default they are ``model.blocks``.
    every : int
        Every so many forward passes that build a graph, one is recorded.
    combine : callable, optional
        For a batch that several processes share: makes the norms (blocks, 2) of this process's part those of the whole
        batch (:meth:`paperlib.processes.World.norms`).  It is called once for each recorded step, when the step's norms
        are first asked for or the next step begins, but not on the way out of an error, where nobody would answer.

    Attributes
    ----------
    seconds : float
        Time spent on the norms, on the host's clock (on CUDA: to launch them); not counted in compiled models.

    Raises
    ------
    ValueError
        There are no blocks, a block is no submodule or is listed twice, or ``every`` is below 1.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    >>> with GradientNorms(model, blocks=model) as probe:
    ...     model(torch.randn(4, 8)).square().mean().backward()
    >>> probe.ratios().shape
    torch.Size([3])
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Iterable[Any] | None = None,
        every: int = 1,
        combine: Callable[[Tensor], Tensor] | None = None,
    ):
        self.every = _checks.whole_number("every", every, unit="step")
        if isinstance(blocks, str):
            raise ValueError(f"blocks must be a list, not the text {blocks!r}: write blocks=[{blocks!r}]")
        found = _named_blocks(model, blocks)
        self.model = model
        self.names = [name for name, _, _ in found]
        self.kinds = [kind for _, kind, _ in found]
        self._modules = [module for _, _, module in found]
        self._combine = combine
        self._handles: list[Any] = []
        self.seconds = 0.0
        self._forwards = 0
        self._active = False
        self._last: Tensor | None = None
        self._sums: Tensor | None = None
        self._clear()

    # -- attaching ---------------------------------------------------------------------------------------------
    def __enter__(self) -> GradientNorms:
        return self.attach()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and self._combine is not None:
            self._clear()
        self.detach()

    def attach(self) -> GradientNorms:
        """Start watching.  This is the same as entering the context."""
        self.detach()
        self._handles.append(self.model.register_forward_pre_hook(_Hook(self._start)))
        for i, module in enumerate(self._modules):
            before = _Hook(lambda m, args, i=i: self._before(i, args))
            after = _Hook(lambda m, args, out, i=i: self._after(i, out))
            self._handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        if _compiled(self.model):
            torch.compiler.reset()
        return self

    def detach(self) -> None:
        """Stop watching.  What was recorded stays readable."""
        self._flush()
        if self._handles and _compiled(self.model):
            torch.compiler.reset()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._active = False

    # -- hooks -------------------------------------------------------------------------------------------------
    def _clear(self) -> None:
        n = len(self._modules)
        # Slot 2i has the norm at block i's input, 2i+1 the one at its output.  A tensor that is one block's output and
        # the next one's input is hooked once: the input's entry in _slot then names the output's.
        self._norms: list[Tensor | None] = [None] * (2 * n)
        self._slot = list(range(2 * n))
        self._seen: list[tuple[weakref.ref[Tensor], int] | None] = [None] * (2 * n)

    def _start(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        # Counting the model's calls, not a block's, keeps recomputed forward passes (activation checkpointing) out.
        self._flush()
        self._active = torch.is_grad_enabled() and self._forwards % self.every == 0
        self._forwards += torch.is_grad_enabled()
        if self._active:
            self._clear()

    def _before(self, i: int, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not (self._active and torch.is_grad_enabled()):
            return None
        if not args or not isinstance(args[0], Tensor):
            raise TypeError(f"block {self.names[i]!r} was not called with a tensor as its first argument")
        x = args[0]
        if i and self._was_seen(2 * i - 1, x):
            self._slot[2 * i] = 2 * i - 1
            return None
        if not x.is_floating_point():
            return None  # tokens have no gradient
        if not x.requires_grad:
            leaf = x.detach().requires_grad_(True)
            self._watch(2 * i, leaf)
            return (leaf.clone(), *args[1:])  # a copy, because the block may change its input in place
        self._watch(2 * i, x)
        return None

    def _after(self, i: int, out: Any) -> None:
        if self._active and torch.is_grad_enabled():
            if not isinstance(out, Tensor):
                raise TypeError(f"block {self.names[i]!r} did not return a tensor")
            if out.requires_grad:
                self._watch(2 * i + 1, out)

    def _was_seen(self, slot: int, x: Tensor) -> bool:
        # The same tensor in the same version: an operation in place between two blocks makes it another one.
        seen = self._seen[slot]
        return seen is not None and seen[0]() is x and seen[1] == x._version

    def _watch(self, slot: int, x: Tensor) -> None:
        if self._was_seen(slot, x):  # a recomputed forward pass hands in the same tensor again
            return
        self._seen[slot] = (weakref.ref(x), x._version)
        norms = self._norms  # this step's list: a late backward pass must not write into the next step's

        def hook(grad: Tensor) -> None:
            if norms[slot] is None:
                norms[slot] = self._timed_norm(grad.detach())

        x.register_hook(hook)

    def _timed_norm(self, grad: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # the clock cannot be compiled
            return norm(grad)
        began = time.perf_counter()
        found = norm(grad)
        self.seconds += time.perf_counter() - began
        return found

    # -- steps that are replayed, not run ------------------------------------------------------------------------
    @property
    def forwards(self) -> int:
        """How many forward passes with a graph were counted."""
        return self._forwards

    def due(self) -> bool:
        """Whether the next forward pass is one to record."""
        return self._forwards % self.every == 0

    def count(self) -> None:
        """Count a forward pass that no hook saw, because the device replayed it."""
        self._forwards += 1

    def forget(self, forwards: int) -> None:
        """Drop the step under way, and go on as after so many forward passes."""
        self._clear()
        self._last = None
        self._forwards = forwards

    # -- results -----------------------------------------------------------------------------------------------
    def _flush(self, counted: Tensor | None = None) -> None:
        """Move a finished backward pass from the list of numbers into the last step and the epoch's sums.

        ``counted``, a boolean scalar tensor, says whether the step is to be added; by default it is.
        """
        known = [x for x in self._norms if x is not None]
        if not known:
            return
        nan = torch.full_like(known[0], _NAN)
        values = [nan if (x := self._norms[s]) is None else x.to(nan.device) for s in self._slot]
        pairs = torch.stack(values).view(-1, 2)
        self._last = pairs if self._combine is None else self._combine(pairs)
        self._clear()
        self._add(self._last, counted)

    def _add(self, pairs: Tensor, counted: Tensor | None) -> None:
        """Add a step's norms (blocks, 2) to the sums.  The row of a block, float64 (10,), has these columns.

        0, 1: the steps with finite values, all steps; 2 to 5: the ratio, its logarithm, the norms at input and output;
        6, 7: the squares of the ratio and of its logarithm; 8, 9: the smallest and the largest ratio.
        """
        ratios = pairs[:, 1] / pairs[:, 0]
        values = torch.cat([torch.stack([ratios, ratios.log()], dim=1), pairs], dim=1).double()
        finite = torch.isfinite(values).all(dim=1)
        kept = torch.where(finite[:, None], values, 0.0)
        if self._sums is None:
            self._sums = values.new_zeros(len(values), 10)
            self._empty()
        self._sums = self._sums.to(values.device)
        sums = self._sums.clone()
        sums[:, 0] += finite
        sums[:, 1] += 1
        sums[:, 2:6] += kept
        sums[:, 6:8] += kept[:, :2].square()
        sums[:, 8] = torch.where(finite, torch.minimum(sums[:, 8], values[:, 0]), sums[:, 8])
        sums[:, 9] = torch.where(finite, torch.maximum(sums[:, 9], values[:, 0]), sums[:, 9])
        # In place: a captured step adds to the same memory each time.
        self._sums.copy_(sums if counted is None else torch.where(counted, sums, self._sums))

    def _empty(self) -> None:
        """Make the sums those of no step."""
        if self._sums is not None:
            self._sums.zero_()
            self._sums[:, 8], self._sums[:, 9] = float("inf"), -float("inf")

    def norms(self) -> Tensor:
        """The norms in the last recorded step.

        Returns
        -------
        Tensor, (blocks, 2)
            At each block's input and output, on the gradients' device.  NaN where no gradient came.

        Raises
        ------
        RuntimeError
            Nothing was recorded yet.
        """
        self._flush()
        if self._last is None:
            raise RuntimeError(
                "nothing was recorded yet: run a forward and a backward pass inside the context first "
                "(and give the probe what torch.compile returned, if that is what runs)"
            )
        return self._last

    def ratios(self) -> Tensor:
        """The ratio ‖∂E/∂x_{l+1}‖ / ‖∂E/∂x_l‖ of every block in the last recorded step.

        Returns
        -------
        Tensor, (blocks,)
            In forward order, on the gradients' device.

        Raises
        ------
        RuntimeError
            Nothing was recorded yet.
        """
        pairs = self.norms()
        return pairs[:, 1] / pairs[:, 0]

    def averages(self) -> list[dict[str, Any]]:
        """Averages over the steps since the last :meth:`reset`.

        Returns
        -------
        list of dict
            One per block, in forward order.  Its keys are ``block`` (1, 2, ...), ``name``, ``kind``, ``steps`` (with a
            finite ratio), ``lost`` (steps without one), ``ratio`` (the mean), ``ratio_sd``, ``ratio_min``,
            ``ratio_max``, ``log_ratio`` (the mean of the natural logarithm, which is what composes over blocks),
            ``log_ratio_sd``, ``grad_in`` and ``grad_out`` (mean norms).  Standard deviations are over steps.
        """
        self._flush()
        table = [[0.0] * 10] * len(self._modules) if self._sums is None else self._sums.tolist()
        rows = []
        for i, (name, kind, sums) in enumerate(zip(self.names, self.kinds, table, strict=True)):
            steps, total, *added, low, high = sums
            means = [x / steps if steps else _NAN for x in added]
            ratio, log_ratio, grad_in, grad_out, ratio_square, log_square = means
            rows.append(
                {
                    "block": i + 1,
                    "name": name,
                    "kind": kind,
                    "steps": int(steps),
                    "lost": int(total - steps),
                    "ratio": ratio,
                    "ratio_sd": _deviation(ratio, ratio_square),
                    "ratio_min": low if steps else _NAN,
                    "ratio_max": high if steps else _NAN,
                    "log_ratio": log_ratio,
                    "log_ratio_sd": _deviation(log_ratio, log_square),
                    "grad_in": grad_in,
                    "grad_out": grad_out,
                }
            )
        return rows

    def reset(self) -> None:
        """Start a new average (a new epoch)."""
        self._flush()
        self._empty()

    def state_dict(self) -> dict[str, Any]:
        """The running sums and the step counter, which a resumed run needs to continue the same averages."""
        self._flush()
        return {"forwards": self._forwards, "sums": None if self._sums is None else self._sums.cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.  Raises ``ValueError`` unless it is that of a probe of as many blocks."""
        sums = state.get("sums") if isinstance(state, dict) else None
        fits = sums is None or (isinstance(sums, Tensor) and sums.shape == (len(self._modules), 10))
        if not isinstance(state, dict) or not {"forwards", "sums"} <= state.keys() or not fits:
            raise ValueError(f"this is not the state of a probe of {len(self._modules)} blocks")
        self._forwards = int(state["forwards"])
        self._sums = None if sums is None else sums.clone()


def _deviation(mean: float, mean_square: float) -> float:
    """The standard deviation; NaN where the mean is."""
    return max(mean_square - mean * mean, 0.0) ** 0.5
