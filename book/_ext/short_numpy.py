"""Sphinx extension: read this project's short NumPy docstrings.

NumPy's format puts a *type* after ``name :`` and the description below it.  The docstrings here have the description
in that place, the types being in the signature; napoleon would take each description for a type and look it up.
Parameters, Attributes, Raises, Returns and Yields become reStructuredText fields, other underlined titles rubrics.
A pydantic model's parameters are listed from its fields.
"""

from __future__ import annotations

import re
from typing import Literal, get_args, get_origin

FIELDS = {"Parameters": "param", "Attributes": "var", "Raises": "raises", "Returns": "returns", "Yields": "yields"}
NAMED = {"param", "var", "raises"}
ENTRY = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: : (.*))?$")


def is_heading(lines: list[str], i: int) -> bool:
    """Whether line i is a section's title: text that is underlined with hyphens."""
    return i + 1 < len(lines) and bool(lines[i].strip()) and bool(re.fullmatch(r"-{3,}", lines[i + 1].strip()))


def convert(lines: list[str]) -> list[str]:
    """Return the docstring's lines with the underlined sections in reStructuredText.

    >>> convert(["Parameters", "----------", "a, b : two", "    numbers.", "", "More."])
    ['', ':param a: two', '    numbers.', ':param b: two', '    numbers.', '', 'More.']
    """
    out: list[str] = []
    i = 0
    while i < len(lines):
        field = FIELDS.get(lines[i].strip()) if is_heading(lines, i) else None
        if field is None:
            if is_heading(lines, i):
                out += [f".. rubric:: {lines[i].strip()}", ""]
                i += 2
            else:
                out.append(lines[i])
                i += 1
            continue
        i += 2
        out.append("")
        while i < len(lines) and not is_heading(lines, i):
            if not lines[i].strip():
                i += 1
                continue
            entry = ENTRY.match(lines[i]) if field in NAMED else None
            described = entry and (entry.group(2) or (i + 1 < len(lines) and lines[i + 1].startswith(" ")))
            if field in NAMED and not described:  # the section is over: an ordinary paragraph follows
                break
            first = (entry.group(2) or "") if entry else lines[i].strip()
            i += 1
            rest = []
            while i < len(lines) and lines[i].strip() and (field not in NAMED or lines[i].startswith(" ")):
                rest.append("    " + lines[i].strip())
                i += 1
            # An escape keeps *args and **kwargs from being read as emphasis.
            for name in entry.group(1).replace("*", r"\*").split(", ") if entry else [""]:
                out += [f":{field} {name}: {first}" if name else f":{field}: {first}", *rest]
            if field not in NAMED:
                break
        out.append("")
    return out


def parameters(model) -> list[str]:
    """A pydantic model's fields as reStructuredText fields: description, choices and default."""
    out = []
    for name, info in model.model_fields.items():
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        text = [info.description] if info.description else []
        # Descriptions that begin with a choice's name explain the choices already.
        if choices and not any(str(choice) in (info.description or "") for choice in choices):
            text.append("one of " + ", ".join(f"``{choice!r}``" for choice in choices))
        text.append("required" if info.is_required() else f"default ``{info.default!r}``")
        out.append(f":param {name}: {'; '.join(text)}")
    return out


def is_model(what: str, obj) -> bool:
    return what == "class" and hasattr(obj, "model_fields")


def process_docstring(app, what, name, obj, options, lines):
    lines[:] = convert(lines)
    if is_model(what, obj):
        at = next((i for i, line in enumerate(lines) if line.startswith(".. rubric::")), len(lines))
        lines[at:at] = ["", *parameters(obj), ""]


def process_signature(app, what, name, obj, options, signature, returns):
    """Keep the annotations of a pydantic model, with their constraints, out of its signature."""
    return ("(**parameters)", None) if is_model(what, obj) else None


def setup(app):
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
