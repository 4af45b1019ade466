"""book/_ext/docstrings.py: formulas in prose, and what a page shows of classes."""

import pkgutil
import sys
from importlib import import_module
from typing import NamedTuple, Protocol

import pytest
from tiny_book import build, extension

import paperlib

docstrings = extension("docstrings")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("‖∂E/∂x_{l+1}‖ of x_l", r"‖∂E/∂x\ :sub:`l+1`\ ‖ of x\ :sub:`l`\ "),
        ("W_lᵀ, σ_min²", r"W\ :sub:`l`\ ᵀ, σ\ :sub:`min`\ ²"),
        ("σ_max^{1/L}", r"σ\ :sub:`max`\ \ :sup:`1/L`\ "),
        ("(PᴴP)^(-1/2), e^1.4, R^N", r"(PᴴP)\ :sup:`-1/2`\ , e\ :sup:`1.4`\ , R\ :sup:`N`\ "),
        ("F'(0), tanh'' and the blocks' names", "F′(0), tanh′′ and the blocks' names"),
        ("* **c_in** (*int*) – ``x_l`` of :func:`a_b`, fan_out", None),
    ],
)
def test_indices_and_exponents_are_typeset_and_code_is_not(text, shown):
    assert docstrings.typeset(text) == (shown or text)


def test_examples_stay_as_they_are():
    lines = ["R^N", "", ">>> a_l = 2^N", "x_l", "", "x_l"]
    docstrings.formulas(None, "function", "f", None, None, lines)
    assert lines == [r"R\ :sup:`N`\ ", "", ">>> a_l = 2^N", "x_l", "", r"x\ :sub:`l`\ "]


class Pair(NamedTuple):
    """Two numbers, of R^N."""

    left: int
    right: int


class Caller(Protocol):
    """What is called."""

    def __call__(self, number: int) -> int: ...


def test_a_page_has_no_empty_fields_and_no_signature_of_a_protocol(tmp_path):
    page = f"# Page\n\n```{{eval-rst}}\n.. automodule:: {__name__}\n   :members: Pair, Caller\n```\n"
    html = build(tmp_path, {"index.md": page}, ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings"])
    text = (html / "index.html").read_text()
    assert __name__ in sys.modules and "R<sup>N</sup>" in text
    assert f'id="{__name__}.Pair"' in text and f'id="{__name__}.Pair.left"' not in text
    assert f'id="{__name__}.Caller"' in text and "kwargs" not in text


def test_each_field_of_a_model_says_what_it_is():
    modules = [m.name for m in pkgutil.walk_packages(paperlib.__path__, "paperlib.") if "__main__" not in m.name]
    models = {c for name in modules for c in vars(import_module(name)).values() if docstrings.is_model(c)}
    ours = [m for m in models if m.__module__.startswith("paperlib") and "Attributes\n" not in (m.__doc__ or "")]
    assert len(ours) > 15
    for model in ours:
        assert [n for n in model.model_fields if not docstrings.description(model, n)] == [], model
