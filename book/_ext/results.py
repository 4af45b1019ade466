"""Puts the JSON of the stored results into the built book, so that a page can link to what it shows."""

import shutil
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "results"


def copy(app, exception):
    """Copy findings and the scorecard to ``results/`` beside the pages; their tables stay in the repository."""
    if exception is None and app.builder.format == "html":
        for path in [RESULTS / "scorecard.json", *RESULTS.glob("claims/**/finding.json")]:
            target = Path(app.outdir) / "results" / path.relative_to(RESULTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def setup(app):
    """What Sphinx calls."""
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
