"""The paths of a gradient in random graphs, against a search for each node by itself."""

import random

import pytest
import torch
from torch.autograd.graph import get_gradient_edge

from paperlib._paths import Paths, topological


def is_product(node):
    return node.name().startswith("MulBackward")


def random_graph(seed, n=12):
    """A sum of earlier values at each step, some of them multiplied; products stand for convolutions."""
    rng = random.Random(seed)
    image = torch.ones(1, requires_grad=True)
    values = [image + 0]
    for _ in range(n):
        terms = rng.choices(values[-4:], k=rng.randint(1, 3))
        values.append(sum(value * 2 if rng.random() < 0.5 else value + 1 for value in terms) + 0)
    outputs = [values[-1].grad_fn, *(value.grad_fn for value in rng.sample(values, 2))]
    nodes = list(topological(outputs))
    return Paths(nodes, get_gradient_edge(image).node, is_product), outputs


def length(paths, start, without=None):
    """Bellman and Ford's search for the fewest products from ``start`` to the image; infinity without a path."""
    infinite = float("inf")
    best = [infinite] * len(paths.nodes)
    best[0] = 0 if without != 0 else infinite
    for _ in paths.nodes:
        for i, ends in enumerate(paths.edges):
            if i != without and ends:
                best[i] = min(best[i], paths.conv[i] + min(best[j] for j in ends))
    return best[start]


@pytest.mark.parametrize("seed", range(30))
def test_paths_of_random_graphs(seed):
    paths, outputs = random_graph(seed)
    assert all(j < i for i, ends in enumerate(paths.edges) for j in ends)
    assert paths.fewest == [length(paths, i) for i in range(len(paths.nodes))]
    for node in outputs:
        start = paths.number[node]
        some, every = paths.behind(start, paths.edges)
        assert every == [i for i in some if length(paths, start, without=i) == float("inf")]
        shortest, each = paths.behind(start, paths.cheapest)
        assert each == [i for i in shortest if length(paths, start, without=i) > length(paths, start)]


def test_what_does_not_lead_to_the_image_is_left_out():
    image, other = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    aside = other * 2
    value = image * 3 + aside
    order = list(topological([value.grad_fn]))
    assert len(order) == len(set(order)) == 5
    paths = Paths(order, get_gradient_edge(image).node, is_product)
    assert [node.name() for node in paths.nodes] == [
        "torch::autograd::AccumulateGrad",
        "MulBackward0",
        "AddBackward0",
    ]
    assert aside.grad_fn not in paths.number
    assert (paths.edges, paths.fewest) == ([[], [0], [1]], [0, 1, 1])


def test_a_long_chain_needs_no_recursion():
    image = torch.ones(1, requires_grad=True)
    value = image
    for _ in range(5000):
        value = value + value * 2
    paths = Paths(topological([value.grad_fn]), get_gradient_edge(image).node, is_product)
    assert len(paths.nodes) == 10001
    assert len(paths.behind(10000, paths.edges)[1]) == 5001
