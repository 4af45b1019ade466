"""The probe: it watches the gradients at the inputs and outputs of a network's blocks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paperlib import _checks
from paperlib.probes import averages, registry, tables, tensors
from paperlib.probes.blocks import compiled_part, named_blocks, unwrap
from paperlib.probes.steps import Recorder, Scale, Step
from paperlib.probes.tensors import Selector


class _Hook:
    """A hook that belongs to one probe: copied or pickled with a model, it does nothing."""

    def __init__(self, function: Callable[..., Any] | None = None):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return None if self.function is None else self.function(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:  # copy.deepcopy asks here, too
        return _Hook, ()


# Where a block's own code cuts a graph in two, torch calls the block's hooks by themselves.  It would compile each of
# them as a graph of its own, in which the gradient is lost.  They are to be ordinary Python there; as a part of a
# larger graph they are compiled as before.  torch has no public function for it, and without it nothing else changes.
with contextlib.suppress(ImportError, AttributeError):
    from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy

    set_code_exec_strategy(_Hook.__call__.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))


class _Around:
    """What a module compiled by itself is called through while it is watched: the hooks run outside of its graph.

    There the gradient's contributions from outside of the module are seen, too.  ``outside[i]`` says that the hooks
    inside of the graph have nothing to do.
    """

    def __init__(
        self, module: nn.Module, before: Callable[..., Any], after: Callable[..., Any], outside: list[bool], i: int
    ) -> None:
        self.module, self.before, self.after, self.outside, self.i = module, before, after, outside, i
        self.compiled = module._compiled_call_impl
        module._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        assert self.compiled is not None
        args, kwargs = self.before(self.module, args, kwargs) or (args, kwargs)
        self.outside[self.i] = True
        try:
            out = self.compiled(*args, **kwargs)
        finally:
            self.outside[self.i] = False
        changed = self.after(self.module, args, kwargs, out)
        return out if changed is None else changed

    def remove(self) -> None:
        if self.module._compiled_call_impl is self:
            self.module._compiled_call_impl = self.compiled


def _compiled(model: nn.Module) -> bool:
    return any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in model.modules())


def _parameter_names(module: nn.Module) -> list[str]:
    """The names of the positional arguments that a call of the module takes."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward = getattr(module, "_orig_mod", module).forward
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in kinds]


def _selectors(tensor: Any) -> tuple[Selector, Selector]:
    pair = tensor if isinstance(tensor, tuple) else (tensor, tensor)
    if len(pair) != 2 or not all(s is None or isinstance(s, int | str) or callable(s) for s in pair):
        raise ValueError(
            "tensor must be a position, a name, a callable, or two of them (for inputs and outputs), "
            f"not {_checks.shown(tensor)}"
        )
    return pair


def _network(model: Any) -> nn.Module:
    """The network in ``model``, if the probe can watch it."""
    if not isinstance(model, nn.Module):
        what = "the class" if isinstance(model, type) else "a value of type"
        name = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(f"model must be a torch.nn.Module, not {what} {name}")
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise ValueError(
            "model is a DataParallel on several devices, whose copies of the network share one probe: "
            "use DistributedDataParallel, with a probe in each process"
        )
    return unwrap(model)


