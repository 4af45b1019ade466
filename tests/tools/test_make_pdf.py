"""tools/make_pdf.py: the built book as one PDF."""

from __future__ import annotations

import shutil

import make_pdf
import pytest
from pypdf import PdfReader

TOC = {
    "root": "index",
    "parts": [
        {"caption": "The library", "chapters": [{"file": "api/one", "sections": [{"file": "api/two"}]}]},
        {"caption": "Theory", "chapters": [{"file": "notebooks/first"}]},
    ],
}


def html(title: str, body: str) -> str:
    """A page as the theme writes it: the title first in a list of sections that is only printed."""
    link = '<a class="headerlink" href="#{0}" title="Link">#</a>'
    return f"""<!doctype html><html><head><meta charset="utf-8"><title>x</title></head><body>
<div id="jb-print-docs-body"><h1>{title}</h1><h2> Contents </h2></div>
<article><section id="top"><h1>{title}{link.format("top")}</h1>{body}
<section id="same"><h2>{title}: <em>more</em> &amp; more{link.format("same")}</h2>
<p><a href="#same">here</a></p></section></section></article></body></html>"""


PAGES = {
    "index": html(
        "Begin", '<p><a href="notebooks/first.html#same">there</a> <a href="https://example.org/">out</a></p>'
    ),
    "notebooks/first": html("First", '<div style="height: 350mm"></div>'),
    "api/one": html("One", '<p><a href="../index.html">home</a></p>'),
    "api/two": html("Two", ""),
}


def test_the_reference_comes_last():
    assert list(make_pdf.pages(TOC)) == [
        ("index", ""),
        ("notebooks/first", "Theory"),
        ("api/one", "The library"),
        ("api/two", "The library"),
    ]


def test_headings_are_those_of_the_text():
    assert make_pdf.headings(PAGES["index"]) == [(1, "Begin", "top"), (2, "Begin: more & more", "same")]


def test_a_machine_without_a_browser_is_told(monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="no Chromium or Chrome here; install one, or name it by CHROMIUM="):
        make_pdf.program()


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    """The PDF of a book of four pages."""
    if not any(map(shutil.which, make_pdf.PROGRAMS)):
        pytest.skip("needs Chromium or Chrome")
    folder = tmp_path_factory.mktemp("book")
    for name, page in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    target = folder / "book.pdf"
    count = make_pdf.make(folder, target, {"title": "The tiny book", "author": "nobody"}, TOC)
    found = PdfReader(target)
    assert len(found.pages) == count == 7  # title, contents, and the pages, of which one is long
    return found


@pytest.mark.slow
def test_contents_and_numbers_agree(pdf):
    words = [page.extract_text().split() for page in pdf.pages]
    assert "The tiny book" in " ".join(words[0]) and "nobody" in words[0]
    contents = " ".join(words[1])
    for line in ("Contents", "Begin 3", "Theory First 4", "The library One 6", "Two 7"):
        assert line in contents
    assert [page[-1] for page in words[1:]] == list("234567")
    assert "Two" in words[6]


@pytest.mark.slow
def test_bookmarks_lead_to_parts_pages_and_sections(pdf):
    def flat(items, depth=0):
        for item in items:
            if isinstance(item, list):
                yield from flat(item, depth + 1)
            else:
                yield depth, item.title, pdf.get_destination_page_number(item) + 1

    assert list(flat(pdf.outline)) == [
        (0, "Begin", 3),
        (1, "Begin: more & more", 3),
        (0, "Theory", 4),
        (1, "First", 4),
        (2, "First: more & more", 5),
        (0, "The library", 6),
        (1, "One", 6),
        (2, "One: more & more", 6),
        (1, "Two", 7),
        (2, "Two: more & more", 7),
    ]


@pytest.mark.slow
def test_links_stay_in_the_book(pdf):
    """Also those to anchors of one name, and none to a file of this machine."""
    inside, outside = [], []
    for number, page in enumerate(pdf.pages, 1):
        for reference in page.get("/Annots", []):
            link = reference.get_object()
            if "/Dest" in link:
                target = link["/Dest"][0]
                at = target if isinstance(target, int) else pdf.get_page_number(target.get_object())
                inside.append((number, at + 1))
            else:
                outside.append(link["/A"]["/URI"])
    assert outside == ["https://example.org/"]
    contents, own, other = [(2, 3), (2, 4), (2, 6), (2, 7)], [(3, 3), (5, 5), (6, 6), (7, 7)], [(3, 5), (6, 3)]
    assert [pair for pair in contents + own + other if pair not in inside] == []
    assert b"file:" not in pdf.stream.getvalue()
