"""The paper's networks with fused kernels, against the same networks without."""

import pytest
import torch
import torch.nn.functional as F
from kernels import DEVICE, RUNS, like

from paperlib import models
from paperlib.machine import full_float32

HOW = [True, "blocks"]


@RUNS
@pytest.mark.parametrize(("arch", "erase", "how"), [
    ("resnet", False, True), ("plain", True, True), ("procresnet", False, True),
    ("plain", True, "blocks"), ("procresnet", False, "blocks"),  # all of ResNet-11's change the channels
])  # fmt: skip
def test_a_fused_network_has_the_same_gradients(arch, erase, how):
    torch.manual_seed(0)
    model = models.build(arch, 11, erase_relu=erase).to(DEVICE, memory_format=torch.channels_last)
    images = like((4, 3, 8, 8), torch.float32)
    found = []
    for on in (False, how):
        model.zero_grad()
        with full_float32():
            model.fuse(on)(images).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for plain, quick in zip(*found, strict=True):
        assert (plain - quick).norm() <= 1e-4 * plain.norm() + 1e-7
    model.eval()
    assert torch.equal(model(images), model.fuse(False)(images))


@pytest.mark.cuda
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("arch", ["resnet", "procresnet"])
def test_in_bfloat16_a_fused_network_is_no_farther_from_the_truth(arch, how):
    """Both round: each is compared with the same network in float64."""
    torch.manual_seed(0)
    model = models.build(arch, 20).cuda().to(memory_format=torch.channels_last)
    true = models.build(arch, 20).to("cuda", torch.float64)
    true.load_state_dict(model.state_dict())
    images, labels = like((128, 3, 32, 32), torch.float32), torch.randint(10, (128,), device="cuda")
    F.cross_entropy(true(images.double()), labels).backward()
    far = []
    for on in (False, how):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model.fuse(on)(images), labels)
        loss.backward()
        pairs = list(zip(model.parameters(), true.parameters(), strict=True))
        far.append([((p.grad - q.grad).norm() / q.grad.norm()).item() for p, q in pairs])
    assert sum(far[1]) < 1.2 * sum(far[0]) and max(far[1]) < 1.5 * max(far[0])
