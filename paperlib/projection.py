"""The norm-preserving projection of a convolution's kernel (Section 3, equations 5-9 and Algorithm 1).

A convolution maps the gradient at its output to the gradient at its input.  The paper keeps the norm by setting every
non-zero singular value of that map to σ = sqrt(d / min(d, c)): at each frequency the kernel's transform P is replaced
by σ times its polar factor P (PᴴP)^(-1/2), then the kernel is cropped back to its k×k taps.

Here no transform of the kernel is ever made.  PᴴP has only the (2k-1)² lags of the kernel's autocorrelation, and of
the filter (PᴴP)^(-1/2) the crop needs only as many; both are c×c matrices.  So frequencies see small matrices of the
smaller side, and the larger one only takes part in two ordinary matrix products.  A stride is handled through
:func:`paperlib.spectrum.polyphase`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any, get_args

import torch
from torch import Tensor, nn

from paperlib import reference
from paperlib.errors import ProjectionError
from paperlib.polar import Method, inverse_sqrt
from paperlib.spectrum import (
    check_finite,
    check_stride,
    check_weight,
    from_polyphase,
    polyphase,
    sides,
    singular_values,
    waves,
)
from paperlib.trunk import TrunkConv, trunk_convs, unwrap


def rank(weight_shape: tuple[int, ...], stride: int = 1) -> int:
    """The generic rank of the map at one frequency: min(d, p·c), where p of a stride's s² phases are read (all if k ≥ s)."""
    d, c, kh, kw = (int(n) for n in weight_shape)
    return min(d, min(kh, stride) * min(kw, stride) * c)


def target(weight_shape: tuple[int, ...], stride: int = 1, relu: bool = False) -> float:
    """The singular value σ that keeps the expected norm of the gradient (equation 7): σ² = d / r.

    The non-zero part of the map has r = :func:`rank` dimensions of d, and isotropic gradients have r/d of their
    energy there. For a 1×1 kernel, strided or not, r = min(d, c); for k ≥ s it is min(d, s²c).  With ``relu`` the
    ReLU behind the convolution takes half of the gradient's energy, and σ grows by sqrt(2).

    Parameters
    ----------
    weight_shape : ``(d, c, kh, kw)``, PyTorch's layout.
    stride : the convolution's stride s.
    relu : whether a ReLU follows directly.

    Raises
    ------
    ValueError : a shape or stride that no convolution has.

    Examples
    --------
    >>> target((64, 3, 3, 3))  # sqrt(64 / 3): 3 channels in, 64 out
    4.618802153517006
    >>> target((16, 64, 1, 1), relu=True) ** 2  # doctest: +ELLIPSIS
    2.00000...
    """
    check_stride(stride)
    if len(weight_shape) != 4 or not all(isinstance(n, Integral) and n >= 1 for n in weight_shape):
        raise ValueError(f"a weight of shape {tuple(weight_shape)} is no convolution")
    return math.sqrt((2 if relu else 1) * int(weight_shape[0]) / rank(weight_shape, stride))


def _tap_lags(k: tuple[int, int], device: torch.device) -> Tensor:
    """For taps s and t of a kernel, numbered along its rows, the number of the lag t - s: ``(kh·kw, kh·kw)``."""
    rows, columns = (torch.arange(n, device=device) for n in k)
    row, column = (t.flatten() for t in torch.meshgrid(rows, columns, indexing="ij"))
    return (row - row[:, None] + k[0] - 1) * (2 * k[1] - 1) + column - column[:, None] + k[1] - 1


# Of each alternating projection but the first and the last, this multiple of the step is taken.  Close to the target,
# where the set of operators is nearly flat, any multiple below 2 converges, and this one about twice as fast as 1:
# 3→64 is within 1.2 % after 10 passes in place of 2.9 % (the largest of 30 kernels).
_RELAXATION = 1.8


