"""Facts about a model folder: settings, data, figures, and the model without its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from regard.errors import NextStep
from regard.generation.decoders import decoding_path, default_precision
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer
from regard.hub.hugging_face.task_prefixes import languages_of_use, read_uses
from regard.hub.hugging_face.weight_files import weight_files
from regard.hub.model_folder import ModelFolder, check_shapes
from regard.models import Decoder, EncoderDecoder, Model
from regard.models.base.bounded_build import require_tensors_for_layers
from regard.setup.base_task import Task
from regard.setup.config import RunConfig
from regard.tasks import TASKS, task_named, task_of, task_of_published
from regard.training.checkpoint import last_saved_step

_CHUNK_BYTES = 1 << 20


class FolderInformation(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a model folder.

    Args:
        config: Its settings.
        summary: Its architecture in a line.
        sha: First hexadecimal digits of the hash of its weights; empty before the first evaluation.
        vocab_size: Number of token ids; 0 for a model that reads no text.
        num_parameters: Number of trainable weights.
        weight_bytes: Size of the weights, in float32 or as they are stored in 8 bits.
        precision: ``int8`` where the weights have 8 bits; the figures are those of the model that
            they were made from. Otherwise ``float32``.
        length: Tokens of the longest row that the model can read.
        is_finished: Whether its run is finished.
        step: Number of steps, by the last evaluation or the last checkpoint.
        num_evaluations: Number of evaluations so far.
        figures: Figures of the best evaluation and of the test.
        tensors: Name, shape and size of every parameter.
        layout: The ``model_type`` of a folder in Hugging Face's format, whose data and run are
            unknown; empty for a folder in regard's.
        has_vocabulary: Whether the folder has a tokenizer.
        commands: Commands that use the model.
        tasks: The names that a folder of T5 gives its tasks; empty for others.
        languages: Codes of the languages of a model of many; empty for others.
        search: Its search for outputs in words; empty where it writes no targets.
        decoding: What takes the steps in which it writes, in words; empty where it writes no text.
    """

    config: RunConfig
    summary: str
    sha: str
    vocab_size: int
    num_parameters: int
    weight_bytes: int
    precision: str
    length: int
    is_finished: bool
    step: int
    num_evaluations: int
    figures: dict[str, float]
    tensors: list[tuple[str, str, int]]
    layout: str = ""
    has_vocabulary: bool = True
    commands: list[NextStep] = []
    tasks: list[str] = []
    languages: list[str] = []
    search: str = ""
    decoding: str = ""


def inspect_folder(path: str | Path) -> tuple[FolderInformation, Model]:
    """Return the facts about a model folder, and the model on the meta device, without weights.

    Args:
        path: The folder, in regard's or Hugging Face's format.

    Raises:
        WeightsError: It is not a model folder.
    """
    folder = ModelFolder(path)
    stored = _read_stored(folder)
    config, task = stored.config, task_of(stored.config)
    shapes = {} if stored.layout else folder.weight_shapes()
    model = _build(stored, shapes, str(folder.weights_path))
    is_int8 = bool(shapes) and folder.has_int8_weights
    lines = folder.read_metrics()
    events = [line.get("event") for line in lines]
    information = FolderInformation(
        config=config,
        summary=task.summarize(config),
        sha=_hash(stored.weights),
        vocab_size=stored.vocab_size,
        num_parameters=model.num_parameters,
        weight_bytes=folder.weights_path.stat().st_size if is_int8 else 4 * model.num_parameters,
        precision="int8" if is_int8 else "float32",
        length=config.model.longest_input(config.data.max_length),
        is_finished="finished" in events,
        step=max(_last_step(lines), last_saved_step(folder.path)),
        num_evaluations=events.count("evaluated"),
        figures=_figures(lines),
        tensors=[
            (name, " x ".join(map(str, parameter.shape)), parameter.numel())
            for name, parameter in model.named_parameters()
        ],
        layout=stored.layout,
        has_vocabulary=stored.has_vocabulary,
        commands=_commands(task, str(path), stored.tasks),
        tasks=stored.tasks,
        languages=stored.languages,
        search=config.search.summary() if task.writes_targets else "",
        decoding=_decoding(model, config, is_int8=is_int8),
    )
    return information, model


def _build(stored: _Stored, shapes: Mapping[str, tuple[int, ...]], name: str) -> Model:
    """Return the model of a folder without weights; those that it has must fit.

    Args:
        stored: What its files say.
        shapes: Of its weights, by their names; empty where they are not looked at.
        name: Of the file of the weights, for messages.
    """
    task = task_of(stored.config)
    if shapes:
        require_tensors_for_layers(stored.config.model, len(shapes), name)
    with torch.device("meta"):
        model = task.build(stored.config, stored.vocab_size)
    if shapes:
        check_shapes(model, shapes, name=name)
    return model


