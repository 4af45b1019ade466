"""The norm-preserving projection of a convolution's kernel (Section 3, equations 5-9 and Algorithm 1).

A convolution maps the gradient at its output to the gradient at its input.  The paper keeps the norm by setting every
non-zero singular value of that map to σ = √(d / min(d, c)).  At each frequency the kernel's transform P is replaced
by σ times its polar factor P (PᴴP)^(-1/2), and then the kernel is cropped back to its k×k taps.

Here no transform of the kernel is ever made.  PᴴP has only the (2k-1)² lags of the kernel's autocorrelation, and of
the filter (PᴴP)^(-1/2) the crop needs only as many; both are c×c matrices.  So frequencies see small matrices of the
smaller side, and the larger one only takes part in two ordinary matrix products.  A stride is handled through
:func:`paperlib.spectrum.polyphase`.

This module is about one kernel.  :mod:`paperlib.holding` keeps the kernels of a network projected while it is trained.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import structural_rank
from torch import Tensor, nn

from paperlib import _checks
from paperlib._checks import finite, one_of, whole_number
from paperlib.geometry import Convolution, described, matrix, reduced, without_autocast
from paperlib.polar import Method, inverse_sqrt
from paperlib.spectrum import Padding, frequencies, from_polyphase, half_weights, polyphase, singular_values, waves

if TYPE_CHECKING:
    from paperlib.holding import NormPreserving as NormPreserving


def __getattr__(name: str) -> Any:
    # NormPreserving is exported here, but lives in holding, which imports this module: it is looked up when it is
    # first asked for, so that either of the two can be imported first.
    if name == "NormPreserving":
        from paperlib.holding import NormPreserving

        return NormPreserving
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


MOST_ENTRIES = 2**31
"""How many entries a kernel may have.  They take 16 GiB in float64, which everything here is computed in."""
MOST_PASSES = 10_000
"""How many alternating projections may be asked for.  After 50 a kernel is within 0.01 % of the target."""


def rank(weight_shape: tuple[int, ...], stride: int | tuple[int, int] = 1) -> int:
    """The generic rank of the map at one frequency: min(d, p·c), where p of the stride's s² phases are read.

    If k ≥ s, all of them are.

    Examples
    --------
    >>> rank((64, 3, 3, 3)), rank((64, 3, 3, 3), stride=2), rank((64, 3, 1, 1), stride=2)
    (3, 12, 3)
    """
    (d, c, kh, kw), stride = _shape(weight_shape), _checks.stride(stride)
    return min(d, min(kh, stride) * min(kw, stride) * c)


def stalls(weight_shape: tuple[int, ...], stride: int | tuple[int, int] = 1) -> bool:
    """Whether alternating projections of a random kernel of this shape stall far from the target.

    Nearly all do where the map at one frequency is square (c = d, or d = s²c with a stride s) and the kernel has more
    than one tap both ways.  The determinant of the map is then a complex function of two frequencies.  It has zeros,
    and a small change of the kernel moves them but takes none away.  (A few kernels have none, and arrive.)

    Examples
    --------
    >>> stalls((64, 64, 3, 3)), stalls((64, 32, 3, 3)), stalls((64, 64, 1, 1)), stalls((64, 16, 3, 3), stride=2)
    (True, False, False, True)
    """
    (d, c, kh, kw), stride = _shape(weight_shape), _checks.stride(stride)
    return d == min(kh, stride) * min(kw, stride) * c and min(kh, kw) > stride


def target(
    weight_shape: tuple[int, ...], stride: int | tuple[int, int] = 1, relu: bool = False, groups: int = 1
) -> float:
    """The singular value σ that keeps the expected norm of the gradient (equation 7): σ² = d / r.

    The non-zero part of the map has r = :func:`rank` dimensions of d, and isotropic gradients have r/d of their
    energy there.  For a 1×1 kernel, strided or not, r = min(d, c); for k ≥ s it is min(d, s²c).  With ``relu`` the
    ReLU behind the convolution takes half of the gradient's energy, and σ grows by sqrt(2).

    Parameters
    ----------
    weight_shape : tuple of int, (d, c, kh, kw)
        The kernel's shape in PyTorch's layout, ``conv.weight.shape``.  Not of a transposed convolution, whose layout is
        another one: :func:`spread` takes such a layer as it is.
    stride : int or (int, int)
        The convolution's stride s, the same both ways.
    relu : bool
        Whether a ReLU follows directly.
    groups : int
        The convolution's groups; d is the number of channels of all groups together, and c that of one.

    Returns
    -------
    float
        The target σ.

    Raises
    ------
    ValueError
        For a shape or stride that no convolution has.

    Examples
    --------
    >>> target((64, 3, 3, 3))  # sqrt(64 / 3): 3 channels in, 64 out
    4.618802153517006
    >>> target((16, 64, 1, 1), relu=True) ** 2  # doctest: +ELLIPSIS
    2.00000...
    >>> target((16, 1, 3, 3), groups=16)
    1.0
    """
    _checks.flag("relu", relu)
    d, *rest = _shape(weight_shape)
    if d % _checks.whole_number("groups", groups):
        raise ValueError(f"groups must divide the {d} output channels of weight_shape, not be {groups}")
    return math.sqrt((2 if relu else 1) * (d // groups) / rank((d // groups, *rest), stride))


def _shape(weight_shape: Any) -> tuple[int, int, int, int]:
    """``weight_shape``, if it is that of a convolution's kernel."""
    shape = tuple(weight_shape) if isinstance(weight_shape, tuple | list) else ()
    if len(shape) != 4 or not all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in shape):
        raise ValueError(
            f"weight_shape must be (d, c, kh, kw), such as a Conv2d's weight.shape, not {_checks.shown(weight_shape)}"
        )
    if math.prod(shape) > MOST_ENTRIES:
        raise ValueError(f"a weight of shape {_checks.shown(weight_shape)} has more than {MOST_ENTRIES:,} entries")
    d, c, kh, kw = map(int, shape)
    return d, c, kh, kw


