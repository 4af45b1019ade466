"""book/_ext/printed.py: what is printed in columns can be told from prose."""

import re

from tiny_book import build

PAGE = """# Page

```{code-block} text
:class: output stream

block   ratio
first    0.61
```

```{code-block} text
:class: output stream

It is held.  The others are not.
A second line.
```

```{code-block} text
source   that
has      gaps
```
"""


def test_only_outputs_in_columns_are_marked(tmp_path):
    html = build(tmp_path, {"index.md": PAGE}, ["myst_parser", "printed"])
    classes = re.findall(r'<div class="([^"]*highlight-text[^"]*)"', (html / "index.html").read_text())
    assert ["columns" in names for names in classes] == [True, False, False]
