"""What a step is: which forward and which backward passes belong together, whatever else runs in between."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from paperlib.probes import GradientNorms


class Chain(nn.Module):
    def __init__(self, recompute=None):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)).double()
        self.recompute = recompute

    def forward(self, x):
        for block in self.blocks:
            x = block(x) if self.recompute is None else checkpoint(block, x, use_reentrant=self.recompute)
        return x


def batch(seed=0, requires_grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 6, generator=generator, dtype=torch.float64).requires_grad_(requires_grad)


def expected(x, scale=1.0):
    """The norms (3, 2) by autograd."""
    tensors = [x]
    for block in Chain().blocks:
        tensors.append(block(tensors[-1]))
    norms = [g.norm() for g in torch.autograd.grad(scale * tensors[-1].square().sum(), tensors)]
    return torch.stack([torch.stack(norms[:-1]), torch.stack(norms[1:])], dim=1)


def loss(model, x):
    return model(x).square().sum()


def test_a_forward_pass_without_a_backward_pass_takes_nothing_away():
    """Validation with gradients on, between a step's forward and backward pass, and after both."""
    model = Chain()
    with GradientNorms(model) as probe:
        first = loss(model, batch(0))
        loss(model, batch(1))  # validation
        first.backward()
        assert torch.allclose(probe.norms(), expected(batch(0)), rtol=1e-9)
        loss(model, batch(2))
        assert torch.allclose(probe.norms(), expected(batch(0)), rtol=1e-9)
        assert probe.averages()[0]["steps"] == 1


def test_two_forward_passes_before_one_backward_pass_are_two_steps():
    """As a discriminator sees real and false images."""
    model = Chain()
    with GradientNorms(model) as probe:
        (loss(model, batch(0)) + loss(model, batch(1))).backward()
        assert torch.allclose(probe.norms(), expected(batch(1)), rtol=1e-9)  # the latest
        rows = probe.averages()
    both = torch.stack([expected(batch(0)), expected(batch(1))])
    assert [row["steps"] for row in rows] == [2, 2, 2]
    assert [row["grad_in"] for row in rows] == pytest.approx(both[:, :, 0].mean(0).tolist(), rel=1e-9)


def test_backward_passes_in_the_other_order():
    model = Chain()
    with GradientNorms(model) as probe:
        one, two = loss(model, batch(0)), loss(model, batch(1))
        two.backward()
        assert torch.allclose(probe.norms(), expected(batch(1)), rtol=1e-9)
        one.backward()
        assert torch.allclose(probe.norms(), expected(batch(1)), rtol=1e-9)  # still the latest forward pass
        assert probe.averages()[0]["steps"] == 2


def test_the_first_of_two_backward_passes_counts_also_after_it_was_read():
    model = Chain()
    with GradientNorms(model) as probe:
        value = loss(model, batch(0))
        value.backward(retain_graph=True)
        first = probe.norms()
        (10 * value).backward()
        assert torch.equal(probe.norms(), first)
        assert probe.averages()[0]["steps"] == 1


def test_a_backward_pass_after_the_context_still_counts():
    model = Chain()
    with GradientNorms(model) as probe:
        value = loss(model, batch(0))
    value.backward()
    assert torch.allclose(probe.norms(), expected(batch(0)), rtol=1e-9)


def test_accumulated_gradients_are_as_many_steps():
    model = Chain()
    with GradientNorms(model) as probe:
        for seed in range(3):
            (loss(model, batch(seed)) / 3).backward()
            assert torch.allclose(probe.norms(), expected(batch(seed), 1 / 3), rtol=1e-9)
        assert probe.averages()[0]["steps"] == 3


