"""book/_ext/names.py: names of the library in a chapter are links to their descriptions."""

import re

from tiny_book import build

CHAPTER = """# What `project` does

`GradientNorms` and `project(weight, size)` are names of the library, `projection` is none, and [`build`](elsewhere.md)
leads somewhere already.
"""
LIBRARY = """# Library

```{py:module} paperlib.probes
```

```{py:class} GradientNorms
```

```{py:module} paperlib.projection
```

```{py:function} project
```

`project` is not linked on a page of the library.
"""


def test_names_are_links_in_chapters(tmp_path):
    toc = "# Book\n\n```{toctree}\nnotebooks/chapter\nlibrary\nnotebooks/elsewhere\n```\n"
    files = {
        "index.md": toc,
        "notebooks/chapter.md": CHAPTER,
        "library.md": LIBRARY,
        "notebooks/elsewhere.md": "# Else",
    }
    html = build(tmp_path, files, ["myst_parser", "names"], nitpicky=True)
    page = (html / "notebooks" / "chapter.html").read_text()
    links = re.findall(r'<a class="reference internal" href="([^"]*)"[^>]*><code[^>]*>(.*?)</code>', page)
    text = [(where, re.sub(r"<[^>]*>", "", code)) for where, code in links]
    assert text == [
        ("../library.html#paperlib.probes.GradientNorms", "GradientNorms"),
        ("../library.html#paperlib.projection.project", "project(weight, size)"),
    ]
    library = (html / "library.html").read_text()
    assert '<code class="docutils literal notranslate"><span class="pre">project</span></code> is not linked' in library