def _nearest(kernel: Tensor, read: Tensor, grid: tuple[int, int], passes: int, method: Method) -> tuple[Tensor, Tensor]:
    """The polar factor at each frequency of ``grid``, cropped, ``passes`` times and over-relaxed between, for a tall
    float64 kernel ``(d, c, kh, kw)``, d ≥ c.

    Taps where ``read``, which broadcasts to the kernel's shape, is zero stay zero.  Also whether every inverse square
    root could be trusted.
    """
    d, c, kh, kw = kernel.shape
    taps, lags = kh * kw, (2 * kh - 1) * (2 * kw - 1)
    if taps == 1:  # one matrix at every frequency, and nothing to crop: once is enough
        matrix = kernel[:, :, 0, 0]
        root, ok = inverse_sqrt((matrix.T @ matrix)[None], method)
        return (matrix @ root[0])[:, :, None, None], ok
    device, h, w = kernel.device, *grid
    lag = _tap_lags((kh, kw), device)
    table = waves(grid, *(torch.arange(1 - k, k, dtype=kernel.dtype, device=device) for k in (kh, kw)))
    # Each frequency of the half spectrum stands for its mirror image as well, but those that are their own.
    twice = torch.full((w // 2 + 1,), 2.0, dtype=kernel.dtype, device=device)
    twice[0] = 1
    if w % 2 == 0:
        twice[-1] = 1
    weights = twice.repeat(h)[:, None] / (h * w)
    inverse = (table.real * weights).T, (table.imag * weights).T
    read = read.expand(-1, c, kh, kw).permute(0, 2, 3, 1).reshape(-1, taps * c)
    flat = kernel.permute(0, 2, 3, 1).reshape(d, taps * c)
    ok = torch.ones((), dtype=torch.bool, device=device)
    for i in range(passes):
        products = (flat.T @ flat).reshape(taps, c, taps, c).transpose(1, 2).reshape(taps * taps, c * c)
        # Not in place, so that torch.vmap can project a batch of kernels.
        correlation = torch.zeros(lags, c * c, dtype=flat.dtype, device=device).index_add(0, lag.flatten(), products)
        gram = torch.complex(table.real @ correlation, table.imag @ correlation)
        root, fine = inverse_sqrt(gram.reshape(-1, c, c), method)
        root = root.reshape(-1, c * c)
        filtered = inverse[0] @ root.real + inverse[1] @ root.imag
        ok = ok & fine
        # The kernel convolved with the filter, at the kernel's own taps.
        toeplitz = filtered[lag].reshape(taps, taps, c, c).transpose(1, 2).reshape(taps * c, taps * c)
        step = flat @ toeplitz * read - flat
        flat = flat + (step if i in (0, passes - 1) else _RELAXATION * step)
    return flat.reshape(d, kh, kw, c).permute(0, 3, 1, 2), ok


def _grid(size: tuple[int, int], k: tuple[int, int], passes: int) -> tuple[int, int]:
    """The frequencies to project at.

    A kernel that is orthogonal at 2k-1 frequencies each way is so at all: the autocorrelation has no more lags.
    Alternating projections, which look for such a kernel, therefore do as well on a small grid (2k+1 gives the same
    singular values to 1e-3), and need one that is not smaller; so does a map smaller than the kernel.
    """
    if passes == 1:
        return tuple(2 * k - 1 if n < k else n for n, k in zip(size, k, strict=True))
    return tuple(max(2 * k - 1, min(n, 2 * k + 1)) for n, k in zip(size, k, strict=True))


@torch.no_grad()
def project_unchecked(
    weight: Tensor, size: tuple[int, int], stride: int, relu: bool, passes: int, method: Method, grid: str = "map"
) -> tuple[Tensor, Tensor]:
    """:func:`project` without its checks: the kernel, and a boolean scalar tensor that says whether it can be trusted.

    With a ``method`` of products alone nothing here waits for a CUDA device.  ``grid="small"`` always takes the small
    grid of alternating projections.
    """
    phases = polyphase(weight.double(), stride)
    k = tuple(phases.shape[2:])
    # The polar factor does not depend on the scale, and the Gram matrix could overflow or vanish where the kernel
    # does not.
    phases = phases / phases.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)
    tall = phases.shape[0] >= phases.shape[1]
    # The polyphase form of a strided kernel has taps beyond the kernel's edge.
    read = polyphase(torch.ones_like(weight[:1], dtype=torch.float64), stride)
    if not tall:
        phases, read = phases.transpose(0, 1), read.transpose(0, 1)
    kernel, ok = _nearest(phases, read, _grid(size, k, 2 if grid == "small" else passes), passes, method)
    kernel = from_polyphase(kernel if tall else kernel.transpose(0, 1), tuple(weight.shape), stride)
    return (target(tuple(weight.shape), stride, relu) * kernel).to(weight.dtype).contiguous(), ok


def check_method(method: str | None) -> None:
    """Raise ``ValueError`` for a name that is no method of :func:`paperlib.polar.inverse_sqrt`."""
    if method is not None and method not in get_args(Method):
        raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(get_args(Method))}")


