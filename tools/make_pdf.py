"""Make one PDF of the built book: python tools/make_pdf.py _build/html _build/book.pdf

Chromium prints each page, and this joins them: the chapters before the library's reference, with contents, bookmarks,
numbers at the foot, and links from page to page.  It needs Chromium or Chrome; CHROMIUM may name it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape, unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import yaml
from check_book import files_in
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link
from pypdf.generic import ArrayObject, Destination, Fit, NameObject

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser", "chrome")
REFERENCE = "The library"  # the part that comes last
AT_ONCE = 2
PATIENCE = 300  # seconds for one page
HEADING = re.compile(r'<h([12])>((?:(?!</h[12]>).)*?)<a class="headerlink" href="#([^"]*)"', re.DOTALL)
STYLE = """<!doctype html><meta charset="utf-8"><style>
@page { size: A4; margin: 0 }
body { margin: 0; font: 10pt/1.5 "Source Sans 3", "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif }
.sheet { position: relative; height: 296.5mm; break-after: page }
.foot { position: absolute; bottom: 9mm; width: 100%; text-align: center; font-size: 9pt; color: #444 }
</style>"""
FRONT = """<style>@page { margin: 25mm 22mm } h1 { font-size: 28pt; line-height: 1.25; padding-top: 75mm }
.contents { break-before: page } h2 { font-size: 12pt; margin: 1.2em 0 .2em; break-after: avoid }
.contents p { display: flex; margin: 0 } .contents p span:first-child { flex: 1 }
a { color: inherit; text-decoration: none }</style>"""


class Page(NamedTuple):
    """A page of the book: its part, its headings (level, words, anchor), and what Chromium printed of it."""

    name: str
    part: str
    headings: list[tuple[int, str, str]]
    pdf: PdfReader


def program() -> str:
    """The browser that prints; ends with a sentence if there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not found:
        sys.exit("make_pdf: there is no Chromium or Chrome here; install one, or name it by CHROMIUM=/path/to/it")
    return found


def pages(toc: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The name and the part of each page, the library's reference last."""
    yield toc["root"], ""
    for part in sorted(toc.get("parts", []), key=lambda part: part["caption"] == REFERENCE):
        for name in files_in(part):
            yield name, part["caption"]


def headings(html: str) -> list[tuple[int, str, str]]:
    """The first two levels of a page's headings: level, words, anchor."""
    plain = [(level, unescape(re.sub("<[^>]*>", "", words)), anchor) for level, words, anchor in HEADING.findall(html)]
    return [(int(level), " ".join(words.split()), anchor) for level, words, anchor in plain]


def print_page(source: Path, target: Path) -> PdfReader:
    """Let Chromium print one HTML file, after its scripts have run."""
    with tempfile.TemporaryDirectory() as profile:
        command = [program(), "--headless", "--disable-gpu", f"--user-data-dir={profile}", "--no-pdf-header-footer"]
        command += ["--no-sandbox"] * (os.geteuid() == 0)  # which Chromium does not make for root
        command += ["--virtual-time-budget=60000", f"--print-to-pdf={target}", source.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if not target.is_file():
        sys.exit(f"make_pdf: {source} was not printed: {done.stderr.strip()[-500:]}")
    return PdfReader(target)


class Book:
    """The pages as they follow one another; ``start`` has the number of sheets before each."""

    def __init__(self, pages: list[Page], front: int) -> None:
        self.pages, self.start = pages, {}
        for page in pages:
            self.start[page.name] = front
            front += len(page.pdf.pages)
        self.sheets = front
        self.named = {page.name: page for page in pages}

    def find(self, name: str, anchor: str = "") -> tuple[int, float | None]:
        """On which sheet, counted from 0, and how high an anchor of a page stands."""
        pdf = self.named[name].pdf
        found = pdf.named_destinations.get(f"/{anchor}") if anchor else None
        if isinstance(found, Destination) and (at := pdf.get_destination_page_number(found)) is not None:
            return self.start[name] + at, found.top
        return self.start[name], None

    def take_links(self, html: Path, front: PdfReader) -> list[tuple[int, Any, int, float | None]]:
        """Take the links within the book out of its pages: each link's sheet, its area, and where it leads.

        Anchors of two pages may have one name, and Chromium took a link to another page for one to a file.
        """
        taken = []
        for page in (Page("", "", [], front), *self.pages):
            for number, sheet in enumerate(page.pdf.pages, self.start.get(page.name, 0)):
                kept = ArrayObject()
                for reference in sheet.get("/Annots", []):
                    link = reference.get_object()
                    address = link.get("/A", {}).get("/URI", "")
                    if "/Dest" in link:
                        taken.append((number, link["/Rect"], *self.find(page.name, str(link["/Dest"])[1:])))
                    elif address.startswith("file:"):
                        parts = urlsplit(address)
                        path = Path(unquote(parts.path)).relative_to(html.resolve())
                        if (name := str(path.with_suffix(""))) in self.named:
                            taken.append((number, link["/Rect"], *self.find(name, unquote(parts.fragment))))
                    else:
                        kept.append(reference)
                sheet[NameObject("/Annots")] = kept
        return taken

    def contents(self, html: Path, title: str, author: str) -> str:
        """The first sheets as HTML: the title, and where each page begins."""
        lines, part = (
            [f"{STYLE}{FRONT}<h1>{escape(title)}</h1><p>{escape(author)}</p><div class=contents><h2>Contents</h2>"],
            "",
        )
        for page in self.pages:
            if page.part != part:
                part = page.part
                lines.append(f"<h2>{escape(part)}</h2>")
            words = page.headings[0][1] if page.headings else page.name
            link = f'<a href="{(html / page.name).resolve().as_uri()}.html">{escape(words)}</a>'
            lines.append(f"<p><span>{link}</span><span>{self.start[page.name] + 1}</span></p>")
        return "\n".join([*lines, "</div>"])

    def bookmarks(self, writer: PdfWriter) -> None:
        """Add parts, pages and their sections as the outline."""
        parts: dict[str, Any] = {}
        for page in self.pages:
            start = self.start[page.name]
            if page.part and page.part not in parts:
                parts[page.part] = writer.add_outline_item(title=page.part, page_number=start, bold=True)
            above = parts.get(page.part)
            for level, words, anchor in page.headings:
                number, top = self.find(page.name, anchor)
                fit = Fit.xyz(top=top) if top else Fit.fit()
                item = writer.add_outline_item(title=words, page_number=number, parent=above, fit=fit)
                above = item if level == 1 else above


def print_all(html: Path, toc: dict[str, Any], folder: Path) -> list[Page]:
    """Print every page of the book."""

    def one(entry: tuple[int, tuple[str, str]]) -> Page:
        number, (name, part) = entry
        source = html / f"{name}.html"
        return Page(
            name, part, headings(source.read_text(encoding="utf-8")), print_page(source, folder / f"{number}.pdf")
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, enumerate(pages(toc))))


def front(book: Book, html: Path, config: dict[str, Any], folder: Path, name: str) -> PdfReader:
    """Print the title and the contents."""
    source = folder / f"{name}.html"
    source.write_text(book.contents(html, config["title"], config["author"]), encoding="utf-8")
    return print_page(source, folder / f"{name}.pdf")


def numbers(count: int, first: int, folder: Path) -> PdfReader:
    """Sheets that have nothing but their number, from ``first`` on."""
    sheets = "".join(
        f"<div class=sheet><div class=foot>{n if n >= first else ''}</div></div>" for n in range(1, count + 1)
    )
    (folder / "numbers.html").write_text(STYLE + sheets, encoding="utf-8")
    return print_page(folder / "numbers.html", folder / "numbers.pdf")


def make(html: Path, target: Path, config: dict[str, Any], toc: dict[str, Any]) -> int:
    """Write the PDF; returns its number of sheets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        printed = print_all(html, toc, folder)
        ahead = len(front(Book(printed, 0), html, config, folder, "length").pages)
        book = Book(printed, ahead)
        first = front(book, html, config, folder, "front")
        links = book.take_links(html, first)
        writer = PdfWriter()
        for pdf in (first, *(page.pdf for page in book.pages)):
            writer.append(pdf, import_outline=False)
        for sheet, number in zip(writer.pages, numbers(book.sheets, 2, folder).pages, strict=False):
            sheet.merge_page(number)
            sheet.compress_content_streams()
        for sheet, area, to, top in links:
            fit = Fit.xyz(top=top) if top else Fit.fit()
            writer.add_annotation(sheet, Link(rect=area, target_page_index=to, fit=fit))
        book.bookmarks(writer)
        writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
        writer.compress_identical_objects()
        writer.write(target)
        return book.sheets


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make one PDF of the built book.")
    parser.add_argument("html", type=Path, help="the folder with the built pages, _build/html")
    parser.add_argument("pdf", type=Path, help="the file to write")
    parser.add_argument("--config", type=Path, default=ROOT / "_config.yml")
    parser.add_argument("--toc", type=Path, default=ROOT / "_toc.yml")
    options = parser.parse_args()
    config, toc = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (options.config, options.toc))
    print(f"make_pdf: {options.pdf}, {make(options.html, options.pdf, config, toc)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
