"""Sessions of PyTorch: a program that reads and writes arrays of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from numpy.typing import NDArray


class Input(NamedTuple):
    """An input by its name, with its sizes; those that vary are symbols."""

    name: str
    shape: list[int]


class Session:
    """Runs ``model.pt2`` of a folder."""

    def __init__(self, folder: str) -> None:
        self.program = torch.export.load(Path(folder) / "model.pt2")
        self.module = self.program.module()

    def get_inputs(self) -> list[Input]:
        """Return the inputs."""
        names = self.program.graph_signature.user_inputs
        nodes = [node for node in self.program.graph.nodes if node.name in names]
        return [Input(node.name, list(node.meta["val"].shape)) for node in nodes]

    @torch.inference_mode()
    def run(self, names: Sequence[str], inputs: dict[str, NDArray]) -> list[NDArray]:
        """Return some outputs, for arrays by the names of the inputs."""
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        outputs = self.module(**tensors)
        return [outputs[name].numpy() for name in names]


def open_session(folder: str) -> Session:
    """Return the program of a folder."""
    return Session(folder)
