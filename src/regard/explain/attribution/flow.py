"""Attention flow: the maximum flow from a feature to an output (Abnar & Zuidema 2020, section 3).

The graph is that of rollout: a node for each position after each layer, and edges whose capacities
are ``0.5 W + 0.5 I`` with W the mean of the weights over heads; cross-attention leads from the
encoder's last states into the decoder. Where rollout multiplies capacities along all paths, flow
respects each only once. Dinic's algorithm (1970) runs once for each pair of a feature and an
output. Cost: about pairs x edges x layers, so it is for short texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.explain.attribution.attention_graph import (
    BlockAttentionWeights,
    hide_unread,
    read_blocks,
    read_stacks,
    with_residual,
)
from regard.explain.attribution.method import Attribution, Budget, Method, TooLongError
from regard.explain.prediction import Prediction

_LEAST = 1e-9  # of a capacity: less is rounding
_MOST_STEPS = 2e8  # pairs times edges, some minutes


class FlowNetwork:
    """A directed graph with capacities, and its maximum flow between two nodes."""

    def __init__(self) -> None:
        self._edges: list[list[int]] = []  # of each node; edge e and e ^ 1 are reverse
        self._ends: list[int] = []
        self._capacities: list[float] = []

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return len(self._ends) // 2

    def add_nodes(self, count: int) -> range:
        """Add nodes and return their indices."""
        start = len(self._edges)
        self._edges += [[] for _ in range(count)]
        return range(start, start + count)

    def add_edges(self, ends: Sequence[int], starts: Sequence[int], capacities: Tensor) -> None:
        """Add edges.

        Args:
            ends: Nodes that they lead to.
            starts: Nodes that they leave.
            capacities: ``[ends, starts]``, 0 or above; those near 0 are left out.
        """
        for end, row in zip(ends, capacities.tolist(), strict=True):
            for start, capacity in zip(starts, row, strict=True):
                if capacity > _LEAST:
                    self._edges[start].append(len(self._ends))
                    self._edges[end].append(len(self._ends) + 1)
                    self._ends += [end, start]
                    self._capacities += [capacity, 0.0]

    def maximum_flow(self, start: int, end: int) -> float:
        """Compute the maximum flow between two nodes.

        Returns:
            The flow; 0 where no path joins them.

        >>> network = FlowNetwork()
        >>> a, b, c = network.add_nodes(3)
        >>> network.add_edges([b, c], [a], torch.tensor([[0.5], [0.25]]))
        >>> network.add_edges([c], [b], torch.tensor([[0.5]]))
        >>> network.maximum_flow(a, c)
        0.75
        """
        free = list(self._capacities)
        total = 0.0
        while (levels := self._levels(start, end, free)) is not None:
            total += self._block(start, end, free, levels)
        return total

    def _levels(self, start: int, end: int, free: list[float]) -> list[int] | None:
        """Return the distance of each node from `end`; None where `start` does not reach it."""
        levels = [-1] * len(self._edges)
        levels[end], queue = 0, [end]
        for node in queue:
            if node == start:
                return levels
            for edge in self._edges[node]:
                other = self._ends[edge]
                if levels[other] < 0 and free[edge ^ 1] > _LEAST:
                    levels[other] = levels[node] + 1
                    queue.append(other)
        return None

    def _block(self, start: int, end: int, free: list[float], levels: list[int]) -> float:
        """Add flow along shortest paths until none is left; return how much."""
        edges, ends = self._edges, self._ends
        untried = [len(row) for row in edges]
        path: list[int] = []  # edges from `start` to `node`
        node, total = start, 0.0
        while True:
            if node == end:
                amount = min(free[edge] for edge in path)
                total += amount
                first_full = -1
                for index in range(len(path) - 1, -1, -1):
                    free[path[index]] -= amount
                    free[path[index] ^ 1] += amount
                    if free[path[index]] <= _LEAST:
                        first_full = index
                node = ends[path[first_full] ^ 1]
                del path[first_full:]
                continue
            below = levels[node] - 1
            while untried[node]:
                edge = edges[node][untried[node] - 1]
                if free[edge] > _LEAST and levels[ends[edge]] == below:
                    path.append(edge)
                    node = ends[edge]
                    break
                untried[node] -= 1
            else:
                if not path:
                    return total
                node = ends[path.pop() ^ 1]
                untried[node] -= 1


def flow(prediction: Prediction, budget: Budget) -> Attribution:
    """Compute attention flow from the features to the outputs.

    Args:
        prediction: That is explained.
        budget: What hears of the progress, output by output.

    Returns:
        Scores between 0 and 1; rows do not sum to 1.

    Raises:
        ConfigError: A layer has no attention, or no weights.
        TooLongError: The text is too long.
    """
    blocks = read_blocks(prediction, needs_self_attention=True)
    network = FlowNetwork()
    features: list[list[int]] = [[] for _ in prediction.features]  # first nodes
    sinks = network.add_nodes(len(prediction.outputs))
    encoded: range | None = None
    stacks = read_stacks(prediction, blocks)
    for index, stack in enumerate(prediction.stacks):
        nodes = network.add_nodes(stack.stop - stack.start)
        for feature, node in zip(range(stack.start, stack.stop), nodes, strict=True):
            features[feature].append(node)
        nodes = _add_stack(network, blocks[index], nodes, encoded)
        encoded = nodes if encoded is None else encoded
        if index in stacks:
            network.add_edges(sinks, nodes, prediction.readout / len(stacks))
    reads, num_outputs = prediction.reads, len(sinks)
    steps = float(reads.sum()) * network.num_edges
    if steps > _MOST_STEPS:
        raise TooLongError(
            f"attention flow would take {steps:.0e} steps for {len(features)} tokens and "
            f"{num_outputs} outputs, {_MOST_STEPS:.0e} are possible.  Take `rollout`, or a shorter "
            "text."
        )
    scores = torch.zeros(reads.shape)
    for output in range(num_outputs):
        for feature in reads[output].nonzero().flatten().tolist():
            scores[output, feature] = sum(
                network.maximum_flow(node, sinks[output]) for node in features[feature]
            )
        if budget.on_progress is not None:
            budget.on_progress(output + 1, num_outputs)
    return Attribution(hide_unread(scores, prediction))


def _add_stack(
    network: FlowNetwork, blocks: list[BlockAttentionWeights], nodes: range, encoded: range | None
) -> range:
    """Add the blocks of a stack to a network.

    Args:
        network: That grows.
        blocks: Blocks of the stack, first to last.
        nodes: Nodes of its first states.
        encoded: Nodes of the encoder's last states, which cross-attention reads.

    Returns:
        Nodes of its last states.
    """
    for block in blocks:
        after = network.add_nodes(len(nodes))
        network.add_edges(after, nodes, block.own_with_residual)
        nodes = after
        if block.source is not None and encoded is not None:
            weights = block.source
            zeros, identity = torch.zeros_like(weights), torch.eye(len(nodes))
            both = with_residual(
                torch.cat([weights, identity * 0], dim=1), torch.cat([zeros, identity], dim=1)
            )
            after = network.add_nodes(len(nodes))
            network.add_edges(after, [*encoded, *nodes], both)
            nodes = after
    return nodes


FLOW = Method(
    "Attention flow",
    is_signed=False,
    compute=flow,
    unit="attention",
    is_default=False,  # it would take longer than all others together
)
