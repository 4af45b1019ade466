"""Loss and errors of a run's network on some images, without augmentation, and where they are not finite."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from paperlib.divergence import first_bad_block, first_bad_buffer
from paperlib.models import Network
from paperlib.training import steps
from paperlib.training.batches import Batches

EVAL_BATCH = 250


def clean_logits(model: Network, batches: Batches, images: Tensor) -> Tensor:
    """The network's output for uint8 images, without augmentation."""
    return steps.logits(model, batches.prepare(images), batches.config)


@torch.no_grad()
def sums(model: Network, batches: Batches, images: Tensor, labels: Tensor) -> Tensor:
    """The sums (2,) of losses and errors, float64, the same in every process; the model is in evaluation mode."""
    loss = torch.zeros((), dtype=torch.float64, device=batches.device)
    wrong = torch.zeros((), dtype=torch.int64, device=batches.device)
    for start in range(0, len(labels), EVAL_BATCH):
        part = batches.world.part(start, min(start + EVAL_BATCH, len(labels)))
        right = labels[part]
        logits = clean_logits(model, batches, images[part])
        loss += F.cross_entropy(logits, right, reduction="sum").double()
        wrong += (logits.argmax(1) != right).sum()
    return batches.world.sum(torch.stack([loss, wrong.double()]))


@torch.no_grad()
def first_not_finite(model: Network, batches: Batches, losses: tuple[float, ...]) -> str | None:
    """The block where an evaluation, which these losses came of, was not finite, or would not be; None if it was."""
    block = first_bad_buffer(model)
    if block is None and all(map(math.isfinite, losses)):
        return None

    def forward() -> None:
        for images in (batches.clean[0], batches.test_images):
            for part in images.split(EVAL_BATCH):
                clean_logits(model, batches, part)

    model.eval()
    block = block or first_bad_block(model, forward, world=batches.world)
    model.train()
    return block