class GradientNorms:
    """Watch the norms of the gradients at the inputs and outputs of a network's blocks.

    A context manager over any ``nn.Module`` that calls its blocks.  It hooks one tensor of each block's inputs and one
    of its outputs, keeps one number for each (no graph, no gradient), and does not wait for the device until a result
    is read.  It changes nothing in the computation, except that a block whose input requires no gradient (the raw
    data, or the output of frozen layers) gets a copy of it that does.

    A step is one forward pass of ``model`` that builds a graph, with the first backward pass that reaches it.  A
    forward pass without a backward pass is no step: it may come at any time, and takes nothing away.  Of several
    backward passes through one graph the first counts, and of several calls of a block within one forward pass the
    last.  :meth:`ratios` and :meth:`norms` are those of the latest forward pass that a backward pass has reached, and
    :meth:`averages` are over all of them.

    Parameters
    ----------
    model : nn.Module
        The module to watch, which may be wrapped by ``DistributedDataParallel`` or ``torch.compile``.  A call of it
        starts a step.
    blocks : iterable, optional
        The blocks in forward order: modules, names of submodules, or objects with ``name``, ``kind`` and ``module``.
        By default they are ``model.blocks``, else those that :func:`paperlib.probes.blocks.repeated_blocks` finds.
    every : int
        Every so many forward passes that build a graph, one is recorded.
    combine : callable, optional
        For a batch that several processes share: makes the norms (blocks, 2) of this process's part those of the whole
        batch (:meth:`paperlib.processes.World.norms`).  It is called once for each recorded step, when the step's norms
        are first asked for or the next step begins, but not on the way out of an error, where nobody would answer.
    input_gradient : {"total", "vjp"}
        What is measured at a block's input x.  ``"total"`` is ∂E/∂x over all paths, as in the paper, where x_l enters
        nothing but block l.  Take ``"vjp"`` for a module that other paths lead around, such as the inner part of a
        residual block.  It is the vector-Jacobian product of the block alone: what the gradient at the block's output
        becomes on its way through the block.
    scale : GradScaler or callable, optional
        By what the loss is multiplied, under automatic mixed precision.  Then so are the gradients and :meth:`norms`.
        If it is given, the norms are divided by its value in the backward pass.  Ratios are the same either way.
    tensor : int, str or callable, optional
        Which tensor of a block's inputs and outputs is watched: an argument's position or name (an output's index or
        key), or a function of the arguments (of the output) that returns the tensor.  A pair of these is for inputs
        and for outputs.  By default it is the first one of a floating-point dtype: positional arguments come before
        keyword arguments, and tuples, lists, dicts and dataclasses are searched in their order.  A tensor that a block
        gets several times, as the query, the key and the value of self-attention, counts with all its paths.

    Attributes
    ----------
    names : list of str
        The blocks' names, in forward order.
    kinds : list of str
        Their kinds.

    Raises
    ------
    ValueError
        There are no blocks, a block is no submodule or is listed twice, ``every`` is below 1, or another argument has
        a value that is none of the above.
    TypeError
        ``model`` is no module; on a forward pass, a block gets or returns no tensor.

    Notes
    -----
    Under ``torch.compile`` a model with a probe is one graph, as without it, with an operator for each watched
    gradient.  Compiled code does not look for hooks, so that a model that was compiled before is compiled anew when
    the probe is attached or detached.  The total gradient is over the paths within one compiled graph, and within an
    ``nn.TransformerEncoderLayer`` in evaluation a hook turns off the fast path.  A probe may stay attached to a model
    that is copied or pickled: the copy is not watched.  A copy of the probe has its averages, and is not attached.

    ``torch.jit`` cannot take a watched model: detach the probe first.

    Within the transforms of ``torch.func`` (``vmap``, ``grad``, ``jacrev``, …), and for a backward pass with batched
    gradients, nothing is recorded.

    With activation checkpointing in its reentrant form a block is recorded when it is computed again, as part of the
    last forward pass.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    >>> with GradientNorms(model, blocks=model) as probe:
    ...     model(torch.randn(4, 8)).square().mean().backward()
    >>> probe.ratios().shape
    torch.Size([3])
    >>> [row["name"] for row in probe.table()]
    ['0', '1', '2']
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Iterable[Any] | None = None,
        every: int = 1,
        combine: Callable[[Tensor], Tensor] | None = None,
        input_gradient: Literal["total", "vjp"] = "total",
        scale: Scale | None = None,
        tensor: Selector | tuple[Selector, Selector] = None,
    ):
        self.every = _checks.whole_number("every", every, unit="step")
        self.input_gradient = _checks.one_of("input_gradient", input_gradient, ("total", "vjp"))
        if combine is not None:
            _checks.function("combine", combine)
        if scale is not None and not callable(scale) and not isinstance(scale, torch.amp.GradScaler):
            raise TypeError(f"scale must be a GradScaler or a function without arguments, not {type(scale).__name__}")
        self.model = _network(model)
        self._outermost = compiled_part(model)
        found = named_blocks(self.model, blocks)
        self.names = [block.name for block in found]
        self.kinds = [block.kind for block in found]
        self._modules = [block.module for block in found]
        self._arguments = [_parameter_names(module) for module in self._modules]
        self._select_input, self._select_output = _selectors(tensor)
        self._combine = combine
        self._hooks: list[Any] = []
        self._recorder = Recorder(len(found), self.every, scale, self._flush)
        self._last: Tensor | None = None
        self._last_number = 0
        self._why = [""] * len(found)
        self._sums: Tensor | None = None
        # For compiled code, see paperlib.probes.compiled.
        self._handle = registry.handle(self._recorder)
        self._entered = 0  # contexts within one another; the outermost one detaches
        self._outside = [False] * (len(found) + 1)  # of its module's graph the hook is called just now
        self._number = torch.zeros((), dtype=torch.int64)
        self._count = torch.zeros((), dtype=torch.int64)
        self._tap = torch.zeros((), requires_grad=True)

    def __getstate__(self) -> dict[str, Any]:
        self._flush()
        return self.__dict__ | {"_hooks": [], "_entered": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._handle = registry.handle(self._recorder)

    # -- attaching ---------------------------------------------------------------------------------------------
    def __enter__(self) -> GradientNorms:
        self._entered += 1
        return self if self._entered > 1 else self.attach()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._entered -= 1
        if kind is not None and self._combine is not None:
            self._recorder.clear()
        if not self._entered:
            self.detach()

    def attach(self, calls_start_steps: bool = True) -> GradientNorms:
        """Start watching.  This is the same as entering the context.

        Parameters
        ----------
        calls_start_steps : bool
            Whether each call of the model starts a step.  Without it call :meth:`start_step` before each forward
            pass: for loops that call parts of the model, and not the model itself.

        Returns
        -------
        GradientNorms
            Itself.
        """
        _checks.flag("calls_start_steps", calls_start_steps)
        self.detach()
        device = next((p.device for p in self.model.parameters()), "cpu")
        self._tap = torch.zeros((), device=device, requires_grad=True)
        if calls_start_steps:
            self._hook(len(self._modules), self._outermost, self._start, lambda *args: None)
        for i, module in enumerate(self._modules):
            self._hook(
                i,
                module,
                lambda m, args, kwargs, i=i: self._before(i, args, kwargs),
                lambda m, args, kwargs, out, i=i: self._after(i, args, kwargs, out),
            )
        if _compiled(self._outermost):
            torch.compiler.reset()
        return self

    def _hook(self, i: int, module: nn.Module, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        if module._compiled_call_impl is not None:
            self._hooks.append(_Around(module, before, after, self._outside, i))
        pre = _Hook(lambda *args: None if self._outside[i] else before(*args))
        self._hooks.append(module.register_forward_pre_hook(pre, with_kwargs=True))
        if i < len(self._modules):
            post = _Hook(lambda *args: None if self._outside[i] else after(*args))
            self._hooks.append(module.register_forward_hook(post, with_kwargs=True))

    def detach(self) -> None:
        """Stop watching.  What was recorded stays readable."""
        try:
            self._flush()
        finally:
            if self._hooks and _compiled(self._outermost):
                torch.compiler.reset()
            for hook in self._hooks:
                hook.remove()
            self._hooks.clear()
            self._recorder.end()

    @property
    def seconds(self) -> float:
        """Time spent on the norms, on the host's clock (on CUDA: to launch them)."""
        return self._recorder.seconds

    # -- hooks -------------------------------------------------------------------------------------------------
    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Counting the model's calls, not a block's, keeps recomputed forward passes (activation checkpointing) out.
        if not torch.compiler.is_compiling():
            self.start_step()
        elif torch.is_grad_enabled():
            from paperlib.probes import compiled

            self._number = compiled.start_step(self._count, self._handle)

    def start_step(self) -> None:
        """Begin a step: the forward pass comes next.  An attached probe does this by itself when the model is called.

        Without gradients (``torch.no_grad``) it does nothing.
        """
        self._recorder.start()
        self._number = torch.tensor(self._recorder.number())

    def _before(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        in_graph = torch.compiler.is_compiling()
        step = None if in_graph else self._recorder.wants(i)
        if not torch.is_grad_enabled() or not (in_graph or step):
            return None
        path = self._input(i, args, kwargs)
        if path is None:
            if step:
                step.why.setdefault(i, "its input holds no floating-point tensor")
            return None
        x = tensors.at((args, kwargs), path)
        if step and tensors.transformed(x):
            step.why.setdefault(i, tensors.TRANSFORMED)
            return None
        watched = self._watched_input(step, i, x) if step else self._watched_in_graph(2 * i, x)
        return None if watched is x else tensors.replace((args, kwargs), x, watched)

    def _watched_input(self, step: Step, i: int, x: Tensor) -> Tensor:
        """What the block is to take for ``x``."""
        if not x.requires_grad:
            leaf = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
            self._recorder.watch(step, 2 * i, leaf)
            return leaf.clone()  # a copy, because the block may change its input in place
        if self.input_gradient == "vjp":
            x = x.view_as(x)
        elif i and step.was_seen(2 * i - 1, x):
            step.share(2 * i - 1, 2 * i)
            return x
        self._recorder.watch(step, 2 * i, x)
        return x

    def _after(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        in_graph = torch.compiler.is_compiling()
        step = None if in_graph else self._recorder.wants(i)
        if not torch.is_grad_enabled() or not (in_graph or step):
            return None
        if step and self.input_gradient == "vjp" and step.changed(2 * i):
            step.why[i] = "it changes its input in place, which hides the gradient from input_gradient='vjp'"
        try:
            path = tensors.find_output(self._select_output, out)
        except TypeError as e:
            raise TypeError(f"the output of block {self.names[i]!r} cannot be watched: {e}") from None
        x = None if path is None else tensors.at(out, path)
        if x is None or path is None or not x.requires_grad:
            return None
        if step and tensors.transformed(x):
            return None
        if step:
            self._recorder.watch(step, 2 * i + 1, x)
            return None
        return tensors.put(out, path, self._watched_in_graph(2 * i + 1, x))

    def _input(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tensors.Path | None:
        try:
            return tensors.find_input(self._select_input, self._arguments[i], args, kwargs)
        except TypeError as e:
            raise TypeError(f"the input of block {self.names[i]!r} cannot be watched: {e}") from None

    def _watched_in_graph(self, slot: int, x: Tensor) -> Tensor:
        from paperlib.probes import compiled

        if self.input_gradient == "vjp" and slot % 2 == 0:
            x = x.view_as(x)
        return compiled.watch(x, self._tap, self._number, self._handle, slot)

    # -- steps that are replayed, not run ------------------------------------------------------------------------
    @property
    def forwards(self) -> int:
        """How many forward passes with a graph were counted."""
        return self._recorder.forwards

    def due(self) -> bool:
        """Whether the next forward pass is one to record."""
        return self._recorder.forwards % self.every == 0

    def count(self) -> None:
        """Count a forward pass that no hook saw, because the device replayed it."""
        self._recorder.forwards += 1

    def forget(self, forwards: int) -> None:
        """Drop the step under way, and go on as after so many forward passes."""
        forwards = _checks.whole_number("forwards", forwards, least=0)
        self._recorder.clear()
        self._recorder.forwards = forwards
        self._last = None

    # -- results -----------------------------------------------------------------------------------------------
    def _flush(self, counted: Tensor | None = None) -> None:
        """Move finished backward passes from lists of numbers into the last step and the sums.

        ``counted``, a boolean scalar tensor, says whether the steps are to be added; by default they are.
        """
        for step in self._recorder.take():
            pairs = step.pairs()
            pairs = pairs if self._combine is None else self._combine(pairs)
            if self._last is None or step.number > self._last_number:
                self._last, self._last_number, self._why = pairs, step.number, self._explained(step.reasons())
            self._add(pairs, counted)

    def _explained(self, reasons: list[str]) -> list[str]:
        """Why a block has no ratio, where it is because the model no longer has that block."""
        if not any(reasons):
            return reasons
        present = set(self.model.modules())
        return [
            why and (why if module in present else "it was replaced in the model: make the probe anew")
            for why, module in zip(reasons, self._modules, strict=True)
        ]

    def _add(self, pairs: Tensor, counted: Tensor | None) -> None:
        """Add a step's norms (blocks, 2) to the sums."""
        self._sums, sums = averages.added(self._sums, pairs)
        # In place: a captured step adds to the same memory each time.
        self._sums.copy_(sums if counted is None else torch.where(counted, sums, self._sums))

    def norms(self) -> Tensor:
        """The norms in the last recorded step.

        Returns
        -------
        Tensor, (blocks, 2)
            At each block's input and output, on the gradients' device.  NaN where no gradient came (:meth:`table` says
            why).  Under automatic mixed precision they are scaled like the loss, unless the probe was given ``scale``.

        Raises
        ------
        RuntimeError
            Nothing was recorded yet.
        """
        self._flush()
        if self._last is None:
            raise RuntimeError(f"nothing was recorded yet: {self._recorder.why_nothing()}")
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
            ``log_ratio_sd``, ``grad_in`` and ``grad_out`` (mean norms; scaled like those of :meth:`norms`).  Standard
            deviations are over steps.
        """
        self._flush()
        none = [0.0] * averages.COLUMNS
        table = [none] * len(self._modules) if self._sums is None else self._sums.tolist()
        return [
            {"block": i + 1, "name": name, "kind": kind} | averages.means(sums)
            for i, (name, kind, sums) in enumerate(zip(self.names, self.kinds, table, strict=True))
        ]

    def table(self) -> list[dict[str, Any]]:
        """The last recorded step as rows, for example for ``pandas.DataFrame``; ``print(probe)`` shows them.

        Returns
        -------
        list of dict
            One per block, in forward order.  Its keys are ``block`` (1, 2, ...), ``name``, ``kind``, ``ratio``,
            ``grad_in`` and ``grad_out`` (the norms), and ``why``, which says why a block has no ratio.

        Raises
        ------
        RuntimeError
            Nothing was recorded yet.
        """
        return tables.rows(self.names, self.kinds, self.norms().tolist(), self._why)

    def plot(self, ax: Any = None) -> Any:
        """Draw the ratios of the last recorded step in forward order, on a logarithmic scale.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Where it was drawn.

        Raises
        ------
        RuntimeError
            Nothing was recorded yet.
        ImportError
            matplotlib is not installed.
        """
        return tables.plot(self.table(), ax)

    def __repr__(self) -> str:
        number = f"{len(self.names)} block{'s' * (len(self.names) > 1)}"
        return f"GradientNorms({type(self.model).__name__}, {number}, every={self.every})"

    def __str__(self) -> str:
        try:
            return tables.text(f"{self!r}:", self.table())
        except RuntimeError:
            return f"{self!r}: nothing was recorded yet"

    def reset(self) -> None:
        """Start a new average (a new epoch)."""
        self._flush()
        if self._sums is not None:
            averages.empty(self._sums)

    def state_dict(self) -> dict[str, Any]:
        """The running sums and the step counter, which a resumed run needs to continue the same averages."""
        self._flush()
        sums = None if self._sums is None else self._sums.cpu().clone()
        return {"forwards": self._recorder.forwards, "sums": sums, "names": list(self.names)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.  Raises ``ValueError`` unless it is of a probe of the same blocks in this order."""
        sums = state.get("sums") if isinstance(state, dict) else None
        fits = sums is None or (isinstance(sums, Tensor) and sums.shape == (len(self._modules), averages.COLUMNS))
        if not isinstance(state, dict) or not {"forwards", "sums"} <= state.keys() or not fits:
            raise ValueError(f"this is not the state of a probe of {len(self._modules)} blocks")
        if (names := state.get("names", self.names)) != list(self.names):  # an earlier paperlib kept no names
            raise ValueError(
                f"this is the state of a probe of {_checks.shown(names)}, not of {_checks.shown(self.names)}"
            )
        self._recorder.forwards = _checks.whole_number("state['forwards']", state["forwards"], least=0)
        self._sums = None if sums is None else sums.clone()
