"""paperlib.augmentation, against one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paperlib import cifar
from paperlib.augmentation import apply_augmentation, draw_augmentation, normalise


@pytest.fixture(scope="module")
def sample():
    return cifar.load("cifar10", "sample")


def one_at_a_time(image: np.ndarray, flip: bool, down: int, right: int) -> np.ndarray:
    """One image (C, H, W): flipped, laid into a zero canvas, cropped."""
    c, h, w = image.shape
    canvas = np.zeros((c, h + 8, w + 8), image.dtype)
    canvas[:, 4 : 4 + h, 4 : 4 + w] = image[:, :, ::-1] if flip else image
    return canvas[:, down : down + h, right : right + w]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_augmentation_against_one_image_at_a_time(dtype, memory):
    # Every shift with and without a flip: 162 images.
    shift = torch.cartesian_prod(torch.arange(9), torch.arange(9)).repeat(2, 1)
    flip = torch.arange(162) < 81
    images = torch.randint(1, 256, (162, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(dtype)
    images = images.contiguous(memory_format=memory)
    before = images.clone()
    out = apply_augmentation(images, flip, shift)
    for i in range(162):
        expected = one_at_a_time(images[i].numpy(), bool(flip[i]), int(shift[i, 0]), int(shift[i, 1]))
        assert np.array_equal(out[i].numpy(), expected)
    assert torch.equal(images, before)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=memory)


def test_draw_is_seeded_and_covers_everything():
    def draw(seed):
        return draw_augmentation(20_000, torch.Generator().manual_seed(seed))

    flip, shift = draw(1)
    assert (flip.dtype, shift.dtype) == (torch.bool, torch.int64)
    assert flip.shape == (20_000,) and shift.shape == (20_000, 2)
    assert abs(float(flip.float().mean()) - 0.5) < 0.02
    counts = (9 * shift[:, 0] + shift[:, 1]).bincount(minlength=81)
    assert len(counts) == 81
    assert counts.min() > 150  # 247 expected, deviation 16
    assert all(torch.equal(a, b) for a, b in zip(draw(1), (flip, shift), strict=True))
    assert not torch.equal(draw(2)[1], shift)


def test_the_same_draw_gives_the_same_images(sample):
    images = sample.train_images[:64]
    one, two = (apply_augmentation(images, *draw_augmentation(64, torch.Generator().manual_seed(5))) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, images)


def test_augmentation_refuses_shapes_and_shifts_that_do_not_fit():
    images, flip, shift = torch.zeros(4, 3, 32, 32), torch.zeros(4).bool(), torch.zeros(4, 2).long()
    for wrong in [(images[0], flip, shift), (images, flip[:3], shift), (images, flip, shift[:, 0])]:
        with pytest.raises(ValueError, match=r"need flip \(N,\) and shift \(N, 2\)"):
            apply_augmentation(*wrong)
    with pytest.raises(IndexError):
        apply_augmentation(images, flip, shift + 9)


@pytest.mark.cuda
def test_augmentation_on_a_device_never_waits(sample):
    flip, shift = draw_augmentation(64, torch.Generator().manual_seed(0))
    expected = apply_augmentation(sample.train_images[:64], flip, shift)
    images, flip, shift = (t.cuda() for t in (sample.train_images[:64], flip, shift))
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = apply_augmentation(images, flip, shift)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out.cpu(), expected)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_normalise(sample, memory):
    images = sample.train_images[:50].contiguous(memory_format=memory)
    x = normalise(images, sample.mean, sample.std)
    m, s = (v.numpy().astype(np.float64)[:, None, None] for v in (sample.mean, sample.std))
    np.testing.assert_allclose(x.numpy(), (images.numpy() / 255 - m) / s, atol=2e-6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=memory)


def test_normalise_refuses_what_is_normalised_already(sample):
    with pytest.raises(ValueError, match="images must be uint8"):
        normalise(sample.train_images.float(), sample.mean, sample.std)
