"""The trunk of a network: the convolutions that the gradient cannot get around.

An identity skip carries the gradient past its block.  What no skip avoids, the convolutions where the number of
channels changes, is what the paper's transitions are, and what its projection is for.  In any network they are found
from the paths that the gradient can take from an output back to the image:

    A convolution is on the trunk if, for some output, every path with the fewest convolutions goes through it.

* *Skips.*  A path without convolutions frees whatever it leads around.  Where every path has some, they compete, and
  the one with the fewest is taken: the 1×1 convolution of a skip, not the residual branch beside it.
* *Equal branches.*  Of parallel paths with equally few convolutions none is taken, because the choice would be
  arbitrary.  Only a module that all of them call, in the same place, is on the trunk.
* *Concatenations* are treated as sums are: a dense connection is a skip, and the branches of an Inception block
  compete.  The gradient of a branch's own channels does have to pass through that branch, so that it would make sense,
  too, to hold all of them.  For that they have to be named.
* *Several outputs.*  Each may have a loss of its own, whose gradient has to reach the image.  So each output has its
  own paths, and the trunk is what all of them need together.  The convolutions of an auxiliary head are part of it.
* *Linear layers* are 1×1 convolutions, and count as such.  So does a convolution that is no module but a call of a
  function; but only an ``nn.Conv2d`` can be held.

The trunk of a ResNet is therefore its stem and the 1×1 convolutions of the skips, that of a ProcResNet its three
transitions, and that of a network without skips all its convolutions.

The paths are those in the graph that autograd records, so that any eager model will do, whatever its ``forward`` does.
What other operations do to the gradient is not looked at: one that multiplies it by 0 is part of a path, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.nn.modules.conv import _ConvNd
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from paperlib import _checks
from paperlib._paths import Paths, topological


class TrunkConv(NamedTuple):
    """A convolution on the trunk: its name in the model, the module, and its output's sides ``(h, w)``."""

    name: str
    conv: nn.Conv2d
    size: tuple[int, int]


class Explanation(NamedTuple):
    """Why a layer is on the trunk, or why it is not.

    Attributes
    ----------
    name : str
        Its name in the model.
    layer : nn.Module
        The convolution, or the linear layer.
    size : tuple of int, or None
        The sides ``(h, w)`` of a ``Conv2d``'s output, the largest if it is called repeatedly.  ``None`` for other
        layers, and for one that was not called.
    on_trunk : bool
        Whether it is on the trunk.
    reason : str
        Why, in a sentence of which the layer is "it".
    """

    name: str
    layer: nn.Module
    size: tuple[int, int] | None
    on_trunk: bool
    reason: str


# What can be true of a layer.  Of several calls, outputs and images the first one counts.
_REASONS = (
    "no path leads around it",
    "every path with the fewest convolutions goes through it",
    "a parallel path has as few convolutions, and to choose one of them would be arbitrary",
    "a path without convolutions leads around it",
    "a path with fewer convolutions leads around it",
    "no gradient from an output to the image passes through it",
    "it is not called in evaluation mode",
)
_UNAVOIDABLE, _CHEAPEST, _EQUAL, _FREED, _LONGER, _APART, _NOT_CALLED = range(len(_REASONS))


# -- what is on the trunk, and why -------------------------------------------------------------------------------
def trunk_convs(model: nn.Module, example: Tensor | tuple[Any, ...] | Mapping[str, Any]) -> list[TrunkConv]:
    """The ``nn.Conv2d`` on the trunk of ``model``, in forward order.

    Parameters
    ----------
    model : nn.Module
        Any module that takes images.  It is left as it was (weights, modes and running averages).
    example : Tensor (N, channels, H, W), tuple or mapping
        One batch of the images that it will be trained on; only its shape matters.  For a model with several arguments,
        the tuple of them, or a mapping with their names.  Every floating-point tensor with four dimensions among them
        is a batch of images, and each has its own paths.

    Returns
    -------
    list of TrunkConv
        One entry per convolution, with the sides of its output for this image size (the largest, if it is called
        repeatedly).

    Raises
    ------
    ValueError
        For an example without a floating-point tensor, or one that the model cannot be run on, and for a model with
        lazy layers that have not been run.  Also if no path from an output to an image can be followed: some part is
        not differentiable, or hides its graph.

    See Also
    --------
    explain_trunk : Why each convolution is on the trunk, or is not.

    Examples
    --------
    >>> import torchvision
    >>> for name, conv, size in trunk_convs(torchvision.models.resnet18(), torch.zeros(1, 3, 224, 224)):
    ...     print(name, tuple(conv.weight.shape), conv.stride[0], size)
    conv1 (64, 3, 7, 7) 2 (112, 112)
    layer2.0.downsample.0 (128, 64, 1, 1) 2 (28, 28)
    layer3.0.downsample.0 (256, 128, 1, 1) 2 (14, 14)
    layer4.0.downsample.0 (512, 256, 1, 1) 2 (7, 7)
    """
    return [
        TrunkConv(name, layer, size)
        for name, layer, size, on_trunk, _ in explain_trunk(model, example)
        if on_trunk and isinstance(layer, nn.Conv2d) and size is not None
    ]


