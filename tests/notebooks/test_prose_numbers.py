"""No number in a page's prose was typed from a result: it is computed into the text, or known, with a reason.

``prose_numbers/PAGE.yaml`` adds a page, ``notebooks/PAGE.py`` or ``book/PAGE.md``.  It maps phrases of the page that
hold a number to the reason why the number may be written there: a definition, a constant of the protocol, what the
paper prints, or the test that holds it.  A phrase stands as the page has it once code, mathematics and links are
blanked (``tests/prose.py``).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from prose import NUMBER, numbers, prose, texts

ROOT = Path(__file__).resolve().parents[2]
LISTS = sorted((Path(__file__).parent / "prose_numbers").glob("*.yaml"))


@pytest.fixture(params=LISTS, ids=lambda path: path.stem)
def page(request):
    """The pieces of a page's prose, and its phrases with their reasons."""
    name = request.param.stem
    source = next(p for p in (ROOT / "notebooks" / f"{name}.py", ROOT / "book" / f"{name}.md") if p.is_file())
    return list(texts(source)), yaml.safe_load(request.param.read_text(encoding="utf-8"))


def test_every_number_is_computed_or_known(page):
    pieces, known = page
    found = [number for piece in pieces for number in numbers(piece, list(known))]
    assert not found, "compute these into the text, or give a reason:\n" + "\n".join(found)


def test_every_phrase_is_needed_and_has_its_reason(page):
    pieces, known = page
    whole = "\n".join(prose(piece) for piece in pieces)
    assert [phrase for phrase in known if phrase not in whole or not NUMBER.search(phrase)] == []
    assert [phrase for phrase, reason in known.items() if not (isinstance(reason, str) and len(reason) > 8)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a factor of 1.8 here", ["1.8"]),
        ("below .05, or 1,024 blocks", [".05", "1,024"]),
        ("from 0 to 1, or 1.0, or 10 (−1, 1/4)", ["1.0", "10", "4"]),
        ("it is ten times above, twice", ["ten times", "twice"]),
        ("within two per cent of it", ["two per cent"]),
        ("CIFAR-10 in float32, ResNet-164, $x = 3$, `f(4)`, {cite}`xiao2018`, a 3×3 kernel, in 2018", []),
        ("the paper's (7) and (8), [chapter 2](02_projection.ipynb), Theorem 1, Table 2", []),
        ("1. two theorems\n2. equation 8", []),
        ("```python\n5\n```\n\n$$\n6\n$$ (eq-7)\n", []),
    ],
)
def test_what_counts_as_a_number(text, found):
    assert [m.group() for m in NUMBER.finditer(prose(text))] == found


def test_a_phrase_excuses_its_own_number_only():
    assert numbers("of 8 blocks and of 8 layers", ["8 blocks"]) == ["of 8 blocks and of 8 layers"]
    assert numbers("of 8 blocks", ["8 blocks"]) == []


def test_prose_is_also_in_captions_and_in_what_cells_write(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "# %% [markdown]\n# Of 5.\n\n"
        '# %% mystnb={"figure": {"caption": "All 6."}, "image": {"alt": "From 7."}}\n# %matplotlib inline\n1 + 1\n\n'
        '# %%\nMarkdown(f"by {x:.2f} to 8" " and 9")\n'
    )
    assert [number for text in texts(page) for number in numbers(text, [])] == [
        "Of 5.", "All 6.", "From 7.", "by … to 8 and 9", "by … to 8 and 9"
    ]  # fmt: skip
