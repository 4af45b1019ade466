"""What a published book has, with and without the repository's address."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image
from tiny_book import EXTENSIONS, ROOT, build, extension

LONG = " ".join(["A paragraph that goes on & on, with more words than fit."] * 9)
PAGES = {
    "index.md": "# The *first* page\n\n```{note}\nNot this.\n```\n\nWhat the book says, & **why**: $x^2$.\n\n"
    "```{toctree}\nchapters/one\nchapters/bare\n```\n",
    "chapters/one.ipynb": json.dumps(
        {
            "cells": [{"cell_type": "markdown", "metadata": {}, "source": f"# One\n\n{LONG}"}],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
    ),
    "chapters/bare.md": "# No words\n",
}
ADDRESS = "https://github.com/Someone/book"


class Head(HTMLParser):
    """The named contents of a page's head, and where its links lead."""

    def __init__(self, path):
        super().__init__()
        self.meta, self.links, self.base, self.canonical = {}, [], None, None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "meta" and "content" in a:
            self.meta[a.get("name") or a.get("property")] = a["content"]
        elif tag == "a" and "href" in a:
            self.links.append(a["href"])
        elif tag == "base":
            self.base = a["href"]
        elif tag == "link" and a.get("rel") == "canonical":
            self.canonical = a["href"]


def book(folder, **config):
    settings = {"html_theme": "sphinx_book_theme", "nb_execution_mode": "off", "myst_enable_extensions": ["dollarmath"]}
    return build(folder, PAGES, ["myst_nb", "publish"], **(settings | config))


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    return book(tmp_path_factory.mktemp("public"), book_repository=ADDRESS)


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    return book(tmp_path_factory.mktemp("private"))


def test_without_an_address_nothing_needs_one(private):
    for path in private.rglob("*.html"):
        head = Head(path)
        assert not {"og:url", "og:image", "twitter:card"} & set(head.meta)
        assert (head.base, head.canonical) == (None, None)
        assert [link for link in head.links if re.search("github|colab|binder", link)] == []
    assert not [name for name in ("sitemap.xml", "robots.txt") if (private / name).exists()]


def test_each_page_has_a_title_and_its_first_paragraph(private):
    first, one, bare = (Head(private / f"{name}.html").meta for name in ("index", "chapters/one", "chapters/bare"))
    assert first["og:title"] == "The first page"
    assert first["og:description"] == first["description"] == "What the book says, & why: x^2."
    assert one["description"].startswith("A paragraph that goes on & on") and one["description"].endswith(" …")
    assert 150 < len(one["description"]) <= 202
    assert "description" not in bare and bare["og:title"] == "No words"


def test_pages_know_their_address(public):
    head = Head(public / "chapters" / "one.html")
    assert head.canonical == head.meta["og:url"] == "https://someone.github.io/book/chapters/one.html"
    assert head.meta["og:image"] == "https://someone.github.io/book/_static/card.png"
    assert head.meta["twitter:card"] == "summary_large_image"


def test_the_buttons_lead_to_the_repository(public):
    one = Head(public / "chapters" / "one.html").links
    assert ADDRESS in one
    assert f"{ADDRESS}/edit/main/chapters/one.ipynb" in one
    assert any(link.startswith(f"{ADDRESS}/issues/new") for link in one)
    assert "https://colab.research.google.com/github/Someone/book/blob/main/chapters/one.ipynb" in one
    assert any(link.startswith("https://mybinder.org/v2/gh/Someone/book/main") for link in one)
    assert not [link for link in Head(public / "index.html").links if "colab" in link]  # it is no notebook


def test_the_sitemap_has_each_page_once(public):
    found = [url.text for url in ElementTree.parse(public / "sitemap.xml").iter() if url.tag.endswith("loc")]
    pages = ("chapters/bare", "chapters/one", "index")
    assert found == [f"https://someone.github.io/book/{page}.html" for page in pages]
    assert "https://someone.github.io/book/sitemap.xml" in (public / "robots.txt").read_text()


def test_a_lost_reader_finds_back_from_anywhere(public, private):
    assert Head(public / "404.html").base == "https://someone.github.io/book/"
    for html in (public, private):
        assert "index.html" in Head(html / "404.html").links
        assert "There is no such page" in (html / "404.html").read_text()


def test_an_address_of_one_s_own_is_kept(tmp_path):
    html = book(tmp_path, book_repository=ADDRESS, html_baseurl="https://example.org/")
    assert Head(html / "index.html").meta["og:url"] == "https://example.org/index.html"


def test_a_user_s_own_site_lies_at_its_root():
    class Settings(dict):
        __getattr__, __setattr__ = dict.get, dict.__setitem__

    config = Settings(html_theme_options={}, book_repository="https://github.com/Someone/someone.github.io")
    extension("publish").set_options(Settings(config=config), config)
    assert config.html_baseurl == "https://someone.github.io/"


def test_a_link_to_the_book_has_the_first_page_s_card(tmp_path):
    """The first page is a chapter here, as in the book, and index.html only leads to it."""
    config = {"root_doc": "chapters/one", "html_title": "The book", "exclude_patterns": ["index.md", "**/bare.md"]}
    door = Head(book(tmp_path, book_repository=ADDRESS, **config) / "index.html")
    assert door.meta["og:title"] == "One" and door.meta["og:site_name"] == "The book"
    assert door.canonical == door.meta["og:url"] == "https://someone.github.io/book/chapters/one.html"
    assert door.links == ["chapters/one.html"]
    assert door.meta["description"].startswith("A paragraph that goes on")


def test_a_description_leaves_citations_out():
    say = extension("publish").CITATION.sub
    assert (
        say("", "An idea [ZRS20], another [HZRS16a, BEL18], and [1] or [sic].") == "An idea, another, and [1] or [sic]."
    )


def test_the_card_has_the_size_that_is_asked_for():
    assert extension("publish").CARD == "_static/card.png"
    with Image.open(EXTENSIONS.parent / "_static" / "card.png") as card:
        assert card.size == (1200, 630)
    assert (ROOT / "book" / "_static" / "card.png").stat().st_size < 300_000
