"""Which convolutions of a network the gradient cannot get around: those on its shortest path.

An identity skip carries the gradient past its block.  What no skip avoids, the convolutions where the number of
channels changes, is what the paper's transitions are, and what its projection is for.  In any network they are found
on the path from output to input with the fewest convolutions.  In a ResNet these are the stem and the 1×1 convolutions
of the skips, in a ProcResNet the three transitions, in a network without skips all.

The path is searched in the graph that autograd records, so that any eager model will do, whatever its ``forward`` does.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils._pytree import tree_leaves


class TrunkConv(NamedTuple):
    """A convolution on the shortest path: its name in the model, the module, and its output's sides ``(h, w)``."""

    name: str
    conv: nn.Conv2d
    size: tuple[int, int]


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside ``DistributedDataParallel`` or ``DataParallel``; any other as it is."""
    return model.module if isinstance(model, DistributedDataParallel | DataParallel) else model


@contextlib.contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that no running average moves; uncompiled and without autocast.

    Afterwards every module's mode is as it was.
    """
    modes = [(m, m.training) for m in model.modules()]
    device = next((p.device.type for p in model.parameters()), "cpu")
    try:
        model.eval()
        # Outside of inference mode and no_grad, or there would be no graph to search.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),
            torch.autocast(device, enabled=False),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def trunk_convs(model: nn.Module, example: Tensor) -> list[TrunkConv]:
    """The ``nn.Conv2d`` of ``model`` on the path with the fewest convolutions, in forward order.

    Of two paths with equally many convolutions the one with fewer operations is taken.

    Parameters
    ----------
    model : nn.Module
        Any module that takes one image tensor.  It is left as it was (weights, modes and running averages).
    example : Tensor, (N, channels, H, W)
        One batch of the images that it will be trained on; only its shape matters.

    Returns
    -------
    list of TrunkConv
        One entry per convolution, with the sides of its output for this image size.

    Raises
    ------
    ValueError
        For an example that is no floating-point tensor or that the model cannot be run on.  Also if no path from an
        output to the image can be followed: some part is not differentiable, or hides its graph.

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
    model = unwrap(model)
    if not isinstance(example, Tensor) or not example.is_floating_point():
        what = str(example.dtype) if isinstance(example, Tensor) else type(example).__name__
        raise ValueError(f"example must be a floating-point tensor, a batch of images (N, channels, H, W), not {what}")
    with _quiet(model):
        image = example.detach().clone().requires_grad_()
        start, found = _run(model, image)
    nodes = _shortest_path(start, image, found)
    if nodes is None:
        raise ValueError(
            f"no differentiable path from the output of {type(model).__name__} to its image was found: "
            "name the convolutions to hold with convs=[(conv, output_size), ...]"
        )
    path: dict[nn.Module, TrunkConv] = {}
    for node in nodes:
        if node in found:  # a convolution that is called twice is found under two nodes
            path.setdefault(found[node].conv, found[node])
    return list(path.values())


def _run(model: nn.Module, image: Tensor) -> tuple[list[Node], dict[Node, TrunkConv]]:
    """Run the model: the nodes of its outputs in autograd's graph, and the convolution that each of the others is."""
    found: dict[Node, TrunkConv] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
            if output.grad_fn is not None and isinstance(module, nn.Conv2d):
                h, w = output.shape[-2:]
                found[output.grad_fn] = TrunkConv(name, module, (h, w))

        return hook

    hooks = [m.register_forward_hook(remember(name)) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    try:
        outputs = model(image)
    except (RuntimeError, TypeError, ValueError, IndexError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        what = f"the example of shape {tuple(image.shape)}, {image.dtype}"
        raise ValueError(f"{type(model).__name__} cannot be run on {what}: {reason}") from e
    finally:
        for hook in hooks:
            hook.remove()
    return [t.grad_fn for t in tree_leaves(outputs) if isinstance(t, Tensor) and t.grad_fn is not None], found


def _shortest_path(start: list[Node], image: Tensor, found: dict[Node, TrunkConv]) -> list[Node] | None:
    """The path from the image to an output with the fewest convolutions (Dijkstra's algorithm); None without a path."""
    # The second part of the cost breaks ties; the number after it keeps nodes from being compared.
    queue: list[tuple[tuple[int, int], int, Node, Node | None]] = [
        ((0, 0), i, node, None) for i, node in enumerate(start)
    ]
    count = len(queue)
    before: dict[Node, Node | None] = {}
    while queue:
        (convs, steps), _, node, parent = heapq.heappop(queue)
        if node in before:
            continue
        before[node] = parent
        if getattr(node, "variable", None) is image:
            path, back = [node], parent
            while back is not None:
                path.append(back)
                back = before[back]
            return path
        for following, _ in node.next_functions:
            if following is not None and following not in before:
                count += 1
                heapq.heappush(queue, ((convs + (following in found), steps + 1), count, following, node))
    return None
