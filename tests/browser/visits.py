"""What a browser tells of a page: what it loads and says, at two widths, in both themes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

WIDE, NARROW = 1280, 390  # pixels
LEAST_PICTURE = 560  # as narrow as its words can be read
READY = """async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await document.fonts.ready;
}"""
THEME = "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})"
LOADED = """() => [location.href, ...performance.getEntriesByType("resource").map(entry => entry.name)]"""
MATHEMATICS = """() => ({
  raw: [...document.querySelectorAll(".math")].filter(e => !e.querySelector("mjx-container")).map(e => e.textContent),
  wrong: [...document.querySelectorAll("mjx-merror")].map(e => e.getAttribute("title") ?? e.textContent),
})"""
LINKS = "() => [...document.querySelectorAll('a[href]')].map(a => a.href)"
ANCHORS = "() => [...document.querySelectorAll('[id]')].map(e => e.id)"
BEYOND = """() => {
  const root = document.documentElement, page = root.clientWidth;
  if (root.scrollWidth <= page) return [];
  const wide = [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > page + 1);
  return [`${root.scrollWidth} > ${page}`, ...wide.slice(0, 3).map(e => e.outerHTML.slice(0, 90))];
}"""
BOXES = """least => [...document.querySelectorAll(".bd-article .picture")].flatMap(box => {
  const image = box.querySelector("img"), wanted = Math.min(parseFloat(image.style.width), least);
  const said = image.getAttribute("alt") ?? "a picture";
  if (image.getBoundingClientRect().width < wanted - 1) return [`${said}: narrower than ${wanted}`];
  if (box.scrollWidth <= box.clientWidth) return [];
  return box.tabIndex === 0 && box.getAttribute("aria-label") ? [] : [`${said}: cannot be moved by the keyboard`];
})"""
FILTERS = (
    """() => [...document.querySelectorAll('.bd-article img[src$=".png"]')].map(e => getComputedStyle(e).filter)"""
)
AXE = """options => axe.run(document, {resultTypes: ["violations"], ...options}).then(found => found.violations
  .filter(rule => ["serious", "critical"].includes(rule.impact))
  .flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 120)} (${node.any[0]?.message ?? ""})`)))"""


@dataclass
class Visit:
    """What was found on one page; empty lists are good."""

    said: list[str] = field(default_factory=list)
    """Errors on the console, and errors of scripts."""
    failed: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    """The files of the book that the page consists of."""
    mathematics: dict[str, list[str]] = field(default_factory=dict)
    beyond: dict[str, list[str]] = field(default_factory=dict)
    """What goes over the page's edge, by width."""
    boxes: list[str] = field(default_factory=list)
    filters: dict[str, set[str]] = field(default_factory=dict)
    """The pictures' filters, by theme."""
    violations: dict[str, list[str]] = field(default_factory=dict)
    """What axe-core finds serious or critical, by theme."""
    links: set[tuple[str, str]] = field(default_factory=set)
    """Pages of the book and anchors on them."""
    anchors: set[str] = field(default_factory=set)


def inside(address: str, url: str) -> str | None:
    """The file of the book that a URL is about; None if it is none."""
    if not url.startswith(address):
        return None
    return unquote(urlsplit(url).path).lstrip("/") or "index.html"


def listen(page: Any, address: str, visit: Visit) -> None:
    """Note what the page says and asks for from now on."""
    page.on("console", lambda said: said.type == "error" and visit.said.append(said.text))
    page.on("pageerror", lambda error: visit.said.append(str(error)))
    page.on("requestfailed", lambda request: visit.failed.append(request.url))
    page.on("response", lambda response: response.status >= 400 and visit.failed.append(response.url))
    local = (address, "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(local) or visit.outside.append(request.url))


def look(page: Any, address: str, name: str, axe: str) -> Visit:
    """Open a page of the book, and look at it at both widths and in both themes."""
    visit = Visit()
    listen(page, address, visit)
    page.set_viewport_size({"width": WIDE, "height": 900})
    page.goto(address + name)
    page.evaluate(READY)
    visit.loaded = sorted({path for url in page.evaluate(LOADED) if (path := inside(address, url))})
    visit.mathematics = page.evaluate(MATHEMATICS)
    visit.anchors = set(page.evaluate(ANCHORS))
    for url in page.evaluate(LINKS):
        whole, anchor = urldefrag(url)
        if path := inside(address, whole):
            visit.links.add((path, unquote(anchor)))
    page.add_style_tag(content="* { transition: none !important }")  # axe must not see colours on their way
    page.evaluate(axe)
    for theme, options in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):  # the rest asks for no colours
        page.evaluate(THEME, theme)
        visit.filters[theme] = set(page.evaluate(FILTERS))
        visit.violations[theme] = page.evaluate(AXE, options)
    visit.beyond[f"{WIDE}"] = page.evaluate(BEYOND)
    page.set_viewport_size({"width": NARROW, "height": 800})
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    visit.beyond[f"{NARROW}"] = page.evaluate(BEYOND)
    visit.boxes = page.evaluate(BOXES, LEAST_PICTURE)
    return visit
