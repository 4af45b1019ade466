"""What the benchmarks count: no time is measured here."""

import pytest
from scripts import script


@pytest.mark.parametrize(("arch", "depth"), [("resnet", 20), ("resnet", 83)])
def test_the_operations_of_the_convolutions_are_those_that_torch_counts(arch, depth):
    """But for the last layer, which is no convolution."""
    shapes = script("convolutions").shapes(arch, depth)
    counted = sum(times * shape.operations(images=2) for shape, times in shapes.items())
    assert counted == script("roofline").operations(depth, images=2) - 3 * 2 * 2 * 256 * 10


def test_every_operator_of_a_step_has_a_kind():
    kinds = script("convolutions").KINDS
    named = {
        "convolutions": ["aten::mkldnn_convolution", "aten::convolution_backward"],
        "normalisations": ["aten::native_batch_norm", "aten::native_batch_norm_backward"],
        "ReLUs": ["aten::clamp_min_", "aten::threshold_backward"],
        "sums": ["aten::add_"],
    }
    for kind, names in named.items():
        for name in names:
            assert [k for k, parts in kinds.items() if any(part in name for part in parts)] == [kind]