def explain_trunk(model: nn.Module, example: Tensor | tuple[Any, ...] | Mapping[str, Any]) -> list[Explanation]:
    """Why each ``nn.Conv2d`` of ``model`` is on its trunk, or is not.

    Parameters
    ----------
    model : nn.Module
        As for :func:`trunk_convs`.
    example : Tensor (N, channels, H, W), tuple or mapping
        As for :func:`trunk_convs`.

    Returns
    -------
    list of Explanation
        In forward order, every ``Conv2d`` that is called, and the other convolutions and linear layers on the trunk;
        then every ``Conv2d`` that is not called.

    Raises
    ------
    ValueError
        As for :func:`trunk_convs`.

    Examples
    --------
    >>> import torchvision
    >>> for name, _, _, on_trunk, reason in explain_trunk(torchvision.models.resnet18(), torch.zeros(1, 3, 32, 32)):
    ...     if name.startswith(("conv1", "layer1.0.conv1", "layer2.0", "fc")):
    ...         print(f"{name}: {on_trunk}, {reason}")
    conv1: True, no path leads around it
    layer1.0.conv1: False, a path without convolutions leads around it
    layer2.0.conv1: False, a path with fewer convolutions leads around it
    layer2.0.conv2: False, a path with fewer convolutions leads around it
    layer2.0.downsample.0: True, every path with the fewest convolutions goes through it
    fc: True, no path leads around it
    """
    _checks.module("model", model)
    model = unwrap(model)
    if lazy := [name for name, p in (*model.named_parameters(), *model.named_buffers()) if is_lazy(p)]:
        raise ValueError(f"{type(model).__name__} has lazy layers without weights ({lazy[0]}): run it on a batch first")
    with quietly(model):
        args, kwargs, images = model_inputs(example)
        run = _run(model, args, kwargs, images)
        followed = _followed(model, run, images)
    reasons = dict.fromkeys(run.sizes, _APART)
    for paths in followed:
        for layer, reason in _reasons(paths, run):
            reasons[layer] = min(reason, reasons[layer])
    names = {layer: name for name, layer in model.named_modules()}
    reasons |= {layer: _NOT_CALLED for layer in names if isinstance(layer, nn.Conv2d) and layer not in reasons}
    return [
        Explanation(names[layer], layer, run.sizes.get(layer), reason <= _CHEAPEST, _REASONS[reason])
        for layer, reason in reasons.items()
        if reason <= _CHEAPEST or isinstance(layer, nn.Conv2d)
    ]


def _reasons(paths: Paths, run: _Run) -> Iterator[tuple[nn.Module, int]]:
    """The layers on paths to one image, each with what is true of it, once for every call and every output."""
    met: set[int] = set()
    for start in sorted({paths.number[node] for node in run.outputs if node in paths.number}, reverse=True):
        if start in met:  # another output's gradient passes here whichever way it takes, so nothing new comes
            continue
        some, every = paths.behind(start, paths.edges)
        met.update(every)
        # The cheapest paths have equally many convolutions: which modules can be the n-th one, from the image?
        nth: dict[int, set[nn.Module | Node]] = defaultdict(set)
        cheap = set(paths.behind(start, paths.cheapest)[0])
        for i in cheap:
            if paths.conv[i]:
                nth[paths.fewest[i]].add(run.layers.get(paths.nodes[i], paths.nodes[i]))
        following, around = dict(zip(every, every[1:], strict=False)), _LONGER
        for i in some:
            if i in following:  # what the cheapest way from here to the next node on every path has
                between = paths.fewest[i] - paths.conv[i] - paths.fewest[following[i]]
                around = _LONGER if between else _FREED
            layer = run.layers.get(paths.nodes[i])
            if layer is not None and i not in cheap:
                yield layer, around
            elif layer is not None and len(nth[paths.fewest[i]]) > 1:
                yield layer, _EQUAL
            elif layer is not None:
                yield layer, _UNAVOIDABLE if i in following else _CHEAPEST


