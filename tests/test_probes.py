"""Gradient-norm ratios against torch.autograd.grad, and what the probe must leave alone."""

import copy
import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from paperlib import models
from paperlib.probes import GradientNorms, norm


def by_autograd(model, blocks, x, loss_of):
    """The ratios from the gradients at every block's input and at the last one's output, with norms in float64."""
    tensors = []
    handles = [b.register_forward_pre_hook(lambda m, a: tensors.append(a[0])) for b in blocks]
    handles.append(blocks[-1].register_forward_hook(lambda m, a, o: tensors.append(o)))
    loss = loss_of(model(x))
    for h in handles:
        h.remove()
    norms = torch.stack([g.double().norm() for g in torch.autograd.grad(loss, tensors)])
    return norms[1:] / norms[:-1]


@pytest.mark.parametrize("arch", ["plain", "resnet", "procresnet"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_agrees_with_autograd(arch, recompute, memory_format):
    torch.manual_seed(0)
    model = models.build(arch, 20).to(memory_format=memory_format)
    x = torch.randn(16, 3, 32, 32, requires_grad=True).contiguous(memory_format=memory_format)
    y = torch.arange(16) % 10
    blocks = [b.module for b in model.blocks]
    expected = by_autograd(model, blocks, x, lambda out: F.cross_entropy(out, y))
    model.checkpoint_activations = recompute
    with GradientNorms(model) as probe:
        F.cross_entropy(model(x), y).backward()
    assert probe.ratios().shape == (len(blocks),)
    assert torch.allclose(probe.ratios().double(), expected, rtol=1e-5)


def test_a_raw_input_is_made_to_require_a_gradient():
    """ProcResNet's first block takes the images themselves."""
    torch.manual_seed(0)
    model = models.build("procresnet", 11)
    x = torch.randn(4, 3, 32, 32)
    expected = by_autograd(
        model, [b.module for b in model.blocks], x.clone().requires_grad_(), lambda o: o.square().mean()
    )
    with GradientNorms(model) as probe:
        model(x).square().mean().backward()
    assert torch.allclose(probe.ratios().double(), expected, rtol=1e-5)
    assert not x.requires_grad


def test_any_module_by_submodule_or_by_name():
    model = torchvision.models.resnet18(num_classes=10)
    names = [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    blocks = [model.get_submodule(n) for n in names]
    x = torch.randn(2, 3, 64, 64)
    expected = by_autograd(model, blocks, x, lambda out: out.square().mean())
    for given in (names, blocks):
        with GradientNorms(model, blocks=given) as probe:
            model(x).square().mean().backward()
        assert probe.names == names
        assert torch.allclose(probe.ratios().double(), expected, rtol=1e-5)


def test_blocks_that_do_not_touch():
    """With something between two blocks, a block's output and the next one's input have gradients of their own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    x = torch.randn(5, 6, requires_grad=True)
    a = model[0](x)
    b = torch.tanh(a)
    c = model[2](b)
    g = [t.norm() for t in torch.autograd.grad(c.square().sum(), [x, a, b, c])]
    with GradientNorms(model, blocks=[model[0], model[2]]) as probe:
        model(x).square().sum().backward()
    assert torch.allclose(probe.norms(), torch.stack(g).view(2, 2), rtol=1e-5)


def test_known_ratio():
    """A block 3x has the ratio 1/3."""

    class Triple(nn.Module):
        def forward(self, x):
            return 3 * x

    model = nn.Sequential(Triple(), Triple())
    with GradientNorms(model, blocks=model) as probe:
        model(torch.ones(2, 2)).sum().backward()
    assert torch.allclose(probe.ratios(), torch.full((2,), 1 / 3))


def test_changes_nothing_and_detaches_cleanly():
    torch.manual_seed(0)
    model = models.build("resnet", 11)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    grads = []
    for watched in (False, True):
        model.zero_grad()
        probe = GradientNorms(model)
        if watched:
            probe.attach()
        F.cross_entropy(model(x), y).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
        probe.detach()
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    before = probe.ratios().clone()
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    assert torch.equal(probe.ratios(), before)


def test_keeps_no_graph_alive():
    model = models.build("resnet", 11)
    alive = []
    model.chain["stage2_block1"].register_forward_hook(lambda m, a, o: alive.append(weakref.ref(o)))
    with GradientNorms(model) as probe:
        model(torch.randn(2, 3, 32, 32)).sum().backward()
        gc.collect()
        assert alive[0]() is None
        assert not probe.norms().requires_grad
        model(torch.randn(2, 3, 32, 32))  # a forward pass without a backward one, too
        gc.collect()
        assert alive[1]() is None


def test_interval_evaluation_and_averages():
    torch.manual_seed(0)
    model = models.build("resnet", 11)
    ratios = []
    with GradientNorms(model, every=2) as probe:
        for _ in range(5):
            with torch.no_grad():
                model(torch.randn(2, 3, 32, 32))  # evaluation passes are no steps
            model(torch.randn(4, 3, 32, 32)).square().mean().backward()
            ratios.append(probe.ratios().double())
        rows = probe.averages()
    kept = torch.stack(ratios[::2])
    assert torch.equal(ratios[0], ratios[1])
    assert [r["steps"] for r in rows] == [3, 3, 3]
    for i, row in enumerate(rows):
        assert row["ratio"] == pytest.approx(kept[:, i].mean().item(), rel=1e-6)
        assert row["ratio_sd"] == pytest.approx(kept[:, i].std(correction=0).item(), rel=1e-3)
        assert row["log_ratio"] == pytest.approx(kept[:, i].log().mean().item(), rel=1e-5)
        assert row["ratio_min"] == pytest.approx(kept[:, i].min().item(), rel=1e-6)
        assert row["ratio_max"] == pytest.approx(kept[:, i].max().item(), rel=1e-6)
    probe.reset()
    assert all(math.isnan(r["ratio"]) for r in probe.averages())


def test_state_goes_on():
    model = nn.Sequential(nn.Linear(3, 3))
    x = torch.randn(2, 3)

    def steps(probe, n):
        with probe:
            for k in range(n):
                ((k + 1) * model(x)).square().sum().backward()

    one = GradientNorms(model, blocks=model)
    steps(one, 2)
    two = GradientNorms(model, blocks=model)
    two.load_state_dict(one.state_dict())
    steps(two, 2)
    assert two.averages()[0]["steps"] == 4


def test_non_finite_steps_are_counted_and_left_out():
    model = nn.Sequential(nn.Linear(3, 3))
    with GradientNorms(model, blocks=model) as probe:
        model(torch.randn(2, 3)).sum().backward()
        (model(torch.randn(2, 3)) * float("nan")).sum().backward()
    row = probe.averages()[0]
    assert (row["steps"], row["lost"]) == (1, 1)
    assert math.isfinite(row["ratio"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3,), (64, 32, 16, 16), (7, 33, 31, 29), (128, 100, 37)])
def test_norm(dtype, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for y in (x, x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, x[..., ::2]):
        assert norm(y).item() == pytest.approx(y.double().norm().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-12, 1e17, 1e25, 0.0, float("inf"), float("nan")])
def test_norm_where_squares_leave_the_range(dtype, scale):
    x = (torch.randn(64, 64, 32, 32, generator=torch.Generator().manual_seed(0)) * scale).to(dtype)
    assert norm(x).item() == pytest.approx(x.double().norm().item(), rel=1e-5, nan_ok=True)


def test_bad_input():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="blocks"):
        GradientNorms(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no submodule"):
        GradientNorms(model, blocks=["nowhere"])
    with pytest.raises(ValueError, match="not a submodule"):
        GradientNorms(model, blocks=[nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="twice"):
        GradientNorms(model, blocks=[model[0], model[0]])
    with pytest.raises(ValueError, match="empty"):
        GradientNorms(model, blocks=[])
    for every in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"every must be a whole number of at least 1 step, not {every}"):
            GradientNorms(model, blocks=model, every=every)
    with pytest.raises(RuntimeError, match="nothing was recorded"):
        GradientNorms(model, blocks=model).ratios()


@pytest.mark.cuda
def test_cuda_agrees_and_does_not_synchronise():
    torch.manual_seed(0)
    model = models.build("resnet", 11).cuda()
    x = torch.randn(4, 3, 32, 32, device="cuda")
    expected = by_autograd(
        model, [b.module for b in model.blocks], x.clone().requires_grad_(), lambda o: o.square().mean()
    )
    with GradientNorms(model) as probe:
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                model(x).square().mean().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(probe.ratios().double(), expected, rtol=1e-4)


def test_a_block_that_changes_the_raw_input_in_place():
    model = nn.Sequential(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)), nn.Linear(4, 4))
    x = torch.randn(3, 4)
    with GradientNorms(model, blocks=model) as probe:
        model(x.clone()).square().sum().backward()
    leaf = x.clone().requires_grad_()
    a = model[0][1](torch.relu(leaf))
    g = torch.autograd.grad(model[1](a).square().sum(), [leaf, a])
    assert probe.ratios()[0].item() == pytest.approx((g[1].norm() / g[0].norm()).item(), rel=1e-5)


def test_an_in_place_operation_between_two_blocks():
    """Conv, ReLU(inplace), conv: the same tensor, but another value and another gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6))
    x = torch.randn(5, 6, requires_grad=True)
    a = model[0](x)
    b = torch.relu(a)
    c = model[2](b)
    g = [t.norm() for t in torch.autograd.grad(c.square().sum(), [x, a, b, c])]
    with GradientNorms(model, blocks=["0", "2"]) as probe:
        model(x).square().sum().backward()
    assert torch.allclose(probe.norms(), torch.stack(g).view(2, 2), rtol=1e-5)


def test_repeated_calls_and_backwards_are_recorded_as_documented():
    model = nn.Sequential(nn.Linear(3, 3))
    with GradientNorms(model, blocks=model) as probe:
        y = model(torch.randn(2, 3)).square().sum()
        y.backward(retain_graph=True)
        (3 * y).backward()
        first = probe.norms().clone()
        model.zero_grad()
    assert probe.averages()[0]["steps"] == 1
    assert first[0, 1].item() > 0

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Linear(3, 3)

        def forward(self, x):
            self.outs = [self.block(x)]
            self.outs.append(self.block(self.outs[0]))
            return self.outs[1]

    twice = Twice()
    with GradientNorms(twice, blocks=["block"]) as probe:
        twice(torch.randn(2, 3)).square().sum().backward()
    expected = (2 * twice.outs[1]).norm()  # the last call's output
    assert probe.norms()[0, 1].item() == pytest.approx(expected.item(), rel=1e-5)


def test_tokens_have_no_gradient():
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8))
    with GradientNorms(model, blocks=model) as probe:
        model(torch.arange(5)).square().sum().backward()
    assert math.isnan(probe.ratios()[0].item())
    assert probe.ratios()[1].item() > 0


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return x


