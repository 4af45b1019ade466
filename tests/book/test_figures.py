"""book/_ext/figures.py: how wide a picture is shown, and which figures are tables."""

import io
import re

import nbformat.v4 as nb
import pytest
from PIL import Image
from tiny_book import build

EXTENSIONS = ["myst_nb", "sphinx_multitoc_numbering", "numbering", "figures"]
INDEX = """# Book

```{toctree}
:numbered: 2
chapter
```

```{toctree}
:caption: Appendix
:numbered: 2
appendix
```
"""
CHAPTER = """# Chapter

{numref}`fig-one`, {numref}`tab-two`, {numref}`tab-three`, {numref}`tab-four`, {numref}`Table of {name} <tab-two>`.

```{figure} one.png
:name: fig-one
A picture.
```

```{figure} one.png
:name: tab-two
Two *words*.
```

```{table} An ordinary one.
:name: tab-three

| a | b |
|---|---|
| 1 | 2 |
```
"""


def png(pixels: int, dots: int | None = None) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (pixels, 10)).save(made, "PNG", **({"dpi": (dots, dots)} if dots else {}))
    return made.getvalue()


def appendix() -> str:
    """A notebook whose cell shows a table, with what the book's cells say of it."""
    shown = nb.new_output("execute_result", {"text/html": "<table><tr><td>1</td></tr></table>"})
    figure = {"figure": {"caption": "What a *cell* shows.", "name": "tab-four"}}
    cell = nb.new_code_cell("table", outputs=[shown], metadata={"mystnb": figure})
    metadata = {"language_info": {"name": "python", "pygments_lexer": "python3"}}
    return nb.writes(nb.new_notebook(cells=[nb.new_markdown_cell("# Appendix"), cell], metadata=metadata))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    files = {"index.md": INDEX, "chapter.md": CHAPTER, "appendix.ipynb": appendix(), "one.png": png(1344, 192)}
    html = build(
        tmp_path_factory.mktemp("book"),
        files,
        EXTENSIONS,
        numfig=True,
        numfig_secnum_depth=1,
        nb_execution_mode="off",
    )
    return {name: (html / f"{name}.html").read_text() for name in ("chapter", "appendix")}


def test_tables_are_counted_as_tables(pages):
    numbers = re.findall(r'class="caption-number">([^<]*?) ?</span>', pages["chapter"] + pages["appendix"])
    assert numbers == ["Fig. 1.1", "Table 1.1", "Table 1.2", "Table A.1"]


def test_they_can_be_referred_to(pages):
    words = re.findall(r'class="std std-numref">([^<]*)<', pages["chapter"])
    assert words == ["Fig. 1.1", "Table 1.1", "Table 1.2", "Table A.1", "Table of Two words."]
    assert 'href="appendix.html#tab-four"' in pages["chapter"] and 'id="tab-four"' in pages["appendix"]


def test_their_captions_stand_above_them(pages):
    table = re.search(r'<figure class="numbered-table" id="tab-four">(.*?)</figure>', pages["appendix"], re.DOTALL)[1]
    assert table.index("What a <em>cell</em> shows.") < table.index("</figcaption>") < table.index("<table>")
    assert table.count("figcaption>") == 2


def picture(folder, text: str, dots: int | None, pixels: int = 1344) -> str:
    """A page's picture with what is around it."""
    html = build(folder, {"index.md": f"# Page\n\n{text}\n", "one.png": png(pixels, dots)}, EXTENSIONS)
    return re.search(r"</h1>(.*?)</section>", (html / "index.html").read_text(), re.DOTALL)[1]


@pytest.mark.parametrize(("pixels", "dots", "shown"), [(1344, 192, 672), (500, 96, 500), (301, 300, 96)])
def test_a_picture_is_shown_at_96_dots_an_inch(tmp_path, pixels, dots, shown):
    found = picture(tmp_path, "```{image} one.png\n:alt: words\n```", dots, pixels)
    assert f'style="width: {shown}px;"' in found and '<div class="picture ' in found


def test_a_picture_within_a_line_stays_there(tmp_path):
    found = picture(tmp_path, "Words ![words](one.png) words.", 192)
    assert 'style="width: 672px;"' in found and 'class="picture ' not in found


@pytest.mark.parametrize(("width", "dots"), [("", None), (":width: 50%\n", 192)])
def test_a_picture_that_says_nothing_or_has_a_width_is_left_alone(tmp_path, width, dots):
    found = picture(tmp_path, f"```{{image}} one.png\n{width}:alt: words\n```", dots)
    assert "px;" not in found and 'class="picture ' not in found
