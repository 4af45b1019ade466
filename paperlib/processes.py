"""The processes that train one run together, each on its part of every batch: what ``torchrun`` starts.

A :class:`World` is what the training asks about them.  Alone, a process takes every batch whole and there is nothing to
combine.  Of several, each has a replica of the network in ``DistributedDataParallel``; the batch, the loss, the
statistics of batch normalisation and the gradients are those of one process, up to rounding.

``DistributedDataParallel`` takes the mean of the gradients over processes.  Losses are scaled so that this is the
gradient of the mean over the whole batch, also where the parts are of different sizes or empty.

What any process decides for itself (by the clock, for a signal, or on a file) is decided together, so that none waits
for another that has left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from paperlib import synchronised
from paperlib.errors import ConfigError, PaperlibError, ProcessError

T = TypeVar("T")
LOST = "another process of this run has ended: run the same command again to go on from the last checkpoint"


class World:
    """One process alone.

    Attributes
    ----------
    rank : int
        This process's number, from 0.
    size : int
        How many processes there are.

    Examples
    --------
    >>> world = World()
    >>> world.is_first, world.part(128, 256), world.largest(0, 15)
    (True, slice(128, 256, None), (0, 15))
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def settings(self) -> dict[str, str]:
        """What a record says of the processes; nothing for one."""
        return {"processes": str(self.size)} if self.size > 1 else {}

    def check(self, device: str) -> None:
        """Raise ``ConfigError`` unless there is a device of this name for each process."""

    # -- the network and its batches
    def part(self, start: int, stop: int) -> slice:
        """Which of a batch's items, ``start`` to ``stop``, are this process's; the parts differ by one at most."""
        n = stop - start
        return slice(start + n * self.rank // self.size, start + n * (self.rank + 1) // self.size)

    def synchronised(self, model: nn.Module, device: torch.device | str) -> nn.Module:
        """``model``, its batch normalisation being that of the whole batch."""
        return model

    def replica(self, model: nn.Module) -> nn.Module:
        """What is called to train ``model``: it sees that all processes get the same gradients."""
        return model

    def mean_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss to differentiate; over all processes its mean is the cross-entropy of the whole batch."""
        return F.cross_entropy(logits, labels)

    # -- numbers of all processes
    def sum(self, x: Tensor) -> Tensor:
        """The sum over processes."""
        return x

    def norms(self, x: Tensor) -> Tensor:
        """Norms of the whole batch's gradients, from those that :meth:`mean_loss` gives this process's part."""
        return x

    def variance(self, x: Tensor) -> Tensor:
        """The variance (C,) of ``x`` (N, C, H, W) per channel, over the whole batch."""
        centred = x - x.mean((0, 2, 3), keepdim=True)  # torch.var takes several times as long on a CPU
        return centred.square_().mean((0, 2, 3))

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number that any process has."""
        return numbers

    # -- what one process does for all
    def by_first(self, function: Callable[[], T]) -> T:
        """What ``function`` returns in the first process, which alone calls it.

        Raises
        ------
        PaperlibError
            It failed there: then it fails in all processes, by the same sentence.
        """
        return function()

    @contextlib.contextmanager
    def held_by_first(self, context: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
        """Within it the first process is in a ``context``; all fail together where it cannot be entered."""
        with contextlib.ExitStack() as stack:
            self.by_first(lambda: stack.enter_context(context()))
            yield

    def agree(self, value: int, otherwise: str) -> None:
        """Raise ``ProcessError`` with the sentence ``otherwise`` unless all processes have the same number."""


class Processes(World):
    """Several processes; :func:`joined` makes it."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def check(self, device: str) -> None:
        kind, _, index = device.partition(":")
        if index:
            raise ConfigError(f"device {device!r} is one device for {self.size} processes: use device {kind}")
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        if kind == "cuda" and here > torch.cuda.device_count():
            raise ConfigError(
                f"{here} processes need as many CUDA devices, and there are {torch.cuda.device_count()}: "
                f"start fewer with --nproc-per-node, or use device cpu"
            )

    def synchronised(self, model: nn.Module, device: torch.device | str) -> nn.Module:
        return synchronised.synchronise(model, device)

    def replica(self, model: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer torch has another name for the option
            # The statistics are equal everywhere already.
            return DistributedDataParallel(model, broadcast_buffers=False)

    def mean_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        total = self.sum(torch.full((), float(len(labels)), device=logits.device))
        return F.cross_entropy(logits, labels, reduction="sum") * (self.size / total)

    def sum(self, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    def norms(self, x: Tensor) -> Tensor:
        return (self.sum(x.double().square()).sqrt() / self.size).to(x.dtype)

    def variance(self, x: Tensor) -> Tensor:
        return synchronised.moments(x).variance

    def largest(self, *numbers: int) -> tuple[int, ...]:
        found = torch.tensor(numbers)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(found.tolist())

    def by_first(self, function: Callable[[], T]) -> T:
        outcome: list[Any] = [None, None]
        error: Exception | None = None
        if self.is_first:
            try:
                outcome[0] = function()
            except Exception as e:
                error, outcome[1] = e, str(e)
        dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        if error is not None:
            raise error
        if outcome[1] is not None:
            raise PaperlibError(outcome[1])
        return outcome[0]

    def agree(self, value: int, otherwise: str) -> None:
        high, negative = self.largest(value, -value)
        if high != -negative:
            raise ProcessError(otherwise)


def started() -> int:
    """How many processes were started together with this one, as ``torchrun`` tells them.

    Raises ``ConfigError`` where the environment variable ``WORLD_SIZE`` is no number.

    Examples
    --------
    >>> started()
    1
    """
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdecimal():
        raise ConfigError(f"the environment variable WORLD_SIZE must be a whole number, not {said!r}: remove it")
    return int(said)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Within it the processes that ``torchrun`` started are together; a process that was started alone stays so.

    On CUDA each process takes the device of its number on its machine.  Of an error that all processes meet, one of
    them passes on the sentence.  The others exit without a word.

    Yields
    ------
    World
        What this process knows of the others.

    Raises
    ------
    ProcessError
        Another process has ended.

    Examples
    --------
    >>> with joined() as world:
    ...     world.size
    1
    """
    if started() == 1:
        yield World()
        return
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    store, rank, size = next(dist.rendezvous("env://"))
    # What the processes decide on the host goes by gloo, and waits for no device.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("run", store), rank=rank, world_size=size)
    try:
        yield Processes()
    except Exception as e:
        _leave_alone()
        known = ProcessError(LOST) if _is_loss(e) else e
        if isinstance(known, PaperlibError | OSError) and not _speaks(store):
            raise SystemExit(1) from e
        raise known from e.__cause__ if known is e else e
    except (KeyboardInterrupt, SystemExit) as e:
        if rank > 0:  # the first one tells; at this status the command says nothing
            raise SystemExit(128 + signal.SIGINT) from e
        raise
    dist.destroy_process_group()


def _leave_alone() -> None:
    """Ignore the SIGTERM by which torchrun ends what is left of a run: this process is about to end with a sentence."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _is_loss(e: Exception) -> bool:
    """Whether an error says that another process no longer answers."""
    words = ("gloo", "nccl", "connection closed", "connection reset")
    return (
        isinstance(e, RuntimeError)
        and not isinstance(e, PaperlibError)
        and (isinstance(e, dist.DistError) or any(word in str(e).lower() for word in words))
    )


def _speaks(store: dist.Store) -> bool:
    """Whether no other process has passed on an error yet; torchrun's store outlives each of them."""
    try:
        return store.add("paperlib/errors", 1) == 1
    except RuntimeError:
        return True
