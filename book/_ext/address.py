"""Sphinx extension: where the repository is, as one setting, ``book_repository``, for everything that links to it.

It is empty until the repository is public, and nothing links to it then.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.errors import ExtensionError

GITHUB = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
BRANCH = "main"
COLAB, BINDER = "https://colab.research.google.com", "https://mybinder.org"


def repository(app: Any) -> str | None:
    """The repository's address on GitHub, with no slash at its end; None if it is not set.

    Raises ``ExtensionError``, which ends the build, for what is not such an address.
    """
    address = app.config.book_repository.strip().rstrip("/").removesuffix(".git")
    if address and not GITHUB.fullmatch(address):
        raise ExtensionError(
            f"book_repository in _config.yml is {address!r}, which is no repository's address on GitHub. Write it like "
            "https://github.com/owner/name, or leave it empty"
        )
    return address or None


def owner_and_name(address: str) -> str:
    """``owner/name`` of a repository's address."""
    return address.removeprefix("https://github.com/")


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_config_value("book_repository", "", "env", types=[str])
    app.connect("builder-inited", repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
