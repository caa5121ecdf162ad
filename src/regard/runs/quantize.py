"""A model folder with weights of 8 bits, and what their rounding costs in quality."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from regard.errors import ConfigError, WeightsError
from regard.generation.native import why_through_operators
from regard.hub.file_names import CHECKPOINTS, TENSORBOARD
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.hub.int8_weights import quantize
from regard.hub.model_folder import ModelFolder
from regard.metrics.rouge import rouge_l
from regard.metrics.translation import bleu, chrf
from regard.setup.held_out import training_data
from regard.setup.inspect import describe_change
from regard.tasks import task_of
from regard.tasks.opening import open_model
from regard.tasks.sequence_to_sequence.data import TextPairs
from regard.tasks.summarization.predictor import Summarizer
from regard.tasks.translation.predictor import Translator

_MOST_ROWS = 1_000  # of the validation data: the fraction of equal outputs is then within 3 %


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Outputs for validation rows, by float32 and by int8.

    Args:
        num_rows: Number of rows.
        equal: Percentage of outputs that are equal.
        bleu: BLEU of float32 and of int8, 0 to 100; None of summaries.
        chrf: chrF of float32 and of int8, 0 to 100; None of summaries.
        rouge_l: ROUGE-L of float32 and of int8, 0 to 100; None of translations.
    """

    num_rows: int
    equal: float
    bleu: tuple[float, float] | None = None
    chrf: tuple[float, float] | None = None
    rouge_l: tuple[float, float] | None = None


class QuantizedFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that was written.

    Args:
        folder: The folder.
        bytes_before: Size of the weights of the model, in bytes.
        bytes_after: Size of the weights in the folder, in bytes.
        quality: What the rounding changes; None where the validation data is not available.
        reason: Why it is not; empty where it is.
    """

    folder: str
    bytes_before: int
    bytes_after: int
    quality: Quality | None
    reason: str = ""


def quantize_folder(model: str | Path, output: str | Path) -> QuantizedFolder:
    """Write a folder with the weights of a model as integers of 8 bits, and compare outputs.

    Args:
        model: A folder that a run wrote, of a model that translates or summarizes.
        output: A folder that is empty or does not exist.

    Returns:
        Sizes and quality.

    Raises:
        ConfigError: The model is of another kind, or the compiled decoder does not cover it.
        WeightsError: The folder holds no model of regard with float32 weights.
    """
    source = ModelFolder(model)
    if is_hugging_face(source.path):
        raise ConfigError(
            f"{model}: a folder in Hugging Face's format; one that a run of training wrote was "
            "expected.  Translating with the precision int8 needs no folder of its own."
        )
    writer = _open_writer(model)
    if writer.precision == "int8":
        raise WeightsError(f"{model}: holds int8 weights already.")
    if (reason := why_through_operators(writer.model)) is not None:
        raise ConfigError(f"{model}: int8 weights need the compiled decoder: {reason}.")
    writer.precision = "float32"
    target = Path(output)
    _copy_files(source.path, target, {CHECKPOINTS, TENSORBOARD, source.weights_path.name})
    weights = quantize(dict(writer.model.named_parameters()))
    written = ModelFolder(target)
    written.write_weights(weights)
    data = writer.config.data
    # Of other rows than those of the run the scores would be compared with those of training.
    reason = f"{data.path}: {change}" if (change := describe_change(data)) else ""
    quality = None if reason else _compare(writer, _open_writer(target))
    return QuantizedFolder(
        folder=str(output),
        bytes_before=source.weights_path.stat().st_size,
        bytes_after=written.weights_path.stat().st_size,
        quality=quality,
        reason=reason or ("" if quality else "no validation data"),
    )


def _copy_files(source: Path, target: Path, left_out: set[str]) -> None:
    """Copy a folder without what has some names; the first error ends it, as no `copytree` does."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.name in left_out:
            continue
        if path.is_dir():
            _copy_files(path, target / path.name, left_out)
        else:
            shutil.copy2(path, target / path.name)


def _open_writer(folder: str | Path) -> Translator | Summarizer:
    """Open a model that translates or summarizes; raise ConfigError for others."""
    writer = open_model(folder, "cpu")
    if not isinstance(writer, Translator | Summarizer):
        raise ConfigError(
            f"{folder}: a model for {writer.config.task}: folders with int8 weights are for models "
            "that translate or summarize."
        )
    return writer


def _compare(writer: Translator | Summarizer, other: Translator | Summarizer) -> Quality | None:
    """Return the quality of two models on the validation data of the run."""
    data = training_data(task_of(writer.config).read, writer.config)
    if data is None or not len(data.valid):
        return None
    valid: TextPairs = data.valid
    stride = max(1, len(valid) // _MOST_ROWS)
    rows = valid.select(range(0, len(valid), stride)[:_MOST_ROWS])
    before, after = (_outputs(each, rows.sources) for each in (writer, other))
    equal = 100 * sum(map(str.__eq__, before, after)) / len(rows)
    if isinstance(writer, Summarizer):
        rouge = rouge_l(before, rows.targets), rouge_l(after, rows.targets)
        return Quality(num_rows=len(rows), equal=equal, rouge_l=rouge)
    language = writer.config.data.target_language
    return Quality(
        num_rows=len(rows),
        equal=equal,
        bleu=(
            bleu(before, rows.targets, target_language=language),
            bleu(after, rows.targets, target_language=language),
        ),
        chrf=(chrf(before, rows.targets), chrf(after, rows.targets)),
    )


def _outputs(writer: Translator | Summarizer, sources: Sequence[str]) -> list[str]:
    is_translator = isinstance(writer, Translator)
    write = writer.translate_best if is_translator else writer.summarize_best
    return [best[0].text for best in write(sources)]