# -- the polar factor at each frequency, without a transform of the kernel ---------------------------------------
class _Lags(NamedTuple):
    """How the taps of a kernel, the lags between them and the frequencies of a grid belong together."""

    number: Tensor  # (taps, taps): the number of the lag from one tap to another
    waves: Tensor  # (frequencies, lags), complex: from lags to frequencies
    back: tuple[Tensor, Tensor]  # (lags, frequencies), real and imaginary part: from frequencies to lags


def _lags(taps: tuple[int, ...], grid: tuple[int, ...], like: Tensor) -> _Lags:
    """For a kernel of so many taps and the half spectrum of a grid, in the dtype and on the device of ``like``."""
    device = like.device
    places = torch.meshgrid(*(torch.arange(k, device=device) for k in taps), indexing="ij")
    number = torch.zeros((), dtype=torch.long, device=device)
    for k, place in zip(taps, map(torch.flatten, places), strict=True):
        number = number * (2 * k - 1) + place - place[:, None] + k - 1
    table = waves(grid, *(torch.arange(1 - k, k, dtype=like.dtype, device=device) for k in taps))
    weights = half_weights(grid[-1], like).repeat(math.prod(grid[:-1]))[:, None] / math.prod(grid)
    return _Lags(number, table, ((table.real * weights).T, (table.imag * weights).T))


def _polar(flat: Tensor, lags: _Lags, method: Method) -> tuple[Tensor, Tensor]:
    """The polar factor at each frequency, cropped, of a tall kernel ``(d, taps·c)``; and whether it can be trusted."""
    taps = len(lags.number)
    c = flat.shape[1] // taps
    products = (flat.T @ flat).reshape(taps, c, taps, c).transpose(1, 2).reshape(taps * taps, c * c)
    # Not in place, so that torch.vmap can project a batch of kernels.
    zeros = torch.zeros(lags.waves.shape[1], c * c, dtype=flat.dtype, device=flat.device)
    correlation = zeros.index_add(0, lags.number.flatten(), products)
    gram = torch.complex(lags.waves.real @ correlation, lags.waves.imag @ correlation)
    root, ok = inverse_sqrt(gram.reshape(-1, c, c), method)
    root = root.reshape(-1, c * c)
    filtered = lags.back[0] @ root.real + lags.back[1] @ root.imag
    # The kernel convolved with the filter, at the kernel's own taps.
    toeplitz = filtered[lags.number].reshape(taps, taps, c, c).transpose(1, 2).reshape(taps * c, taps * c)
    return flat @ toeplitz, ok


# In each alternating projection except the first and the last, this multiple of the step is taken.  Close to the
# target, where the set of operators is nearly flat, any multiple below 2 converges, and this one about twice as fast as
# 1: 3→64 is within 1.2 % after 10 passes in place of 2.9 % (the largest of 30 kernels).
_RELAXATION = 1.8


