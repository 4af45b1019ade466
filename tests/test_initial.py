"""The ratios before the first update: what they are of, and that the network stays as it was."""

import pytest
import torch
import torch.nn.functional as F

from paperlib import models
from paperlib.initial import initial_ratios, kept_buffers
from paperlib.probes import GradientNorms


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.build("resnet", 11)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3, 32, 32, generator=generator), torch.arange(16) % 10


def loss(model):
    return lambda images, labels: F.cross_entropy(model(images), labels)


def test_they_are_the_means_over_the_batches(model):
    alone = []
    for seed in range(3):
        with GradientNorms(model) as probe:
            loss(model)(*batch(seed)).backward()
        alone.append(probe.ratios().double().log())
    rows = initial_ratios(model, [batch(seed) for seed in range(3)], loss(model))
    found = torch.tensor([row["log_ratio"] for row in rows], dtype=torch.float64)
    assert torch.allclose(found, torch.stack(alone).mean(0), atol=1e-9)


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_variance_is_that_of_the_blocks_input(model, recomputed):
    images, _ = batch(0)
    inputs = []
    handles = [b.module.register_forward_pre_hook(lambda m, args: inputs.append(args[0])) for b in model.blocks]
    model(images)
    for handle in handles:
        handle.remove()
    model.checkpoint_activations = recomputed
    rows = initial_ratios(model, [batch(0)], loss(model))
    for row, x in zip(rows, inputs, strict=True):
        assert row["variance"] == pytest.approx(x.var(dim=(0, 2, 3), correction=0).mean().item(), rel=1e-5)


def test_nothing_is_changed(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initial_ratios(model, [batch(0)], loss(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(b.module._forward_pre_hooks or b.module._forward_hooks for b in model.blocks)


def test_after_an_error_nothing_is_left_behind(model):
    with pytest.raises(RuntimeError):
        initial_ratios(model, [(torch.zeros(2, 5, 8, 8), torch.zeros(2, dtype=torch.int64))], loss(model))
    assert not any(b.module._forward_pre_hooks or b.module._forward_hooks for b in model.blocks)


def test_buffers_are_kept_even_after_an_error(model):
    before = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ZeroDivisionError), kept_buffers(model):
        model(batch(0)[0])
        1 / 0  # noqa: B018
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))
