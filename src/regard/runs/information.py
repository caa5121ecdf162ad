"""What a model folder holds, for ``regard info``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from regard.errors import ConfigError
from regard.explain.diagram import draw_diagram
from regard.explain.layer_table import LayerRow, layer_table, training_flops_per_token
from regard.hub.hugging_face.checkpoint import is_hugging_face, read_hugging_face
from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer
from regard.hub.hugging_face.weight_files import weight_files
from regard.hub.model_folder import ModelFolder
from regard.models import CHECKPOINT_FORMATS, Model, VitConfig
from regard.setup.build import model_of, summarize, vocab_size_of
from regard.setup.config import RunConfig
from regard.setup.published_config import published_config

_CHUNK_BYTES = 1 << 20
_USES: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "translation": ((("translate", "TEXT"), ("evaluate", "pairs.tsv")), "pairs.tsv"),
    "language-modeling": ((("generate", "PROMPT"), ("evaluate", "other.txt")), "book.txt"),
    "masked-language-modeling": ((), "reviews.jsonl"),
    "classification": ((("classify", "TEXT"), ("evaluate", "reviews.jsonl")), "reviews.jsonl"),
}
"""Verbs that use a model of each task with what they take, and data that it can go on with."""


class FolderInformation(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a model folder.

    Args:
        config: Its settings.
        summary: Its architecture in a line.
        sha: First hexadecimal digits of the hash of its weights; empty before the first evaluation.
        vocab_size: Number of token ids; 0 for a model that reads no text.
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
        layout: The ``model_type`` of a folder in Hugging Face's layout, of which neither data nor
            run are known; empty for one of regard's own.
        has_vocabulary: Whether the folder has what turns text into token ids.
        uses: Commands that the model is for.
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
    layout: str = ""
    has_vocabulary: bool = True
    uses: list[str] = []


class _Contents(NamedTuple):
    """What a folder says about its model."""

    config: RunConfig
    vocab_size: int
    weights: list[Path]
    layout: str = ""
    has_vocabulary: bool = True


def inspect_folder(path: str | Path, *, length: int | None = None) -> FolderInformation:
    """Read the facts about a model folder.

    Args:
        path: Its place.
        length: Tokens of the rows that costs are told for; None is ``data.max_length``, or
            what an image or the longest series has.

    Raises:
        WeightsError: It is no model folder.
        ConfigError: The length is below 1.
    """
    found = _read(Path(path))
    config = found.config
    length = _longest(config) if length is None else length
    if length < 1:
        raise ConfigError(f"--length {length}: must be 1 or more tokens.")
    model = _model_without_weights(config, found.vocab_size)
    layers = layer_table(model, length)
    tensors = [
        (name, " x ".join(map(str, parameter.shape)), parameter.numel())
        for name, parameter in model.named_parameters()
    ]
    num_parameters = sum(count for _, _, count in tensors)
    lines = ModelFolder(path).read_metrics()
    evaluations = [line for line in lines if line["event"] == "evaluated"]
    return FolderInformation(
        config=config,
        summary=summarize(config),
        sha=_hash(found.weights),
        vocab_size=found.vocab_size,
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
        layout=found.layout,
        has_vocabulary=found.has_vocabulary,
        uses=_uses(config.task, str(path)),
    )


def draw_folder(path: str | Path) -> str:
    """Draw the architecture of a model folder's model as a Mermaid flowchart.

    Raises:
        WeightsError: It is no model folder.
    """
    found = _read(Path(path))
    return draw_diagram(_model_without_weights(found.config, found.vocab_size))


def _read(path: Path) -> _Contents:
    """Read what a folder says about its model, of either kind."""
    if not is_hugging_face(path):
        folder = ModelFolder(path)
        config = folder.read_config(RunConfig)
        return _Contents(config, vocab_size_of(folder), [folder.weights_path])
    published = read_hugging_face(path, CHECKPOINT_FORMATS)
    return _Contents(
        published_config(published),
        published.vocab_size,
        weight_files(path),
        published.model_type,
        not read_any_tokenizer(path).is_missing,
    )


def _uses(task: str, folder: str) -> list[str]:
    """List the commands that a model of text is for."""
    uses, data = _USES.get(task, ((), ""))
    commands = [f"regard {verb} {folder} {words}" for verb, words in uses]
    return [*commands, f"regard train {data} --from {folder} -o NEW"] if data else commands


def _longest(config: RunConfig) -> int:
    """Tell the longest row that a model was made for: an image's patches and the class token."""
    if isinstance(config.model, VitConfig):
        return config.model.num_positions + 1
    return config.data.max_length


def _model_without_weights(config: RunConfig, vocab_size: int) -> Model:
    with torch.device("meta"):
        return model_of(config, vocab_size)


def _hash(paths: list[Path]) -> str:
    """Hash files one after another; nothing where they are still to be written."""
    digest, present = hashlib.sha256(), [path for path in paths if path.is_file()]
    for path in present:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()[:8] if present else ""


def _figures(lines: list[dict]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for line in lines:
        if line["event"] == "evaluated" and line["is_best"]:
            figures |= {f"valid {name}": value for name, value in line["measures"].items()}
        if line["event"] == "finished":
            figures |= {f"test {name}": value for name, value in line["test"].items()}
    return figures
