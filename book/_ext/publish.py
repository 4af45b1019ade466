"""Sphinx extension: what a published book has: addresses, buttons, cards for links, a sitemap, a page for lost readers.

All but the title and the description need the repository's address (``address``).  Without one nothing of it is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from pathlib import Path
from typing import Any

from address import BINDER, BRANCH, COLAB, owner_and_name, repository
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

LOST = "404"  # GitHub shows 404.html for each address that is not there
CARD = "_static/card.png"  # tools/make_card.py draws it
LONGEST = 200  # letters of a description
CITATION = re.compile(r"\s*\[[A-Z][\w+]*\d\d\w?(, [A-Z][\w+]*\d\d\w?)*\]")
BEFORE_THE_REDIRECT = 400  # that sphinx_external_toc writes if there is no index.html
BUTTONS = {
    "repository_branch": BRANCH,
    "use_repository_button": True,
    "use_edit_page_button": True,
    "use_issues_button": True,
}
SERVICES = {"colab_url": COLAB, "binderhub_url": BINDER}


def set_options(app: Sphinx, config: Config) -> None:
    """Give the theme its buttons and Sphinx the address of the pages, unless the configuration has one."""
    if address := repository(app):
        owner, name = owner_and_name(address).split("/")
        home = "" if name.lower() == f"{owner}.github.io".lower() else f"{name}/"
        config.html_baseurl = config.html_baseurl or f"https://{owner.lower()}.github.io/{home}"
        options = config.html_theme_options
        options |= BUTTONS | {"repository_url": address}
        options["launch_buttons"] = options.get("launch_buttons", {}) | SERVICES | {"notebook_interface": "jupyterlab"}


def description(document: nodes.document | None) -> str | None:
    """A page's first paragraph in plain words, or as many of them as fit; None if it has none."""
    if document is None:
        return None
    for paragraph in document.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            words = " ".join(CITATION.sub("", paragraph.astext()).split())
            return words if len(words) <= LONGEST else words[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return None


def tags(app: Sphinx, title: str, document: nodes.document | None, url: str | None) -> str:
    """What a page's head says of it."""
    found = [("property", "og:title", title), ("property", "og:site_name", app.config.html_title)]
    found.append(("property", "og:type", "article"))
    if text := description(document):
        found += [("name", "description", text), ("property", "og:description", text)]
    if url:
        found += [("property", "og:url", url), ("property", "og:image", app.config.html_baseurl + CARD)]
        found.append(("name", "twitter:card", "summary_large_image"))
    return "\n".join(f'<meta {kind}="{name}" content="{escape(content)}" />' for kind, name, content in found)


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None) -> None:
    """Put the tags into a page's head."""
    title = unescape(re.sub(r"<[^>]*>", "", context.get("title") or app.config.html_title))
    found = tags(app, title, document, context.get("pageurl"))
    if page == LOST and app.config.html_baseurl:  # wherever it is shown, its links begin at the book's first page
        found = f'<base href="{escape(app.config.html_baseurl)}" />\n{found}'
    context["metatags"] = f"{context.get('metatags', '')}\n{found}"


def door(app: Sphinx, exception: Exception | None) -> None:
    """Write an index.html that leads to the first page and has its tags, if the first page has another name."""
    first = app.config.root_doc
    if exception is None and app.builder.format == "html" and first != "index":
        target, title = app.builder.get_target_uri(first), app.env.titles[first].astext()
        url = app.config.html_baseurl and app.config.html_baseurl + target
        lines = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8" />', f"<title>{escape(title)}</title>"]
        lines += [tags(app, title, app.env.get_and_resolve_doctree(first, app.builder), url)]
        lines += [f'<link rel="canonical" href="{escape(url)}" />'] * bool(url)
        lines += [f'<meta http-equiv="refresh" content="0; url={target}" /></head>']
        lines += [f'<body><a href="{target}">{escape(title)}</a></body></html>']
        Path(app.outdir, "index.html").write_text("\n".join(lines) + "\n", encoding="utf-8")


def lost(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    """The page that is shown in the place of one that is not there."""
    start = app.builder.get_relative_uri(LOST, app.config.root_doc)
    body = f'<h1>There is no such page</h1>\n<p>Begin at the <a href="{start}">first page</a>, or search the book.</p>'
    yield LOST, {"title": "No such page", "body": body}, "page.html"


def list_pages(app: Sphinx, exception: Exception | None) -> None:
    """Write sitemap.xml and robots.txt, if the pages have an address."""
    base = app.config.html_baseurl
    if exception is None and app.builder.format == "html" and base:
        urls = [base + app.builder.get_target_uri(page) for page in sorted(app.env.found_docs)]
        lines = [f"<url><loc>{escape(url)}</loc></url>" for url in urls]
        head = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        Path(app.outdir, "sitemap.xml").write_text("\n".join([head, *lines, "</urlset>\n"]), encoding="utf-8")
        Path(app.outdir, "robots.txt").write_text(f"User-agent: *\nSitemap: {base}sitemap.xml\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.setup_extension("address")
    app.add_css_file("print.css", media="print")
    app.connect("config-inited", set_options)
    app.connect("html-collect-pages", lost)
    app.connect("html-page-context", describe)
    app.connect("build-finished", door, priority=BEFORE_THE_REDIRECT)
    app.connect("build-finished", list_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
