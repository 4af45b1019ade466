"""A callback for Lightning's ``Trainer`` (https://lightning.ai), from ``lightning`` or ``pytorch_lightning``."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

from paperlib.callbacks import scalars
from paperlib.probes import GradientNorms


def _base() -> Any:
    """Lightning's class of callbacks; without Lightning, ``object``, so that this module can be imported."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        with contextlib.suppress(ImportError):
            return import_module(name).Callback
    return object


Base: Any = _base()


class GradientNormsCallback(Base):
    """Log the gradient-norm ratios of the blocks while a ``LightningModule`` is trained.

    After every ``log_every_n_steps`` batches, and at the end, each of the trainer's loggers gets the scalars
    ``grad_ratio/<block>``, averages over the batches since the last time.  A training batch is a step, whichever parts
    of the module it calls.

    Parameters
    ----------
    blocks : iterable, optional
        As for :class:`paperlib.probes.GradientNorms`: names of submodules of the ``LightningModule``, or modules.
    **options : Any
        Further arguments of :class:`paperlib.probes.GradientNorms`.

    Attributes
    ----------
    probe : GradientNorms
        The probe, once training has begun.

    Raises
    ------
    ImportError
        Neither ``lightning`` nor ``pytorch_lightning`` is installed.

    Examples
    --------
    >>> from lightning.pytorch import Trainer  # doctest: +SKIP
    >>> trainer = Trainer(callbacks=[GradientNormsCallback()])  # doctest: +SKIP
    """

    def __init__(self, blocks: Any = None, **options: Any) -> None:
        if Base is object:
            raise ImportError("this callback needs Lightning: pip install lightning")
        super().__init__()
        self.blocks, self.options = blocks, options
        self.probe: GradientNorms | None = None
        self._batches = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach the probe."""
        self.probe = GradientNorms(pl_module, self.blocks, **self.options).attach(calls_start_steps=False)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        """Begin a step."""
        if self.probe is not None:
            self.probe.start_step()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log, if it is time."""
        self._batches += 1
        if trainer.log_every_n_steps and self._batches % trainer.log_every_n_steps == 0:
            self._log(trainer)

    def _log(self, trainer: Any) -> None:
        if self.probe is not None and (values := scalars(self.probe)):
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what is left, and detach the probe; its last step stays readable."""
        self._log(trainer)
        if self.probe is not None:
            self.probe.detach()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Detach the probe where training fails or is interrupted, too."""
        if self.probe is not None:
            self.probe.detach()
