"""Predictors of model folders: regard's own by their task, published ones by their files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

from regard.errors import ConfigError, NextStep
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.settings.validation import require_path
from regard.settings.values import DecodingPrecision
from regard.setup.config import QuestionAnsweringConfig, RunConfig
from regard.tasks import TASKS, Predictor, task_of, task_of_published
from regard.training.device import CPU, choose_device, use_threads

if TYPE_CHECKING:
    from regard.hub.hugging_face.published_folder import Published
    from regard.setup.base_task import Task
    from regard.tasks.language_modeling.predictor import TextGenerator
    from regard.tasks.masked_language_modeling.predictor import TextEncoder
    from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier
    from regard.tasks.sequence_to_sequence.predictor import TargetWriter

_WRITTEN_ANSWERS = QuestionAnsweringConfig(kind="generative")


def open_model(
    folder: str | Path,
    device: str = "auto",
    *,
    task: str | None = None,
    precision: DecodingPrecision | None = None,
    threads: int | None = None,
) -> Predictor:
    """Return the predictor of a model folder, in regard's own format or Hugging Face's.

    Args:
        folder: The folder.
        device: What it computes on: cpu, cuda, cuda:N, or auto, a GPU where there is one.
        task: What a published encoder-decoder is for, see `open_published`.
        precision: Type of the weights that it writes text with; None is its own.
        threads: Threads of the processor, of the whole process; None leaves them unchanged.

    Raises:
        TypeError: The folder is not a path.
        ConfigError: The folder holds no model that can be read or that writes in this precision, or
            the machine has no such device.
        WeightsError: It is missing, incomplete or damaged.
    """
    require_path("folder", folder, "a model folder")
    use_threads(threads)
    target_device = choose_device(device)
    if is_hugging_face(Path(folder)):
        predictor = open_published(folder, task)
    else:
        config = ModelFolder(folder).read_config(RunConfig)
        predictor = task_of(config).open(folder, config)
    if target_device.type != "cpu" and getattr(predictor, "precision", None) == "int8":
        if device != "auto":
            raise ConfigError(
                f"{device}: {folder} holds int8 weights, with which the CPU writes.  Take "
                "`device=cpu`, or the folder that it was made from."
            )
        target_device = CPU
    predictor.model.to(target_device)
    set_precision(predictor, precision)
    return predictor


def set_precision(predictor: Predictor, precision: DecodingPrecision | None) -> None:
    """Set the type of the weights that a model writes text with; None leaves it unchanged.

    Raises:
        ConfigError: It writes no text, or cannot write in this precision.
    """
    if precision is None:
        return
    if not hasattr(predictor, "precision"):
        task = predictor.config.task
        raise ConfigError(f"`precision={precision}`: a model for {task} writes no text.")
    writer = cast("TargetWriter | TextGenerator", predictor)
    writer.precision = precision
    writer.decoder  # noqa: B018 - made now, so that a refusal comes before the first text


def open_published(folder: str | Path, task_name: str | None = None) -> Predictor:
    """Return the predictor of a folder in Hugging Face's format.

    Args:
        folder: A folder with ``config.json`` and safetensors; without a tokenizer, only methods
            that take text raise.
        task_name: What an encoder-decoder is for, which its files do not say: translation (None),
            summarization, or question-answering; or a name among its ``task_specific_params``, such
            as translation_en_to_de, whose prefix and search are then those of the model.

    Raises:
        ConfigError: The folder holds no model that can be read, or has no such task.
        WeightsError: A file is missing, damaged or a pickle, or tensors are missing or surplus.
    """
    from regard.hub.hugging_face.published_folder import read_hugging_face
    from regard.hub.hugging_face.sentence_transformers import read_sentence_pooling
    from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer
    from regard.hub.hugging_face.task_prefixes import read_uses

    path = Path(folder)
    pooling = read_sentence_pooling(path)
    published = read_hugging_face(path)
    task = task_of_published(published)
    if task.writes_targets:
        task, config = _use_of(published, task, task_name)
    else:
        config = task.published_config(published)
        task = task.for_config(config)
    if pooling is not None and not task.computes_vectors:
        raise ConfigError(
            f"{folder}: a folder of sentence-transformers with a model for {config.task}: vectors "
            "of texts are computed by encoders alone."
        )
    if task.reads_inputs and not config.data.labels:
        settings = (("start_from", str(folder)), ("output", "MODEL"))
        step = NextStep("Start from it", "train", ("DATA",), settings)
        raise ConfigError(f"{folder}: an encoder without labels.", step)
    shapes = {name: tensor.shape for name, tensor in published.parts.items()}
    model = task.build_for(config, published.vocab_size, shapes, f"{folder}/")
    published.load_into(model)
    tokenizer = None if task.reads_inputs else read_any_tokenizer(path)
    predictor: Predictor = task.predictor(model.eval(), tokenizer, config)
    if published.label_threshold is not None:
        cast("MultiLabelClassifier", predictor).threshold = published.label_threshold
    if task.writes_targets and not config.data.source_prefix:
        cast("TargetWriter", predictor).uses = read_uses(published.folder)
    if pooling is not None:
        cast("TextEncoder", predictor).pooling = pooling
    return predictor


def _use_of(published: Published, task: Task, name: str | None) -> tuple[Task, RunConfig]:
    """Return the task of a published encoder-decoder, and its settings.

    Args:
        published: The content of the folder.
        task: Its task by default.
        name: As `open_published` has it.

    Raises:
        ConfigError: The model has no such task.
    """
    from regard.hub.hugging_face.task_prefixes import read_uses
    from regard.setup.published_config import encoder_decoder_config

    general = (name or task.name).partition("_")[0]
    task = task_of(RunConfig(task=general, qa=_WRITTEN_ANSWERS))
    if not task.writes_targets:
        raise ConfigError(f"{published.folder}: does not {task.purpose}: it writes text for text.")
    config = encoder_decoder_config(published, general, "" if name in (None, general) else name)
    uses = read_uses(published.folder)
    if uses and not config.data.source_prefix:
        prefixes = ", ".join(repr(fields["prefix"]) for fields in uses.values())
        names = [name for name in uses if name.partition("_")[0] in TASKS]
        advice = f"Begin them with it ({prefixes})"
        if names:
            advice += f", or name the task: {', '.join(names)}"
        warnings.warn(
            f"{published.folder}: has tasks with a prefix each, and texts are read without one.  "
            f"{advice}.",
            stacklevel=4,
        )
    if config.qa.context_prefix:
        form = f"{config.data.source_prefix}...{config.qa.context_prefix}..."
        warnings.warn(f"{published.folder}: questions are asked as {form!r}.", stacklevel=4)
    return task, config
