"""Settings of every test run: the smallest preset, and runs that leave nothing behind."""

import os
import shutil
import tempfile

_RUNS = tempfile.mkdtemp(prefix="paperlib-test-runs-")


def pytest_configure(config):
    # nbval's kernels inherit these.  An explicit preset still wins: PAPERLIB_PRESET=desk pytest --nbval
    os.environ.setdefault("PAPERLIB_PRESET", "smoke")
    os.environ["PAPERLIB_RUNS"] = _RUNS


def pytest_unconfigure(config):
    shutil.rmtree(_RUNS, ignore_errors=True)
