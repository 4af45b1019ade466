"""The smallest run, the smallest grid, and a record, that the tests share."""

import pandas as pd

from paperlib import cifar
from paperlib.claims.finding import Finding
from paperlib.config import RunConfig
from paperlib.models import block_names
from paperlib.records import Record
from paperlib.store import Provenance

RUN = {"preset": "smoke", "depth": 11, "epochs": 3, "train_images": 40, "test_images": 20, "batch_size": 12}
GRID = {
    "preset": "smoke",
    "in_channels": 2,
    "out_channels": "2 4",
    "variants": "conv-relu free",
    "seeds": 1,
    "stages": "0 2",
}


def tiny(**changes):
    """The smallest run, with some parameters changed."""
    return RunConfig(**(RUN | changes))


def data_of(config):
    """What such a run trains and is tested on."""
    return cifar.load("cifar10", "sample").subset(config.train_images, config.test_images, config.seed)


def record():
    """A record of two epochs, made by hand."""
    epochs = pd.DataFrame(
        {
            "epoch": [1, 2],
            "lr": [0.1, 0.01],
            "train_loss": [2.0, 1.0],
            "train_error": [60.0, 0.5],
            "test_loss": [2.5, 2.25],
            "test_error": [50.0, 1 / 3],
        }
    )
    blocks = pd.DataFrame({"epoch": [1], "block": [1], "name": ["a"], "kind": ["transition"], "log_ratio": [0.1]})
    config = RunConfig(preset="smoke", depth=20).resolve()
    return Record(
        status="finished",
        config=config,
        provenance=Provenance.here(config.command()),
        data={"dataset": "cifar10", "source": "sample", "checksum": "0", "train_images": 150, "test_images": 50},
        parameters=1,
        epoch_seconds=[0.7, 0.8],
        peak_memory_bytes=1,
        frames={"epochs": epochs, "blocks": blocks},
    )


def fitted(made):
    """The record with the rates and the blocks that its parameters ask for, without which it cannot be read back."""
    c, n = made.config, len(made.epochs)
    made.frames["epochs"] = made.epochs.assign(lr=[c.lr_at(epoch) for epoch in made.epochs.epoch])
    rows = [
        {"epoch": epoch, "block": i, "name": name, "kind": "residual", "log_ratio": 0.1}
        for epoch in range(1, n + 1)
        for i, name in enumerate(block_names(c.arch, c.depth), 1)
    ]
    made.frames["blocks"] = pd.DataFrame(rows)
    return made


def finding(claim, preset, tables):
    """A finding about some tables that were made by hand."""
    made = Provenance.here(f"python -m paperlib measure {claim}")
    return Finding(claim=claim, preset=preset, seeds=[0], quantities={}, provenance=made, frames=tables)
