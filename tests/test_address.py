"""The repository's address: what cannot read the book's setting says the same, or nothing where there is none."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def wrong(address: str, project: dict, cff: dict, readme: str) -> list[str]:
    """What does not fit the address, or is there though there is none."""
    urls, badges = project.get("urls", {}), re.findall(r"!\[[^\]]*\]\((https?://[^)]*/actions/[^)]*)\)", readme)
    fits = {
        "[project.urls] Repository": urls.get("Repository", "") == address,
        "[project.urls] Documentation": bool(urls.get("Documentation")) == bool(address),
        "repository-code": cff.get("repository-code", "") == address,
        "badges": bool(badges) == bool(address) and all(badge.startswith(address) for badge in badges),
    }
    return [name for name, right in fits.items() if not right]


def test_all_say_what_the_setting_says():
    address = yaml.safe_load(read("_config.yml"))["sphinx"]["config"]["book_repository"]
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert wrong(address, project, yaml.safe_load(read("CITATION.cff")), read("README.md")) == []


def test_a_difference_is_found():
    address = "https://github.com/someone/book"
    project = {"urls": {"Repository": address, "Documentation": "https://someone.github.io/book/"}}
    cff, readme = {"repository-code": address}, f"![test]({address}/actions/workflows/test.yml/badge.svg)"
    assert wrong(address, project, cff, readme) == []
    assert len(wrong(address, {}, {}, "")) == 4
    assert len(wrong("", project, cff, readme)) == 4
    assert wrong(address, project, cff, readme.replace("someone", "other")) == ["badges"]
