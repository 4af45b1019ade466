"""What the tests of the channel grid share: some images, and one small grid."""

import pytest
import tiny
import torch

from paperlib import cifar
from paperlib.augmentation import normalise
from paperlib.channel_grid import GridConfig, run


@pytest.fixture(scope="session")
def data():
    return cifar.load("cifar10", "sample")


@pytest.fixture(scope="session")
def batch(data):
    images = normalise(data.train_images[:64], data.mean, data.std)
    return images.contiguous(memory_format=torch.channels_last), data.train_labels[:64]


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    return run(GridConfig(**tiny.GRID), root=tmp_path_factory.mktemp("grid"), quiet=True)
