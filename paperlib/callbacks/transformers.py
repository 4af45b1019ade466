"""A callback for the ``Trainer`` of Hugging Face's transformers (https://huggingface.co/docs/transformers)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from paperlib.callbacks import scalars
from paperlib.probes import GradientNorms


def _base() -> Any:
    """Transformers' class of callbacks; without transformers, ``object``, so that this module can be imported."""
    try:
        return import_module("transformers").TrainerCallback
    except ImportError:
        return object


Base: Any = _base()


class GradientNormsCallback(Base):
    """Log the gradient-norm ratios of the blocks while a ``Trainer`` trains.

    At every logging step the trainer logs ``grad_ratio/<block>``, averages over the forward passes since the last
    time, to all that it reports to.  They are in its ``state.log_history``, too.

    Parameters
    ----------
    trainer : transformers.Trainer
        The trainer that the callback is added to: a callback cannot log by itself.
    blocks : iterable, optional
        As for :class:`paperlib.probes.GradientNorms`.
    **options : Any
        Further arguments of :class:`paperlib.probes.GradientNorms`.

    Attributes
    ----------
    probe : GradientNorms
        The probe, once training has begun.

    Raises
    ------
    ImportError
        ``transformers`` is not installed.

    Examples
    --------
    >>> trainer.add_callback(GradientNormsCallback(trainer))  # doctest: +SKIP
    """

    def __init__(self, trainer: Any, blocks: Any = None, **options: Any) -> None:
        if Base is object:
            raise ImportError("this callback needs transformers: pip install transformers")
        super().__init__()
        if not callable(getattr(trainer, "log", None)):
            raise TypeError(f"trainer must be the Trainer that this callback is added to, not {type(trainer).__name__}")
        self.trainer, self.blocks, self.options = trainer, blocks, options
        self.probe: GradientNorms | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Attach the probe; one that an earlier training left behind is detached."""
        self.on_train_end(args, state, control)
        self.probe = GradientNorms(model, self.blocks, **self.options).attach()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Log, if the trainer is about to."""
        if self.probe is not None and control.should_log and (values := scalars(self.probe)):
            self.trainer.log(values)
            control.should_log = True  # to log means to have logged: the trainer's own values are still to come

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Log, where the trainer logs after each epoch."""
        self.on_step_end(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Detach the probe; what it recorded stays readable."""
        if self.probe is not None:
            self.probe.detach()
