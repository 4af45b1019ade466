"""Ratios before the first update: the theory's numbers, and what the networks themselves show."""

import numpy as np
import pytest
import torch

from paperlib import mean_field
from paperlib.models import build
from paperlib.probes import GradientNorms


def test_the_numbers_of_the_theory():
    assert pytest.approx(0.563, abs=5e-4) == mean_field.PLAIN
    behind = np.array([1, 2, 3]) + 1
    assert mean_field.ratio(behind / (4 * mean_field.RHO)) == pytest.approx([0.623, 0.698, 0.748], abs=5e-4)
    assert mean_field.ratio(1e9) == pytest.approx(1)
    # Without its skip, a block's branch alone: the variance that it adds gives Plain's ratio.
    alone = mean_field.ratio(1 / (4 * mean_field.RHO)) ** -2 - 1
    assert alone == pytest.approx(mean_field.PLAIN**-2)


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_networks_begin_as_predicted(arch):
    torch.manual_seed(0)
    model, variances = build(arch, 29), []
    for block in model.blocks:
        block.module.register_forward_pre_hook(
            lambda module, args: variances.append(args[0].detach().var(dim=(0, 2, 3), correction=0).mean().item())
        )
    with GradientNorms(model) as probe:
        images = torch.randn(32, 3, 32, 32)
        torch.nn.functional.cross_entropy(model(images), torch.arange(32) % 10).backward()
    residual = [i for i, block in enumerate(model.blocks) if block.kind == "residual"]
    found = probe.ratios()[residual].log().median().item()
    predicted = mean_field.ratio(np.array(variances)[residual]) if arch == "resnet" else mean_field.PLAIN
    assert found == pytest.approx(np.median(np.log(predicted)), abs=0.1)


def test_a_transition_by_its_parts():
    q, rho = 2.0, mean_field.RHO
    assert mean_field.transition(q, 2) ** -2 == pytest.approx((rho**2 + 2) / (4 * q))
    assert mean_field.transition(q, 0) == pytest.approx(mean_field.plain(q))  # the skip's part is c/n
    assert mean_field.plain(mean_field.BRANCH) == pytest.approx(mean_field.PLAIN)


def test_a_resnet_s_later_transitions_begin_as_predicted():
    torch.manual_seed(0)
    model, variances = build("resnet", 38), []
    for block in model.blocks:
        block.module.register_forward_pre_hook(
            lambda module, args: variances.append(args[0].detach().var(dim=(0, 2, 3), correction=0).mean().item())
        )
    with GradientNorms(model) as probe:
        images = torch.randn(16, 3, 32, 32)
        torch.nn.functional.cross_entropy(model(images), torch.arange(16) % 10).backward()
    later = [i for i, block in enumerate(model.blocks) if block.kind == "transition"][1:]
    predicted = mean_field.transition(np.array(variances)[later], 2)
    assert probe.ratios()[later].numpy() == pytest.approx(predicted, rel=0.1)
