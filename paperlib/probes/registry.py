"""Numbers that stand for probes where only numbers can go: in compiled graphs."""

from __future__ import annotations

import itertools
import weakref
from typing import Protocol

from torch import Tensor


class Probe(Protocol):
    """What compiled code asks of a probe."""

    def start(self) -> None:
        """Begin a step."""
        ...

    def number(self) -> int:
        """The number of the step under way, or 0 if it is not recorded."""
        ...

    def note(self, number: int, slot: int, grad: Tensor) -> None:
        """Take the norm of a gradient, for a step and a slot of it."""
        ...


_probes: weakref.WeakValueDictionary[int, Probe] = weakref.WeakValueDictionary()
_handles = itertools.count()


def handle(probe: Probe) -> int:
    """A number that stands for the probe as long as it lives."""
    number = next(_handles)
    _probes[number] = probe
    return number


def probe(handle: int) -> Probe | None:
    """The probe of that number, if it still lives."""
    return _probes.get(handle)