def _decoding(model: Model, config: RunConfig, *, is_int8: bool) -> str:
    """Return in a line what writes the outputs of a model; empty where it writes none."""
    if not isinstance(model, Decoder | EncoderDecoder):
        return ""
    own = default_precision(model, config.training.precision)
    return decoding_path(model, "int8" if is_int8 else own)


def _last_step(lines: Sequence[Mapping[str, Any]]) -> int:
    """Return the last step that was taken; one that diverged is not."""
    steps = (line.get("step", 0) for line in lines if line.get("event") != "diverged")
    return max(steps, default=0)


class _Stored(NamedTuple):
    """What the files of a model folder say.

    Args:
        config: The settings.
        vocab_size: Number of token ids; 0 for a model that reads no text.
        weights: Files of the weights.
        layout: The ``model_type`` of a folder in Hugging Face's format; empty for one in regard's.
        has_vocabulary: Whether there is a tokenizer.
        tasks: As `FolderInformation` has them.
        languages: The same.
    """

    config: RunConfig
    vocab_size: int
    weights: list[Path]
    layout: str = ""
    has_vocabulary: bool = True
    tasks: list[str] = []  # noqa: RUF012 - nobody changes it
    languages: list[str] = []  # noqa: RUF012 - nobody changes it


def _read_stored(folder: ModelFolder) -> _Stored:
    """Return what the files of a model folder say, in regard's or Hugging Face's format."""
    if is_hugging_face(folder.path):
        checkpoint = read_hugging_face(folder.path)
        task, tokenizer = task_of_published(checkpoint), read_any_tokenizer(folder.path)
        return _Stored(
            task.published_config(checkpoint),
            checkpoint.vocab_size,
            weight_files(checkpoint.folder),
            checkpoint.model_type,
            has_vocabulary=not tokenizer.is_missing,
            tasks=list(read_uses(checkpoint.folder)) if task.writes_targets else [],
            languages=_languages_of(tokenizer),
        )
    config, vocab_size, languages = folder.read_config(RunConfig), 0, []
    if not task_of(config).reads_inputs:
        tokenizer = folder.read_tokenizer()
        vocab_size, languages = len(tokenizer), _languages_of(tokenizer)
    return _Stored(config, vocab_size, [folder.weights_path], languages=languages)


def _languages_of(tokenizer: AnyTokenizer) -> list[str]:
    """Return the codes of the languages that texts may name; none where one pair is translated."""
    languages = tokenizer.languages
    return [] if languages is None or languages.target is not None else languages.codes


def _commands(task: Task, path: str, names: Sequence[str] = ()) -> list[NextStep]:
    """Return commands that use the model of a task in a folder, or its tasks by their names."""
    named = [step for name in names if (step := _command_of(name, path)) is not None]
    verbs = {step.verb for step in named}
    tasks = [task_name for name in names if (task_name := name.partition("_")[0]) in TASKS]
    if tasks and task.name not in tasks:  # the default, which it was not trained for
        task = task_named(tasks[0])
    steps = [
        *named,
        *(NextStep("Use", verb, (path, word)) for verb, word in task.verbs if verb not in verbs),
    ]
    if task.example_data:
        settings = (("start_from", path), ("output", "NEW"))
        steps.append(NextStep("Use", "train", (task.example_data,), settings))
    return steps


def _command_of(name: str, path: str) -> NextStep | None:
    """Return the command for a task by a folder's own name; None where no verb is for it."""
    if (pair := languages_of_use(name)) is not None:
        return NextStep("Use", "translate", (path, "TEXT"), (("lang", "-".join(pair)),))
    return NextStep("Use", "summarize", (path, "TEXT")) if name == "summarization" else None


def hash_weights(path: str | Path) -> str:
    """Return the first hexadecimal digits of the hash of a model folder's weights.

    Args:
        path: The folder, in regard's or Hugging Face's format.

    Raises:
        WeightsError: It is not a model folder.
    """
    folder = ModelFolder(path)
    if is_hugging_face(folder.path):
        return _hash(weight_files(read_hugging_face(folder.path).folder))
    return _hash([folder.weights_path])


def _hash(paths: list[Path]) -> str:
    """Return the hash of the files that exist, in order; empty where there are none yet."""
    digest, existing = hashlib.sha256(), [path for path in paths if path.is_file()]
    for path in existing:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()[:8] if existing else ""


def _figures(lines: list[dict]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for line in lines:
        if line.get("event") == "evaluated" and line.get("is_best"):
            figures |= {f"valid {name}": value for name, value in line.get("measures", {}).items()}
        if line.get("event") == "finished":
            figures |= {f"test {name}": value for name, value in line.get("test", {}).items()}
    return {name: value for name, value in figures.items() if value is not None}
