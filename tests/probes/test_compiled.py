"""A compiled model with a probe: as many graphs as without it, and the numbers of the eager one."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from paperlib.probes import GradientNorms


class Residual(nn.Module):
    def __init__(self, recompute=False, stem=True):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(6, 6) if stem else nn.Identity()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.recompute = recompute

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            y = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
            x = x + torch.tanh(y)
        return x


def batch(seed=0):
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))


def eager(seed=0, model=None, **options):
    """The norms without compilation, which tests/test_probes.py compares with autograd."""
    model = model or Residual()
    with GradientNorms(model, **options) as probe:
        model(batch(seed)).square().sum().backward()
    return probe.norms()


@pytest.fixture(autouse=True)
def reset():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("how", ["wrapped", "in place", "before attaching"])
@pytest.mark.parametrize("input_gradient", ["total", "vjp"])
def test_one_graph_and_the_numbers_of_the_eager_model(how, input_gradient):
    model, counter = Residual(), CompileCounterWithBackend("aot_eager")
    expected = [eager(seed, input_gradient=input_gradient) for seed in range(3)]
    run = model
    if how == "in place":
        model.compile(backend=counter, fullgraph=True)
    else:
        run = torch.compile(model, backend=counter, fullgraph=True)
    with GradientNorms(run if how == "wrapped" else model, input_gradient=input_gradient) as probe:
        if how == "before attaching":  # the probe knows nothing of the compilation, which comes later
            run = torch.compile(model, backend=counter, fullgraph=True)
        for seed in range(3):
            run(batch(seed)).square().sum().backward()
            assert torch.allclose(probe.norms(), expected[seed], rtol=1e-5)
        graphs = counter.frame_count
        assert probe.averages()[0]["steps"] == probe.forwards == 3
    assert graphs == 1
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class State(nn.Module):
    """Takes its input by keyword, as part of a list, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, *, states):
        return {"hidden": torch.tanh(self.linear(states[0])), "size": 6}


class States(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(State() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(states=[x])["hidden"]
        return x


def test_blocks_that_take_a_list_and_return_a_dict_are_in_one_graph_too():
    expected, counter = eager(model=States()), CompileCounterWithBackend("aot_eager")
    run = torch.compile(States(), backend=counter, fullgraph=True)
    with GradientNorms(run) as probe:
        run(batch()).square().sum().backward()
    assert torch.allclose(probe.norms(), expected, rtol=1e-5) and counter.frame_count == 1


@pytest.mark.slow
def test_inductor():
    model = Residual()
    expected = eager()
    compiled = torch.compile(model, fullgraph=True)
    with GradientNorms(compiled) as probe:
        compiled(batch()).square().sum().backward()
    assert torch.allclose(probe.norms(), expected, rtol=1e-5)


def test_a_model_within_a_compiled_function():
    model, counter = Residual(), CompileCounterWithBackend("aot_eager")
    expected = [eager(seed) for seed in range(3)]

    @torch.compile(backend=counter, fullgraph=True)
    def loss(x):
        return model(2 * x / 2).square().sum()

    with GradientNorms(model, every=2) as probe:
        for seed in range(3):
            loss(batch(seed)).backward()
            assert torch.allclose(probe.norms(), expected[seed // 2 * 2], rtol=1e-5)
        assert probe.averages()[0]["steps"] == 2 and probe.forwards == 3
        assert counter.frame_count == 1
    norms = probe.norms()
    loss(batch(1)).backward()  # still compiled with the hooks of a probe that is detached
    assert torch.equal(probe.norms(), norms)
    del probe
    loss(batch(1)).backward()  # and that is no more


def test_gradients_are_those_without_a_probe():
    plain, model = Residual(), Residual()
    compiled = torch.compile(model, backend="aot_eager")
    with GradientNorms(compiled):
        compiled(batch()).square().sum().backward()
    plain(batch()).square().sum().backward()
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_a_forward_pass_without_a_backward_pass_takes_nothing_away():
    model = torch.compile(Residual(), backend="aot_eager")
    with GradientNorms(model) as probe:
        one, two = model(batch(0)).square().sum(), model(batch(1)).square().sum()
        one.backward()
        assert torch.allclose(probe.norms(), eager(0), rtol=1e-5)
        two.backward()
        assert torch.allclose(probe.norms(), eager(1), rtol=1e-5)
        with torch.no_grad():
            model(batch(2))
        assert torch.allclose(probe.norms(), eager(1), rtol=1e-5)


def test_raw_inputs_and_recomputed_blocks():
    for model in (Residual(recompute=True), Residual(stem=False)):
        expected = eager(model=model)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        with GradientNorms(compiled) as probe:
            compiled(batch()).square().sum().backward()
        assert torch.allclose(probe.norms(), expected, rtol=1e-5)


@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_blocks_that_are_compiled_one_by_one(how):
    """The skips lead around the compiled parts: the hooks must lie outside of them."""
    model = Residual()
    expected = [eager(seed) for seed in range(2)]
    blocks = list(model.blocks)
    for i, block in enumerate(blocks):
        if how == "in place":
            block.compile(backend="aot_eager", fullgraph=True)
        else:
            model.blocks[i] = torch.compile(block, backend="aot_eager", fullgraph=True)
    for given in (None, blocks, ["blocks.0", "blocks.1", "blocks.2"]):
        with GradientNorms(model, given) as probe:
            for seed in range(2):
                model(batch(seed)).square().sum().backward()
                assert torch.allclose(probe.norms(), expected[seed], rtol=1e-5)
        assert all(type(block._compiled_call_impl).__name__ != "_Around" for block in blocks)


class Cut(nn.Module):
    """Its own code cuts the graph in two."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        x = self.linear(x)
        torch._dynamo.graph_break()
        return torch.tanh(x)


@pytest.mark.parametrize("kind", [Cut, lambda: nn.GRU(6, 6)])  # no GRU is compiled
@pytest.mark.parametrize("input_gradient", ["total", "vjp"])
def test_blocks_in_which_the_graph_breaks(kind, input_gradient):
    def network():
        torch.manual_seed(0)
        return Chain(kind() for _ in range(3))

    expected = eager(model=network(), input_gradient=input_gradient)
    run = torch.compile(network(), backend="aot_eager")
    with GradientNorms(run, input_gradient=input_gradient) as probe:
        for _ in range(2):
            run(batch()).square().sum().backward()
            assert torch.allclose(probe.norms(), expected, rtol=1e-5)


class Chain(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            out = block(x)
            x = out[0] if isinstance(out, tuple) else out
        return x


def test_a_graph_that_breaks():
    """What is not compiled and what is belong to one step."""

    class Broken(Residual):
        def forward(self, x):
            x = self.blocks[0](self.stem(x))
            torch._dynamo.graph_break()
            return self.blocks[2](torch.tanh(self.blocks[1](x)))

    expected = eager(model=Broken())
    model = torch.compile(Broken(), backend="aot_eager")
    with GradientNorms(model) as probe:
        for _ in range(2):
            model(batch()).square().sum().backward()
            assert torch.allclose(probe.norms(), expected, rtol=1e-5)
        assert probe.averages()[0]["steps"] == 2
