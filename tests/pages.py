"""A chapter's cells, found by what they hold, and run one by one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]


class Page:
    """A chapter by the name of its file, without the suffix."""

    def __init__(self, name: str) -> None:
        self.cells = jupytext.read(ROOT / "notebooks" / f"{name}.py").cells

    def cell(self, holding: str) -> str:
        """The source of the one code cell that has these words."""
        (found,) = [c.source for c in self.cells if c.cell_type == "code" and holding in c.source]
        return found.replace("%matplotlib inline", "")

    def blocks(self, holding: str) -> list[str]:
        """The Python blocks of the Markdown cell that has these words."""
        (found,) = [c.source for c in self.cells if c.cell_type == "markdown" and holding in c.source]
        return re.findall(r"^```python\n(.*?)^```", found, re.MULTILINE | re.DOTALL)

    def run(self, holding: str, names: dict) -> list:
        """Run the one code cell that has these words; what it displays, and the value of its last line."""
        shown: list = []
        body = ast.parse(self.cell(holding)).body
        last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
        names["display"] = shown.append
        exec(compile(ast.Module(body, type_ignores=[]), holding, "exec"), names)
        if last is not None:
            shown.append(eval(compile(last, holding, "eval"), names))
        return [value for value in shown if value is not None]
