"""The probe's options against autograd: a block's own path, scaled losses, second derivatives, wrapped models."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
import torchvision
from torch import nn

from paperlib.probes import GradientNorms


class Residual(nn.Module):
    """x + inner(x): the skip leads around the inner part."""

    def __init__(self, n=2):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)) for _ in range(n)
        ).double()

    def forward(self, x):
        for inner in self.inner:
            x = x + inner(x)
        return x


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 6, generator=generator, dtype=torch.float64).requires_grad_()


def oracle(model, x):
    """The norms (blocks, 2) of ∂E/∂x and of the gradient at the inner part's output, and those of its own product."""
    xs, ys = [x], []
    for inner in model.inner:
        ys.append(inner(xs[-1]))
        xs.append(xs[-1] + ys[-1])
    loss = xs[-1].square().sum()
    total = torch.autograd.grad(loss, [*xs[:-1], *ys], retain_graph=True)
    n = len(ys)
    own = []
    for inner, value, back in zip(model.inner, xs, total[n:], strict=False):
        apart = value.detach().requires_grad_()
        own += torch.autograd.grad(inner(apart), apart, back)

    def stacked(grads):
        return torch.stack([torch.stack([a.norm(), b.norm()]) for a, b in zip(grads, total[n:], strict=True)])

    return stacked(total[:n]), stacked(own)


def test_a_blocks_own_path_is_its_vector_jacobian_product():
    model = Residual()
    total, own = oracle(model, batch())
    assert (total - own).abs().max() > 0.1  # the skip's part
    for input_gradient, expected in (("total", total), ("vjp", own)):
        with GradientNorms(model, model.inner, input_gradient=input_gradient) as probe:
            model(batch()).square().sum().backward()
        assert torch.allclose(probe.norms(), expected, rtol=1e-9)


def test_both_are_the_same_where_no_path_leads_around():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double()
    found = []
    for input_gradient in ("total", "vjp"):
        for x in (batch(), batch().detach()):
            with GradientNorms(model, model, input_gradient=input_gradient) as probe:
                model(x).square().sum().backward()
            found.append(probe.norms())
    assert all(torch.allclose(found[0], other, rtol=1e-12) for other in found)


