"""A browser, the built book on a local server, and axe-core; where one is missing, the tests say which.

They run with ``PAPERLIB_BROWSER`` set, as ``make browser`` does, which builds the book before; else they are skipped.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tarfile
import threading
from base64 import b64encode
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest
from make_pdf import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "_build" / "html"
AXE = "4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not os.environ.get("PAPERLIB_BROWSER"):
                item.add_marker(pytest.mark.skip(reason="make browser builds the book and runs these"))


def missing(what: str) -> NoReturn:
    pytest.fail(what)


class Quiet(SimpleHTTPRequestHandler):
    """Serves the book and writes nothing about it."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def book():
    if not (BOOK / "index.html").is_file():
        missing("The book is not built: make book.")
    return BOOK


@pytest.fixture(scope="session")
def address(book):
    """Where the book is served, with a slash at its end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: make .venv/.installed.")
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        missing("There is no Chromium: apt-get install chromium.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, from npm, kept below ``_build``."""
    folder = ROOT / "_build" / "axe"
    package = folder / f"axe-core-{AXE}.tgz"
    if not package.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            command = ["npm", "pack", f"axe-core@{AXE}", "--silent", "--pack-destination", str(folder)]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError):
            missing(f"npm could not fetch axe-core {AXE}: install npm, and have a network the first time.")
    digest = b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()  # as npm writes it
    assert digest == AXE_SHA512, f"{package} is not what was published"
    with tarfile.open(package) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()
