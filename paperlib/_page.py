"""An executed notebook as one HTML file that loads nothing, from wherever it is opened.

nbconvert's page takes MathJax from a network of servers.  This one has MathJax in it, as the book has it from
sphinx-mathjax-offline, and a policy that lets the browser run this one script and load nothing.  So what a record holds
cannot become a script, either.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from paperlib.errors import PaperlibError

# Without what makes links of formulas, and what fetches more of MathJax.
_SETTINGS = (
    'window.MathJax = {tex: {inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]], '
    'packages: {"[-]": ["autoload", "require"]}}, options: {enableMenu: false}};\n'
)
_TEMPLATE = """
{%%- extends 'lab/index.html.j2' -%%}
{%%- block html_head_js -%%}<meta http-equiv="Content-Security-Policy" content="%s">{%%- endblock -%%}
{%%- block html_head_js_mathjax -%%}<script>{{ resources.mathjax }}</script>{%%- endblock -%%}
{%%- block html_head_js_mermaidjs -%%}{%%- endblock -%%}
{%%- block jupyter_widgets -%%}{%%- endblock -%%}
"""


def _mathjax() -> str:
    """MathJax and its settings, as one script with its fonts."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise PaperlibError("the page's formulas need pip install 'norm-preservation[book]'")
    path = Path(found.origin).with_name("static") / "mathjax" / "tex-svg.js"
    return _SETTINGS + path.read_text(encoding="utf-8")


def self_contained(notebook: Any) -> str:
    """A notebook, from nbformat, as HTML.

    Raises
    ------
    PaperlibError
        MathJax is not installed.
    """
    from nbconvert import HTMLExporter

    script = _mathjax()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; font-src data:"
    )
    exporter = HTMLExporter(raw_template=_TEMPLATE % policy, exclude_input_prompt=True, exclude_output_prompt=True)
    made, _ = exporter.from_notebook_node(notebook, resources={"mathjax": script})
    return str(made)