class Attending(nn.Module):
    """Self-attention on what the skip takes, too: the block gets one tensor three times."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True).double()

    def forward(self, x):
        return x + self.attention(query=x, key=x, value=x, need_weights=False)[0]


@pytest.mark.parametrize("requires_grad", [True, False])
def test_self_attention_gets_its_input_three_times_and_all_paths_count(requires_grad):
    model, x = Attending(), batch().detach()[:, None].repeat(1, 3, 1)
    x = x + torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    apart, back = x.clone().requires_grad_(), 2 * model(x).detach()
    own = torch.autograd.grad(model.attention(apart, apart, apart)[0], apart, back)[0].norm()
    with GradientNorms(model, ["attention"], input_gradient="vjp") as probe:
        model(x.clone().requires_grad_(requires_grad)).square().sum().backward()
    assert torch.allclose(probe.norms()[0], torch.stack([own, back.norm()]), rtol=1e-9)


def test_a_block_that_changes_its_input_in_place_hides_its_own_path():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Linear(6, 6), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6))

        def forward(self, x):
            x = self.stem(x)
            return x + self.block(x)

    torch.manual_seed(0)
    model, x = Model(), batch().float()
    expected = model(x)
    with GradientNorms(model, ["block"], input_gradient="vjp") as probe:
        out = model(x)
        out.sum().backward()
        (row,) = probe.table()
    assert torch.equal(out, expected)
    assert row["ratio"] != row["ratio"] and row["why"].startswith("it changes its input in place")


def test_scaled_losses():
    """What mixed precision multiplies the loss by is in the norms, unless the probe is told of it."""
    model = Residual()
    expected = oracle(model, batch())[0]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    factor = 1.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    plain = GradientNorms(model, model.inner).attach()
    told = GradientNorms(model, model.inner, scale=scaler).attach()
    called = GradientNorms(model, model.inner, scale=lambda: 1024.0 * factor).attach()
    for factor in (1.0, 2.0):  # after each step the scaler doubles the scale
        scaler.scale(model(batch()).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()  # before anything is read
        assert torch.allclose(plain.norms(), 1024 * factor * expected, rtol=1e-9)
        for probe in (told, called):
            assert torch.allclose(probe.norms(), expected, rtol=1e-9)
            assert torch.allclose(probe.ratios(), plain.ratios(), rtol=1e-9)
    for probe in (told, called):
        assert [row["grad_in"] for row in probe.averages()] == pytest.approx(expected[:, 0].tolist(), rel=1e-9)
        assert probe.averages()[0]["steps"] == 2
    for probe in (plain, told, called):
        probe.detach()


@pytest.mark.parametrize("input_gradient", ["total", "vjp"])
def test_second_derivatives_pass_through(input_gradient):
    """A gradient penalty, as autograd has it without the probe, to the last bit."""
    model = Residual()

    def penalty():
        model.zero_grad()
        x = batch()
        (grad,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        grad.square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    expected = penalty()
    assert all(g.abs().max() > 0 for g in expected[:-1])
    with GradientNorms(model, model.inner, input_gradient=input_gradient) as probe:
        found = penalty()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    total, own = oracle(model, batch())
    assert torch.allclose(probe.norms(), total if input_gradient == "total" else own, rtol=1e-9)
    assert not probe.norms().requires_grad


def test_gradients_of_the_parameters_do_not_change():
    for input_gradient in ("total", "vjp"):
        found = []
        for watched in (False, True):
            model = Residual()
            probe = GradientNorms(model, model.inner, input_gradient=input_gradient)
            if watched:
                probe.attach()
            model(batch()).square().sum().backward()
            found.append([p.grad for p in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# -- wrapped, shared, copied ------------------------------------------------------------------------------------
@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_wrapped_models(one_process):
    model = Residual()
    expected = oracle(model, batch())[0]
    wrapped = {
        "data parallel": nn.DataParallel(model),
        "distributed": nn.parallel.DistributedDataParallel(copy.deepcopy(model)),
        "compiled": torch.compile(copy.deepcopy(model), backend="eager"),
        "both": nn.parallel.DistributedDataParallel(torch.compile(copy.deepcopy(model), backend="eager")),
    }
    for name, run in wrapped.items():
        for names in (["inner.0", "inner.1"], ["module.inner.0", "_orig_mod.inner.1"]):
            with GradientNorms(run, names) as probe:
                run(batch()).square().sum().backward()
            assert torch.allclose(probe.norms(), expected, rtol=1e-9), name
            assert probe.averages()[0]["steps"] == 1
            assert probe.names == ["inner.0", "inner.1"]


def test_several_devices_of_one_process_are_refused():
    model = nn.DataParallel(Residual())
    model.device_ids = [0, 1]
    with pytest.raises(ValueError, match="several devices"):
        GradientNorms(model, ["inner.0"])


def test_a_block_that_is_shared_or_called_twice():
    """The last call counts."""
    model = Residual(1)
    model.inner.append(model.inner[0])
    x = batch()
    middle = model.inner[0](x) + x
    back = torch.autograd.grad((middle + model.inner[0](middle)).square().sum(), middle)[0]
    with GradientNorms(model, ["inner.0"]) as probe:
        model(x).square().sum().backward()
    assert probe.norms()[0, 0].item() == pytest.approx(back.norm().item(), rel=1e-9)
    with pytest.raises(ValueError, match=r"listed twice \(one module, with the names inner.0, inner.1\)"):
        GradientNorms(model, ["inner.0", "inner.1"])


class Ordered(nn.Module):
    """Calls two blocks in some order, each as often as it stands there."""

    def __init__(self, order):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))
        self.order = order

    def forward(self, x):
        self.states = [x]
        for i in self.order:
            self.states.append(self.blocks[i](self.states[-1]))
        return self.states[-1]


@pytest.mark.parametrize("input_gradient", ["total", "vjp"])
@pytest.mark.parametrize("order", ["011", "010", "0110", "0100", "0101", "001", "10", "0011", "11001", "1010"])
def test_of_several_calls_in_any_order_the_last_counts(order, input_gradient):
    """At both ends: what is one block's output and another's input may be so in an earlier call only."""
    torch.manual_seed(0)
    model = Ordered([int(i) for i in order]).double()
    x = torch.randn(3, 8, dtype=torch.float64)
    with GradientNorms(model, model.blocks, input_gradient=input_gradient) as probe:
        model(x).square().sum().backward()
    model(x.requires_grad_())
    gradients = torch.autograd.grad(model.states[-1].square().sum(), model.states)
    last = [len(order) - 1 - order[::-1].index(i) for i in "01"]
    expected = torch.stack([gradients[at].norm() for call in last for at in (call, call + 1)]).view(2, 2)
    assert torch.allclose(probe.norms(), expected, rtol=1e-9)


@pytest.mark.parametrize("fault", ["scale", "nested"])
def test_an_error_in_a_hook_is_the_one_that_is_raised(fault):
    """And not one about the step that it cut off, on the way out of the context."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    scale = (lambda: 1 / 0) if fault == "scale" else None
    x = torch.randn(2, 4)
    if fault == "nested":
        x = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)], layout=torch.jagged)
    probe, right = GradientNorms(model, model, scale=scale), ZeroDivisionError if fault == "scale" else ValueError
    with pytest.raises(right, match="zero|nested"), probe:
        y = model(x)
        (y.values() if fault == "nested" else y).square().sum().backward()
    with pytest.raises(RuntimeError, match="nothing was recorded yet"):
        probe.norms()


