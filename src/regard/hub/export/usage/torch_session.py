"""Sessions of PyTorch: a program that reads and writes arrays of NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch.utils import _pytree


class Input(NamedTuple):
    """An input by its name, with its sizes; those that vary are symbols."""

    name: str
    shape: list[int]


def arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by name: "past_key_values.0.key" is "0.key" of "past_key_values"."""
    result: dict[str, Any] = {}
    for name, value in inputs.items():
        argument, point, rest = name.partition(".")
        if point:
            result.setdefault(argument, {})[rest] = value
        else:
            result[argument] = value
    return result


class Session:
    """Runs a program of a folder."""

    def __init__(self, folder: str, name: str) -> None:
        self.program = torch.export.load(Path(folder) / f"{name}.pt2")
        self.module = self.program.module()

    def get_inputs(self) -> list[Input]:
        """Return the inputs."""
        nodes = {node.name: node for node in self.program.graph.nodes}
        spec: Any = self.program.call_spec.in_spec
        names = _pytree.tree_unflatten(self.program.graph_signature.user_inputs, spec)
        inputs = []
        for argument, node in names[1].items():
            parts = node if isinstance(node, dict) else {"": node}
            for rest, name in parts.items():
                shape = list(nodes[name].meta["val"].shape)
                inputs.append(Input(f"{argument}.{rest}" if rest else argument, shape))
        return inputs

    @torch.inference_mode()
    def run(self, names: Sequence[str], inputs: Mapping[str, NDArray]) -> list[NDArray]:
        """Return some outputs, for arrays by the names of the inputs."""
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        outputs = self.module(**arguments(tensors))
        return [outputs[name].numpy() for name in names]


def open_session(folder: str, name: str = "model") -> Session:
    """Return a program of a folder."""
    return Session(folder, name)
