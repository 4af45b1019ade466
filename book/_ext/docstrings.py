"""Sphinx extension: what autodoc and napoleon leave to be desired.

A pydantic model's page lists its fields, from the model itself.  Its signature says no more than ``**parameters``, for
the annotations of the fields carry their constraints and would fill half a page.

Docstrings write formulas as plain text, to be read in a terminal.  Their indices and exponents, ``x_{l+1}`` and
``e^{γ/L}``, become what they stand for.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

BEFORE_NAPOLEON, AFTER_NAPOLEON = 400, 600  # before: it renders the section that is made here like any other
CODE = re.compile(r"(``.*?``|`[^`]*`|\*\*[^*]*\*\*)")  # and parameters' names, which napoleon makes bold
# One letter with an index, or anything with an index or an exponent in braces or brackets.
INDEX = re.compile(r"(?<![\w.\\])([^\W\d_])_(\w[^\W_ᵀ²]*)(?!\w*_)|_\{([^}]*)\}")
EXPONENT = re.compile(r"\^(?:\{([^}]*)\}|\(([^)]*)\)|(-?[^\W_]+(?:\.\d+)?))")
PRIME = re.compile(r"(?<=[^\W\d_])'(?=['(])|(?<=[^\W\d_]')'|(?<=tanh)'")


def is_model(obj: Any) -> bool:
    """Whether it is a class of pydantic models."""
    return isinstance(obj, type) and hasattr(obj, "model_fields")


def fields(model: Any) -> list[str]:
    """The lines of a ``Parameters`` section: for each field its choices, its default, and its description."""
    lines = ["", "Parameters", "----------"]
    for name, info in model.model_fields.items():
        kind = []
        if get_origin(info.annotation) is Literal:
            kind.append("{" + ", ".join(map(repr, get_args(info.annotation))) + "}")
        if info.is_required():
            kind.append("required")
        else:
            kind.append("optional" if info.default_factory else f"default {info.default!r}")
        lines += [f"{name} : ``{', '.join(kind)}``", f"    {description(model, name)}"]
    return [*lines, ""]


def description(model: Any, name: str) -> str:
    """What a field is: a subclass that narrows its type need not say it again."""
    found = (base.model_fields[name].description for base in model.__mro__ if name in getattr(base, "model_fields", {}))
    return next(filter(None, found), "")


def typeset(text: str) -> str:
    """A line of a docstring with its indices and exponents as roles; what is code stays."""
    parts = CODE.split(text)
    for i in range(0, len(parts), 2):
        part = INDEX.sub(lambda found: rf"{found[1] or ''}\ :sub:`{found[2] or found[3]}`\ ", parts[i])
        part = EXPONENT.sub(lambda found: rf"\ :sup:`{found[1] or found[2] or found[3]}`\ ", part)
        parts[i] = PRIME.sub("′", part)
    return "".join(parts)


def formulas(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Typeset the prose of a docstring: all but its examples."""
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            lines[i] = typeset(line)


def prepare(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Insert a model's fields before its docstring's first section."""
    if is_model(obj) and "Attributes" not in lines:
        at = next((i - 1 for i, line in enumerate(lines) if line and not line.strip("-")), len(lines))
        lines[at:at] = fields(obj)
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # an empty comment: of a first line "The mean: of each channel" napoleon makes a type


def shorten(app: Any, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """The signature to show; None stands for the usual one.  Nobody calls a protocol."""
    if getattr(obj, "_is_protocol", False):
        return "", None
    return ("(**parameters)", None) if is_model(obj) else None


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out a named tuple's field of which nothing is said: the signature has it, and perhaps the class's text."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Any) -> dict[str, bool]:
    """Connect all of it to autodoc."""
    app.connect("autodoc-process-docstring", prepare, priority=BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", formulas, priority=AFTER_NAPOLEON)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
