"""Every kernel of a training step compiles for the GPUs that there are, without one."""

import pytest
import torch
from faults.tally import LONG

from paperlib import fused, models

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(fused.INTERPRETED, reason="compiles")
# Compute capabilities with the bytes that a program can share: A100, RTX 40, H100.
DEVICES = {80: 166_912, 89: 101_376, 90: 232_448}


def launches_of_a_step(how, dtype):
    """What a step of 128 images launches, at depths with each kind of block."""
    from offline_kernels import noted

    with noted() as launches:
        for arch in ("resnet", "procresnet"):
            model = models.build(arch, 20).to(memory_format=torch.channels_last).fuse(how)
            images = torch.zeros(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                model(images).sum().backward()
        fused.euclidean_norm(torch.zeros(1000, dtype=dtype))
    return launches


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("how", [True, "blocks"])
def test_a_steps_kernels_compile(how, dtype):
    """All are read by the compiler; one of each name is compiled, in ``make torture`` all of them for each device."""
    launches = launches_of_a_step(how, dtype)
    names = {launch.name for launch in launches}
    if how == "blocks":
        assert {"_forward", "_backward", "_weight", "_finish_weights", "_moments", "_input_gradient"} <= names
    else:
        assert {"_moments", "_normalise", "_gradient_sums", "_input_gradient"} <= names
        assert ("_conv3x3" in names) == (dtype == torch.bfloat16)
    done = set()
    for launch in launches:
        for capability in DEVICES if LONG else (90,) if launch.name not in done else ():
            assert launch.compile(capability).metadata.shared <= DEVICES[capability], str(launch)
        launch.read(90)
        done.add(launch.name)


def test_a_variable_of_two_types_is_noticed():
    """The interpreter takes it; it once was in a kernel that had been right before."""

    @triton.jit
    def changes(x, number):
        value = triton.language.load(x)
        for i in range(number):
            value = value.to(triton.language.float32) + i

    from offline_kernels import Launch

    launch = Launch(changes, "changes", (("x", "*bf16"), ("number", "i32")), (), (), ())
    with pytest.raises(triton.CompilationError):
        launch.read(90)