def _nearest(kernel: Tensor, read: Tensor, grid: tuple[int, ...], passes: int, method: Method) -> tuple[Tensor, Tensor]:
    """The alternating projections of a tall float64 kernel ``(d, c, *taps)``, d ≥ c, over-relaxed between.

    Taps where ``read``, which broadcasts to the kernel's shape, is zero stay zero.  The second value says whether
    every inverse square root can be trusted.
    """
    d, c, *taps = kernel.shape
    if all(k == 1 for k in taps):  # one matrix at every frequency, and nothing to crop: once is enough
        matrix = kernel.flatten(1)
        root, ok = inverse_sqrt((matrix.T @ matrix)[None], method)
        return (matrix @ root[0]).reshape(kernel.shape), ok
    lags = _lags(tuple(taps), grid, kernel)
    read = read.expand(-1, c, *taps).movedim(1, -1).flatten(1)
    flat = kernel.movedim(1, -1).flatten(1)
    ok = torch.ones((), dtype=torch.bool, device=kernel.device)
    for i in range(passes):
        polar, fine = _polar(flat, lags, method)
        step = polar * read - flat
        flat = flat + (step if i in (0, passes - 1) else _RELAXATION * step)
        ok = ok & fine
    return flat.reshape(d, *taps, c).movedim(-1, 1), ok


def _grid(size: tuple[int, ...], k: tuple[int, ...], small: bool) -> tuple[int, ...]:
    """The frequencies to project at.

    A kernel that is orthogonal at 2k-1 frequencies each way is so at all: the autocorrelation has no more lags.
    Alternating projections, which look for such a kernel, therefore do as well on a ``small`` grid (2k+1 gives the
    same singular values to 1e-3), and need one that is not smaller; so does a map that is smaller than the kernel.
    """

    def along(n: int, k: int) -> int:
        if small:
            return max(2 * k - 1, min(n, 2 * k + 1))
        return 2 * k - 1 if n < k else n

    return tuple(map(along, size, k))


