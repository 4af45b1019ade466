"""Records whose strings are hostile, and whose seals are right: pages and terminals show them as text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib.pyplot as plt
import pytest
from check_book import OUTSIDE, Page
from faults.tally import LONG, Tally
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbconvert.filters import markdown2html
from nbformat import v4

from paperlib import __main__ as command
from paperlib import _commands as commands
from paperlib import _text, channel_grid, claims, evidence, progress, records, scorecard
from paperlib._page import self_contained
from paperlib.claims.finding import Finding, Ruling
from paperlib.errors import RecordError
from paperlib.figures import interactive
from paperlib.figures import runs as figures
from paperlib.records import Divergence
from paperlib.scorecard import page
from paperlib.store.provenance import Device
from paperlib.store.stored import sealed
from paperlib.studies import reproducibility, runs, section4
from paperlib.studies.norm_preservation.spectra import Spectra
from paperlib.studies.tables import fitted
from paperlib.sweep import state

ROOT = Path(__file__).resolve().parents[2]
SHOWN = "alert(1)"  # of every hostile string, to see that it was shown at all
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "'\"><svg onload='alert(1)'>",
    "</script></title></table><iframe srcdoc='alert(1)'>",
    "[x](javascript:alert(1))",
    "![x](https://example.com/alert(1).png)",
    "<https://example.com/alert(1)> https://example.com/alert(1)",
    "`</code>` | alert(1) | ``<b>``",
    "alert(1)\n\n# head\r\n\n<b onclick='alert(1)'>\n:::{raw} html\n$$x$$\n",
    "$$ \\href{javascript:alert(1)}{x} $$ $\\frac{$ \\(y\\)",
    "{cite}`alert(1)` {{ 7 * 7 }} {raw}`x` ${x}",
    "alert(1) \x1b[31mred\x1b]0;title\x07 \x9b1m \x00 \u202eleft \u2028 \x7f",
    "*alert(1)* __b__ ~~c~~ &lt;i&gt; &#60;u&#62; \\<s>",
)
ALL = " ".join(HOSTILE)
# What the pages make themselves; everything else has come from a string.
TAGS = set(
    "p b i br em strong code small time span div ul ol li dl dt dd details summary figure h2 h3 blockquote".split()
)
PICTURE = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/=]+")  # of an interactive figure
TAGS |= set("table thead tbody tr th td style a eq eqn section pre hr".split())


class Watched(HTMLParser):
    """What a browser would find in a piece of HTML: its text, and what in it could do something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.found, self._code = "", [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self._code = tag == "script"
        data = self._code and named == {"type": "application/json"}
        if tag == "img" and PICTURE.fullmatch(named.get("src") or ""):
            data = bool(named.pop("src"))
        self.found += [] if tag in TAGS or data else [f"<{tag}>"]
        self.found += [f"{tag} {name}" for name in named if name.startswith("on") or name in ("srcdoc", "src")]
        self.found += [f"link to {url}" for url in [named.get("href") or ""] if urlsplit(url).scheme or "//" in url]

    def handle_data(self, data):
        self.text += data


def harmless(html: str, shown: int = 1) -> None:
    """The HTML does nothing, and shows the hostile string at least so many times."""
    watched = Watched(html)
    assert watched.found == []
    assert watched.text.count(SHOWN) >= shown, html[:2000]


def rendered(markdown: str) -> list[str]:
    """Markdown as the book and as nbconvert render it, both with HTML let through."""
    book = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    return [book.use(dollarmath_plugin).render(markdown), markdown2html(markdown)]


def forged(thing, evil: str):
    """A stored thing with a hostile string wherever it can hold one."""
    made = thing.provenance
    sessions = [
        session.model_copy(
            update={
                "commit": evil,
                "versions": {evil: evil},
                "settings": {evil: evil, "processes": evil},
                "device": Device(type=session.device.type, name=evil),
                "started": evil,
            }
        )
        for session in made.sessions
    ]
    thing.provenance = made.model_copy(update={"command": evil, "sessions": sessions})
    if isinstance(thing, Finding):
        thing.quantities |= dict.fromkeys([evil], next(iter(thing.quantities.values())))
        thing.rule = Ruling(digest=evil, sentence=evil, outcome=evil)
    elif not isinstance(thing, Spectra):
        thing.data = thing.data.model_copy(update={"source": evil, "checksum": evil})
    if isinstance(thing, records.Record):
        # A record with other blocks than its network's is refused when it is read; and chapters need finished runs.
        if thing.status == "diverged" or thing.config.seed == 2:
            thing.status = "diverged"
            thing.divergence = Divergence(epoch=len(thing.epochs), step=1, what="loss", block=evil)
        if "initial" in thing.frames:
            thing.frames["initial"] = thing.initial.assign(name=evil)
    return thing


def kinds(root: Path):
    """Everything stored below a folder, as it is read."""
    classes = (records.Record, channel_grid.grid.GridRecord, Finding, Spectra)
    return itertools.chain.from_iterable(one.read_all(root) for one in classes)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Some of the committed records, forged, and sealed again."""
    root = tmp_path_factory.mktemp("forged") / "results"
    for part in ("claims", "channel_grid/desk", "desk/cifar10/procresnet-22", "desk/cifar10/resnet-164/seed0"):
        shutil.copytree(ROOT / "results" / part, root / part)
    for thing in kinds(root):
        forged(thing, ALL).save(thing.folder)
    return root


def test_a_hostile_string_is_text_in_every_form(tally):
    for evil in HOSTILE:
        for html in rendered(f"Before {_text.markdown(evil)} after, {_text.markdown(evil)}."):
            harmless(html, 2)
            assert "<eq" not in html and 'class="math' not in html
            assert Watched(html).text.count("Before ") == 1 and "<h1" not in html
        for html in rendered(f"Before {_text.code(evil)} after."):
            harmless(html)
            assert html.count("<code>") == 1 and "after." in html.rpartition("</code>")[2]
        assert _text.plain(evil).isprintable()
        assert all(line.isprintable() for line in _text.lines(evil).split("\n"))
    tally("a hostile string was put into Markdown, code and a terminal", was_text=len(HOSTILE))


def test_every_page_that_is_made_of_forged_records_is_harmless(root, tally):
    card = scorecard.build(root)
    harmless(page.table(card), 20 * len(HOSTILE))
    harmless(page.quotable(card), 0)
    grids = channel_grid.grid.GridRecord.read_all(root)
    trainings = records.read_all(root)
    for made in grids:
        for html in rendered(made.describe()):
            harmless(html, len(HOSTILE))
    for record in trainings:
        harmless(fitted(runs.provenance(record), "provenance"), len(HOSTILE))
        for html in rendered(record.config.describe()):
            harmless(html, 0)
    harmless(fitted(reproducibility.trainings(trainings).reset_index(), "trainings", index=False), len(HOSTILE))
    harmless(runs.overview(trainings).to_html(), len(HOSTILE))
    harmless(claims.overview(claims.read_all(root)).to_html(), len(HOSTILE))
    drawn = interactive.html(interactive.ratios_over_epochs(section4.ratios(trainings)), ALL, ALL)
    harmless(drawn, 2 * len(HOSTILE) - 5)
    assert len(grids) >= 1 and len(trainings) >= 3
    tally("pages were made of forged records", were_harmless=2 + len(grids) + 2 * len(trainings) + 3)


def test_figures_with_hostile_names_are_drawn_and_hold_no_script(root, tmp_path):
    drawn = 0
    watched = [record.blocks for record in records.read_all(root) if len(record.blocks)]
    for draw in (figures.ratio_heatmap, figures.ratio_lines):
        figure = draw(watched[0].assign(name="$\\frac{$ <script>alert(1)</script> \x07"))
        figure.savefig(tmp_path / "figure.svg")
        plt.close(figure)
        tags = {one.tag.rpartition("}")[2] for one in ET.parse(tmp_path / "figure.svg").iter()}
        assert "svg" in tags and not tags & {"script", "foreignObject", "a", "iframe"}
        drawn += 1
    assert drawn == 2


def test_a_terminal_is_told_nothing_that_it_obeys(root, tmp_path, capsys, tally):
    told = []
    assert command.main(["scorecard", "--root", str(root), "--json", str(tmp_path / "card.json")]) == 0
    told.append(capsys.readouterr().out)
    _text.say(evidence.report([evidence.Comparison("C1", "desk", ALL, ALL, (ALL,), skipped=ALL)]))
    told.append(capsys.readouterr().out)
    for record in records.read_all(root):
        commands._summarise(record, 1.0, {ALL: Path(ALL)})
        told.append(capsys.readouterr().out)
    _text.say(claims.report(claims.read_all(root)))
    told.append(capsys.readouterr().out)
    damaged = tmp_path / "damaged" / "claims" / "C1" / "desk"
    shutil.copytree(root / "claims/C1/desk", damaged)
    raw = json.loads((damaged / "finding.json").read_text())
    (damaged / "finding.json").write_text(json.dumps(sealed({**raw, ALL: 1})))
    assert command.main(["scorecard", "--root", str(tmp_path / "damaged")]) == 1
    told.append(capsys.readouterr().err)
    with pytest.raises(RecordError) as caught:
        claims.read_all(tmp_path / "damaged")
    told += caught.value._render_traceback_()
    for text in told:
        assert SHOWN in text, text[:500]
        assert all(line.isprintable() for line in text.split("\n")), [x for x in text if not x.isprintable()]
    tally("a command told of forged records", was_text=len(told))


LARGE = f'{{"done": 1{400 * "0"}, "total": 3, "text": "", "seconds_left": 1}}'
NO_PROGRESS = (*HOSTILE, "{}", "[]", "[" * 100_000, LARGE, '{"done": "x", "total": 0}', '{"done": 1, "total": 0}')


@pytest.mark.parametrize("content", [json.dumps({"done": 1, "total": 2, "seconds_left": 3, "text": ALL}), *NO_PROGRESS])
def test_a_forged_file_of_progress_shows_text_or_nothing(content, tmp_path):
    (tmp_path / progress.FILE).write_text(content)
    found = progress.read(tmp_path / progress.FILE)
    assert found is None or (found[0] == 0.5 and found[1].isprintable() and SHOWN in found[1])
    share, text, _ = state._progress(tmp_path)  # which a sweep shows
    assert (share, text) == (0.0, "") if found is None else (share == 0.5 and text.isprintable() and SHOWN in text)


# --- the exported page ------------------------------------------------------------------------------------------------


def exported() -> str:
    """A page with formulas, and with what an output could do if nothing were escaped."""
    says = f"# A chapter\n\n$x_l$ and\n\n$$ \\frac{{a}}{{b}} $$\n\n{ALL}"
    outputs = [v4.new_output("display_data", {"text/html": ALL}), v4.new_output("display_data", {"text/markdown": ALL}),
               v4.new_output("display_data", {"text/vnd.mermaid": "graph TD; a-->b"})]  # fmt: skip
    return self_contained(v4.new_notebook(cells=[v4.new_markdown_cell(says), v4.new_code_cell("1", outputs=outputs)]))


def test_an_exported_page_names_one_script_and_lets_nothing_else_load():
    made = exported()
    (policy,) = re.findall(r'<meta content="([^"]*)" http-equiv="Content-Security-Policy"', made)
    assert made.index("Content-Security-Policy") < made.index("<script")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == rules["font-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", made, re.DOTALL)
    known = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert rules["script-src"] == f"'sha256-{known[0]}'" and known.count(known[0]) == 1
    assert "MathJax" in scripts[0] and '"[-]": ["autoload", "require"]' in scripts[0]
    plain = self_contained(v4.new_notebook(cells=[v4.new_markdown_cell("$x$")]))
    loads = Page()
    loads.feed(plain.replace(scripts[0], ""))
    assert [url for url in loads.loads if OUTSIDE.match(url)] == []


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium")
def test_a_browser_runs_nothing_and_loads_nothing_of_an_exported_page_but_sets_its_formulas(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(exported().replace("alert(1)", "document.body.id=1"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.stdout.count("<mjx-container") >= 2
    assert 'id="1"' not in done.stdout


# --- whole chapters ---------------------------------------------------------------------------------------------------

CELLS = """
import json, sys, warnings
from pathlib import Path
import jupytext, matplotlib
matplotlib.use("agg")
warnings.simplefilter("ignore")
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from paperlib.store import places
places.PACKAGE = Path(sys.argv[1]) / "paperlib"
shell, shown = InteractiveShell.instance(), []
for cell in jupytext.read(sys.argv[2]).cells:
    if cell.cell_type == "code" and "nbval-skip" not in cell.metadata.get("tags", []):
        with capture_output() as told:
            done = shell.run_cell("".join(l for l in cell.source.splitlines(True) if not l.startswith("%")))
        if done.error_in_exec or done.error_before_exec:
            shown.append({"error": repr(done.error_in_exec or done.error_before_exec), "cell": cell.source})
            break
        outputs = [output.data for output in told.outputs]
        if done.result is not None:
            outputs.append(shell.display_formatter.format(done.result)[0])
        shown += [{kind: text for kind, text in data.items() if kind.startswith("text/")} for data in outputs]
Path(sys.argv[3]).write_text(json.dumps(shown))
"""
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, request) -> Path:
    """A checkout whose records are all forged."""
    made = tmp_path_factory.mktemp("checkout")
    for part in ("results", "benchmarks/results", "workflow/config"):
        shutil.copytree(ROOT / part, made / part)
    shutil.copy(ROOT / "_toc.yml", made)
    for thing in kinds(made / "results"):
        forged(thing, ALL).save(thing.folder)
    tried = Tally()
    tried.made = tried.made.model_copy(update={"command": ALL})
    tried.add(ALL, time.monotonic(), **{ALL: 1})
    tried.save(made / "results/torture.json")
    return made


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.skipif(not LONG, reason="make torture")
def test_a_chapter_of_forged_records_is_harmless(chapter, checkout, tmp_path, tally):
    paths = {"PYTHONPATH": str(ROOT), "PAPERLIB_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    preset = "smoke" if chapter in ("04_cifar", "06_your_network") else "desk"
    words = [str(checkout), str(ROOT / f"notebooks/{chapter}.py"), str(tmp_path / "shown.json")]
    environment = os.environ | paths | {"PAPERLIB_PRESET": preset}
    done = subprocess.run(
        [sys.executable, "-c", CELLS, *words], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shown = json.loads((tmp_path / "shown.json").read_text())
    assert len(shown) >= 2
    for output in shown:
        assert "error" not in output, output
        for kind, text in output.items():
            pieces = {"text/html": [text], "text/markdown": rendered(text)}.get(kind, [])
            for html in pieces:
                harmless(html, 0)
    tally(f"{chapter} was made of forged records", outputs_were_harmless=len(shown))
