"""Models as programs of PyTorch, such as ``model.pt2``, for any batch and length.

The file has operators of PyTorch alone, so that `torch.export.load` opens it without regard, and
says nothing of the machine that wrote it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from regard.errors import ConfigError
from regard.hub.export.graph import Graph
from regard.hub.export.graph_folder import write_graph_folder
from regard.hub.export.graph_format import GraphFormat
from regard.hub.export.trained_model import TrainedModel
from regard.hub.file_names import TORCH_SUFFIX
from regard.hub.storage import require_space, writing

_TRACES = ("from_node", "nn_module_stack", "source_fn_stack", "stack_trace", "torch_fn")
"""What a node says of the lines it was traced from, with the folders of this machine."""
_OPERATORS = ("aten", "prims", "higher_order", "")


def export_torch(trained: TrainedModel, folder: Path) -> str:
    """Write a folder that `torch.export.load` opens without regard.

    Args:
        trained: The model.
        folder: Created as needed.

    Returns:
        Its ``model_type``.

    Raises:
        ConfigError: The model has a pattern of attention or a cache that no graph has.
        ResourceError: The disk is full.
        WeightsError: The program gives other outputs than the model.
    """
    return write_graph_folder(trained, folder, TORCH)


def open_session(path: Path) -> Any:
    """Return a session of the program of a file."""
    return import_module("regard.hub.export.usage.torch_session").open_session(
        str(path.parent), path.stem
    )


def _failures() -> tuple[type[Exception], ...]:
    """Return what a program raises where it was traced for other shapes."""
    return (RuntimeError, AssertionError)


def _write_program(graph: Graph, path: Path, metadata: Mapping[str, str]) -> None:
    """Trace a model and write its program.

    Args:
        graph: The graph.
        path: The file that is written.
        metadata: Facts that the file holds, by name.

    Raises:
        ConfigError: The model needs an operator that PyTorch does not have.
        ResourceError: The disk is full.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about its own code
        program = graph.trace()
        nodes = [node for part in program.graph_module.modules() for node in _nodes(part)]
        others = {str(node.target) for node in nodes if _namespace(node) not in _OPERATORS}
        if others:
            raise ConfigError(f"export: needs operators of regard: {', '.join(sorted(others))}.")
        for node in nodes:
            for trace in _TRACES:
                node.meta.pop(trace, None)
        size = sum(tensor.nbytes for tensor in program.state_dict.values())
        with writing(path, size, "model"):
            require_space(path, size)
            torch.export.save(program, path, extra_files=dict(metadata))


def _nodes(module: torch.nn.Module) -> list[torch.fx.Node]:
    """Return the nodes of a module's graph; none of a module without one."""
    return list(module.graph.nodes) if isinstance(module, torch.fx.GraphModule) else []


def _namespace(node: torch.fx.Node) -> str:
    """Return where the operator of a node is defined; empty for what is no operator."""
    return str(getattr(node.target, "namespace", ""))


TORCH = GraphFormat(
    name="a program of PyTorch",
    suffix=TORCH_SUFFIX,
    write=_write_program,
    open_session=open_session,
    failures=_failures,
    session="torch_session",
    package="torch",
    description=(
        f"float32, by PyTorch {torch.__version__}: another version may not read it.  Load it from "
        "those that you trust alone, because `torch.export.load` unpickles parts of a file."
    ),
)
"""How a program is written, and run by PyTorch."""
