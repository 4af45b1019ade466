"""The book's sources, and the check that `make book` runs on what it built (tools/check_book.py)."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pydata_sphinx_theme
import pytest
import sphinx_book_theme
import yaml
from pydantic import BaseModel, Field
from sphinx.errors import ExtensionError
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import NumpyDocstring

import paperlib
from paperlib._checks import whole_number

ROOT = Path(__file__).resolve().parent.parent
CHECK = ROOT / "tools" / "check_book.py"


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def toc_pages() -> list[str]:
    return load(CHECK).toc_files(ROOT / "_toc.yml")


def source(page: str) -> Path | None:
    return next((p for p in (ROOT / f"{page}.md", ROOT / f"{page}.ipynb") if p.is_file()), None)


def text(page: str) -> str:
    """A page's source: the Markdown, or all cells of a notebook (outputs are the notebook's own affair)."""
    path = source(page)
    if path is None:  # test_every_page_of_the_toc_exists_once says so
        return ""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def test_every_page_of_the_toc_exists_once():
    pages = toc_pages()
    assert len(pages) == len(set(pages))
    assert [p for p in pages if source(p) is None] == []


def test_every_page_is_in_the_toc():
    files = [*ROOT.glob("book/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    named = {str(source(p)) for p in toc_pages()}
    assert [f.name for f in files if str(f) not in named and ".ipynb_checkpoints" not in f.parts] == []


def test_every_public_module_has_a_reference_page():
    modules = {p.stem for p in (ROOT / "paperlib").glob("*.py") if not p.stem.startswith("_")}
    modules |= {p.parent.name for p in (ROOT / "paperlib").glob("*/__init__.py")}
    pages = {p.stem for p in (ROOT / "book" / "api").glob("*.md")}
    assert modules == pages - {"overview", "inside", "rules", "parts", "chapter_figures"}
    for name in modules:
        assert f".. automodule:: paperlib.{name}\n" in text(f"book/api/{name}")


def test_the_overview_has_every_name_that_users_come_for():
    linked = re.findall(r"\{(?:func|class)\}`~paperlib\.\w+\.(\w+)`", text("book/api/overview"))
    assert len(linked) == len(set(linked))
    assert {*paperlib.__all__} <= {*linked}
    assert linked[:3] == ["build", "project", "GradientNorms"]


def test_no_page_loads_from_outside():
    loads = re.compile(r"<(?:script|link|img|iframe)\b[^>]*https?://|(?:!\[[^\]]*\]\(|\{(?:image|figure)\}) *https?://")
    assert {p: m.group() for p in toc_pages() if (m := loads.search(text(p)))} == {}


def test_cited_keys_exist():
    bib = re.findall(r"^@\w+\{([^,\s]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(bib) == len(set(bib))
    cited = {
        key.strip()
        for page in toc_pages()
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text(page))
        for key in keys.split(",")
    }
    assert cited <= set(bib)
    assert set(bib) <= cited, "an entry that no page cites does not appear in the bibliography"


def test_config_runs_nothing_and_keeps_the_network_out():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["execute"]["execute_notebooks"] == "off"
    sphinx = config["sphinx"]["config"]
    assert not {"sphinx_thebe", "sphinx.ext.intersphinx"} & set(sphinx["extensions"])
    assert sphinx["nb_ipywidgets_js"] == {}


class Tea(BaseModel):
    """A cup.

    Examples
    --------
    >>> Tea(leaf="oolong").leaf
    'oolong'
    """

    leaf: Literal["oolong", "assam"] = Field(description="what it is made from")
    minutes: float = Field(3.0, description="how long it draws")
    notes: list[str] = Field(default_factory=list)


def rendered(what: str, obj: object, text: str) -> str:
    """A docstring as Sphinx gets it: prepared by the extension, then read by napoleon with the book's settings."""
    extension = load(ROOT / "book" / "_ext" / "docstrings.py")
    lines = text.splitlines()
    extension.prepare(None, what, "name", obj, None, lines)
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    config = Config(**{name: value for name, value in settings.items() if name.startswith("napoleon_")})
    return str(NumpyDocstring("\n".join(lines), config, what=what, name="name", obj=obj))


def test_every_extension_of_the_book_s_own_is_found_and_loaded():
    """Jupyter Book asks for both: where it is, and that it is used."""
    sphinx = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]
    own = sorted(path.stem for path in (ROOT / "book" / "_ext").glob("*.py"))
    assert sorted(sphinx["local_extensions"]) == own == sorted({*own} & {*sphinx["config"]["extensions"]})


def test_a_model_lists_its_fields_before_its_examples():
    page = rendered("class", Tea, inspect.getdoc(Tea))
    at = [page.index(text) for text in ("A cup.", "leaf", "how long it draws", "notes", "Examples")]
    assert at == sorted(at)
    for text in ("``{'oolong', 'assam'}, required``", "what it is made from", "default 3.0", "optional"):
        assert text in page


def test_types_in_docstrings_are_not_looked_up():
    """A field ``:type:`` would be, and prose such as "Tensor, (d, c)" has no page."""
    page = rendered("function", whole_number, inspect.getdoc(whole_number))
    assert "**name** (*str*)" in page and ":raises ValueError:" in page
    assert not re.search(r":(type|rtype|vartype)", page)
    assert ":type" not in rendered("property", None, "The mean: of each channel.\n\nMore.")
    assert ":vartype" not in rendered("class", None, "A thing.\n\nAttributes\n----------\nside : int\n    Its side.")


def test_a_model_s_signature_is_short():
    extension = load(ROOT / "book" / "_ext" / "docstrings.py")
    assert extension.shorten(None, "class", "Tea", Tea) == ("(**parameters)", None)
    assert extension.shorten(None, "function", "f", len) is None