@torch.no_grad()
def project_unchecked(
    weight: Tensor,
    size: tuple[int, ...],
    stride: int | tuple[int, ...],
    relu: bool,
    passes: int,
    method: Method | None = None,
    grid: Literal["map", "small"] = "map",
    sigma: float | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`project` without its checks: the kernel, and a boolean scalar tensor that says whether it can be trusted.

    With a ``method`` of products alone nothing here waits for a CUDA device.  ``grid="small"`` takes the small grid of
    alternating projections for a single pass, too.  ``sigma`` is what to hold the singular values at, by default the
    :func:`target`.
    """
    # Other accelerators lack float64 or complex numbers; a kernel is small enough to go to the CPU and back.
    here = weight if weight.device.type in ("cpu", "cuda") else weight.cpu()
    phases = polyphase(here.double(), stride)
    # The polar factor does not depend on the scale, and the Gram matrix could overflow or vanish where the kernel
    # does not.
    phases = phases / phases.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)
    tall = phases.shape[0] >= phases.shape[1]
    # The polyphase form of a strided kernel has taps beyond the kernel's edge.
    read = polyphase(torch.ones_like(here[:1], dtype=torch.float64), stride)
    frequencies = _grid(size, phases.shape[2:], small=passes > 1 or grid == "small")
    if not tall:
        phases, read = phases.transpose(0, 1), read.transpose(0, 1)
    kernel, ok = _nearest(phases, read, frequencies, passes, method or default_method(here.device))
    kernel = from_polyphase(kernel if tall else kernel.transpose(0, 1), weight.shape, stride)
    if sigma is None:
        sigma = target(weight.shape, whole_number("stride", stride), relu)
    kernel = (sigma * kernel).to(weight.dtype).contiguous()
    return kernel.to(weight.device), ok.to(weight.device)


def default_method(device: torch.device) -> Method:
    """``"eigh"`` on the CPU, where it is the fastest; on CUDA products alone, which need no answer from the device."""
    return "quintic" if device.type == "cuda" else "eigh"


@torch.no_grad()
@without_autocast
def project(
    weight: Tensor | nn.Module,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    relu: bool = False,
    passes: int = 1,
    method: Method | None = None,
    *,
    input_size: int | tuple[int, ...] | None = None,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """The nearest norm-preserving kernel, cropped to its shape (equation 8 and Algorithm 1).

    At each frequency of a circular convolution with that output size the kernel's transform is replaced by ``target``
    times its polar factor.  Then the kernel is transformed back and cropped to its k×k taps.  Where one matrix serves
    all frequencies (1×1 kernels, or k ≤ stride) the result is exact.  Otherwise the crop takes the singular values
    away from the target again (a He-initialised 3→64 kernel to about ±15 %).  Every further pass alternates between
    the two sets, over-relaxed, and comes closer (about ±1 % after 10, ±0.01 % after 50).  Where the number of channels
    does not change (c = d, or d = s²c with a stride) the passes stall, with some singular values near zero
    (:func:`stalls`).  Begin with :func:`delta_orthogonal` there, or make the kernel by
    :func:`paperlib.parametrization.orthogonal`, which is exact for every shape.

    For a layer, the projected weight is returned, and the layer is not changed.  Algorithm 1 knows circular
    convolutions only, and takes the layer for one with the same output.  Groups are projected each for itself.
    The taps of a dilated kernel are those of an ordinary one at other frequencies.  A transposed convolution takes the
    gradient through the convolution that it is the adjoint of, and a linear layer through its one matrix.

    Parameters
    ----------
    weight : Tensor, (d, c / groups, kh, kw), or nn.Module
        The kernel: real; it is not changed.  Or a layer (:func:`paperlib.geometry.convolution`).
    size : int or tuple of int
        For a bare weight, the side, or the sides ``(h, w)``, of the feature map at the convolution's **output**.  One
        pass uses all of its h·w frequencies.  More passes, as well as a map that is smaller than the kernel, use about
        2k-1 each way, which is enough for every size.
    stride : int or (int, int)
        For a bare weight, the convolution's stride, the same both ways; by default 1.
    relu : bool
        Whether a ReLU follows directly, see :func:`target`.
    passes : int
        How many alternating projections, from 1 to 10,000.
    method : {"eigh", "newton-schulz", "scaled-newton-schulz", "quintic"}, optional
        How to take the inverse square root, see :func:`paperlib.polar.inverse_sqrt`; by default it depends on the
        device.  Products that do not converge are done again by ``"eigh"``.

    input_size : int or tuple of int
        For a layer, the side or the sides of its **input**.  A linear layer has none.
    groups : int
        For a bare weight, the number of groups.
    dilation : int or tuple of int
        For a bare weight, the distance of its taps.

    Returns
    -------
    Tensor, the weight's shape
        The projected kernel, in the weight's dtype and on its device; computed in float64, detached.

    Raises
    ------
    ValueError
        For a bad ``weight``, ``size``, ``stride`` or ``passes``, and for a kernel that is not finite, zero, or
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
    _checks.flag("relu", relu)
    found = described(weight, size, stride, input_size, groups, dilation)
    passes = whole_number("passes", passes, most=MOST_PASSES)
    finite(found.weight)
    if method is not None:
        one_of("method", method, get_args(Method))
    step, along = reduced(found.stride, found.dilation)
    # Where the dilation and the number of frequencies have a common factor, it reads only some of them.
    grid = tuple(n // math.gcd(n, d) for n, d in zip(found.size, along, strict=True))
    sigma = _target(found, relu)
    return torch.cat(
        [_project_group(part, grid, step, sigma, passes, method) for part in found.weight.chunk(found.groups)]
    )


def _project_group(
    weight: Tensor, grid: tuple[int, ...], stride: tuple[int, ...], sigma: float, passes: int, method: Method | None
) -> Tensor:
    kernel, ok = project_unchecked(weight, grid, stride, False, passes, method, sigma=sigma)
    if not ok:
        kernel, ok = project_unchecked(weight, grid, stride, False, passes, "eigh", sigma=sigma)
    if not ok:
        raise ValueError("the kernel is rank-deficient at some frequency (or zero): its projection is not unique")
    return kernel


def _rank(found: Convolution) -> int:
    """The generic rank of the circular map at one frequency, of all groups together."""
    d, c = found.weight.shape[0] // found.groups, found.weight.shape[1]
    return found.groups * min(d, math.prod(axis.read() for axis in found.axes) * c)


def _target(found: Convolution, relu: bool) -> float:
    """Equation 7: σ² is the number of dimensions of the gradient at the layer's output over the rank."""
    outputs = found.weight.shape[0]
    if found.transposed:  # its output is the input of the convolution
        outputs = found.groups * found.weight.shape[1] * math.prod(found.stride)
    return math.sqrt((2 if relu else 1) * outputs / _rank(found))


@without_autocast
def spread(
    weight: Tensor | nn.Module,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    relu: bool = False,
    *,
    input_size: int | tuple[int, ...] | None = None,
    padding: Padding | None = None,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> tuple[float, float]:
    """The smallest and the largest non-zero singular value of the convolution, over the target.

    ``(1, 1)`` keeps the norm.  Zeros that almost every kernel of this shape has (a rank below d) do not count.  The
    arguments are those of :func:`paperlib.spectrum.singular_values`, and ``relu`` as in :func:`target`.  For a layer
    that is not circular these are the values of the layer as it is, border included; ``padding="circular"`` gives those
    that Algorithm 1 looks at.

    Examples
    --------
    >>> low, high = spread(delta_orthogonal((16, 16, 3, 3)), 8)
    >>> abs(low - 1) < 1e-6 and abs(high - 1) < 1e-6
    True
    """
    _checks.flag("relu", relu)
    values = singular_values(
        weight, size, stride, input_size=input_size, padding=padding, groups=groups, dilation=dilation
    ).detach()
    found = described(weight, size, stride, input_size, groups, dilation, padding or "circular")
    asked = padding if isinstance(weight, nn.Module) else padding or "circular"
    circular = frequencies(found, asked) is not None
    values = values[..., : _rank(found) if circular else _generic_rank(found, values)] / _target(found, relu)
    if not values.numel():
        raise ValueError("weight has no tap that meets an input of these sides: the layer's output is its bias alone")
    return values.min().item(), values.max().item()


def _generic_rank(found: Convolution, values: Tensor) -> int:
    """The rank of the map for almost every kernel of this shape; ``values`` are the singular values for this one."""
    pattern = matrix(found, torch.ones_like(found.weight, dtype=torch.float64, device="cpu"))
    most = int(structural_rank(csr_matrix(pattern.numpy())))
    if not most or values[most - 1] > max(pattern.shape) * torch.finfo(values.dtype).eps * values[0]:
        return most
    # Rows may depend on each other where the zeros alone do not show it, as with padding that repeats pixels.
    drawn = torch.randn(found.weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    others = torch.linalg.svdvals(matrix(found, drawn))
    return min(most, int((others > max(pattern.shape) * torch.finfo(others.dtype).eps * others[0]).sum()))


def delta_orthogonal(
    weight_shape: tuple[int, int, int, int],
    stride: int | tuple[int, int] = 1,
    relu: bool = False,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A random norm-preserving kernel to start from: one orthogonal matrix in the middle, zeros around it.

    Every singular value of the convolution is the target or zero, on every map and for any shape and stride
    ([Xiao2018]_; with a stride s the middle is a block of s×s taps).  Where c = d this is the start to take.  From a
    random kernel the alternating projections stall, since the determinant of a square transform has zeros that no
    small change removes; from here the projection holds.

    .. [Xiao2018] Xiao et al.: *Dynamical isometry and a mean field theory of CNNs*, ICML 2018.

    Parameters
    ----------
    weight_shape : tuple of int, (d, c, kh, kw)
        The kernel's shape.
    stride : int or (int, int)
        The convolution's stride, the same both ways.
    relu : bool
        Whether a ReLU follows directly, see :func:`target`.
    generator : torch.Generator, optional
        Where the random numbers come from; by default from torch's global generator.
    dtype : torch.dtype
        The kernel's type; it is drawn in float64.

    Returns
    -------
    Tensor, (d, c, kh, kw)
        The kernel, on the CPU.

    Raises
    ------
    ValueError
        For a shape or stride that no convolution has, or a ``dtype`` of whole numbers.

    Examples
    --------
    >>> w = delta_orthogonal((32, 16, 3, 3), stride=2)
    >>> [round(x, 4) for x in spread(w, 8, stride=2)]
    [1.0, 1.0]
    """
    _checks.instance("dtype", dtype, torch.dtype, "a torch.dtype")
    if generator is not None:
        _checks.generator("generator", generator)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, not {dtype}: the entries are no whole numbers")
    stride, sigma = _checks.stride(stride), target(weight_shape, stride, relu)
    d, c, kh, kw = _shape(weight_shape)
    ph, pw = min(kh, stride), min(kw, stride)
    a = torch.randn(max(d, c * ph * pw), rank(weight_shape, stride), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(a)
    q = q * r.diagonal().sign()  # uniform over the orthogonal matrices
    matrix = q if d >= c * ph * pw else q.T
    weight = torch.zeros(d, c, kh, kw, dtype=torch.float64)
    top, left = (kh - ph) // 2, (kw - pw) // 2
    weight[:, :, top : top + ph, left : left + pw] = sigma * matrix.reshape(d, c, ph, pw)
    return weight.to(dtype)
