"""Sphinx extension: the book is built in little more than half the time, with the same pages.

Where the time went was measured (``python -m cProfile``): into Python's collector of unused cycles, which looks through
all trees of documents again and again, and into pages that one processor wrote.
"""

from __future__ import annotations

import gc
import os
import sys

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# Allocations before the collector looks, for its three generations.  A book takes 1.1 GB so, and 1.05 GB otherwise.
SELDOM = (200_000, 50, 1000)


def collect_seldom(app: Sphinx) -> None:
    """Have unused cycles collected seldom, until the book is built."""
    usual = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    app.connect("build-finished", lambda app, exception: gc.set_threshold(*usual))


def write_in_parallel(app: Sphinx, env: BuildEnvironment) -> None:
    """Have pages written by as many processes as there are processors, beside the one that hands them out.

    They are still read by one: two of the extensions do not say that they bear more.  And only on Linux: elsewhere a
    fork of a process that has loaded torch may crash.
    """
    if sys.platform == "linux":
        app.parallel = 1 + (os.cpu_count() or 1)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", collect_seldom)
    app.connect("env-updated", write_in_parallel)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
