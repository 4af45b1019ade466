"""Settings of every test run: the smallest preset, runs that leave nothing behind, and cores that are shared out."""

import os
import shutil
import signal
import tempfile
import threading

import pytest

_RUNS = tempfile.mkdtemp(prefix="paperlib-test-runs-")
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# pytest -n: more threads than cores would wait for one another.  It is set here, before another conftest imports torch,
# which reads it once.
if (_WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ["OMP_NUM_THREADS"] = str(max(1, _CORES // _WORKERS))


def pytest_configure(config):
    """Set what the tests, the processes that they start, and the kernels of the notebooks inherit."""
    os.environ.setdefault("PAPERLIB_PRESET", "smoke")  # an explicit preset wins: PAPERLIB_PRESET=desk pytest --nbval
    os.environ["PAPERLIB_RUNS"] = _RUNS
    config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "nbval.cfg")
    # A shell starts what it puts into the background with Ctrl-C ignored, and so would all be that tests start and end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _scratch(tmp_path_factory):
    """What tests and docstrings make with ``tempfile`` goes where pytest removes it some runs later."""
    tempfile.tempdir = str(tmp_path_factory.mktemp("scratch"))
    yield
    tempfile.tempdir = None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """``-n auto``: a worker for each core, where the memory bears it: one takes, with what it starts, up to 4 GB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else _CORES * 4e9
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or max(1, min(_CORES, int(memory / 4e9))))


def pytest_unconfigure(config):
    """Remove the runs."""
    shutil.rmtree(_RUNS, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    """Skip what needs a device that is not there.

    Files with slow tests come first, so that none of several processes is left alone with one at the end.
    """
    on_a_device = [item for item in items if item.get_closest_marker("cuda")]
    if on_a_device:
        import torch  # late: it takes seconds

        if not torch.cuda.is_available():
            for item in on_a_device:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.path.suffix == ".ipynb" or item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)
