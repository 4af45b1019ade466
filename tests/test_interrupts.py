"""Signals: the first one sets a flag, the second is obeyed, and handlers are as before afterwards."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from paperlib import interrupts as module
from paperlib.interrupts import Interrupts, sigterm_raises


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_first_signal_is_noted_and_the_second_obeyed(number, raised, monkeypatch):
    monkeypatch.setattr(module, "REPEATED", 0.0)
    before = signal.getsignal(number)
    with pytest.raises(raised) as e, Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number
        os.kill(os.getpid(), number)
        pytest.fail("the second signal was not obeyed")
    if raised is SystemExit:
        assert e.value.code == 143
    assert signal.getsignal(number) is before


def test_a_sigterm_that_is_passed_on_is_the_same_one():
    with Interrupts() as interrupts:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert interrupts.received == signal.SIGTERM


def test_the_keyboard_twice_is_obeyed():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)


def test_work_can_stop_itself_when_it_is_ready():
    with pytest.raises(SystemExit), Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        interrupts.stop()


def test_a_signal_that_another_process_had_first_is_no_second_one(monkeypatch):
    monkeypatch.setattr(module, "REPEATED", 0.0)
    with Interrupts() as interrupts:
        interrupts.adopt(0)
        assert interrupts.received is None
        interrupts.adopt(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_waits_for_the_end_of_a_block(number, raised):
    done = []
    with pytest.raises(raised), module.delayed():
        os.kill(os.getpid(), number)
        done.append("whole")
    assert done == ["whole"]
    with module.delayed():
        done.append("and without a signal")
    assert len(done) == 2


def test_sigterm_is_an_exception_within():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as e, sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
    assert e.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_the_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Interrupts(), sigterm_raises():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# -- the end of the parent -----------------------------------------------------------------------------------------
def test_nothing_happens_as_long_as_the_parent_is_there():
    ended = threading.Event()
    module.end_with(os.getppid(), ended.set, interval=0.01)
    assert not ended.wait(0.2)


def test_another_parent_than_the_one_asked_for_is_its_end():
    ended = threading.Event()
    module.end_with(os.getpid(), ended.set, interval=0.01)  # nobody is its own parent: as if that one had ended
    assert ended.wait(10)


CHILD = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from paperlib import interrupts
interrupts.end_with(os.getppid(), lambda: os._exit(0), interval=0.05)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_process_ends_with_a_parent_that_is_killed():
    """The child holds the parent's standard error, which is at its end once both have ended."""
    root = str(Path(module.__file__).resolve().parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, root, CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said, error = parent.communicate(timeout=50)
    assert parent.returncode == -signal.SIGKILL and said.strip().isdigit(), error
    assert error == ""
