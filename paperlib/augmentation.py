"""The paper's augmentation, which is that of fb.resnet.torch: normalise, flip, pad and crop, a batch at a time.

The images are padded with four *zeros of the normalised image* on each side.  That is the mean colour, not the black
that a crop before normalising would add.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib import _checks

PAD = 4


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``(images/255 - mean) / std``.

    Parameters
    ----------
    images : Tensor, uint8 (N, 3, H, W)
        The images.
    mean, std : Tensor, (3,)
        Mean and standard deviation of each channel, of images divided by 255.  If they are on the images' device,
        nothing waits for a transfer.

    Returns
    -------
    Tensor, float32 (N, 3, H, W)
        The normalised images, on the same device and in the same memory format.

    Raises
    ------
    ValueError
        The images are not uint8: they would be divided by 255 a second time.

    Examples
    --------
    >>> from paperlib.cifar import load
    >>> data = load("cifar10", source="sample")
    >>> x = normalise(data.train_images, data.mean, data.std)
    >>> x.dtype, bool(x.mean().abs() < 1e-5), round(float(x.std()), 3)
    (torch.float32, True, 1.0)
    """
    _checks.stored("images", _checks.instance("images", images, Tensor, "a torch.Tensor"))
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 of shape (N, 3, H, W), not {images.dtype} of {tuple(images.shape)}")
    for name, value in (("mean", mean), ("std", std)):
        if _checks.real_tensor(name, value, "(3,)").shape != (3,):
            raise ValueError(f"{name} must be of shape (3,), not {_checks.shown(value)}")
    mean, std = (v.to(images.device, torch.float32).view(3, 1, 1) for v in (mean, std))
    return images.float().mul_(1 / (255 * std)).sub_(mean / std)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator on the CPU for one epoch's order and augmentation.  Its state depends on the two numbers alone."""
    _checks.seed("seed", seed)
    _checks.whole_number("epoch", epoch, least=0)
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def draw_augmentation(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw whether each of n images is flipped, and where it is cropped.

    Draw for a whole epoch at once, move the result to the device, and index it per batch.

    Parameters
    ----------
    n : int
        The number of images.
    generator : torch.Generator
        A generator on the CPU.

    Returns
    -------
    flip : Tensor, bool (n,)
        Whether to flip, on the CPU.
    shift : Tensor, int64 (n, 2)
        The crop's offset in pixels (down, right), 0 to 8, on the CPU.
    """
    _checks.whole_number("n", n, least=0, most=_checks.MOST_NUMBERS)
    _checks.generator("generator", generator)
    flip = torch.randint(0, 2, (n,), generator=generator).bool()
    return flip, torch.randint(0, 2 * PAD + 1, (n, 2), generator=generator)


def apply_augmentation(images: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
    """Flip the images that ``flip`` marks, pad them with 4 zeros on each side, and crop them at ``shift``.

    It takes a few kernels for the whole batch, and none of them waits for the device.

    Parameters
    ----------
    images : Tensor, (N, C, H, W)
        Images of any dtype.  Give *normalised* ones, so that zero is the mean colour.
    flip : Tensor, bool (N,)
        As :func:`draw_augmentation` returns it, on the images' device.
    shift : Tensor, int64 (N, 2)
        Likewise.  A shift of (4, 4) moves nothing.

    Returns
    -------
    Tensor, (N, C, H, W)
        The images' dtype, device and memory format (contiguous or channels_last) are kept.

    Raises
    ------
    ValueError
        The shapes do not fit.
    IndexError
        A shift is not within 0 to 8.  On a GPU this shows only at the next synchronisation.

    Examples
    --------
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> apply_augmentation(x, torch.tensor([True]), torch.tensor([[4, 6]]))[0, 0, 0]
    tensor([1., 0., 0., 0.])
    """
    for name, value in (("images", images), ("flip", flip), ("shift", shift)):
        _checks.stored(name, _checks.instance(name, value, Tensor, "a torch.Tensor"))
    n = len(images) if images.ndim else 0
    if images.ndim != 4 or flip.shape != (n,) or shift.shape != (n, 2):
        raise ValueError(
            "images (N, C, H, W) need flip (N,) and shift (N, 2), "
            f"not {tuple(images.shape)} with {tuple(flip.shape)} and {tuple(shift.shape)}"
        )
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    height, width = images.shape[2:]
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    # All 81 crops as a view (N, C, 9, 9, H, W), of which one is copied for each image.
    crops = F.pad(images, (PAD,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    picked = crops[torch.arange(n, device=images.device), :, shift[:, 0], shift[:, 1]]
    return picked.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
