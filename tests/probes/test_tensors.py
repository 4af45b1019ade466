"""Blocks of every signature: which of their tensors is watched."""

import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from paperlib.probes import GradientNorms
from paperlib.probes.tensors import at, leaves, put


def as_it_is(x):
    return x


@dataclass(frozen=True)
class Output:
    mask: torch.Tensor | None
    hidden: torch.Tensor


class ModelOutput(OrderedDict):
    """As in transformers: a dict whose keys are attributes, too."""

    def __getattr__(self, name):
        return self[name]


Pair = namedtuple("Pair", "hidden cache")


class Block(nn.Module):
    """A linear map whose value is wrapped, and whose input is unwrapped."""

    def __init__(self, pack, unpack):
        super().__init__()
        self.linear, self.pack, self.unpack = nn.Linear(4, 4).double(), pack, unpack

    def forward(self, hidden_states, mask=None):
        return self.pack(self.linear(self.unpack(hidden_states)))


class Chain(nn.Module):
    def __init__(self, pack, unpack, by_keyword):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(pack, unpack) for _ in range(2))
        self.pack, self.unpack, self.by_keyword = pack, unpack, by_keyword

    def forward(self, x):
        value = self.pack(2 * x)
        for block in self.blocks:
            value = block(mask=None, hidden_states=value) if self.by_keyword else block(value)
        return self.unpack(value)


def expected(model, x):
    xs = [2 * x]
    for block in model.blocks:
        xs.append(block.linear(xs[-1]))
    norms = [g.norm() for g in torch.autograd.grad(xs[-1].square().sum(), xs)]
    return torch.stack([torch.stack(norms[:-1]), torch.stack(norms[1:])], dim=1)


SHAPES = {
    "tensor": (as_it_is, as_it_is),
    "tuple": (lambda x: (x, None), lambda v: v[0]),
    "tuple with tokens first": (lambda x: (torch.arange(3), x), lambda v: v[1]),
    "list": (lambda x: [None, x], lambda v: v[1]),
    "dict": (lambda x: {"step": 3, "hidden": x}, lambda v: v["hidden"]),
    "dataclass": (lambda x: Output(None, x), lambda v: v.hidden),
    "named tuple": (lambda x: Pair(x, ()), lambda v: v.hidden),
    "model output": (lambda x: ModelOutput(hidden=x), lambda v: v.hidden),
    "nested": (lambda x: ({"a": [None, (x,)]},), lambda v: v[0]["a"][1][0]),
}


@pytest.mark.parametrize("by_keyword", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("input_gradient", ["total", "vjp"])
def test_the_first_floating_point_tensor(shape, by_keyword, input_gradient):
    model = Chain(*SHAPES[shape], by_keyword)
    for x in (torch.ones(3, 4, dtype=torch.float64, requires_grad=True), torch.ones(3, 4, dtype=torch.float64)):
        with GradientNorms(model, input_gradient=input_gradient) as probe:
            model(x).square().sum().backward()
        assert torch.allclose(probe.norms(), expected(model, x.detach().requires_grad_()), rtol=1e-9)


class Cross(nn.Module):
    """Two inputs and two outputs, all of them floating-point."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.block = Attend()

    def forward(self, x, memory):
        out = self.block(x, memory=memory)
        return out["a"] + 3 * out["b"]


class Attend(nn.Module):
    def forward(self, x, memory):
        return {"a": 2 * x + memory, "b": x * memory}


@pytest.mark.parametrize(
    ("tensor", "names"),
    [
        (None, ("x", "a")),
        (("memory", "b"), ("memory", "b")),
        (("x", "b"), ("x", "b")),
        ((0, "a"), ("x", "a")),
        ((lambda x, memory: memory, lambda out: out["b"]), ("memory", "b")),
        ((None, "b"), ("x", "b")),
    ],
)
def test_the_tensor_that_is_asked_for(tensor, names):
    model = Cross()
    x, memory = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    a, b = 2 * x + memory, x * memory
    grads = dict(zip(("x", "memory", "a", "b"), torch.autograd.grad((a + 3 * b).sum(), (x, memory, a, b)), strict=True))
    with GradientNorms(model, ["block"], tensor=tensor) as probe:
        model(x, memory).sum().backward()
    assert probe.norms()[0].tolist() == pytest.approx([grads[name].norm().item() for name in names], rel=1e-9)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (("query", None), "input of block 'block' .* tensor= names was not given"),
        ((5, None), "input of block 'block' .* tensor= names was not given"),
        ((None, "c"), "output of block 'block' .* no 'c', which tensor= names, in a dict"),
        ((lambda x, memory: x + 1, None), "input of block 'block' .* none of its tensors"),
    ],
)
def test_a_tensor_that_is_not_there(tensor, words):
    with GradientNorms(Cross(), ["block"], tensor=tensor) as probe, pytest.raises(TypeError, match=words):
        probe.model(*torch.randn(2, 3, 4, requires_grad=True))


def test_blocks_without_a_tensor_are_refused():
    class Nothing(nn.Module):
        def forward(self, x=None, *, number=0):
            return number

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Nothing()

        def forward(self, *args):
            return self.block(*args)

    with GradientNorms(Model(), ["block"]) as probe:
        with pytest.raises(TypeError, match="the input of block 'block' cannot be watched: there is no tensor"):
            probe.model()
        with pytest.raises(TypeError, match="the output of block 'block' cannot be watched: there is no tensor"):
            probe.model(torch.ones(2, requires_grad=True))


def test_an_lstm():
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(lstm=nn.LSTM(4, 5, batch_first=True))).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    out = model(x)[0]
    grads = torch.autograd.grad(out.square().sum(), (x, out))
    with GradientNorms(model, ["lstm"]) as probe:
        model(x)[0].square().sum().backward()
    assert probe.norms()[0].tolist() == pytest.approx([g.norm().item() for g in grads], rel=1e-9)
    packed = nn.utils.rnn.pack_padded_sequence(x.detach(), [3, 2], batch_first=True)
    with GradientNorms(model, ["lstm"]) as probe:
        model(packed)[0].data.square().sum().backward()
    assert torch.isfinite(probe.ratios()).all()


def test_transformer_layers_in_training_and_evaluation():
    """A hook turns off the fast path that evaluation without gradients may take: the values stay."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    x = torch.randn(2, 3, 8)
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            before = model(x)
        with GradientNorms(model) as probe:
            model(x).square().sum().backward()
            with torch.no_grad():
                assert torch.allclose(model(x), before, atol=1e-6)
        assert probe.names == ["layers.0", "layers.1"] and torch.isfinite(probe.ratios()).all()
        assert probe.averages()[0]["steps"] == 1


def test_unused_outputs_have_no_gradient():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Attend()])

        def forward(self, x):
            return self.blocks[0](x, x)["b"].sum()

    with GradientNorms(Head()) as probe:
        probe.model(torch.ones(2, requires_grad=True)).backward()
    assert math.isnan(probe.ratios()[0]) and probe.table()[0]["why"] == "no gradient came to its output"


@pytest.mark.parametrize("shape", SHAPES)
def test_put_changes_a_copy(shape):
    pack, unpack = SHAPES[shape]
    x, new = torch.ones(3), torch.zeros(3)
    value = pack(x)
    path = next(path for path, tensor in leaves(value) if tensor is x)
    changed = put(value, path, new)
    assert at(value, path) is x and at(changed, path) is new and unpack(changed) is new
    assert type(changed) is type(value) or shape == "tensor"
