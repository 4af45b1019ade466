"""One cell of the channel grid: its parameters, its training, and seeds that train side by side."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from paperlib.channel_grid import MEASURED, VARIANTS, Cell, Networks, networks, train_cell
from paperlib.channel_grid import cell as module
from paperlib.channel_grid.steps import Batches, Steps
from paperlib.errors import ConfigError


def test_a_cell(data):
    cell = Cell(c=2, d=6, seeds=[1, 0], stages=(3, 0), batch_size=50, probe_images=40)
    table = train_cell(cell, data)
    assert list(table.columns) == ["c", "d", "variant", "seed", "step", *MEASURED]
    assert table[["seed", "step"]].values.tolist() == [[0, 0], [0, 3], [1, 0], [1, 3]]
    assert table.log_ratio.nunique() == 4
    again = train_cell(cell.model_copy(update={"seeds": (1,)}), data)
    pd.testing.assert_frame_equal(again, table[table.seed == 1].reset_index(drop=True))


def test_it_learns_and_the_held_kernel_stays(data):
    """Beyond an epoch of the sample; the loss falls, and the kernel keeps its singular values."""
    table = train_cell(Cell(c=8, d=16, stages=(0, 24), batch_size=64, lr=0.05), data)
    assert table.loss.iloc[1] < table.loss.iloc[0] - 0.05
    assert table.gain.iloc[1] == pytest.approx(4, rel=0.15)  # 2 d / c
    free = train_cell(Cell(c=8, d=16, variant="free", stages=(0, 24), batch_size=64, lr=0.05), data)
    assert abs(free.gain.iloc[1] / free.gain.iloc[0] - 1) > 0.3


def test_a_diverging_network_is_measured_as_such(data):
    table = train_cell(Cell(c=4, d=8, variant="free", stages=(0, 8), batch_size=20, lr=1e8, probe_images=20), data)
    assert math.isfinite(table.log_ratio[0])
    assert not math.isfinite(table.log_ratio[1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"variant": "convrelu"}, "variant 'convrelu' is unknown: choose one of conv-relu, conv"),
        ({"variant": ["conv"]}, "variant must be a text"),
        ({"c": 0}, "c must be at least 1, not 0"),
        ({"d": 2.5}, "d must be a whole number, not 2.5"),
        ({"seeds": []}, "seeds must be a list of whole numbers"),
        ({"seeds": 2.5}, "seeds must be a list of whole numbers"),
        ({"seeds": [1, True]}, "seeds must be a list of whole numbers"),
        ({"seeds": [-1]}, "seeds must be at least 0, not -1"),
        ({"seeds": 2**70}, "seeds must be less than 2147483648"),
        ({"stages": ()}, "stages must be a list of whole numbers"),
        ({"batch_size": True}, "batch_size must be a whole number, not True"),
        ({"batch_size": 5000}, "batch_size 5000 is more than there is: 1000 training images"),
        ({"probe_images": 2000}, "probe_images 2000 is more than there is: 1000 training images"),
        ({"lr": math.nan}, "lr must be"),
        ({"lr": "x"}, "lr must be a number, not 'x'"),
        ({"momentum": 2.0}, "momentum must be less than 1"),
        ({"head": "max"}, "head 'max' is unknown"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not there"),
    ],
)
def test_bad_input(changed, said, data):
    values = {"c": 2, "d": 4, "variant": "conv-relu", "seeds": 0} | changed
    with pytest.raises(ConfigError, match=said) as e:
        train_cell(Cell(**values), data)
    assert "\n" not in str(e.value)


def test_numbers_in_many_forms(data):
    one = train_cell(Cell(c=2, d=2, probe_images=20, seeds=range(2), stages=0), data)
    for seeds in ([1, 0, 1], np.arange(2), "0 1", (i for i in range(2))):
        again = train_cell(Cell(c=2, d=2, probe_images=20, seeds=seeds, stages=[0, 0]), data)
        pd.testing.assert_frame_equal(again, one)


def test_it_asks_for_full_float32_and_leaves_the_settings_alone(data, monkeypatch):
    conv, seen = torch.backends.cudnn.conv, []
    before = conv.fp32_precision
    monkeypatch.setattr(module, "measure", lambda *a: seen.append(conv.fp32_precision) or {})
    train_cell(Cell(c=2, d=2, stages=0, probe_images=10), data)
    assert seen == ["ieee"] and conv.fp32_precision == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("wrong", [{"c": 2, "d": 2}, None])
def test_a_cell_is_a_cell(wrong, data):
    with pytest.raises(ConfigError, match="a Cell is needed, not"):
        train_cell(wrong, data)
    with pytest.raises(ConfigError, match="^d is required$"):
        Cell(c=2)


@pytest.mark.parametrize("data", ["cifar10", None, 3])
def test_the_images_are_given_not_named(data):
    with pytest.raises(TypeError, match=r"data must be what paperlib\.cifar\.load returns, not"):
        train_cell(Cell(c=2, d=2), data)


# -- side by side ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("variant", "head"), [("conv-relu", "mean"), ("conv-relu-all", "mean"), ("free", "mean"), ("conv-relu", "linear")]
)
def test_a_group_trains_as_its_seeds_alone(variant, head, data):
    values = {"stages": (0, 2, 6), "batch_size": 32, "probe_images": 32, "head": head}
    cell = Cell(c=4, d=8, variant=variant, seeds=[0, 3, 5], **values)
    alone, group = (train_cell(cell, data, together=together) for together in (False, True))
    assert alone[["seed", "step"]].equals(group[["seed", "step"]])
    assert np.exp(group.log_ratio - alone.log_ratio).sub(1).abs().max() < 1e-4


def test_a_group_takes_as_many_operations_as_one_network(data, monkeypatch):
    """What a small network costs on CUDA: each operation is a launch, however much it computes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.n += 1
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(networks, "default_method", lambda device: "quintic")
    counts = []
    for seeds in ([0], range(10)):
        net = Networks(4, 4, VARIANTS["conv-relu"], seeds)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
        steps = Steps(net, optimizer, Batches(data, list(seeds), 8, torch.device("cpu")))
        with Count() as count:
            steps._step(8)
            net.project()
        counts.append(count.n)
    assert counts[1] <= 1.02 * counts[0]


@pytest.mark.cuda
def test_on_cuda_a_group_trains_as_its_seeds_alone(data):
    cell = Cell(c=16, d=16, seeds=range(10), stages=(0, 6), device="cuda")
    group, alone = train_cell(cell, data), train_cell(cell, data, together=False)
    here = train_cell(cell.model_copy(update={"device": "cpu"}), data)
    assert np.exp(group.log_ratio - alone.log_ratio).sub(1).abs().max() < 1e-4
    assert np.exp(group.log_ratio - here.log_ratio).sub(1).abs().max() < 1e-3
