"""Models as ONNX: files with plain operators, any batch and length.

Weights from 2 GiB on, the limit of a file of protobuf, are in a file next to it, such as
``model.onnx.data``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from regard.errors import ConfigError
from regard.hub.export.graph import Graph
from regard.hub.export.graph_folder import write_graph_folder
from regard.hub.export.graph_format import GraphFormat
from regard.hub.export.trained_model import TrainedModel
from regard.hub.export.usage.torch_session import arguments
from regard.hub.file_names import ONNX_SUFFIX
from regard.hub.storage import require_space, writing
from regard.version import installed_version

OPSET = 18
"""Version of the operators."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_PROTOBUF_BYTES = 2**31 - 2**20  # of a file: 2 GiB, with room for the graph
_LARGEST_CONSTANT = 2**16  # numbers of a constant that is compared with others
_FATAL = 4  # the highest level of onnxruntime's log


def export_onnx(trained: TrainedModel, folder: Path) -> str:
    """Write a folder that onnxruntime opens.

    Args:
        trained: The model.
        folder: Created as needed.

    Returns:
        Its ``model_type``.

    Raises:
        ConfigError: The model has a pattern of attention or a cache that no graph has, or a
            package is missing.
        ResourceError: The disk is full.
        WeightsError: The graph gives other outputs than the model.
    """
    _require_packages()
    return write_graph_folder(trained, folder, ONNX)


def open_session(path: Path) -> Any:
    """Return a session of onnxruntime on the CPU that reports its errors in exceptions alone."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _failures() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises where it cannot compute a graph: classes without a base."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    classes = (value for value in vars(state).values() if isinstance(value, type))
    return tuple(kind for kind in classes if issubclass(kind, Exception))


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(
            f"an ONNX graph is written and checked by {', '.join(_PACKAGES)}; "
            f"{', '.join(missing)} {verb} not installed.  "
            "Install what is missing: pip install 'regard[onnx]'"
        )


def _write_graph(graph: Graph, path: Path, metadata: Mapping[str, str]) -> None:
    """Trace a model and write it, with its weights next to it if they are large.

    Args:
        graph: The graph.
        path: The file that is written.
        metadata: Facts that the file holds, by name.

    Raises:
        ResourceError: The disk is full.
    """
    with _silent():
        program: Any = torch.onnx.export(
            graph.trace(),
            kwargs=arguments(graph.example()),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
    _share_constants(program.model)
    _name_axes(program.model, graph)
    program.model.metadata_props.update(metadata)
    program.model.doc_string = metadata["summary"]
    program.model.graph.name = metadata["task"]
    program.model.producer_name, program.model.producer_version = "regard", installed_version()
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    is_large = size > _PROTOBUF_BYTES
    with writing(path, size, "model"):
        require_space(path, size)
        program.save(path, external_data=is_large)


@contextmanager
def _silent() -> Iterator[None]:
    """Show no warnings and no log of the tracer, which are about its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _share_constants(model: Any) -> None:
    """Keep one of equal constants, such as the positions that each layer is given.

    Args:
        model: Of ``onnx_ir``.
    """
    passes: Any = import_module("onnx_ir.passes.common")
    passes.DeduplicateInitializersPass(size_limit=_LARGEST_CONSTANT)(model)
    passes.CommonSubexpressionEliminationPass()(model)


def _name_axes(model: Any, graph: Graph) -> None:
    """Name the axes that vary as the field does, in place of the tracer's numbers.

    Args:
        model: Of ``onnx_ir``.
        graph: Names of the axes.
    """
    for values, axes in ((model.graph.inputs, graph.inputs), (model.graph.outputs, graph.outputs)):
        for value in values:
            sizes = list(value.shape)
            for axis, name in axes[value.name].items():
                sizes[axis] = name
            value.shape = type(value.shape)(sizes)
    for node in model.graph:  # shapes in between would have the tracer's names
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
        node.metadata_props.clear()  # lines of code, with the folders of this machine


ONNX = GraphFormat(
    name="ONNX",
    suffix=ONNX_SUFFIX,
    write=_write_graph,
    open_session=open_session,
    failures=_failures,
    session="onnxruntime_session",
    package="onnxruntime",
    description=f"operators of opset {OPSET}, float32.",
)
"""How a graph of ONNX is written, and run by onnxruntime."""
