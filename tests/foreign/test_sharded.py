"""Networks whose parameters are sharded over processes (FSDP2): the same numbers as without, or one sentence."""

from itertools import pairwise

import pytest
import torch
from torch import distributed, multiprocessing, nn

from paperlib import GradientNorms, NormPreserving, operator_norm, orthogonal, project, singular_values, spread
from paperlib.errors import ProjectionError


def network(exact=False):
    torch.manual_seed(0)
    channels = (3, 8, 16, 16)
    blocks = [nn.Sequential(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()) for c, d in pairwise(channels)]
    for block in blocks if exact else ():
        orthogonal(block[0])
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def sharded(model):
    """The model and each of its blocks, sharded over the processes that there are."""
    from torch.distributed.fsdp import fully_shard

    mesh = distributed.init_device_mesh("cpu", (distributed.get_world_size(),))
    for block in model[:3]:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def the_probe_is_exact():
    for options in ({}, {"input_gradient": "vjp"}):
        plain, model = network(), sharded(network())
        with GradientNorms(plain, **options) as alone, GradientNorms(model, **options) as probe:
            for each in (plain, model):
                each(images()).square().sum().backward()
        assert probe.names == alone.names and torch.equal(probe.ratios(), alone.ratios())


def an_orthogonal_kernel_is_trained_and_stays_exact():
    plain, model = network(exact=True), sharded(network(exact=True))
    for each in (plain, model):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            each(images()).square().sum().backward()
            optimizer.step()
    with pytest.raises(ValueError, match="the kernel is sharded over processes .*: call unshard"):
        spread(model[1][0].weight, 8)
    model[1].unshard()
    assert torch.allclose(model[1][0].weight, plain[1][0].weight, atol=1e-6)
    assert spread(model[1][0].weight, 8) == pytest.approx((1, 1), abs=1e-5)


def the_spectrum_of_a_shard_is_refused_and_that_of_the_whole_is_right():
    model, plain = sharded(network()), network()
    layer, kernel = model[1][0], model[1][0].weight
    for call in (
        lambda: singular_values(layer, input_size=8),
        lambda: operator_norm(layer, input_size=8),
        lambda: spread(kernel, 8),
        lambda: project(kernel, 8),
    ):
        with pytest.raises(ValueError, match="weight is sharded over processes .*: call unshard"):
            call()
    with pytest.raises(ValueError, match="weight is sharded .*: make the layer orthogonal before fully_shard"):
        orthogonal(layer)
    assert spread(kernel.full_tensor(), 8) == spread(plain[1][0].weight, 8)
    model[1].unshard()
    assert torch.equal(singular_values(layer, input_size=8), singular_values(plain[1][0], input_size=8))


def holding_a_shard_is_refused():
    model = network()
    held = NormPreserving(model, convs=[("1.0", 8)], every=1)
    sharded(model)
    for how in ({"example": images()}, {"convs": [("1.0", 8)]}):
        with pytest.raises(ValueError, match=r"1\.0.*: its weight is sharded over processes"):
            NormPreserving(model, **how)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ProjectionError, match=r"1\.0 is no longer held: its weight is sharded"), held.attach(optimizer):
        model(images()).sum().backward()
        optimizer.step()


CASES = (
    the_probe_is_exact,
    an_orthogonal_kernel_is_trained_and_stays_exact,
    the_spectrum_of_a_shard_is_refused_and_that_of_the_whole_is_right,
    holding_a_shard_is_refused,
)


def all_cases(rank, processes, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=processes)
    try:
        for case in CASES:
            case()
    finally:
        distributed.destroy_process_group()


@pytest.fixture
def alone(tmp_path):
    """A group of this one process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("case", CASES)
def test_in_one_process(case):
    case()


@pytest.mark.slow
def test_in_two_processes(tmp_path):
    """Raises with the traceback of the process whose assertion fails."""
    multiprocessing.spawn(all_cases, (2, tmp_path), nprocs=2)