def test_the_json_of_the_results_is_put_into_the_book(tmp_path):
    extension = load(ROOT / "book" / "_ext" / "results.py")
    app = SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path)
    extension.copy(app, exception=ValueError())
    assert not [*tmp_path.iterdir()]
    extension.copy(app, exception=None)
    assert (tmp_path / "results" / "scorecard.json").is_file()
    made, kept = ({p.relative_to(root) for root in [where] for p in root.glob("claims/*/*/finding.json")}
                  for where in (tmp_path / "results", ROOT / "results"))  # fmt: skip
    assert made == kept != set()
    assert not [*tmp_path.rglob("*.parquet")]


def colours(theme: str) -> dict[str, str]:
    """The colours of a theme by their names, the later style sheets overriding the earlier ones."""
    sheets = [
        Path(pydata_sphinx_theme.__path__[0], "theme/pydata_sphinx_theme/static/styles/pydata-sphinx-theme.css"),
        Path(sphinx_book_theme.__path__[0], "theme/sphinx_book_theme/static/styles/sphinx-book-theme.css"),
        ROOT / "book" / "_static" / "custom.css",
    ]
    found = {}
    for sheet in sheets:
        css = sheet.read_text(encoding="utf-8")
        for block in re.findall(rf"""html\[data-theme=["']?{theme}["']?\]\s*\{{([^}}]*)""", css):
            found |= dict(re.findall(r"--(pst-color-[\w-]+):\s*([^;]+)", block))
    return found


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rgb or #rrggbb."""
    digits = colour.strip().removeprefix("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_captions_can_be_read_in_both_themes(theme):
    css = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    rule = re.search(r"figcaption,[^{]*\{([^}]*)", css).group(1)
    name = re.search(r"color: var\(--(.*?)\)", rule).group(1)
    assert int(re.search(r"font-weight: (\d+)", rule).group(1)) >= 400  # thin letters look fainter than they are
    dark, light = sorted(luminance(colours(theme)[key]) for key in (name, "pst-color-background"))
    assert (light + 0.05) / (dark + 0.05) >= 7


@pytest.mark.parametrize(
    ("link", "gone"),
    [
        ("../results/claims/T1/desk/finding.json", False),
        ("../results/scorecard.json#T1", False),
        ("https://example.org/results/of-others.json", False),
        ("../notebooks/05_results.html", False),  # a page, which tools/check_book.py looks after
        ("../results/claims/T1/paper/finding.json", True),
        ("results/scorecard.json", True),
        ("../results/desk/cifar10/resnet-164/seed0/record.json", True),  # in the repository, but not in the book
    ],
)
def test_a_link_to_a_result_that_the_book_does_not_have_ends_the_build(tmp_path, link, gone):
    extension = load(ROOT / "book" / "_ext" / "results.py")
    app = SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "one.html").write_text(f'<p><a href="{link}">the record</a></p>')
    if not gone:
        extension.copy(app, exception=None)
        return
    with pytest.raises(ExtensionError, match=re.escape(f"notebooks/one.html to {link}")):
        extension.copy(app, exception=None)


GOOD = """<html><head><link rel="stylesheet" href="_static/a.css"></head>
<body><article><a href="https://b.org">b</a></article></body></html>"""


@pytest.fixture
def book(tmp_path):
    """A two-page book, as built; returns its folder and a function that checks it."""
    html = tmp_path / "html"
    (html / "_static").mkdir(parents=True)
    (html / "_static" / "a.css").write_text("p { color: red }")
    (tmp_path / "toc.yml").write_text("format: jb-book\nroot: index\nparts:\n  - chapters:\n      - file: one\n")
    for name in ("index", "one"):
        (html / f"{name}.html").write_text(GOOD)

    def check() -> tuple[int, str]:
        command = [sys.executable, str(CHECK), str(html), "--toc", str(tmp_path / "toc.yml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return html, check


def test_check_book_accepts_a_good_book(book):
    code, said = book[1]()
    assert code == 0, said
    assert "2 pages" in said


def plus(html: str) -> str:
    return GOOD.replace("<a ", html + "<a ")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("one.html", None, "one.html is missing"),
        ("index.html", None, "nothing was built"),
        ("one.html", "<html></html>", "no content"),
        ("one.html", GOOD.replace("_static/a.css", "https://cdn.org/a.css"), "cdn.org/a.css from outside"),
        ("one.html", plus('<img src="//cdn.org/a.png">'), "loads //cdn.org/a.png from outside"),
        ("one.html", plus('<script src="https://cdn.org/a.js"></script>'), "cdn.org/a.js from outside"),
        ("one.html", plus('<script>load("https://cdn.org/a.js")</script>'), "cdn.org/a.js from outside"),
        ("one.html", plus('<p style="background: url(https://cdn.org/b)">'), "cdn.org/b from outside"),
        ("one.html", plus('<img src="gone.png">'), "gone.png, which does not exist"),
        ("one.html", GOOD.replace("https://b.org", "two.html#x"), "two.html, which does not exist"),
        ("_static/a.css", "@import 'https://fonts.org/f.css';", "a.css loads https://fonts.org/f.css from outside"),
        ("_static/a.css", "@font-face { src: url(//fonts.org/f.woff2) }", "loads //fonts.org/f.woff2 from outside"),
    ],
)
def test_check_book_refuses(book, name, content, complaint):
    html, check = book
    if content is None:
        (html / name).unlink()
    else:
        (html / name).write_text(content)
    code, said = check()
    assert code == 1
    assert complaint in said
