"""Every page of the built book in a real browser: it loads, is complete, fits the screen, and can be read by all."""

from __future__ import annotations

import gzip

import pytest
from browser.visits import inside, look

HEAVIEST = 1.5e6  # bytes of a chapter, as sent


def pages(book) -> list[str]:
    """All pages but ``index.html``, which leads to the first."""
    found = (path.relative_to(book).as_posix() for path in book.rglob("*.html"))
    return sorted(name for name in found if not name.startswith("_static/") and name != "index.html")


@pytest.fixture(scope="module")
def visits(browser, address, book, axe):
    """What every page is like, by its name."""
    context = browser.new_context()
    found = {}
    for name in pages(book):
        page = context.new_page()
        found[name] = look(page, address, name, axe)
        page.close()
    context.close()
    return found


def only(found: dict) -> dict:
    """What is not empty."""
    return {name: what for name, what in found.items() if what}


def test_the_address_leads_to_the_first_page(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.wait_for_url(f"{address}notebooks/introduction.html")
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_first_visit_has_the_system_s_theme(browser, address, theme):
    page = browser.new_page(color_scheme=theme)
    page.goto(f"{address}notebooks/introduction.html")
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    page.close()


def test_no_script_complains(visits):
    assert only({name: visit.said for name, visit in visits.items()}) == {}


def test_all_that_is_asked_for_comes_and_from_the_book(visits):
    assert only({name: visit.failed for name, visit in visits.items()}) == {}
    assert only({name: visit.outside for name, visit in visits.items()}) == {}


def test_mathematics_is_typeset(visits):
    for kind in ("raw", "wrong"):
        assert only({name: visit.mathematics[kind] for name, visit in visits.items()}) == {}
    assert any("_static/mathjax/tex-chtml.js" in visit.loaded for visit in visits.values())


@pytest.mark.parametrize("width", ["1280", "390"])
def test_no_page_is_wider_than_the_screen(visits, width):
    assert only({name: visit.beyond[width] for name, visit in visits.items()}) == {}


def test_pictures_on_a_phone_are_large_enough_and_can_be_moved(visits):
    assert only({name: visit.boxes for name, visit in visits.items()}) == {}


def test_pictures_follow_the_theme(visits):
    assert {how for visit in visits.values() for how in visit.filters["light"]} <= {"none"}
    dark = {how for visit in visits.values() for how in visit.filters["dark"]}
    assert dark <= {"invert(1) hue-rotate(180deg)"} and dark


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_it(visits, theme):
    assert only({name: visit.violations[theme] for name, visit in visits.items()}) == {}


def test_links_lead_somewhere(visits, book):
    lost = {}
    for name, visit in visits.items():
        for path, anchor in visit.links:
            there = visits.get(path)
            if not (book / path).is_file() or (anchor and there is not None and anchor not in there.anchors):
                lost.setdefault(name, []).append(f"{path}#{anchor}")
    assert lost == {}


def test_a_chapter_is_light(visits, book):
    sent = {}

    def size(path: str) -> int:
        if path not in sent:
            sent[path] = len(gzip.compress((book / path).read_bytes(), 6))
        return sent[path]

    weights = {name: sum(map(size, visit.loaded)) for name, visit in visits.items() if name.startswith("notebooks/")}
    assert weights and {name: weight for name, weight in weights.items() if weight > HEAVIEST} == {}


@pytest.mark.parametrize(
    ("words", "best"),
    [
        ("polar", "notebooks/02_projection.html"),
        ("glossary", "book/notation.html"),
        ("polar_factor", "book/api/polar.html"),
    ],
)
def test_the_search_finds_the_page_that_explains(browser, address, words, best):
    page = browser.new_page()
    page.goto(f"{address}search.html?q={words}")
    page.wait_for_selector("#search-results ul.search li a")
    found = page.evaluate("() => [...document.querySelectorAll('#search-results ul.search li a')].map(a => a.href)")
    page.close()
    assert inside(address, found[0].split("?")[0]) == best, found[:5]


def test_what_the_menu_of_a_formula_offers_is_there(browser, address):
    """Other output and speech are fetched when they are asked for, from what the book kept of MathJax."""
    page = browser.new_page()
    failed = []
    page.on("response", lambda response: response.status >= 400 and failed.append(response.url))
    page.goto(f"{address}notebooks/01_norm_preservation.html")
    page.evaluate("() => MathJax.startup.promise")
    page.evaluate("() => MathJax.loader.load('output/svg', 'a11y/explorer')")
    page.close()
    assert failed == []
