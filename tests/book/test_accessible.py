"""book/_ext/accessible.py: HTML of Sphinx and MyST-NB, mended for readers of the screen."""

import importlib
import re

import nbformat.v4 as nb
from tiny_book import build, extension

PAGE = """# Page

Words.

```{py:function} f(a: int, b: int) -> int
What it does.
```

A term
: what it means

```{eval-rst}
See [He2016]_.

.. [He2016] A paper.
```
"""


def book(folder) -> dict[str, str]:
    cell = nb.new_code_cell("1 + 1", metadata={"tags": ["hide-input"]})
    metadata = {"language_info": {"name": "python", "pygments_lexer": "python3"}}
    notebook = nb.writes(nb.new_notebook(cells=[nb.new_markdown_cell("# Notebook"), cell], metadata=metadata))
    html = build(
        folder,
        {"index.md": f"{PAGE}\n\n```{{toctree}}\nother\n```\n", "other.ipynb": notebook},
        ["myst_nb", "accessible"],
        nb_execution_mode="off",
        myst_enable_extensions=["deflist"],
        python_maximum_signature_line_length=1,
    )
    return {name: (html / f"{name}.html").read_text() for name in ("index", "other")}


def test_what_is_mended(tmp_path):
    pages = book(tmp_path)
    signature = re.search(r'<dt class="sig[^>]*id="f".*?</dt>', pages["index"], re.DOTALL)[0]
    assert signature.count('<span class="sig-line">') == 2 and "<dl" not in signature and "<dd" not in signature
    assert signature.count("<span") == signature.count("</span>")
    assert re.search(r"<dt>A term</dt><dd>", pages["index"])  # a definition list stays one
    citations = re.search(r'<div role="list" class="citation-list">(.*?)</section>', pages["index"], re.DOTALL)[1]
    assert 'role="listitem"' in citations and "doc-biblioentry" not in citations
    assert "<summary>" in pages["other"] and "aria-label" not in re.search(r"<summary.*?>", pages["other"])[0]


def test_the_arrows_of_the_table_of_contents_have_a_name(tmp_path):
    """As the theme asks for its table of contents."""
    accessible = importlib.import_module("accessible")
    arrow = '<summary><span class="toctree-toggle"></span></summary>'
    context = {"generate_toctree_html": lambda kind, **options: arrow if kind == "sidebar" else ["raw", options]}
    accessible.page(None, "a", "page.html", context, None)
    assert '<summary aria-label="Its pages">' in context["generate_toctree_html"]("sidebar", maxdepth=4)
    assert context["generate_toctree_html"]("raw", maxdepth=4) == ["raw", {"maxdepth": 4}]


def test_a_mark_stays_with_its_formula_and_only_that():
    accessible = extension("accessible")
    formula = r'<span class="math notranslate nohighlight">\(x_l\)</span>'
    assert accessible.mend(f"<p>Of {formula}, and\n{formula}.</p>") == (
        f'<p>Of <span class="with-mark">{formula},</span> and\n<span class="with-mark">{formula}.</span></p>'
    )
    for text in (f"{formula} and {formula}", f"{formula}<em>, then</em>"):
        assert accessible.mend(text) == text
