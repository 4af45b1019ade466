"""What a run sets for the process is set within it only."""

import subprocess
import sys

import pytest
import torch

from paperlib.machine import full_float32, in_force, keep_freed_memory, peak_memory, settings


def state():
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.conv.fp32_precision,
    )


def test_settings_hold_within_and_not_after_even_on_an_error():
    before = state()
    with pytest.raises(ZeroDivisionError), settings("cpu", threads=1), full_float32():
        assert state() == (1, True, False, False, "ieee")
        1 / 0  # noqa: B018
    assert state() == before
    with settings("cpu", deterministic=False):
        assert state()[:2] == (before[0], False) and torch.backends.cudnn.benchmark
    assert state() == before


def test_what_is_in_force_is_told():
    with settings("cpu"):
        assert in_force("cpu") == {"deterministic": "yes"}
    with settings("cpu", deterministic=False), full_float32():
        assert in_force("cuda") == {
            "deterministic": "no",
            "float32 convolutions": "ieee",
            "float32 matrix products": "ieee",
            "cudnn benchmark": "yes",
        }
    with settings("cpu", deterministic=False):
        assert in_force("cuda:0")["float32 convolutions"] == torch.backends.cudnn.conv.fp32_precision


def test_settings_nest():
    before = state()
    with settings("cpu", threads=1):
        with settings("cpu"):
            assert torch.get_num_threads() == 1
        assert state()[:2] == (1, True)
    assert state() == before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept():
    """Without it a freed block of 64 MB goes back to the system at once."""
    program = (
        "import torch\nfrom paperlib.machine import keep_freed_memory\n{}"
        "x = torch.ones(2**24); del x\n"
        "print([int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS')][0])"
    )
    kept, given = (
        int(
            subprocess.run(
                [sys.executable, "-c", program.format(call)], capture_output=True, text=True, check=True
            ).stdout
        )
        for call in ("keep_freed_memory()\n", "")
    )
    assert kept - given > 50_000  # kB


def test_peak_memory_is_at_least_what_is_held():
    held = torch.ones(2**24)
    assert peak_memory(torch.device("cpu")) > held.numel() * 4
    assert keep_freed_memory() is None
