"""TensorBoard's event files of a run, where ``tensorboard`` is installed (the extra ``watch``)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"


class Events:
    """Writes a run's epochs as scalars: ``tensorboard --logdir runs`` shows them while it is trained.

    Without ``tensorboard`` it does nothing.  A disk that is full, or a folder that cannot be written, ends no run.

    Parameters
    ----------
    folder : Path or None
        The run's folder; the event files go into ``tensorboard/`` below it.  None writes none.
    epoch : int
        The epoch that comes next.  What an interrupted session wrote of it and of later ones is not shown any more.

    Examples
    --------
    >>> import tempfile
    >>> with Events(Path(tempfile.mkdtemp()), epoch=1) as events:
    ...     events.write({"epoch": 1, "lr": 0.1, "train_loss": 2.3}, [])
    """

    def __init__(self, folder: Path | None, epoch: int) -> None:
        self._writer: Any = None
        if folder is None:
            return
        with contextlib.suppress(ImportError, OSError):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / FOLDER), purge_step=epoch)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()

    def write(self, row: Mapping[str, float], blocks: Iterable[Mapping[str, Any]]) -> None:
        """Write one epoch.

        Parameters
        ----------
        row : mapping
            The epoch's row of :attr:`paperlib.records.Record.epochs`.
        blocks : iterable of mapping
            Its rows of :attr:`paperlib.records.Record.blocks`.
        """
        if self._writer is None:
            return
        scalars = {name: value for name, value in row.items() if name != "epoch"}
        scalars |= {f"ratio/{block['name']}": math.exp(block["log_ratio"]) for block in blocks}
        with contextlib.suppress(OSError):
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, row["epoch"])
            self._writer.flush()
