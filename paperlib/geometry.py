"""A layer, or a bare weight, as a linear map: its weight, its geometry, and its forward pass without the bias.

:class:`Convolution` describes what a convolution reads along each axis.  A transposed convolution is the adjoint of
one, and a linear layer is one without any axis, so that one description serves all seven layers.  The spectrum
(:mod:`paperlib.spectrum`) and the projection (:mod:`paperlib.projection`) look at nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from paperlib import _checks
from paperlib._checks import conv_weight, each_axis, plain_weight, sides, whole_number

_ORDINARY = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Axis(NamedTuple):
    """What a convolution reads along one axis: output j reads the inputs stride·j - before + dilation·a, a < taps."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    dilation: int
    before: int  # pixels of padding, also behind
    after: int

    def read(self) -> int:
        """How many of the stride's phases some tap reads."""
        return min(self.taps, self.stride // math.gcd(self.stride, self.dilation))

    def reach(self) -> int:
        """The number of pixels between the first tap and the last one, both counted."""
        return self.dilation * (self.taps - 1) + 1

    def circular_outputs(self, filled: bool) -> int:
        """The outputs of the smallest circular map that the zero-padded one is a part of.

        No tap may come round to a pixel again.  If the border is ``filled`` with other pixels, the padded image takes
        the place of the image.
        """
        before, inputs = (0, self.inputs + self.before + self.after) if filled else (self.before, self.inputs)
        last = self.stride * (self.outputs - 1) - before + self.reach()
        return max(self.outputs, -(-max(inputs + before, last) // self.stride))

    def copies(self, mode: str) -> int:
        """How many times the padding repeats a pixel at most, the pixel itself counted."""
        row = torch.arange(self.inputs, dtype=torch.float32)[None, None]
        return int(torch.bincount(F.pad(row, (self.before, self.after), mode).long().flatten()).max())


class _Reduced(NamedTuple):
    """A dilated convolution as an ordinary one, whose frequencies are read in another order."""

    stride: tuple[int, ...]
    step: tuple[int, ...]  # the frequency u of the dilated one is number step·u of the ordinary one


def reduced(stride: tuple[int, ...], dilation: tuple[int, ...]) -> _Reduced:
    """The stride of the undilated kernel with the same singular values, and the step through its frequencies.

    A common factor of stride and dilation leaves phases unread, and nothing else.  Without one, the taps of a phase
    are ``stride`` apart in the kernel, and ``dilation`` apart in the phase; a shift of a phase changes no singular
    value.

    Examples
    --------
    >>> reduced((1, 2, 4), (2, 3, 6))
    _Reduced(stride=(1, 2, 2), step=(2, 3, 3))
    """
    common = [math.gcd(s, d) for s, d in zip(stride, dilation, strict=True)]
    return _Reduced(
        tuple(s // g for s, g in zip(stride, common, strict=True)),
        tuple(d // g for d, g in zip(dilation, common, strict=True)),
    )


class Convolution(NamedTuple):
    """A convolution, or with ``transposed`` the adjoint of one, without its bias.

    ``weight`` is ``(d, c / groups, taps, …)``.  ``apply(images, weight)`` maps ``(N, *input_shape)``, and is the
    layer's own forward pass; ``mode`` is what it pads with.
    """

    weight: Tensor
    axes: tuple[Axis, ...]
    groups: int
    mode: str
    transposed: bool
    input_shape: tuple[int, ...]
    apply: Callable[[Tensor, Tensor], Tensor]

    @property
    def stride(self) -> tuple[int, ...]:
        """Along each axis."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def dilation(self) -> tuple[int, ...]:
        """Along each axis."""
        return tuple(axis.dilation for axis in self.axes)

    @property
    def size(self) -> tuple[int, ...]:
        """The sides of the convolution's output, which is a transposed one's input."""
        return tuple(axis.outputs for axis in self.axes)

    def is_circular(self) -> bool:
        """Whether the map is exactly a circular convolution, whose inputs are the stride times its outputs."""
        return all(
            axis.inputs == axis.stride * axis.outputs and (self.mode == "circular" or not (axis.before or axis.after))
            for axis in self.axes
        )

    def is_divisible(self) -> bool:
        """Whether there is a circular convolution from this input to ``inputs / stride`` outputs."""
        return all(axis.inputs % axis.stride == 0 for axis in self.axes)


def without_autocast(function: _Function) -> _Function:
    """``function``, with autocast switched off on the device of its first argument, a tensor or a layer.

    Autocast would round the products of a float32 computation to three digits.

    Examples
    --------
    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     without_autocast(torch.mm)(torch.ones(2, 2), torch.ones(2, 2)).dtype
    torch.float32
    """

    @functools.wraps(function)
    def exact(*args: Any, **kwargs: Any) -> Any:
        first: Any = args[0] if args else next(iter(kwargs.values()), None)
        tensor = next(first.parameters(), None) if isinstance(first, nn.Module) else first
        device = tensor.device.type if isinstance(tensor, Tensor) else "cpu"
        with torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False):
            return function(*args, **kwargs)

    return exact  # type: ignore[return-value]


@contextlib.contextmanager
def _evaluating(layer: nn.Module) -> Iterator[None]:
    """Evaluation mode, in which reading a spectral norm's weight does not move its running vectors."""
    modes = [(module, module.training) for module in layer.modules()]
    try:
        layer.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def current_weight(layer: Any) -> Tensor:
    """The weight that the layer's next call in evaluation mode will use, whatever makes it; differentiable.

    Parametrisations, and the older ``weight_norm``, ``spectral_norm`` and pruning, make it from other parameters.

    Examples
    --------
    >>> layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> layer.parametrizations.weight.original0.data *= 2
    >>> torch.equal(current_weight(layer), layer.weight)
    True
    """
    with _evaluating(layer):
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm | WeightNorm | prune.BasePruningMethod):
                hook(layer, ())
        return layer.weight


def has_own_forward(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer derived from ``kind`` computes something of its own, so that its weight does not say what.

    Examples
    --------
    >>> layer = nn.Conv2d(1, 1, 1)
    >>> has_own_forward(layer, nn.Conv2d), has_own_forward(type("Mine", (nn.Conv2d,), {})(1, 1, 1), nn.Conv2d)
    (False, False)
    >>> layer.forward = lambda x: 2 * x
    >>> has_own_forward(layer, nn.Conv2d)
    True
    """
    names = ("forward", "_conv_forward")
    return "forward" in vars(layer) or any(getattr(type(layer), n, None) is not getattr(kind, n, None) for n in names)


def _kind(layer: Any) -> type[nn.Module]:
    """Which of the seven layers it is; ValueError for anything else, and for one that computes something else."""
    for kind in (*_ORDINARY, *_TRANSPOSED, nn.Linear):
        if isinstance(layer, kind):
            if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
                raise ValueError(f"{type(layer).__name__} has no weight yet: run it once on an input")
            if has_own_forward(layer, kind):
                raise ValueError(
                    f"{type(layer).__name__} has a forward pass of its own, so it need not be the {kind.__name__} "
                    "that it is derived from: give its weight and size instead"
                )
            return kind
    raise ValueError(
        f"weight must be a real floating-point tensor of shape (d, c, kh, kw), or a layer "
        f"(Conv1d to 3d, ConvTranspose1d to 3d or Linear), not {type(layer).__name__}"
    )


def convolution(layer: nn.Module, input_size: int | tuple[int, ...] | None = None) -> Convolution:
    """The linear map that a layer is on an input of these sides; its bias and its hooks play no part.

    Parameters
    ----------
    layer : nn.Module
        An ``nn.Conv1d``, ``nn.Conv2d``, ``nn.Conv3d``, ``nn.ConvTranspose1d``, ``nn.ConvTranspose2d``,
        ``nn.ConvTranspose3d`` or ``nn.Linear``, with any of their settings, and with or without a parametrisation.
    input_size : int or tuple of int, optional
        The side of the layer's **input**, or its sides.  A linear layer has none.

    Returns
    -------
    Convolution
        The description, with the current weight.

    Raises
    ------
    ValueError
        For anything that is no such layer, for one with a forward pass of its own, for a weight without ordinary real
        numbers, and for an ``input_size`` that the layer cannot be run on.

    Examples
    --------
    >>> found = convolution(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), input_size=9)
    >>> found.size, found.is_circular(), found.apply(torch.ones(1, 3, 9, 9), found.weight).shape
    ((5, 5), False, torch.Size([1, 8, 5, 5]))
    """
    inner: Any = getattr(layer, "_orig_mod", layer)  # what torch.compile returns wraps the layer
    kind = _kind(inner)
    weight = plain_weight(current_weight(inner))
    if kind is nn.Linear:
        if input_size is not None:
            raise ValueError("input_size must be left out for a Linear layer: it has no sides")
        return Convolution(weight, (), 1, "zeros", False, (weight.shape[1],), F.linear)
    if input_size is None:
        raise ValueError(f"{kind.__name__} needs input_size=, the side or the sides of its input")
    input_sides = sides(input_size, weight.ndim - 2, "input_size", "input")
    input_shape = (int(inner.in_channels), *input_sides)
    bare = _without_parameters(inner, kind)

    def apply(images: Tensor, weight: Tensor) -> Tensor:
        return functional_call(bare, {"weight": weight}, (images,))

    output_sides = _output_sides(apply, input_shape, weight)
    transposed = kind in _TRANSPOSED
    inputs, outputs = (output_sides, input_sides) if transposed else (input_sides, output_sides)
    borders = _borders(inner)
    axes = zip(
        inputs, outputs, weight.shape[2:], inner.stride, inner.dilation, *zip(*borders, strict=True), strict=True
    )
    return Convolution(
        weight, tuple(map(Axis._make, axes)), inner.groups, inner.padding_mode, transposed, input_shape, apply
    )


def _without_parameters(layer: Any, kind: Any) -> nn.Module:
    """The same layer without hooks, bias or parametrisation, on the meta device, to be called with a weight."""
    names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]
    names += ["output_padding"] * (kind in _TRANSPOSED)
    return kind(**{name: getattr(layer, name) for name in names}, bias=False, device="meta")


def _output_sides(apply: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], weight: Tensor) -> tuple[int, ...]:
    try:
        image = torch.empty(1, *shape, dtype=torch.float32, device="meta")
        out = tuple(apply(image, torch.empty_like(weight, dtype=torch.float32, device="meta")).shape[2:])
    except (RuntimeError, ValueError) as e:
        reason = str(e).splitlines()[0]
        raise ValueError(f"input_size {shape[1:]} does not fit the layer: {reason}") from None
    if min(out) < 1:
        raise ValueError(f"input_size {shape[1:]} does not fit the layer: nothing of the output is left")
    return out


def _borders(layer: Any) -> list[tuple[int, int]]:
    """The pixels of padding before and after the image, along each axis."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in layer.padding]


def described(
    weight: Any,
    size: Any = None,
    stride: Any = None,
    input_size: Any = None,
    groups: int = 1,
    dilation: Any = 1,
    padding: str = "circular",
) -> Convolution:
    """The layer, or the bare weight with its settings, as one :class:`Convolution`.

    Raises ``ValueError`` where a setting is missing, or is one that a layer has itself.

    Examples
    --------
    >>> described(torch.ones(4, 3, 3, 3), 8, stride=2).input_shape
    (3, 16, 16)
    >>> described(nn.Conv2d(3, 4, 3), 8)
    Traceback (most recent call last):
    ValueError: a layer is given with input_size=, the sides of its input; size is the output's, for a bare weight
    """
    if isinstance(weight, nn.Module):
        if size is not None:
            raise ValueError(
                "a layer is given with input_size=, the sides of its input; size is the output's, for a bare weight"
            )
        if stride is not None or groups != 1 or dilation != 1:
            raise ValueError("stride, groups and dilation are for a bare weight: a layer has its own")
        return convolution(weight, input_size)
    weight = conv_weight(weight)
    if input_size is not None or size is None:
        raise ValueError("a bare weight is given with size, the sides of its output; input_size= is for a layer")
    step = _checks.stride(1 if stride is None else stride)
    spacing = each_axis("dilation", dilation, 2)
    if weight.shape[0] % whole_number("groups", groups):
        raise ValueError(f"groups must divide the {weight.shape[0]} output channels of weight, not be {groups}")
    axes = tuple(_fitting(n, k, step, d) for n, k, d in zip(sides(size), weight.shape[2:], spacing, strict=True))

    even = all(axis.before == axis.after >= 0 for axis in axes)

    def apply(images: Tensor, kernel: Tensor) -> Tensor:
        settings: dict[str, Any] = {"stride": step, "dilation": spacing, "groups": groups}
        if even and padding == "zeros":
            return F.conv2d(images, kernel, padding=[axis.before for axis in axes], **settings)
        return F.conv2d(_pad(images, axes, padding), kernel, **settings)

    shape = (groups * weight.shape[1], *(axis.inputs for axis in axes))
    return Convolution(weight, axes, groups, padding, False, shape, apply)


def _fitting(outputs: int, taps: int, stride: int, dilation: int) -> Axis:
    """The border that makes the output ``stride`` times smaller: half of the reach before, what is missing after."""
    axis = Axis(stride * outputs, outputs, taps, stride, dilation, 0, 0)
    before = (axis.reach() - 1) // 2
    return axis._replace(before=before, after=axis.reach() - stride - before)


def _pad(x: Tensor, axes: tuple[Axis, ...], padding: str) -> Tensor:
    """``x`` with its border.  A negative one cuts pixels off that a wide stride never reads."""
    if padding == "zeros":
        return F.pad(x, [n for axis in reversed(axes) for n in (axis.before, axis.after)])
    for i, axis in enumerate(axes):
        # By index: torch's own circular padding refuses a border wider than the image.
        places = torch.arange(-axis.before, axis.inputs + axis.after, device=x.device) % axis.inputs
        x = x.index_select(2 + i, places)
    return x


def matrix(found: Convolution, weight: Tensor) -> Tensor:
    """The map as one matrix ``(outputs, inputs)``: an identity basis of its smaller side pushed through the map.

    Examples
    --------
    >>> found = convolution(nn.Conv1d(2, 3, 3, padding=1), input_size=5)
    >>> matrix(found, found.weight).shape
    torch.Size([15, 10])
    """
    zero, columns = weight.new_zeros(1, *found.input_shape), math.prod(found.input_shape)
    image = found.apply(zero, weight)
    if columns <= image.numel():
        basis = torch.eye(columns, dtype=weight.dtype, device=weight.device)
        return found.apply(basis.reshape(columns, *found.input_shape), weight).flatten(1).T
    basis = torch.eye(image.numel(), dtype=weight.dtype, device=weight.device).reshape(-1, *image.shape[1:])
    return adjoint(found, weight, len(basis))(basis).flatten(1)


def adjoint(found: Convolution, weight: Tensor, batch: int) -> Callable[[Tensor], Tensor]:
    """The map's adjoint, from ``batch`` outputs at a time to as many inputs."""
    # The map is linear: its derivative at any image is the map itself.
    zeros = weight.new_zeros(batch, *found.input_shape)
    back = torch.func.vjp(lambda images: found.apply(images, weight), zeros)[1]
    return lambda images: back(images)[0]
