"""book/_ext/lean.py: the built book has no file that no page loads (tests/browser sees that none is missing)."""

from types import SimpleNamespace

import pytest
from tiny_book import extension

KEPT = [
    "mathjax/tex-chtml.js",
    "mathjax/output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff",
    "mathjax/sre/mathmaps/en.json",
    "custom.css",
    "scripts/bootstrap.js",
    "scripts/fontawesome.js",
]
GONE = [
    "mathjax/tex-chtml-full.js",
    "mathjax/input/tex/extensions/cancel.js",
    "mathjax/input/asciimath.js",
    "mathjax/sre/mathmaps/de.json",
    "mathjax/adaptors/liteDOM.js",
    "scripts/bootstrap.js.map",
    "locales/de/LC_MESSAGES/booktheme.mo",
]


@pytest.fixture
def static(tmp_path):
    for name in KEPT + GONE:
        path = tmp_path / "_static" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something")
    return tmp_path / "_static"


def finish(static, exception=None) -> list[str]:
    app = SimpleNamespace(outdir=str(static.parent), builder=SimpleNamespace(format="html"))
    extension("lean").finish(app, exception)
    return sorted(path.relative_to(static).as_posix() for path in static.rglob("*") if path.is_file())


def test_only_what_is_loaded_stays(static):
    assert finish(static) == sorted(KEPT)
    assert not (static / "mathjax" / "adaptors").exists()
    assert not (static / "scripts" / "fontawesome.js").read_text()


def test_a_build_that_failed_is_left_alone(static):
    assert finish(static, ValueError()) == sorted(KEPT + GONE)
