"""The house's floors: no import goes up, and none goes in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import paperlib

ROOT = Path(paperlib.__file__).parent
# A module may import from its own floor and from those above it in this list.
FLOORS = (
    ("errors", "_checks", "_text", "_lanczos", "fused"),
    ("machine", "interrupts", "stopwatch", "store", "synchronised", "processes"),
    ("augmentation", "sources", "cifar"),
    (
        "geometry",
        "polar",
        "spectrum",
        "_paths",
        "trunk",
        "_selection",
        "normalised",
        "projection",
        "parametrization",
        "published",
        "holding",
        "energy",
        "models",
        "probes",
        "callbacks",
        "initial",
        "divergence",
        "captured",
        "theorems",
        "mean_field",
    ),
    ("parameters", "config", "progress", "events", "checkpoints", "records"),
    ("training", "channel_grid"),
    ("paper", "studies"),
    ("claims",),
    ("evidence", "sweep"),
    ("scorecard",),
    ("_page", "_commands", "__main__"),
)
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}


# NormPreserving had its name in `projection` before it had a module of its own; it is looked up when it is asked for.
LATE = {("projection", "holding")}


def imported(name):
    """The modules of the library that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("paperlib.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "paperlib":
            package = node.module.partition(".")[2]
            names = {f"{package}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {full if full in MODULES else package for full in names}
    return {other for other in found - {name, ""} if (name, other) not in LATE}


def test_every_module_has_a_floor():
    assert {name.split(".")[0] for name in MODULES} == {*FLOOR, "figures"}


def test_no_import_goes_up():
    up = [
        (name, other)
        for name in MODULES
        for other in imported(name)
        if "figures" not in name and FLOOR[other.split(".")[0]] > FLOOR[name.split(".")[0]]
    ]
    assert up == []


def test_no_import_goes_in_a_circle():
    order = list(TopologicalSorter({name: imported(name) for name in MODULES}).static_order())
    assert set(order) == set(MODULES)


def test_plots_know_nothing_of_what_they_draw():
    """Tables come in, figures go out."""
    for name in MODULES:
        others = {other.split(".")[0] for other in imported(name)}
        assert ("figures" in others) <= (name.split(".")[0] == "figures"), name
        assert name.split(".")[0] != "figures" or others <= {"figures", "_checks", "_text"}, name
