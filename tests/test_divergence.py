"""Where a step went wrong: the first block whose activation, or else whose gradient, is not finite."""

import pytest
import torch

from paperlib import models
from paperlib.divergence import first_bad_block


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.build("resnet", 11)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16)


@pytest.mark.parametrize("where", ["stage1_block1", "stage3_block1"])
def test_the_first_block_is_named_and_the_network_stays(model, images, where):
    torch.nn.init.constant_(model.chain[where].conv3.weight, float("inf"))
    before = [x.clone() for x in model.buffers()]
    assert first_bad_block(model, lambda: model(images)) == where
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))
    assert not model._forward_hooks and not any(b.module._forward_hooks for b in model.blocks)


def test_the_head_is_named(model, images):
    torch.nn.init.constant_(model.fc.weight, float("nan"))
    assert first_bad_block(model, lambda: model(images)) == "head"


@pytest.mark.parametrize(
    ("name", "part"), [("stem.weight", "stem"), ("chain.stage2_block1.conv1.weight", "stage2_block1")]
)
def test_a_gradient_is_found_without_a_probe(model, images, name, part):
    model(images).sum().backward()
    assert first_bad_block(model, lambda: model(images)) == "unknown"
    dict(model.named_parameters())[name].grad.fill_(float("nan"))
    assert first_bad_block(model, lambda: model(images)) == part
