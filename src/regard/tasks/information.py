"""What a model folder holds, for ``regard info``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import torch

from regard.errors import ConfigError
from regard.explain.diagram import draw_diagram
from regard.explain.layer_table import LayerRow, layer_table, training_flops_per_token
from regard.interchange.folder import ModelFolder
from regard.models import TextModel
from regard.tasks.preparation import model_of, summarize
from regard.tasks.run_config import RunConfig


class FolderInformation(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a model folder.

    Args:
        config: Its settings.
        summary: Its architecture in a line.
        sha: First hexadecimal digits of the hash of its weights; empty before the first evaluation.
        vocab_size: Number of token ids.
        num_parameters: Trainable numbers.
        weight_bytes: Of the weights in float32.
        length: Tokens of the rows that costs are told for, of source and target each.
        flops_per_token: Floating-point operations a target token in training, three times those of
            a forward pass, attention included, over rows of `length` without padding.
        is_finished: Whether its run has come to the end.
        step: Of the last evaluation.
        num_evaluations: So far.
        figures: Of the best evaluation and of the test.
        layers: Parts of the model, with shapes, parameters, operations and memory.
        tensors: Name, shape and size of every parameter.
    """

    config: RunConfig
    summary: str
    sha: str
    vocab_size: int
    num_parameters: int
    weight_bytes: int
    length: int
    flops_per_token: float
    is_finished: bool
    step: int
    num_evaluations: int
    figures: dict[str, float]
    layers: list[LayerRow]
    tensors: list[tuple[str, str, int]]


def inspect_folder(path: str | Path, *, length: int | None = None) -> FolderInformation:
    """Read the facts about a model folder.

    Args:
        path: Its place.
        length: Tokens of the rows that costs are told for; None is ``data.max_length``.

    Raises:
        WeightsError: It is no model folder.
        ConfigError: The length is below 1.
    """
    folder = ModelFolder(path)
    config = folder.read_config(RunConfig)
    length = config.data.max_length if length is None else length
    if length < 1:
        raise ConfigError(f"--length {length}: must be 1 or more tokens.")
    vocab_size = len(folder.read_tokenizer())
    model = _model_without_weights(config, vocab_size)
    layers = layer_table(model, length)
    tensors = [
        (name, " x ".join(map(str, parameter.shape)), parameter.numel())
        for name, parameter in model.named_parameters()
    ]
    num_parameters = sum(count for _, _, count in tensors)
    lines = folder.read_metrics()
    evaluations = [line for line in lines if line["event"] == "evaluated"]
    return FolderInformation(
        config=config,
        summary=summarize(config),
        sha=_hash(folder.weights_path),
        vocab_size=vocab_size,
        num_parameters=num_parameters,
        weight_bytes=4 * num_parameters,
        length=length,
        flops_per_token=training_flops_per_token(layers),
        is_finished=any(line["event"] == "finished" for line in lines),
        step=max((line["step"] for line in lines), default=0),
        num_evaluations=len(evaluations),
        figures=_figures(lines),
        layers=layers,
        tensors=tensors,
    )


def draw_folder(path: str | Path) -> str:
    """Draw the architecture of a model folder's model as a Mermaid flowchart.

    Raises:
        WeightsError: It is no model folder.
    """
    folder = ModelFolder(path)
    config = folder.read_config(RunConfig)
    return draw_diagram(_model_without_weights(config, len(folder.read_tokenizer())))


def _model_without_weights(config: RunConfig, vocab_size: int) -> TextModel:
    with torch.device("meta"):
        return model_of(config, vocab_size)


def _hash(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:8]


def _figures(lines: list[dict]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for line in lines:
        if line["event"] == "evaluated" and line["is_best"]:
            figures |= {f"valid {name}": value for name, value in line["measures"].items()}
        if line["event"] == "finished":
            figures |= {f"test {name}": value for name, value in line["test"].items()}
    return figures
