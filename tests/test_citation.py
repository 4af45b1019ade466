"""How to cite: CITATION.cff, the page that shows it, the bibliography and the package say the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from pybtex.database import Entry, parse_file

import paperlib

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
ENTRIES = parse_file(str(ROOT / "book" / "references.bib")).entries
NO_DOI = {"krizhevsky2009", "chen2014"}  # technical reports


def bibtex(kind: str, key: str, fields: dict[str, str]) -> str:
    """An entry as BibTeX."""
    width = max(map(len, fields))
    lines = [f"  {name:{width}} = {{{value}}}" for name, value in fields.items()]
    return ",\n".join([f"@{kind}{{{key}", *lines]) + "\n}"


def software() -> str:
    authors = " and ".join(f"{{{author['name']}}}" for author in CFF["authors"])
    fields = {"author": authors, "title": f"{{{CFF['title']}}}"} | {name: CFF[name] for name in ("version", "license")}
    return bibtex("software", "norm_preservation", fields)


def article() -> str:
    (paper,) = CFF["references"]
    fields = {
        "author": " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]),
        "title": f"{{{paper['title']}}}",
        "journal": paper["journal"],
        "year": paper["year"],
        "volume": paper["volume"],
        "number": paper["issue"],
        "pages": f"{paper['start']}--{paper['end']}",
        "doi": paper["doi"],
    }
    return bibtex("article", "zaeemzadeh2020", fields)


def test_the_page_shows_what_the_file_says():
    page = (ROOT / "book" / "contributing.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bibtex\n(.*?)\n```", page, re.DOTALL)
    assert block == f"{software()}\n\n{article()}"


def test_the_paper_is_the_same_in_the_bibliography():
    cited, (paper,) = ENTRIES["zaeemzadeh2020"], CFF["references"]
    assert cited.fields["title"] == paper["title"]
    assert [p.last_names[0] for p in cited.persons["author"]] == [a["family-names"] for a in paper["authors"]]
    for name, value in {"year": "year", "volume": "volume", "number": "issue", "doi": "doi"}.items():
        assert cited.fields[name] == str(paper[value])
    assert cited.fields["pages"] == f"{paper['start']}--{paper['end']}"


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == paperlib.__version__ == CFF["version"]
    assert [a["name"] for a in project["authors"]] == [a["name"] for a in CFF["authors"]]


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_every_source_has_its_doi(key):
    entry: Entry = ENTRIES[key]
    assert ("doi" in entry.fields) == (key not in NO_DOI)
    number = re.search(r"arXiv:(\d{4}\.\d{5})", entry.fields.get("note", ""))
    doi = entry.fields.get("doi", "")
    assert re.fullmatch(r"10\.\d{4,5}/\S+", doi) or key in NO_DOI
    assert not doi.startswith("10.48550/") or doi == f"10.48550/arXiv.{number.group(1)}"
