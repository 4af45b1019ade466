"""The fused kernels' tests in Triton's interpreter, where there is no device to run them on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paperlib import fused


@pytest.mark.skipif(torch.cuda.is_available() or fused.INTERPRETED, reason="the kernels are run as they are")
def test_the_kernels_in_the_interpreter():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", here]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=here.parent.parent)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