def test_every_counts_forward_passes():
    model = Chain()
    with GradientNorms(model, every=2) as probe:
        for seed in range(4):
            loss(model, batch(seed)).backward()
            assert torch.allclose(probe.norms(), expected(batch(seed // 2 * 2)), rtol=1e-9)
        assert probe.averages()[0]["steps"] == 2 and probe.forwards == 4


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_blocks_that_are_computed_again(use_reentrant, every):
    model = Chain(recompute=use_reentrant)
    with GradientNorms(model, every=every) as probe:
        for seed in range(4):
            loss(model, batch(seed)).backward()
            assert torch.allclose(probe.norms(), expected(batch(seed // every * every)), rtol=1e-9)
        assert probe.averages()[0]["steps"] == 4 // every and probe.forwards == 4


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_a_whole_network_that_is_computed_again(use_reentrant, every):
    """The second forward pass lies within the backward pass, and is no step of its own."""
    model = Chain()
    with GradientNorms(model, every=every) as probe:
        for seed in range(4):
            checkpoint(model, batch(seed), use_reentrant=use_reentrant).square().sum().backward()
            assert torch.allclose(probe.norms(), expected(batch(seed // every * every)), rtol=1e-9)
        assert probe.averages()[0]["steps"] == 4 // every and probe.forwards == 4


def test_evaluation_between_forward_and_backward_pass():
    model = Chain(recompute=True)
    with GradientNorms(model) as probe:
        value = loss(model, batch(0))
        with torch.no_grad():
            model(batch(1))
        with torch.inference_mode():
            model(batch(1))
        value.backward()
        assert torch.allclose(probe.norms(), expected(batch(0)), rtol=1e-9)
        assert probe.forwards == 1


def test_steps_that_are_started_by_hand():
    """A loop that calls the parts of a model, and not the model itself."""
    model = Chain()
    probe = GradientNorms(model).attach(calls_start_steps=False)
    for seed in range(2):
        x = batch(seed)
        probe.start_step()
        for block in model.blocks:
            x = block(x)
        x.square().sum().backward()
        assert torch.allclose(probe.norms(), expected(batch(seed)), rtol=1e-9)
    probe.detach()
    assert probe.averages()[0]["steps"] == 2


def test_reasons():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.used = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4)
            self.tokens, self.idle, self.cut = nn.Embedding(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, tokens):
            x = self.tokens(tokens)
            with torch.no_grad():
                x = self.frozen(x)
            self.cut(x)
            return self.used(x)

    model = Parts()
    with GradientNorms(model, ["tokens", "frozen", "cut", "used", "idle"]) as probe:
        model(torch.arange(3)).sum().backward()
        with torch.no_grad():
            model(torch.arange(3))
        rows = probe.table()
    why = {row["name"]: row["why"] for row in rows}
    assert why["used"] == "" and rows[3]["ratio"] > 0
    assert why["frozen"].startswith("it was called without gradients")
    assert why["idle"] == "it was not called" and why["cut"] == "no gradient came to its output"
    assert all(row["ratio"] != row["ratio"] for row in rows if row["why"])
    assert why["tokens"] == "its input holds no floating-point tensor"


def test_a_block_that_was_replaced_is_told():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    with GradientNorms(model, list(model)) as probe:
        model[1] = nn.Linear(4, 4)
        model(torch.ones(2, 4)).sum().backward()
    assert [row["why"] for row in probe.table()] == ["", "it was replaced in the model: make the probe anew", ""]


def test_a_frozen_prefix_is_measured_all_the_same():
    """Its blocks get an input that requires a gradient; no gradient of a parameter changes."""
    model, plain = Chain(), Chain()
    for m in (model, plain):
        m.blocks[0].requires_grad_(False)
    x = batch(0, requires_grad=False)
    with GradientNorms(model) as probe:
        loss(model, x).backward()
    loss(plain, x).backward()
    assert torch.allclose(probe.norms(), expected(batch(0)), rtol=1e-9)
    assert all(p.grad is None for p in model.blocks[0].parameters())
    for a, b in zip(model.blocks[1:].parameters(), plain.blocks[1:].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_inputs_made_in_inference_mode():
    model = Chain()
    with torch.inference_mode():
        x = batch(0, requires_grad=False).clone()
    with GradientNorms(model) as probe:
        loss(model, x).backward()
    assert torch.allclose(probe.norms(), expected(batch(0)), rtol=1e-9)


def test_a_copy_of_a_watched_model_is_free_of_it():
    model = Chain()
    with GradientNorms(model) as probe:
        loss(model, batch(0)).backward()
        other = copy.deepcopy(model)
        loss(other, batch(1)).backward()
        assert probe.averages()[0]["steps"] == 1
        with GradientNorms(other) as second:
            loss(other, batch(1)).backward()
    assert torch.allclose(second.norms(), expected(batch(1)), rtol=1e-9)


def small():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))


def test_a_batched_backward_pass_is_left_as_it_is_and_not_recorded():
    net, x = small(), torch.randn(2, 4)
    wanted = torch.autograd.functional.jacobian(net, x, vectorize=True)
    with GradientNorms(net, net) as probe:
        assert torch.equal(torch.autograd.functional.jacobian(net, x, vectorize=True), wanted)
        with pytest.raises(RuntimeError, match="nothing was recorded"):
            probe.ratios()
        net(x).sum().backward()
        assert torch.isfinite(probe.ratios()).all()


@pytest.mark.parametrize("transform", ["per sample", "whole batch", "jacrev", "jvp"])
def test_within_a_transform_nothing_is_recorded_and_the_next_step_is_sound(transform):
    net, x = small(), torch.randn(5, 4)
    params = dict(net.named_parameters())

    def loss(p, v):
        return torch.func.functional_call(net, p, (v,)).square().sum()

    def call():
        if transform == "per sample":
            return torch.func.vmap(torch.func.grad(loss), (None, 0))(params, x)["0.0.weight"]
        if transform == "whole batch":  # the input is an ordinary tensor, the parameters are not
            return torch.func.grad(loss)(params, x)["0.0.weight"]
        if transform == "jacrev":
            return torch.func.jacrev(net)(x)
        return torch.func.jvp(net, (x,), (torch.ones_like(x),))[1]

    wanted = call()
    with GradientNorms(net, net) as probe:
        assert torch.equal(call(), wanted)
        with pytest.raises(RuntimeError, match=r"not within a transform of torch\.func"):
            probe.ratios()
        net(x).sum().backward()
        assert torch.isfinite(probe.ratios()).all()


def test_why_nothing_was_recorded_is_said():
    net, x = small(), torch.randn(2, 4)
    listed = nn.Module()
    listed.layers = nn.ModuleList(small())
    listed.forward = lambda v: listed.layers[1](listed.layers[0](v))

    def told(model, blocks, use, **options):
        with GradientNorms(model, blocks, **options) as probe:
            use(model)
        with pytest.raises(RuntimeError, match="^nothing was recorded yet: ") as error:
            probe.ratios()
        return str(error.value)

    assert "calling the model" in told(net, net, lambda m: None)
    assert "not model.forward(x)" in told(net, net, lambda m: m.forward(x).sum().backward())
    assert "not a list of them" in told(listed, ["layers"], lambda m: m(x).sum().backward())
    assert "run a backward pass" in told(net, net, lambda m: m(x))
    assert "every=2" in told(net, net, lambda m: [m(x) for _ in range(2)], every=2)


def test_hooks_are_removed_even_if_the_last_step_cannot_be_read():
    net = small()
    with pytest.raises(ZeroDivisionError), GradientNorms(net, net, combine=lambda pairs: 1 / 0):
        net(torch.randn(2, 4)).sum().backward()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_complex_gradients_have_norms():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64), nn.Linear(4, 4, dtype=torch.complex64))
    x = torch.randn(3, 4, dtype=torch.complex64, requires_grad=True)
    with GradientNorms(net, net) as probe:
        y = net[0](x)
        net(x).abs().square().sum().backward()
    assert probe.norms()[0, 0].item() == pytest.approx(torch.linalg.vector_norm(x.grad).item(), rel=1e-5)
    assert y.is_complex() and torch.isfinite(probe.ratios()).all()