def test_a_watched_model_can_be_copied_and_saved():
    model = Residual()
    with GradientNorms(model, model.inner, input_gradient="vjp"):
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert torch.equal(other(batch()), model(batch()))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_of_the_probe_has_its_averages_and_watches_nothing(way):
    model = Residual()
    with GradientNorms(model, model.inner) as probe:
        model(batch()).square().sum().backward()
        several = (model, probe)
        other, copied = copy.deepcopy(several) if way == "deepcopy" else pickle.loads(pickle.dumps(several))
        other(batch()).square().sum().backward()
    assert copied.averages() == probe.averages() and copied.averages()[0]["steps"] == 1
    for run in (other, torch.compile(other, backend="eager")):
        with copied:
            run(batch()).square().sum().backward()
    assert (copied.averages()[0]["steps"], probe.averages()[0]["steps"]) == (3, 1)


# -- words ------------------------------------------------------------------------------------------------------
def test_bad_input():
    model = Residual()
    for bad, what in ((nn.Linear, "the class Linear"), (3, "a value of type int"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"model must be a torch.nn.Module, not .*{what}"):
            GradientNorms(bad)
    with pytest.raises(ValueError, match="blocks names 'iner.1', but Residual .* did you mean 'inner.1'"):
        GradientNorms(model, ["iner.1"])
    with pytest.raises(TypeError, match="blocks must be a list .* not int"):
        GradientNorms(model, 3)
    with pytest.raises(ValueError, match="input_gradient 'own' is unknown"):
        GradientNorms(model, model.inner, input_gradient="own")
    with pytest.raises(TypeError, match="scale must be a GradScaler or a function"):
        GradientNorms(model, model.inner, scale=1024)
    with pytest.raises(TypeError, match="combine must be a function, not 3"):
        GradientNorms(model, model.inner, combine=3)
    for tensor in (1.5, (0, 1, 2), [0]):
        with pytest.raises(ValueError, match="tensor must be a position, a name, a callable"):
            GradientNorms(model, model.inner, tensor=tensor)


# -- what is shown ------------------------------------------------------------------------------------------------
def test_what_is_printed():
    model = Residual()
    probe = GradientNorms(model, model.inner)
    assert repr(probe) == "GradientNorms(Residual, 2 blocks, every=1)"
    assert str(probe) == "GradientNorms(Residual, 2 blocks, every=1): nothing was recorded yet"
    with probe:
        model(batch()).square().sum().backward()
    lines = str(probe).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["block", "inner.0", "inner.1"]
    for row, pair, line in zip(probe.table(), probe.norms().tolist(), lines[2:], strict=True):
        assert [row["grad_in"], row["grad_out"]] == pair and row["why"] == ""
        assert row["ratio"] == pytest.approx(pair[1] / pair[0])
        assert f"{pair[0]:.3e}" in line and f"{row['ratio']:.4g}" in line


def test_the_shortest_use():
    model = torchvision.models.resnet18(num_classes=4)
    with GradientNorms(model) as probe:
        model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert probe.names == [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    assert torch.isfinite(probe.ratios()).all()


def two_blocks():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))


def test_a_state_is_that_of_its_blocks_in_their_order():
    model = two_blocks()
    with GradientNorms(model, ["0", "2"]) as probe:
        model(torch.ones(2, 3)).square().mean().backward()
    state = probe.state_dict()
    again = GradientNorms(model, ["0", "2"])
    again.load_state_dict(state)
    assert again.averages() == probe.averages()
    with pytest.raises(ValueError, match=r"this is the state of a probe of \['0', '2'\], not of \['2', '0'\]"):
        GradientNorms(model, ["2", "0"]).load_state_dict(state)
    del state["names"]  # as an earlier paperlib wrote it
    again.load_state_dict(state)


def test_a_context_within_its_own_does_not_end_it():
    model = two_blocks()

    def step(x):
        model(x).square().mean().backward()

    with GradientNorms(model, ["0", "2"]) as probe:
        with probe:
            step(torch.ones(2, 3))
        inner = probe.ratios()
        step(torch.tensor([[1.0, -2.0, 0.5]]))
        assert not torch.equal(probe.ratios(), inner)
    last = probe.ratios()
    step(torch.ones(2, 3))
    assert torch.equal(probe.ratios(), last)
