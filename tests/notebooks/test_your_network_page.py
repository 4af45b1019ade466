"""Chapter 6: its solutions run, what stands in code that is not run exists, and what it says in words is so."""

from __future__ import annotations

import ast
import importlib

import pytest
import torch
import torchvision
from pages import Page

from paperlib.studies import your_network as studies

PAGE = Page("06_your_network")
cell, blocks = PAGE.cell, PAGE.blocks


@pytest.fixture
def names():
    """What the page's first cells leave behind, and the two networks that it watches."""
    found: dict = {}
    for part in ("import torchvision", "data = cifar.load", "resnet = ", "vit = "):
        exec(cell(part), found)
    return found


@pytest.mark.parametrize("number", range(4))
def test_the_solutions_hold(number, names):
    solutions = blocks("## Exercises")
    assert len(solutions) == 4 and all("assert" in code for code in solutions)
    exec(solutions[number], names)


def test_the_ratio_of_a_residual_block_lies_between_what_its_inner_part_allows(names):
    exec(cell("class Attend"), names)
    exec(cell("delta = 1 / "), names)
    ratios, delta = names["whole"].ratios(), names["delta"]
    assert (1 / (1 + delta) < ratios).all() and (ratios < 1 / (1 - delta)).all() and (delta < 1).all()


def test_what_is_imported_in_code_that_is_not_run_exists():
    trees = [ast.parse(code) for code in blocks("## In a trainer")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.startswith("paperlib")]
    assert len(ours) == 3
    for node in ours:
        assert all(hasattr(importlib.import_module(node.module), alias.name) for alias in node.names)


def test_a_start_does_most_of_the_work(names):
    """PyTorch's start is far off at each layer; with the three others a layer is off by less than a fifth."""
    layers, losses = studies.before_and_after(names["small"], names["labels"], [0], steps=11)
    off = studies.summary(layers, losses).off_before
    assert off.iloc[0] > 2 and off.iloc[1:].max() < 1.2 and off.iloc[2:].max() < off.iloc[1]


def test_all_convolutions_held_in_a_resnet_have_a_normalisation_after_them(names):
    with pytest.warns(UserWarning, match="cancels the scale"):
        held = names["NormPreserving"](names["resnet"], example=names["images"][:2])
    assert held.normalised == [entry.name for entry in held.convs]


def test_the_class_token_of_the_vision_transformer_starts_as_the_solution_says():
    exec(cell("vit = ").split("optimizer")[0], names := {"torch": torch, "torchvision": torchvision})
    assert names["vit"].class_token.abs().max() == 0
    assert names["vit"].encoder.pos_embedding.std().item() == pytest.approx(0.02, rel=0.05)
