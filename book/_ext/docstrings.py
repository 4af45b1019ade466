"""Sphinx extension: what autodoc and napoleon leave to be desired.

A pydantic model's page lists its fields, from the model itself.  Its signature says no more than ``**parameters``, for
the annotations of the fields carry their constraints and would fill half a page.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

BEFORE_NAPOLEON = 400  # which renders the section that is made here like any other


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
        lines += [f"{name} : ``{', '.join(kind)}``", f"    {info.description or ''}"]
    return [*lines, ""]


def prepare(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Insert a model's fields before its docstring's first section."""
    if is_model(obj):
        at = next((i - 1 for i, line in enumerate(lines) if line and not line.strip("-")), len(lines))
        lines[at:at] = fields(obj)
    if lines and lines[0].startswith("Alias for field number"):  # Python's own words for a named tuple's field
        lines.clear()
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # an empty comment: of a first line "The mean: of each channel" napoleon makes a type


def shorten(app: Any, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """The signature to show; None stands for the usual one."""
    return ("(**parameters)", None) if is_model(obj) else None


def setup(app: Any) -> dict[str, bool]:
    """Connect both to autodoc."""
    app.connect("autodoc-process-docstring", prepare, priority=BEFORE_NAPOLEON)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
