"""Batch normalisation over several processes, as far as one process shows it; tests/test_processes.py has two."""

import copy

import pytest
import torch
from torch import nn

from paperlib import models, synchronised


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.build("resnet", 11)


@pytest.fixture
def alone(tmp_path):
    """A group of this one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("device", "kind"), [("cpu", synchronised.BatchNorm2d), ("cuda:0", nn.SyncBatchNorm)])
def test_every_norm_is_replaced_and_keeps_its_tensors(model, device, kind):
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    count = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert synchronised.synchronise(model, device) is model
    assert sum(type(m) is kind for m in model.modules()) == count
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert list(after) == list(before) and all(after[name] is x for name, x in before.items())


def test_in_evaluation_it_is_the_ordinary_one(model):
    other = synchronised.synchronise(copy.deepcopy(model), "cpu").eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(other(x), model.eval()(x))


@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_training_it_is_the_ordinary_one(alone, dtype, mean):
    """Output, gradients and statistics, also where the mean is far from zero."""
    generator = torch.Generator().manual_seed(0)
    x = (mean + torch.randn(8, 3, 6, 6, generator=generator)).to(dtype)
    weights = torch.randn(8, 3, 6, 6, generator=generator)
    results = []
    for norm in (nn.BatchNorm2d(3), synchronised.BatchNorm2d(3)):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        (y.float() * weights).sum().backward()
        assert y.dtype == dtype
        results.append([y.float(), leaf.grad.float(), norm.weight.grad, norm.bias.grad, *norm.buffers()])
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, **tolerance)


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_recomputed_block_is_counted_once(alone, model, recomputed):
    synchronised.synchronise(model, "cpu")
    model.checkpoint_activations = recomputed
    model(torch.randn(4, 3, 16, 16)).sum().backward()
    assert all(m.num_batches_tracked == 1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))