def default_method(device: torch.device) -> Method:
    """``"eigh"`` on the CPU, where it is the fastest; on CUDA products alone, which need no answer from the device."""
    return "quintic" if device.type == "cuda" else "eigh"


@torch.no_grad()
def project(
    weight: Tensor,
    size: int | tuple[int, int],
    stride: int = 1,
    relu: bool = False,
    passes: int = 1,
    method: Method | None = None,
) -> Tensor:
    """The nearest norm-preserving kernel, cropped to its shape (equation 8 and Algorithm 1).

    At each frequency of a circular convolution with that output size the kernel's transform is replaced by ``target``
    times its polar factor; then the kernel is transformed back and cropped to its k×k taps.  Where one matrix serves
    all frequencies (1×1 kernels, or k ≤ stride) the result is exact.  Otherwise the crop takes the singular values
    away from the target again (a He-initialised 3→64 kernel to about ±15 %); every further pass alternates between
    the two sets, over-relaxed, and comes closer (about ±1 % after 10, ±0.01 % after 50).  Where the number of channels does
    not change (c = d) the passes stall, some singular values staying near zero, and so they may where a stride has
    more phases than d outputs fill (d ≤ s²c, k > s).  Begin with :func:`delta_orthogonal` there.

    Parameters
    ----------
    weight : ``(d, c, kh, kw)``, real; not changed.
    size : side, or sides ``(h, w)``, of the feature map at the convolution's **output**.  One pass uses all of its
        h·w frequencies; more passes, as well as a map that is smaller than the kernel, use about 2k-1 each way, which
        is enough for every size.
    stride, relu : see :func:`target`.
    passes : number of alternating projections, at least 1.
    method : how to take the inverse square root, see :func:`paperlib.polar.inverse_sqrt`; by default by the device.
        Products that do not converge are done again by ``"eigh"``.

    Returns
    -------
    Tensor of ``weight``'s shape, dtype and device; detached.  Computed in float64.

    Raises
    ------
    ValueError : a bad ``weight``, ``size``, ``stride`` or ``passes``; a kernel that is not finite, zero, or
        rank-deficient at some frequency: its projection is not unique.

    Examples
    --------
    >>> from paperlib.spectrum import singular_values
    >>> w = torch.randn(128, 64, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> s = singular_values(project(w, size=16, stride=2), 16, stride=2)
    >>> round(s.max().item() / target(w.shape, 2), 5)
    1.0
    >>> w = torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> [f"{x:.3f}" for x in spread(project(w, size=32, passes=50), 32)]
    ['1.000', '1.000']
    """
    check_weight(weight)
    check_stride(stride)
    shape = sides(size)
    if not isinstance(passes, Integral) or isinstance(passes, bool) or passes < 1:
        raise ValueError(f"passes must be a whole number of at least 1, not {passes!r}")
    check_finite(weight)
    check_method(method)
    # Other accelerators lack float64 or complex numbers; a kernel is small enough to go to the CPU and back.
    here = weight if weight.device.type in ("cpu", "cuda") else weight.cpu()
    method = method or default_method(here.device)
    kernel, ok = project_unchecked(here, shape, stride, relu, passes, method)
    if method != "eigh" and not ok:
        kernel, ok = project_unchecked(here, shape, stride, relu, passes, "eigh")
    if not ok:
        raise ValueError("the kernel is rank-deficient at some frequency (or zero): its projection is not unique")
    return kernel.to(weight.device)


