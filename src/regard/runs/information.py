"""What a model folder holds: settings, data, figures, and the model without its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from regard.errors import NextStep
from regard.hub.hugging_face.checkpoint import is_hugging_face, read_hugging_face
from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer
from regard.hub.hugging_face.weight_files import weight_files
from regard.hub.model_folder import ModelFolder
from regard.models import Model, VitConfig
from regard.setup.config import RunConfig
from regard.setup.published_config import published_config
from regard.tasks import task_named

_CHUNK_BYTES = 1 << 20
_USES: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "translation": ((("translate", "TEXT"), ("evaluate", "pairs.tsv")), "pairs.tsv"),
    "language-modeling": ((("generate", "PROMPT"), ("evaluate", "other.txt")), "book.txt"),
    "masked-language-modeling": ((), "reviews.jsonl"),
    "classification": ((("classify", "TEXT"), ("evaluate", "reviews.jsonl")), "reviews.jsonl"),
}
"""Verbs that use a model of each task with what they take, and data that it can be trained on."""


class FolderInformation(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a model folder.

    Args:
        config: Its settings.
        summary: Its architecture in a line.
        sha: First hexadecimal digits of the hash of its weights; empty before the first evaluation.
        vocab_size: Number of token ids; 0 for a model that reads no text.
        num_parameters: Trainable numbers.
        weight_bytes: Of the weights in float32.
        length: Tokens of the longest row that the model was made for.
        is_finished: Whether its run has come to the end.
        step: Of the last evaluation.
        num_evaluations: So far.
        figures: Of the best evaluation and of the test.
        tensors: Name, shape and size of every parameter.
        layout: The ``model_type`` of a folder in Hugging Face's layout, of which neither data nor
            run are known; empty for one of regard's own.
        has_vocabulary: Whether the folder has what turns text into token ids.
        uses: What the model is for.
    """

    config: RunConfig
    summary: str
    sha: str
    vocab_size: int
    num_parameters: int
    weight_bytes: int
    length: int
    is_finished: bool
    step: int
    num_evaluations: int
    figures: dict[str, float]
    tensors: list[tuple[str, str, int]]
    layout: str = ""
    has_vocabulary: bool = True
    uses: list[NextStep] = []


class _Contents(NamedTuple):
    """What a folder says about its model."""

    config: RunConfig
    vocab_size: int
    weights: list[Path]
    layout: str = ""
    has_vocabulary: bool = True


def inspect_folder(path: str | Path) -> tuple[FolderInformation, Model]:
    """Read the facts about a model folder.

    Args:
        path: Of regard's own, or in Hugging Face's layout.

    Returns:
        The facts, and the model on the meta device: its shapes without weights.

    Raises:
        WeightsError: It is no model folder.
    """
    contents = _read(Path(path))
    config = contents.config
    task = task_named(config.task)
    with torch.device("meta"):
        model = task.build(config, contents.vocab_size)
    tensors = [
        (name, " x ".join(map(str, parameter.shape)), parameter.numel())
        for name, parameter in model.named_parameters()
    ]
    num_parameters = sum(count for _, _, count in tensors)
    lines = ModelFolder(path).read_metrics()
    information = FolderInformation(
        config=config,
        summary=task.summarize(config),
        sha=_hash(contents.weights),
        vocab_size=contents.vocab_size,
        num_parameters=num_parameters,
        weight_bytes=4 * num_parameters,
        length=_longest(config),
        is_finished=any(line["event"] == "finished" for line in lines),
        step=max((line["step"] for line in lines), default=0),
        num_evaluations=sum(line["event"] == "evaluated" for line in lines),
        figures=_figures(lines),
        tensors=tensors,
        layout=contents.layout,
        has_vocabulary=contents.has_vocabulary,
        uses=_uses(config.task, str(path)),
    )
    return information, model


def _read(path: Path) -> _Contents:
    """Read what a folder says about its model, of either kind."""
    if not is_hugging_face(path):
        folder = ModelFolder(path)
        config = folder.read_config(RunConfig)
        reads_inputs = task_named(config.task).reads_inputs
        vocab_size = 0 if reads_inputs else len(folder.read_tokenizer())
        return _Contents(config, vocab_size, [folder.weights_path])
    published = read_hugging_face(path)
    return _Contents(
        published_config(published),
        published.vocab_size,
        weight_files(path),
        published.model_type,
        not read_any_tokenizer(path).is_missing,
    )


def _uses(task: str, folder: str) -> list[NextStep]:
    """List what a model of text is for."""
    uses, data = _USES.get(task, ((), ""))
    steps = [NextStep("Use", verb, (folder, word)) for verb, word in uses]
    if data:
        settings = (("start_from", folder), ("output", "NEW"))
        steps.append(NextStep("Use", "train", (data,), settings))
    return steps


def _longest(config: RunConfig) -> int:
    """Return the longest row that a model was made for: an image's patches and the class token."""
    if isinstance(config.model, VitConfig):
        return config.model.num_positions + 1
    return config.data.max_length


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
