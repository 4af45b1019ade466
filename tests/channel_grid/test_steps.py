"""The steps of a group of networks: the order of the images, and what is replayed on CUDA."""

import contextlib

import pytest
import torch

from paperlib.augmentation import normalise
from paperlib.channel_grid import Cell
from paperlib.channel_grid.cell import started
from paperlib.channel_grid.steps import EVERY, WARM, Batches
from paperlib.machine import full_float32, settings

CPU = torch.device("cpu")


def made(data, variant="conv-relu", seeds=(0, 3), size=16, device=CPU):
    """Steps on fifty images: three whole batches an epoch, and one of two images."""
    cell = Cell(c=4, d=8, variant=variant, batch_size=size, lr=0.05)
    return started(cell, list(seeds), data.subset(50, 10), device)


def kernels(steps):
    return [p.detach().cpu().clone() for p in steps.networks.parameters()]


def test_every_epoch_has_every_image_once_in_another_order(data):
    small = data.subset(50, 10)
    batches = Batches(small, [0, 1], 20, CPU)
    sizes, taken = [], []
    for _ in range(6):
        sizes.append(batches.next_size())
        taken.append(batches.take(sizes[-1]))
    assert sizes == [20, 20, 10] * 2
    assert [images.shape for images, _ in taken[:3]] == [(20, 6, 32, 32), (20, 6, 32, 32), (10, 6, 32, 32)]
    for j in (0, 1):
        first, second = (torch.cat([labels[j] for _, labels in taken[i : i + 3]]) for i in (0, 3))
        assert not torch.equal(first, second)
        for epoch in (first, second):
            assert torch.equal(epoch.sort().values, small.train_labels.sort().values)
    # Images and labels belong together, and the seeds differ.
    images, labels = taken[0]
    normal = normalise(small.train_images, small.mean, small.std)
    for j in (0, 1):
        for image, label in zip(images.unflatten(1, (2, 3))[:, j], labels[j], strict=True):
            (place,) = (normal - image).abs().amax((1, 2, 3)).lt(1e-6).nonzero()[:1, 0]
            assert small.train_labels[place] == label
    assert not torch.equal(labels[0], labels[1])


def test_a_network_s_images_do_not_depend_on_its_neighbours(data):
    alone, group = (Batches(data, seeds, 8, CPU) for seeds in ([3], [0, 3]))
    for _ in range(3):
        (images, labels), (both, all_labels) = (b.take(b.next_size()) for b in (alone, group))
        assert torch.equal(images, both[:, 3:]) and torch.equal(labels[0], all_labels[1])


class Emulated:
    """What a graph would do, done anew each time."""

    def __init__(self, work):
        self.replay = work


def emulate(monkeypatch, steps):
    """Let them believe that there is a stream; returns what is captured, by name, and what is replayed."""
    captured, replayed, do = [], [], steps._do

    def counted(name, work):
        steps._capture = lambda work: captured.append(name) or Emulated(lambda: (replayed.append(name), work()))
        do(name, work)

    steps._stream = object()
    steps._do = counted
    monkeypatch.setattr("paperlib.channel_grid.steps.aside", contextlib.nullcontext)
    return captured, replayed


@pytest.mark.parametrize("variant", ["conv-relu", "free", "conv-relu-all"])
def test_what_is_replayed_is_what_would_have_been_done(data, monkeypatch, variant):
    """Eleven steps: nine of a whole batch, and the last of each of two epochs, which has two images."""
    plain, replaying = made(data, variant), made(data, variant)
    captured, replayed = emulate(monkeypatch, replaying)
    for stage in (0, 3, 11):
        plain.until(stage)
        replaying.until(stage)
        assert all(map(torch.equal, kernels(plain), kernels(replaying)))
    whole, held = 9, variant != "free"
    assert captured == ["step"] + ["projection"] * held
    assert replayed.count("step") == whole - WARM
    assert replayed.count("projection") == (11 // EVERY - WARM) * held


def test_a_graph_is_of_the_first_batch_s_size_alone(data, monkeypatch):
    """The last batch of an epoch is done as it is, between replays, and the position goes on."""
    steps = made(data)
    emulate(monkeypatch, steps)
    steps.until(4)
    assert steps.batches.position == 50
    steps.until(5)
    assert steps.batches.position == 16


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["conv-relu", "free", "conv-relu-all"])
def test_on_cuda_replayed_steps_are_the_steps(data, variant, monkeypatch):
    with settings("cuda"), full_float32():
        replayed = made(data, variant, device=torch.device("cuda"))
        replayed.until(21)
        assert set(replayed._graphs) == {"step", "projection"} - ({"projection"} if variant == "free" else set())
        plain = made(data, variant, device=torch.device("cuda"))
        plain._stream = None
        plain.until(21)
    for a, b in zip(kernels(replayed), kernels(plain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_on_cuda_no_step_waits_for_the_device(data):
    """Three replayed steps and a replayed projection of the second epoch, whose order is drawn on the host before."""
    with settings("cuda"), full_float32():
        steps = made(data, size=8, device=torch.device("cuda"))
        steps.until(8)
        assert set(steps._graphs) == {"step", "projection"}
        torch.cuda.synchronize()
        try:
            torch.cuda.set_sync_debug_mode("error")
            steps.until(11)
        finally:
            torch.cuda.set_sync_debug_mode("default")
