"""Which convolutions of a network can be held, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paperlib._checks import sharded, shown, sides
from paperlib.geometry import has_own_forward
from paperlib.trunk import TrunkConv, explain_trunk

SHARDED = (
    "its weight is sharded over processes (a DTensor), and a projection needs the whole of it: train with "
    "DistributedDataParallel, or make the layer orthogonal(layer) before fully_shard"
)


def why_not(conv: nn.Module) -> str | None:
    """Why the kernel of ``conv`` cannot be held norm-preserving; None if it can."""
    if not isinstance(conv, nn.Conv2d):
        return f"it is a {type(conv).__name__}, not a Conv2d"
    if "weight" not in conv._parameters:
        return "its weight is made anew before each call (a parametrization, pruning, weight_norm or spectral_norm)"
    if is_lazy(conv.weight):
        return "it is lazy and has no weight yet: run the model on a batch first"
    if conv.weight.is_meta:
        return "its weight is on the meta device and has no values"
    if conv.weight.is_inference():
        return (
            "its weight was made in torch.inference_mode, and such a tensor cannot be trained: make the model outside"
        )
    if sharded(conv.weight):
        return SHARDED
    if has_own_forward(conv, nn.Conv2d):
        return f"it is a {type(conv).__name__} with a forward of its own, which may be another map than a Conv2d's"
    if conv.groups != 1:
        return f"it has {conv.groups} groups"
    if conv.stride[0] != conv.stride[1]:
        return f"its stride differs in the two directions: {conv.stride}"
    if conv.dilation != (1, 1) and conv.kernel_size != (1, 1):
        return f"it is dilated: {conv.dilation}"
    if not conv.weight.requires_grad:
        return "it is frozen (its weight does not require a gradient)"
    return None


def named(model: nn.Module, item: Any) -> TrunkConv:
    """The entry that an item of ``convs`` stands for; ValueError for what is not a convolution of ``model`` to hold."""
    # Three are an entry of NormPreserving.convs, with its name in front.
    if not (isinstance(item, tuple) and len(item) in (2, 3) and isinstance(item[-2], str | nn.Module)):
        raise ValueError(f"convs must hold pairs (convolution or its name, side of its output), not {shown(item)}")
    conv, size = item[-2:]
    if isinstance(conv, str):
        try:
            conv = model.get_submodule(conv)
        except AttributeError:
            raise ValueError(f"{type(model).__name__} has no submodule {shown(conv)} that convs names") from None
    name = next((name for name, module in model.named_modules() if module is conv), None)
    if name is None:
        raise ValueError(f"{shown(conv)} in convs is not a submodule of {type(model).__name__}")
    if why := why_not(conv):
        raise ValueError(f"{name or 'the model'} cannot be held: {why}")
    assert isinstance(conv, nn.Conv2d)
    h, w = sides(size)
    return TrunkConv(name, conv, (h, w))


def on_trunk(model: nn.Module, example: Any) -> tuple[list[TrunkConv], list[tuple[str, str]]]:
    """The convolutions to hold for an example, and the others with the reason; ``ValueError`` if none can be held."""
    held: list[TrunkConv] = []
    others: list[tuple[nn.Module, str, str]] = []
    for name, layer, size, on_trunk, reason in explain_trunk(model, example):
        why = why_not(layer) if on_trunk else reason
        if why is None and (twins := [h.name for h in held if h.conv.weight is layer.weight]):
            why = f"it shares the kernel of {twins[0]}"
        if why is not None:
            others.append((layer, name, why))
        elif isinstance(layer, nn.Conv2d) and size is not None:
            held.append(TrunkConv(name, layer, size))
    if not held:
        reasons = "; ".join(by_reason([(name, why) for _, name, why in others], "layers")) or "it has none"
        raise ValueError(f"{type(model).__name__} has no convolution that could be held ({reasons})")
    return held, [(name, why) for layer, name, why in others if not isinstance(layer, nn.Linear)]


def by_reason(passed_over: list[tuple[str, str]], kind: str = "convolutions") -> Iterator[str]:
    """One text for each reason, with up to three names or, of more than three, their number."""
    names: dict[str, list[str]] = {}
    for name, why in passed_over:
        names.setdefault(why, []).append(name or "the model")
    for why, those in names.items():
        which = ", ".join(those) if len(those) <= 3 else f"{len(those)} {kind}"
        yield f"{'each of ' * (len(those) > 1)}{which}: {why}"


def found(model: nn.Module, convs: Iterable[Any] | None, example: Any) -> tuple[list[Any], list[tuple[str, str]]]:
    """Items of ``convs`` for the convolutions to hold, and those that are passed over for a reason.

    ``ValueError`` if there is nothing to hold.
    """
    if example is not None:
        if convs is not None:
            raise ValueError("give either convs or example, not both")
        return on_trunk(model, example)
    if convs is None:
        find = getattr(model, "transition_convs", None)
        convs = find() if callable(find) else []
    if isinstance(convs, str | nn.Module | Tensor) or not isinstance(convs, Iterable):
        raise ValueError(
            f"convs must be a list of pairs (convolution or its name, side of its output), not {shown(convs)}"
        )
    convs = list(convs.items() if isinstance(convs, Mapping) else convs)
    if not convs:
        raise ValueError(
            f"{type(model).__name__} has no stand-alone transition convolution to hold: give an example batch to find "
            "what the gradient cannot get around, or name them with convs=[(conv, output_size), ...]"
        )
    return convs, []