@pytest.mark.slow
@pytest.mark.parametrize("how", ["in place", "wrapped"])
def test_a_model_that_was_compiled_and_run_before(how):
    torch.manual_seed(0)
    plain, x = Loop(), torch.randn(2, 8)
    with GradientNorms(plain) as probe:
        plain(x).sum().backward()
    expected = probe.ratios()
    model = copy.deepcopy(plain)
    if how == "in place":
        model.compile(backend="aot_eager")
    else:
        model = torch.compile(model, backend="aot_eager")
    model(x).sum().backward()
    with GradientNorms(model) as probe:
        for _ in range(2):
            model(x).sum().backward()
    assert torch.allclose(probe.ratios(), expected, rtol=1e-5)
    assert probe.averages()[0]["steps"] == 2
    model(x).sum().backward()
    assert probe.averages()[0]["steps"] == 2  # detached


def test_a_copy_of_a_watched_model_is_not_watched(tmp_path):
    model, x = Loop(), torch.randn(2, 8)
    with GradientNorms(model) as probe:
        model(x).sum().backward()
        before = probe.norms().clone()
        other = copy.deepcopy(model)
        (100 * other(x)).sum().backward()
        assert torch.equal(probe.norms(), before)
        torch.save(model, tmp_path / "model.pt")


@pytest.mark.parametrize("state", [None, {}, {"forwards": 1, "sums": torch.zeros(5, 10)}, {"forwards": 1, "sums": 3}])
def test_a_state_of_another_probe_is_refused(state):
    with pytest.raises(ValueError, match="not the state of a probe of 3 blocks"):
        GradientNorms(Loop()).load_state_dict(state)