# -- running the model -------------------------------------------------------------------------------------------
def inside(model: nn.Module) -> nn.Module | None:
    """What ``DistributedDataParallel``, ``DataParallel`` or ``torch.compile`` was given; None for any other model."""
    if isinstance(model, DistributedDataParallel | DataParallel):
        return model.module
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside of such wrappers, however they are nested; any other model as it is.

    Examples
    --------
    >>> net = nn.Linear(2, 2)
    >>> unwrap(DataParallel(net)) is net
    True
    """
    while (inner := inside(model)) is not None:
        model = inner
    return model


@contextlib.contextmanager
def quietly(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that no running average moves; uncompiled and without autocast.

    Afterwards every module's mode is as it was.
    """
    modes = [(m, m.training) for m in model.modules()]
    device = next((p.device.type for p in model.parameters()), "cpu")
    available = torch.amp.is_autocast_available(device)
    try:
        model.eval()
        # Outside of inference mode and no_grad, or there would be no graph to search.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),
            torch.autocast(device, enabled=False) if available else contextlib.nullcontext(),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def model_inputs(example: Any) -> tuple[tuple[Any, ...], dict[str, Any], list[Tensor]]:
    """The model's arguments, copied, and those of them that are images, which require a gradient."""
    images = []

    def copied(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.is_nested:
            raise ValueError("example is a nested tensor: give one ordinary tensor")
        value = value.detach().clone()
        if value.is_floating_point() and (value.ndim == 4 or isinstance(example, Tensor)):
            images.append(value.requires_grad_())
        return value

    args = example if isinstance(example, tuple) else (example,) if isinstance(example, Tensor) else ()
    kwargs = dict(example) if isinstance(example, Mapping) else {}
    args, kwargs = tree_map(copied, (tuple(args), kwargs))
    if not images:
        raise ValueError(
            "example must be a floating-point tensor, a batch of images (N, channels, H, W), "
            f"or a tuple or mapping of arguments with such a tensor among them, not {_said(example)}"
        )
    return args, kwargs, images


def _said(example: Any) -> str:
    """What an example is, on one line: of tensors the dtype and the shape, and not their numbers."""
    if isinstance(example, Tensor):
        return f"{example.dtype} of shape {tuple(example.shape)}"
    if isinstance(example, Mapping):
        parts = [f"{name}: {_said(value)}" for name, value in example.items()]
    elif isinstance(example, tuple | list):
        parts = [_said(value) for value in example]
    else:
        return f"{type(example).__name__} {' '.join(repr(example).split()):.60}"
    return f"a {type(example).__name__} of ({', '.join(parts)})"


class _Run(NamedTuple):
    """What was seen when the model was run."""

    outputs: list[Node]
    layers: dict[Node, nn.Module]  # convolutions and linear layers, by the node of their output
    sizes: dict[nn.Module, tuple[int, int] | None]  # the same in the order of their first calls

    def is_conv(self, node: Node) -> bool:
        return node in self.layers or node.name().startswith("ConvolutionBackward")


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], images: list[Tensor]) -> _Run:
    run = _Run([], {}, {})

    def remember(layer: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        run.sizes.setdefault(layer, None)
        if isinstance(output, Tensor) and isinstance(layer, nn.Conv2d):
            h, w = output.shape[-2:]
            run.sizes[layer] = max(run.sizes[layer] or (0, 0), (h, w), key=math.prod)
        if isinstance(output, Tensor) and output.grad_fn is not None:
            run.layers[output.grad_fn] = layer

    hooks = [m.register_forward_hook(remember) for m in model.modules() if isinstance(m, _ConvNd | nn.Linear)]
    try:
        outputs = outputs_on(model, args, kwargs, images)
    finally:
        for hook in hooks:
            hook.remove()
    run.outputs.extend(t.grad_fn for t in output_tensors(outputs) if t.grad_fn is not None)
    return run


def outputs_on(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], images: list[Tensor], name: str = "example"
) -> Any:
    """What a model returns for some arguments; ``ValueError``, which says why, if it cannot be run on them."""
    try:
        return model(*args, **kwargs)
    except Exception as e:  # whatever the model's own code raises
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        what = " and ".join(f"{tuple(image.shape)}, {image.dtype}" for image in images)
        raise ValueError(f"{type(model).__name__} cannot be run on the {name} of shape {what}: {reason}") from e


def output_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what a model returned: mappings, lists, tuples and data classes, one inside another."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from output_tensors(vars(value))
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from output_tensors(part)


def _followed(model: nn.Module, run: _Run, images: list[Tensor]) -> list[Paths]:
    """The paths to each image that some output depends on; ``ValueError`` if there is none, or if one is hidden."""
    nodes = list(topological(run.outputs))
    found = [Paths(nodes, get_gradient_edge(image).node, run.is_conv) for image in images]
    found = [paths for paths in found if len(paths.nodes) > 1]
    named = "name the convolutions to hold with convs=[(conv, output_size), ...]"
    if not found:
        raise ValueError(
            f"no differentiable path from the output of {type(model).__name__} to its image was found: {named}"
        )
    if any(node.name() == "CheckpointFunctionBackward" for paths in found for node in paths.nodes):
        raise ValueError(
            f"{type(model).__name__} hides a part of its graph in torch.utils.checkpoint: "
            f"give checkpoint use_reentrant=False, or {named}"
        )
    return found
