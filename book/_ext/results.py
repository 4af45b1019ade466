"""Puts the JSON of the stored results into the built book, so that a page can link to what it shows."""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.errors import ExtensionError

RESULTS = Path(__file__).resolve().parents[2] / "results"
LINK = re.compile(r"""\bhref\s*=\s*["']([^"']+)["']""")


def copy(app, exception):
    """Copy findings and the scorecard to ``results/`` beside the pages; their tables stay in the repository.

    Raises ``ExtensionError``, which ends the build, if a page links to a result that is not there then.
    """
    if exception is None and app.builder.format == "html":
        out = Path(app.outdir)
        for path in [RESULTS / "scorecard.json", *RESULTS.glob("claims/**/finding.json")]:
            target = out / "results" / path.relative_to(RESULTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if gone := missing(out):
            raise ExtensionError(
                f"pages link to results that the book does not have: {'; '.join(gone)}. Commit the record (the book "
                "takes scorecard.json and the findings), or mend the link"
            )


def missing(out):
    """The links from pages below ``out`` to a file in a folder ``results`` that is not there, with their pages."""
    found = []
    for page in sorted(out.rglob("*.html")):
        for url in dict.fromkeys(LINK.findall(page.read_text(encoding="utf-8"))):
            parts = urlsplit(url)
            path = Path(unquote(parts.path))
            inside = not parts.scheme and not parts.netloc and "results" in path.parts
            if inside and not (page.parent / path).exists():
                found.append(f"{page.relative_to(out)} to {parts.path}")
    return found


def setup(app):
    """What Sphinx calls."""
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
