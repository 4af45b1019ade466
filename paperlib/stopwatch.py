"""Where the time goes: seconds by name, on the host's clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Adds up how long named parts of a program take.

    It reads the host's clock and waits for no device: on CUDA a part counts with the time to launch its kernels, and
    the wait for them falls to the part that reads a result.

    Parameters
    ----------
    seconds : dict of str to float, optional
        What was counted before; the watch goes on adding to it.

    Examples
    --------
    >>> watch = Stopwatch({"data": 2.0})
    >>> with watch("data"):
    ...     pass
    >>> watch.seconds["data"] >= 2.0
    True
    """

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = {} if seconds is None else seconds

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what runs within as a part of ``name``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
