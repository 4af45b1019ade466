"""What is measured of one network: a function for each column of the table.

Each returns an :class:`Entry`, also where the library refuses, and never raises.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from foreign.cases import Case
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.modules.conv import _ConvNd
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

import paperlib
from paperlib import GradientNorms, NormPreserving, operator_norm, orthogonal, spread
from paperlib.spectrum import operator_norm_bound

STAYS = 0.01  # a kernel that is cropped moves away by so much of its target at most, in two small steps
LIBRARY = Path(paperlib.__file__).parent


class Entry(NamedTuple):
    """One cell.

    ``outcome`` is "agrees", "refused", "wrong" or "error" (one that the library did not raise itself).  ``counts`` says
    of how many things, ``figure`` how far from the truth at most, and ``sentences`` what the library says of those
    that it leaves out, with how often.
    """

    outcome: str
    counts: dict[str, int] = {}
    figure: float | None = None
    sentences: dict[str, int] = {}


# -- running a network ---------------------------------------------------------------------------------------------
def network(case: Case, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any]:
    """The network in training mode, without dropout, and its example; the same each time."""
    torch.manual_seed(0)
    model, example = case.make().to(dtype).train(), case.example()
    for module in model.modules():
        for name in ("p", "drop_prob"):  # of dropout, and of blocks that are left out
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    for p in model.parameters():
        if p.ndim > 1 and not p.any():  # a head that starts at zero lets no gradient through
            nn.init.normal_(p, std=0.1)
    return model, tree_map(lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x, example)


def call(model: nn.Module, example: Any) -> Any:
    if isinstance(example, dict):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def floating(value: Any) -> list[Tensor]:
    """The floating-point tensors in what a module takes or returns."""
    leaves = tree_leaves(dict(value) if hasattr(value, "keys") else value)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def loss(out: Any) -> Tensor:
    """A number that depends on every output, each pixel of it in another way."""
    generator, total = torch.Generator().manual_seed(1), torch.zeros(())
    for x in floating(out):
        if x.requires_grad:
            dtype = torch.promote_types(x.dtype, torch.float32)
            total = total + (x * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype)).sum()
    return total


def probed(model: nn.Module, example: Any, **settings: Any) -> list[dict[str, Any]]:
    """The probe's table after one step."""
    with GradientNorms(model, **settings) as probe:
        loss(call(model, example)).backward()
    return probe.table()


# -- what is asked of every function ---------------------------------------------------------------------------------
def column(function: Callable[[Case], Entry]) -> Callable[[Case], Entry]:
    """``function``, with an entry for what it raises."""

    def measured(case: Case) -> Entry:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function(case)
        except Exception as e:
            own = LIBRARY in Path(traceback.extract_tb(e.__traceback__)[-1].filename).parents
            sentence = str(e) if own else f"{type(e).__name__}: {e}"
            return Entry("refused" if own else "error", sentences={sentence: 1})

    return measured


def verdict(figure: float, tolerance: float, counts: dict[str, int], sentences: dict[str, int] | None = None) -> Entry:
    fine = figure <= tolerance  # NaN is not
    return Entry("agrees" if fine else "wrong", counts, figure, sentences or {})


