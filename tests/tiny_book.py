"""A Sphinx project of a few lines, built with extensions of the book."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).resolve().parent.parent
EXTENSIONS = ROOT / "book" / "_ext"


def extension(name: str) -> ModuleType:
    """The module of one of the book's extensions."""
    spec = importlib.util.spec_from_file_location(f"book_{name}", EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with on_path():
        spec.loader.exec_module(module)
    return module


@contextmanager
def on_path():
    """Within it, the extensions can be imported by their names, as Sphinx does."""
    sys.path.insert(0, str(EXTENSIONS))
    try:
        yield
    finally:
        sys.path.remove(str(EXTENSIONS))


def build(folder: Path, files: dict[str, str | bytes], extensions: list[str], **config: Any) -> Path:
    """Write the files (``index.md`` among them), build HTML with warnings as errors, and return where it lies."""
    source = folder / "source"
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    suffixes = {".rst": "restructuredtext"}  # a dict of its own: extensions add to it, and the default one is shared
    settings = {"project": "tiny", "extensions": extensions, "source_suffix": suffixes} | config
    with on_path(), docutils_namespace(), open(os.devnull, "w") as quiet:
        app = Sphinx(
            str(source),
            None,
            str(folder / "html"),
            str(folder / "doctrees"),
            "html",
            settings,
            quiet,
            warningiserror=True,
        )
        app.build()
    return folder / "html"
