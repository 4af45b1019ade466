"""A notebook follows its source, keeps the outputs of what did not change, and is refused where the two differ."""

import nbformat
import pytest
from notebook_pairs import main

SOURCE = """# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# A title

# %% tags=["parameters"]
a = 1

# %%
print(a)
"""


@pytest.fixture
def pair(tmp_path):
    """A source with its notebook, which was executed."""
    source = tmp_path / "chapter.py"
    source.write_text(SOURCE)
    assert main(["update", str(source)]) == 0
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    return source


def outputs(source):
    return [c.get("outputs") for c in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells]


def test_a_pair_in_step_passes(pair):
    assert main(["check", str(pair)]) == 0
    assert main(["check", str(pair.with_suffix(".ipynb"))]) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a = 1", "a = 2"),
        ("A title", "Another"),
        ('["parameters"]', '["hide-input"]'),
        ('["parameters"]', '["parameters"] mystnb={"figure": {"caption": "New."}}'),
        ("print(a)\n", "print(a)\n\n# %%\n1\n"),
    ],
)
def test_a_pair_that_differs_is_refused_until_it_is_updated(pair, old, new, capsys):
    pair.write_text(SOURCE.replace(old, new))
    assert main(["check", str(pair)]) == 1
    assert "chapter.py and its notebook differ" in capsys.readouterr().err
    assert main(["update", str(pair)]) == 0
    assert main(["check", str(pair)]) == 0
    assert pair.read_text() == SOURCE.replace(old, new), "the source is never written"


def test_an_update_keeps_the_outputs_of_what_did_not_change(pair):
    pair.write_text(SOURCE.replace("a = 1", "a = 1  # one"))
    main(["update", str(pair)])
    assert outputs(pair)[2][0].text == "1\n"


def test_a_notebook_alone_is_refused(pair, capsys):
    pair.unlink()
    assert main(["check", str(pair.with_suffix(".ipynb"))]) == 1
    assert "chapter.ipynb has no source chapter.py" in capsys.readouterr().err


def test_a_source_alone_is_refused(pair):
    pair.with_suffix(".ipynb").unlink()
    assert main(["check", str(pair)]) == 1
