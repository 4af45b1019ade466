"""The paths that a gradient can take through autograd's graph, from a model's outputs back to an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch.autograd.graph import Node


def topological(outputs: Iterable[Node]) -> Iterator[Node]:
    """Every node behind the outputs once, and only after all nodes behind it (a depth-first search, in post-order)."""
    seen: set[Node] = set()
    stack = [(node, False) for node in outputs]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(n, False) for n, _ in node.next_functions if n is not None and n not in seen]


class Paths:
    """All paths to one image.  Its nodes are numbers, and each edge leads to a smaller one; the image is 0.

    Parameters
    ----------
    nodes : iterable of Node
        The graph, in :func:`topological` order.
    image : Node
        Where the paths end.  Nodes from which it cannot be reached are left out.
    is_conv : callable
        Whether a node is a convolution.

    Attributes
    ----------
    nodes : list of Node
        The node of each number.
    number : dict
        The number of each node.
    edges : list of list of int
        Where the gradient goes from each node.
    conv : list of bool
        Whether each node is a convolution.
    fewest : list of int
        The smallest number of convolutions on a path from each node to the image, the node's own included.
    cheapest : list of list of int
        The edges that are part of such a path.
    """

    def __init__(self, nodes: Iterable[Node], image: Node, is_conv: Callable[[Node], bool]) -> None:
        self.nodes, self.number = [image], {image: 0}
        self.edges: list[list[int]] = [[]]
        self.conv, self.fewest = [False], [0]
        self.cheapest: list[list[int]] = [[]]
        for node in nodes:
            behind = [self.number[n] for n, _ in node.next_functions if n in self.number]
            if behind:
                self.number[node] = len(self.nodes)
                least = min(self.fewest[i] for i in behind)
                self.nodes.append(node)
                self.edges.append(behind)
                self.conv.append(is_conv(node))
                self.fewest.append(least + self.conv[-1])
                self.cheapest.append([i for i in behind if self.fewest[i] == least])

    def behind(self, start: int, edges: list[list[int]]) -> tuple[list[int], list[int]]:
        """The nodes on some path from ``start`` to the image along ``edges``, and those on every such path.

        Both lists begin with ``start`` and end with 0, the image.  The nodes on every path are the dominators of the
        image.  In a graph without cycles, one pass finds them: if the nodes are put in a line so that all edges lead
        forward, a node is a dominator exactly if no edge leads over it.  (An edge that does is part of a path around
        the node, because every node here is reached from ``start`` and reaches the image.)
        """
        reached = bytearray(start + 1)
        reached[start] = 1
        farthest = start  # where the edges so far lead
        some, every = [], []
        for i in range(start, -1, -1):
            if reached[i]:
                some.append(i)
                if farthest == i:
                    every.append(i)
                for j in edges[i]:
                    reached[j] = 1
                    farthest = min(farthest, j)
        return some, every