def spread(weight: Tensor, size: int | tuple[int, int], stride: int = 1, relu: bool = False) -> tuple[float, float]:
    """The smallest and the largest non-zero singular value of the convolution, over the target: ``(1, 1)`` keeps the
    norm.

    Zeros that every kernel of this shape has (a rank below d) do not count.

    Examples
    --------
    >>> low, high = spread(delta_orthogonal((16, 16, 3, 3)), 8)
    >>> abs(low - 1) < 1e-6 and abs(high - 1) < 1e-6
    True
    """
    check_weight(weight)
    values = singular_values(weight.detach(), size, stride)[..., : rank(tuple(weight.shape), stride)]
    values = values / target(tuple(weight.shape), stride, relu)
    return values.min().item(), values.max().item()


def delta_orthogonal(
    weight_shape: tuple[int, int, int, int],
    stride: int = 1,
    relu: bool = False,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A random norm-preserving kernel to start from: one orthogonal matrix in the middle, zeros around it.

    Every singular value of the convolution is the target or zero, on every map and for any shape and stride
    ([Xiao2018]_; with a stride s the middle is a block of s×s taps).  Where c = d this is the start to take: from a
    random kernel the alternating projections stall, since the determinant of a square transform has zeros that no
    small change removes; from here the projection holds.

    .. [Xiao2018] Xiao et al.: *Dynamical isometry and a mean field theory of CNNs*, ICML 2018.

    Raises ``ValueError`` for a shape or stride that no convolution has, or a ``dtype`` of whole numbers.

    Examples
    --------
    >>> w = delta_orthogonal((32, 16, 3, 3), stride=2)
    >>> [round(x, 4) for x in spread(w, 8, stride=2)]
    [1.0, 1.0]
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, not {dtype}: the entries are no whole numbers")
    sigma = target(weight_shape, stride, relu)
    d, c, kh, kw = weight_shape
    ph, pw = min(kh, stride), min(kw, stride)
    a = torch.randn(max(d, c * ph * pw), rank(weight_shape, stride), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(a)
    q = q * r.diagonal().sign()  # uniform over the orthogonal matrices
    matrix = q if d >= c * ph * pw else q.T
    weight = torch.zeros(d, c, kh, kw, dtype=torch.float64)
    top, left = (kh - ph) // 2, (kw - pw) // 2
    weight[:, :, top : top + ph, left : left + pw] = sigma * matrix.reshape(d, c, ph, pw)
    return weight.to(dtype)


# -- in a network ------------------------------------------------------------------------------------------------
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
    return TrunkConv(name, conv, sides(size))


class NormPreserving:
    """Hold some convolutions of a network norm-preserving while it is trained (Algorithm 1).

    Attach it to the optimiser: after every ``every``-th step the kernels are projected, in place.  Nothing else
    changes: the model keeps its modules, its state dict and its ``forward``, so that compiling, mixed precision,
    activation checkpointing and ``DistributedDataParallel`` (each process projects the same weights) work as without
    it, and what is trained is a plain model.  On CUDA the hook never waits for the device.

    Parameters
    ----------
    model : any module.
    every : project after every ``every``-th optimiser step (the paper: 2).
    convs : which convolutions to hold, as pairs of a convolution, or its name, and the side (or sides) of its output.
        By default a ProcResNet's three transitions, or those that ``example`` leads to.
    example : a batch of images like the ones the model will get: hold the convolutions that the gradient cannot get
        around (:func:`paperlib.trunk.trunk_convs`).
    relu : whether each held convolution is followed directly by a ReLU, see :func:`target`.
    method : see :func:`project`; by default by the device.
    reference_quirks : do as the authors' published code does (:mod:`paperlib.reference`), including a projection
        after each step with probability 1/``every``; to measure what that changes, not to train with.

    Attributes
    ----------
    convs : what is held, entries ``(name, conv, size)``; ``print`` shows them with their targets.
    passed_over : convolutions on the network's shortest path that cannot be held, with the reason.
    steps : optimiser steps so far.

    Raises
    ------
    ValueError : nothing to hold; something that is not an ordinary, trained ``Conv2d`` of this model (one group, one
        stride for both directions, not dilated, not frozen, not pruned or reparametrised); ``every`` < 1; on
        attaching, an optimiser that does not train all held kernels.
    ProjectionError : after a step, a ``ValueError``: a held kernel is not finite or has lost its rank.  It is left as
        the optimiser made it.  On CUDA this is noticed some steps later.

    Kernels with k ≤ stride (1×1, patch embeddings) are exact after each projection.  Others stay near the target once
    they are there: start them with
    :func:`project` (``passes=50``) or, where c = d, :func:`delta_orthogonal`.

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
        reference_quirks: bool | None = None,
    ):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every must be a whole number of at least 1 step, not {every!r}")
        if convs is not None and example is not None:
            raise ValueError("give either convs or example, not both")
        self.model = unwrap(model)
        self.passed_over: list[tuple[str, str]] = []
        if example is not None:
            found = trunk_convs(self.model, example)
            self.passed_over = [(f.name, why) for f in found if (why := _why_not(f.conv))]
            convs = [f for f in found if not _why_not(f.conv)]
        elif convs is None:
            find = getattr(self.model, "transition_convs", None)
            convs = find() if callable(find) else []
        self.convs = [_named(self.model, item) for item in convs]
        names = [held.name for held in self.convs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is listed twice in convs: a kernel can be held once")
        if not self.convs and example is not None:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.passed_over) or "no skip leaves one"
            raise ValueError(f"{type(self.model).__name__} has no convolution that could be held ({reasons})")
        if not self.convs:
            raise ValueError(
                f"{type(self.model).__name__} has no stand-alone transition convolution to hold: give an example batch to find "
                "what the gradient cannot get around, or name them with convs=[(conv, output_size), ...]"
            )
        check_method(method)
        self.every = every
        self.relu = relu
        self.method = method
        if reference_quirks is None:
            reference_quirks = getattr(self.model, "reference_quirks", False)
        self.reference_quirks = reference_quirks
        self.steps = 0
        self._handle = None
        self._failed: Tensor | None = None  # on the CUDA device: which kernels have failed
        self._seen: Tensor | None = None  # its copy in page-locked memory,
        self._copied: torch.cuda.Event | None = None  # which is there once this has happened

    # -- the hook ------------------------------------------------------------------------------------------------
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
                f"the optimiser does not train the held kernel of {', '.join(missing)}: freeze it before NormPreserving is made, or "
                "name the convolutions to hold with convs=[...]"
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

    def __exit__(self, kind, *exc) -> None:
        self.detach()
        if kind is None:
            self.check()

    def step(self) -> None:
        """Count one optimiser step, and project if it is the turn; the hook does no more."""
        self.steps += 1
        self._notice(wait=False)
        turn = reference.turn(self.steps, self.every) if self.reference_quirks else self.steps % self.every == 0
        if turn:
            self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Project every held kernel now."""
        failed = {}
        for held in self.convs:
            weight, stride = held.conv.weight, held.conv.stride[0]
            if self.reference_quirks:
                kernel, ok = reference.project_as_published(weight, held.size), torch.isfinite(weight).all()
            else:
                here = weight if weight.device.type in ("cpu", "cuda") else weight.cpu()
                method = self.method or default_method(here.device)
                kernel, ok = project_unchecked(here, held.size, stride, self.relu, 1, method, "small")
                kernel, ok = kernel.to(weight.device), ok.to(weight.device)
            if weight.is_cuda:
                weight.copy_(torch.where(ok, kernel, weight))
            elif ok:
                weight.copy_(kernel)
            failed[held.name] = ~ok
        first = next(iter(failed.values())).device
        flags = torch.stack([bad.to(first, non_blocking=True) for bad in failed.values()])
        self._failed = flags if self._failed is None else self._failed.to(flags.device) | flags
        self._notice(wait=False)

    def _notice(self, wait: bool) -> None:
        """Raise for kernels that could not be projected; on CUDA without waiting for the device, once the news has
        arrived."""
        if self._failed is None:
            return
        if self._failed.is_cuda and not wait:
            if self._copied is None:
                self._seen = torch.empty(len(self.convs), dtype=torch.bool, pin_memory=True)
                self._copied = torch.cuda.Event()
            elif not self._copied.query():
                return
            else:
                failed = self._seen.tolist()
                if any(failed):
                    self._raise(failed)
            self._seen.copy_(self._failed, non_blocking=True)
            self._copied.record(torch.cuda.current_stream(self._failed.device))
        elif any(failed := self._failed.tolist()):
            self._raise(failed)

    def _raise(self, failed: list[bool]) -> None:
        self._failed = self._copied = None
        names = [held.name for held, bad in zip(self.convs, failed, strict=True) if bad]
        raise ProjectionError(
            f"the kernel of {', '.join(names)} could not be projected: it holds NaN or infinite values, or has lost its rank at some frequency",
            names,
        )

    def check(self) -> None:
        """Raise ``ProjectionError`` if a kernel could not be projected so far; waits for the device."""
        self._notice(wait=True)

    # -- what it does, and what is left ----------------------------------------------------------------------------
    def describe(self) -> list[dict[str, object]]:
        """One dict a held convolution: ``name``, ``shape`` of the weight, ``stride``, ``size`` of the output,
        ``target``, and the smallest and largest singular value over it now, ``lowest`` and ``highest``."""
        rows = []
        for name, conv, size in self.convs:
            shape, stride = tuple(conv.weight.shape), conv.stride[0]
            low, high = spread(conv.weight, size, stride, self.relu)
            sigma = target(shape, stride, self.relu)
            rows.append(
                {"name": name, "shape": shape, "stride": stride, "size": size}
                | {"target": sigma, "lowest": low, "highest": high}
            )
        return rows

    def export(self) -> nn.Module:
        """A copy of the model with every held kernel projected: a plain module.  The model itself is not changed.

        A last step that was not the projection's turn leaves kernels a step off; in the copy they are not.
        """
        plain = copy.deepcopy(self.model)
        convs = [(name, size) for name, _, size in self.convs]
        other = NormPreserving(
            plain, convs=convs, relu=self.relu, method=self.method, reference_quirks=self.reference_quirks
        )
        other.project()
        other.check()
        return plain

    def state_dict(self) -> dict[str, int]:
        """The step counter, so that a resumed run projects at the same steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Raises ``ValueError`` for what :meth:`state_dict` did not return."""
        steps = state.get("steps") if isinstance(state, dict) else None
        if not isinstance(steps, Integral) or steps < 0:
            raise ValueError(f"the state of NormPreserving must be {{'steps': a whole number}}, not {state!r:.80}")
        self.steps = int(steps)

    def __str__(self) -> str:
        total = sum(isinstance(m, nn.Conv2d) for m in self.model.modules())
        lines = [
            f"NormPreserving({type(self.model).__name__}, every={self.every}) holds {len(self.convs)} of {total} convolutions:"
        ]
        wide = max(len(held.name) for held in self.convs)
        broad = max(len(f"{h}x{w}") for _, _, (h, w) in self.convs)
        for name, conv, (h, w) in self.convs:
            d, c, kh, kw = conv.weight.shape
            stride = conv.stride[0]
            sigma = target((d, c, kh, kw), stride, self.relu)
            lines.append(
                f"  {name:{wide}}  {c:>4}->{d:<4} {kh}x{kw} stride {stride}  output {f'{h}x{w}':<{broad}}  target {sigma:.3f}"
            )
        lines += [f"  passed over: {name}: {why}" for name, why in self.passed_over]
        return "\n".join(lines)

    __repr__ = __str__
