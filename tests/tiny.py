"""The smallest run and the smallest grid that the tests share."""

from paperlib.config import RunConfig

RUN = {"preset": "smoke", "depth": 11, "epochs": 3, "train_images": 100, "test_images": 50, "batch_size": 30}
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