# -- the columns ---------------------------------------------------------------------------------------------------
@column
def hold(case: Case) -> Entry:
    """Two steps with every=1: kernels that can be exact are, and the others stay as near as they started."""
    model, example = network(case, torch.float32)
    held = NormPreserving(model, every=1, example=example, start="projected")
    before = _distances(held)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    with held.attach(optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            loss(call(model, example)).backward()
            optimizer.step()
    after, cropped, whole = _distances(held), [], []
    for (_, conv, _), now, then in zip(held.convs, after, before, strict=True):
        if max(conv.kernel_size) <= conv.stride[0]:
            whole.append(max(now, _distance(conv)))
        else:
            cropped.append(now - then)
    fine = max(whole, default=0.0) <= 1e-5 and max(cropped, default=0.0) <= STAYS
    counts = {"held": len(after), "exact": len(whole), "normalised": len(held.normalised)}
    sentences = dict(Counter(why for _, why in held.passed_over))
    return Entry("agrees" if fine else "wrong", counts, max(after), sentences)


def _distances(held: NormPreserving) -> list[float]:
    """How far each kernel's singular values are from the target at most, as the library says."""
    return [max(abs(row["lowest"] - 1), abs(row["highest"] - 1)) for row in held.describe()]


def _distance(conv: nn.Conv2d) -> float:
    """The same for a kernel of k ≤ stride, by hand: it acts as one matrix on patches that do not overlap."""
    matrix = conv.weight.detach().double().flatten(1)
    values = torch.linalg.svdvals(matrix) / math.sqrt(len(matrix) / min(matrix.shape))
    return (values - 1).abs().max().item()


class Watched(NamedTuple):
    """A call of a block in a plain network: what it took and returned, and where in autograd's graph these are."""

    args: Any
    kwargs: Any
    edges_in: list[Any]
    edges_out: list[Any]
    edges_behind: list[Any]  # of copies of what it returned, where only what comes behind the block takes part


@contextlib.contextmanager
def watching(model: nn.Module, names: list[str]) -> Iterator[dict[str, Watched]]:
    """The last call of each block, by name."""
    seen: dict[str, Watched] = {}
    begun: dict[str, list[Any]] = {}

    def edges(value: Any) -> list[Any]:
        return [get_gradient_edge(x) if x.requires_grad else None for x in floating(value)]

    hooks = []
    for name in names:
        module = model.get_submodule(name)

        def before(_m: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            copies = tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, (args, kwargs))
            begun[name] = [*copies, edges((args, kwargs))]

        def after(_m: nn.Module, args: Any, kwargs: Any, out: Any, name: str = name) -> Any:
            behind = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, out)
            seen[name] = Watched(*begun[name], edges(out), edges(behind))
            return behind

        hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
        hooks.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class Gradients(NamedTuple):
    """What ``torch.autograd.grad`` gives at a block's first input, its first output, and behind each output."""

    watched: Watched
    at_in: Tensor | None
    at_out: Tensor | None
    behind: list[Tensor | None]


def plain_gradients(model: nn.Module, example: Any, names: list[str]) -> dict[str, Gradients]:
    """By block, in a network without the probe."""
    leaves = [x.requires_grad_() for x in floating(example)]
    with watching(model, names) as seen:
        value = loss(call(model, example))
    edges = [e for w in seen.values() for e in (*w.edges_in, *w.edges_out, *w.edges_behind) if e is not None]
    grads = dict(zip(edges, torch.autograd.grad(value, edges, allow_unused=True), strict=True))
    grads[None] = None
    found = {
        name: Gradients(
            w, *(grads[next(iter(e), None)] for e in (w.edges_in, w.edges_out)), [grads[e] for e in w.edges_behind]
        )
        for name, w in seen.items()
    }
    for leaf in leaves:
        leaf.requires_grad_(False)
    return found


