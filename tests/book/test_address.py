"""book/_ext/address.py: one setting says where the repository is."""

from types import SimpleNamespace

import pytest
from sphinx.errors import ExtensionError
from tiny_book import build, extension


def address(value: str) -> str | None:
    return extension("address").repository(SimpleNamespace(config=SimpleNamespace(book_repository=value)))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", None),
        ("https://github.com/owner/name", "https://github.com/owner/name"),
        (" https://github.com/owner/na.me.git ", "https://github.com/owner/na.me"),
        ("https://github.com/owner/name/", "https://github.com/owner/name"),
    ],
)
def test_addresses(written, read):
    assert address(written) == read


@pytest.mark.parametrize("written", ["github.com/owner/name", "https://github.com/owner", "https://example.org/a/b"])
def test_what_is_no_address_ends_the_build(tmp_path, written):
    with pytest.raises(ExtensionError, match="no repository's address on GitHub. Write it like"):
        build(tmp_path, {"index.md": "# Title\n"}, ["myst_parser", "address"], book_repository=written)
