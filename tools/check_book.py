"""Check a built book: python tools/check_book.py _build/html

jupyter-book can exit 0 having built nothing, hence: every page of _toc.yml is there and has content, every script,
style, image and page that a page names is there, and nothing is loaded from outside when a page is opened (links to
follow are fine).  What a bundled script might load later is not looked into.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

OUTSIDE = re.compile(r"\s*(?:https?:|wss?:)?//", re.IGNORECASE)
CSS_LOAD = re.compile(r"""(?:@import\s+(?:url\()?|url\()\s*['"]?\s*((?:https?:)?//[^'")\s;]+)""", re.IGNORECASE)
ASSET = re.compile(r"""https?://[^\s'"<>]+?\.(?:m?js|css|woff2?|ttf)\b""", re.IGNORECASE)
LOADING_TAGS = {
    "script",
    "img",
    "iframe",
    "embed",
    "object",
    "source",
    "video",
    "audio",
    "track",
    "input",
    "image",
    "use",
}
LOADING_RELS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}


class Page(HTMLParser):
    """What one page ``loads``, where it ``links`` to, and whether it has an article."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.has_article = False
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {name: value or "" for name, value in attrs}
        self._inside = tag if tag in ("script", "style") else ""
        self.has_article |= tag == "article"
        if tag in LOADING_TAGS:
            names = ("src", "data", "poster") + (("href", "xlink:href") if tag in ("image", "use") else ())
            self.loads += [a[name] for name in names if a.get(name)]
            self.loads += [part.split()[0] for part in a.get("srcset", "").split(",") if part.strip()]
        elif tag == "link" and LOADING_RELS & set(a.get("rel", "").lower().split()):
            self.loads.append(a.get("href", ""))
        elif tag == "meta" and a.get("http-equiv", "").lower() == "refresh":
            self.loads += re.findall(r"url=\s*['\"]?([^'\"]+)", a.get("content", ""), re.IGNORECASE)
        elif tag == "a" and a.get("href"):
            self.links.append(a["href"])
        self.loads += CSS_LOAD.findall(a.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.loads += CSS_LOAD.findall(data)
        elif self._inside == "script":
            self.loads += ASSET.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def files_in(node: Any) -> Iterator[str]:
    """The pages that a part of a table of contents names, in order."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("root", "file") and isinstance(value, str):
                yield value
            else:
                yield from files_in(value)
    elif isinstance(node, list):
        for item in node:
            yield from files_in(item)


def toc_files(toc: Path) -> list[str]:
    """The pages that a Jupyter Book table of contents names, without suffix, in order."""
    return list(files_in(yaml.safe_load(toc.read_text(encoding="utf-8"))))


def problems(html: Path, toc: Path) -> Iterator[str]:
    """One sentence for each thing that is wrong with the book built in ``html``."""
    if not (html / "index.html").is_file():
        yield "index.html is missing: nothing was built here"
        return
    pages = {}
    for path in sorted(html.rglob("*.html")):
        if "_static" not in path.relative_to(html).parts:
            pages[path] = Page()
            pages[path].feed(path.read_text(encoding="utf-8"))
    for name in toc_files(toc):
        page = pages.get(html / f"{name}.html")
        if page is None:
            yield f"{name}.html is missing, though {toc.name} names it"
        elif not page.has_article:
            yield f"{name}.html has no content"
    for path, page in pages.items():
        where = path.relative_to(html)
        for url in page.loads:
            if OUTSIDE.match(url):
                yield f"{where} loads {url} from outside"
        for url in dict.fromkeys(page.loads + page.links):
            parts = urlsplit(url)
            inside = not parts.scheme and not parts.netloc and parts.path
            if inside and not (path.parent / unquote(parts.path)).exists():
                yield f"{where} refers to {parts.path}, which does not exist"
    for path in sorted(html.rglob("*.css")):
        for url in CSS_LOAD.findall(path.read_text(encoding="utf-8", errors="replace")):
            yield f"{path.relative_to(html)} loads {url} from outside"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check a built book.")
    parser.add_argument("html", type=Path, help="the folder with the built pages, _build/html")
    parser.add_argument("--toc", type=Path, default=Path(__file__).resolve().parent.parent / "_toc.yml")
    args = parser.parse_args()
    found = list(problems(args.html, args.toc))
    for line in found:
        print(f"check_book: {line}", file=sys.stderr)
    if not found:
        print(f"check_book: {len(toc_files(args.toc))} pages, complete, and nothing loaded from outside")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