def _said(rows: list[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """How many blocks have a ratio, and why the others have none."""
    sentences = Counter(row["why"] for row in rows if row["why"])
    return {"blocks": len(rows) - sentences.total()}, dict(sentences)


def _difference(rows: list[dict[str, Any]], expected: dict[str, float | None]) -> float:
    """The largest relative difference of a probe's ratios from others; infinite where only one of them is there."""
    worst = 0.0
    for row in rows:
        true = expected[row["name"]]
        if not row["why"]:
            worst = max(worst, math.inf if true is None else abs(row["ratio"] - true) / max(abs(true), 1e-300))
    return worst


def _against(rows: list[dict[str, Any]], expected: dict[str, float | None]) -> Entry:
    """A probe's ratios against those that autograd gives; a block may lack one only where autograd has none."""
    lost = any(row["why"] and expected.get(row["name"]) is not None for row in rows)
    missing = {row["name"]: None for row in rows}
    return verdict(math.inf if lost else _difference(rows, missing | expected), 1e-6, *_said(rows))


def _ratio(grad_in: Tensor | None, grad_out: Tensor | None) -> float | None:
    if grad_in is None or grad_out is None or not grad_in.norm() > 0:
        return None
    return float(grad_out.norm() / grad_in.norm())


@column
def probe(case: Case) -> Entry:
    """Ratios against torch.autograd.grad at the same tensors of a network without the probe."""
    rows = probed(*network(case), blocks=case.blocks)
    found = plain_gradients(*network(case), [row["name"] for row in rows])
    return _against(rows, {name: _ratio(g.at_in, g.at_out) for name, g in found.items()})


@column
def vjp(case: Case) -> Entry:
    """The same for input_gradient="vjp", against autograd of each block alone."""
    rows = probed(*network(case), blocks=case.blocks, input_gradient="vjp")
    model, example = network(case)
    found = plain_gradients(model, example, [row["name"] for row in rows])
    return _against(rows, {name: _ratio(_alone(model.get_submodule(name), g), g.at_out) for name, g in found.items()})


def _alone(block: nn.Module, found: Gradients) -> Tensor | None:
    """The gradient at the block's first input when the block alone is run."""
    taken = (found.watched.args, found.watched.kwargs)
    first = floating(taken)[0].requires_grad_()
    # A block that works in place must not find a leaf.
    args, kwargs = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, taken)
    out = floating(block(*args, **kwargs))
    pairs = [(x, g) for x, g in zip(out, found.behind, strict=True) if g is not None and x.requires_grad]
    if not pairs:
        return None
    return torch.autograd.grad([x for x, _ in pairs], first, [g for _, g in pairs], allow_unused=True)[0]


@column
def compiled(case: Case) -> Entry:
    """The same ratios from the compiled network, and how many graphs it has without and with the probe."""
    model, example = network(case)
    plain = {row["name"]: row["ratio"] for row in probed(model, example, blocks=case.blocks)}
    graphs = []
    backend = torch._dynamo.lookup_backend("aot_eager")

    def counted(module: Any, inputs: Any) -> Any:
        graphs.append(module)
        return backend(module, inputs)

    torch.compiler.reset()
    fast = torch.compile(copy.deepcopy(model), backend=counted)
    loss(call(fast, example)).backward()
    without = len(graphs)
    graphs.clear()
    rows = probed(fast, example, blocks=case.blocks)
    torch.compiler.reset()
    counts, said = _said(rows)
    worst = _difference([row | {"name": _bare(row["name"])} for row in rows], plain)
    return verdict(worst, 1e-5, counts | {"graphs without": without, "graphs with": len(graphs)}, said)


def _bare(name: str) -> str:
    return re.sub(r"(^|\.)(_orig_mod|module)(?=\.|$)", "", name).lstrip(".")


@column
def autocast(case: Case) -> Entry:
    """In bfloat16: whether the ratios are finite, and how far from those in float32."""
    plain = {row["name"]: row["ratio"] for row in probed(*network(case, torch.float32), blocks=case.blocks)}
    model, example = network(case, torch.float32)
    with GradientNorms(model, blocks=case.blocks) as found:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(call(model, example))
        value.backward()
    rows = found.table()
    return verdict(_difference(rows, plain), sys.float_info.max, *_said(rows))


@column
def ddp(case: Case) -> Entry:
    """In a world of one process: the same names, and the same ratios."""
    plain = probed(*network(case), blocks=case.blocks)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model, example = network(case)
        rows = probed(DistributedDataParallel(model), example, blocks=case.blocks)
    finally:
        dist.destroy_process_group()
    same = [row["name"] for row in rows] == [row["name"] for row in plain]
    worst = _difference(rows, {row["name"]: row["ratio"] for row in plain}) if same else math.inf
    return verdict(worst, 1e-6, *_said(rows))


def _kinds(convs: dict[nn.Module, tuple[int, ...]]) -> list[tuple[Any, tuple[int, ...]]]:
    """One of all convolutions that have the same settings and the same input, with the sides of this."""
    return list({(conv.extra_repr(), sides): (conv, sides) for conv, sides in convs.items()}.values())


@column
def spectrum(case: Case) -> Entry:
    """The norm of each kind of convolution on its own input, against its bound."""
    model, example = network(case)
    sides: dict[nn.Module, tuple[int, ...]] = {}

    def remember(conv: nn.Module, args: tuple[Any, ...]) -> None:
        sides.setdefault(conv, tuple(args[0].shape[2:]))

    for conv in model.modules():
        if isinstance(conv, _ConvNd):
            conv.register_forward_pre_hook(remember)
    call(model, example)
    shares, sentences = [], Counter()
    for conv, size in _kinds(sides):
        try:
            norm, bound = (f(conv, input_size=size).item() for f in (operator_norm, operator_norm_bound))
            shares.append(norm / bound)
        except ValueError as e:
            sentences[str(e)] += 1
    return verdict(max(shares, default=0.0), 1 + 1e-9, {"kinds": len(shares)}, dict(sentences))


@column
def parametrized(case: Case) -> Entry:
    """`orthogonal` on each kind of Conv2d: its singular values are the target, on a circular map."""
    model, _ = network(case)
    off, sentences = [], Counter()
    for conv, _ in _kinds({conv: () for conv in model.modules() if isinstance(conv, nn.Conv2d)}):
        try:
            layer = orthogonal(copy.deepcopy(conv))
        except ValueError as e:
            sentences[str(e)] += 1
            continue
        values = spread(layer.weight, 3, layer.stride[0], groups=layer.groups, dilation=layer.dilation)
        off.append(max(abs(x - 1) for x in values))
    return verdict(max(off, default=0.0), 1e-9, {"kinds": len(off)}, dict(sentences))


COLUMNS = {
    "hold": hold, "probe": probe, "vjp": vjp, "compiled": compiled, "autocast": autocast, "DDP": ddp,
    "spectrum": spectrum, "orthogonal": parametrized,
}  # fmt: skip
