"""What a model folder holds, for ``regard info``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import torch

from regard.interchange.folder import ModelFolder
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
        flops_per_token: Floating-point operations a target token in training, counted as six for
            each weight used (Kaplan et al. 2020, section 2.1); attention scores are left out.
        is_finished: Whether its run has come to the end.
        step: Of the last evaluation.
        num_evaluations: So far.
        figures: Of the best evaluation and of the test.
        layers: Name, shape and size of every parameter.
    """

    config: RunConfig
    summary: str
    sha: str
    vocab_size: int
    num_parameters: int
    weight_bytes: int
    flops_per_token: float
    is_finished: bool
    step: int
    num_evaluations: int
    figures: dict[str, float]
    layers: list[tuple[str, str, int]]


def inspect_folder(path: str | Path) -> FolderInformation:
    """Read the facts about a model folder.

    Raises:
        WeightsError: It is no model folder.
    """
    folder = ModelFolder(path)
    config = folder.read_config(RunConfig)
    vocab_size = len(folder.read_tokenizer())
    with torch.device("meta"):
        model = model_of(config, vocab_size)
    layers = [
        (name, " x ".join(map(str, parameter.shape)), parameter.numel())
        for name, parameter in model.named_parameters()
    ]
    num_parameters = sum(count for _, _, count in layers)
    lines = folder.read_metrics()
    evaluations = [line for line in lines if line["event"] == "evaluated"]
    return FolderInformation(
        config=config,
        summary=summarize(config),
        sha=_hash(folder.weights_path),
        vocab_size=vocab_size,
        num_parameters=num_parameters,
        weight_bytes=4 * num_parameters,
        flops_per_token=6.0 * num_parameters,
        is_finished=any(line["event"] == "finished" for line in lines),
        step=max((line["step"] for line in lines), default=0),
        num_evaluations=len(evaluations),
        figures=_figures(lines),
        layers=layers,
    )


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
