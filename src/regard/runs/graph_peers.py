"""Outputs of an exported folder in ``onnxruntime``, by the lines that its README shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs
from regard.data.readers.audio import read_wav
from regard.data.rows import Rows
from regard.data.time_series import TimeSeries
from regard.runs.input_check import forecast_outputs
from regard.runs.text_check import (
    NUM_CANDIDATES,
    InputReader,
    Peer,
    TextOutput,
    TextReader,
    label_output,
    question_of,
)
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.question_answering.predictor import QuestionAnswerer

T = TypeVar("T")
_USAGE = "regard.hub.export.usage"
_BATCH = 16  # texts, which are padded to the longest


def onnxruntime_outputs(folder: Path, opened: TextReader, texts: Sequence[str]) -> list[TextOutput]:
    """Return what the lines of the README make of texts, in batches.

    Args:
        folder: The export.
        opened: The model that was exported.
        texts: The texts.

    Returns:
        An output for each.
    """
    if isinstance(opened, TextClassifier):
        return _classify(folder, opened, texts)
    if isinstance(opened, QuestionAnswerer):
        return _answer(folder, texts)
    assert isinstance(opened, TextEncoder), "others are not exported"
    if opened.model.head is None or opened.tokenizer.mask_id is None:
        return _embed(folder, texts)
    return _fill(folder, texts)


def onnxruntime_input_outputs(folder: Path, opened: InputReader, inputs: Rows) -> list[TextOutput]:
    """Return what the lines of the README make of images, recordings or series.

    Args:
        folder: The export.
        opened: The model that was exported.
        inputs: The inputs.

    Returns:
        An output for each.
    """
    if isinstance(inputs, TimeSeries):
        return _forecast(folder, inputs)
    assert isinstance(opened, InputClassifier) and isinstance(inputs, LabeledInputs)
    if opened.modality.reads_frames:
        return _classify_recordings(folder, opened, inputs)
    is_image = opened.model.config.input == "image"
    module, name = ("images", "Image") if is_image else ("rows", "Row")
    classify = _usage(f"classify_{module}", f"{name}Classifier", folder)
    return [
        label_output(probabilities, opened.labels)
        for batch in _batches(inputs.values)
        for probabilities in classify(batch)
    ]


ONNXRUNTIME = Peer("onnxruntime", onnxruntime_outputs, input_outputs=onnxruntime_input_outputs)
"""What ONNX is for."""


def _batches(inputs: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(inputs), _BATCH):
        yield inputs[start : start + _BATCH]


def _rows(inputs: Mapping[str, NDArray]) -> list[tuple[int, ...]]:
    """Return the tokens of each row of inputs ``[batch, length]``, without padding."""
    pairs = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    return [tuple(ids[mask == 1].tolist()) for ids, mask in pairs]


def _usage(module: str, name: str, folder: Path) -> Any:
    """Return an object of a class of the README."""
    return getattr(import_module(f"{_USAGE}.{module}"), name)(str(folder))


def _classify(folder: Path, opened: TextClassifier, texts: Sequence[str]) -> list[TextOutput]:
    classify, outputs = _usage("classify_texts", "TextClassifier", folder), []
    for batch in _batches(texts):
        rows = zip(_rows(classify.encode(batch)), classify(batch), strict=True)
        for tokens, probabilities in rows:
            outputs.append(label_output(probabilities, opened.labels, tokens))
    return outputs


def _classify_recordings(
    folder: Path, opened: InputClassifier, inputs: LabeledInputs
) -> list[TextOutput]:
    """Classify the files again, from their samples on."""
    classify = _usage("classify_rows", "RowClassifier", folder)
    log_mel = import_module(f"{_USAGE}.log_mel").log_mel
    outputs = []
    for location in inputs.locations:
        samples = read_wav(Path(inputs.path) / location).samples.numpy()
        (probabilities,) = classify([log_mel(samples, classify.settings)])
        outputs.append(label_output(probabilities, opened.labels))
    return outputs


def _forecast(folder: Path, series: TimeSeries) -> list[TextOutput]:
    forecast, quantiles = _usage("forecast_series", "Forecaster", folder), []
    rows = zip(series.values, series.indices, series.known, series.observed, strict=True)
    for values, index, ahead, observed in rows:
        first = index.starting_at(len(values)).start
        result = forecast(values, first, ahead, observed)
        quantiles.append(np.array(list(result.values())).T)  # [horizon, levels]
    return forecast_outputs(series, quantiles)


def _answer(folder: Path, texts: Sequence[str]) -> list[TextOutput]:
    answer, outputs = _usage("answer_questions", "QuestionAnswerer", folder), []
    answer.settings["no_answer_threshold"] = None  # the best span is compared
    for text in texts:
        question = question_of(text)
        window = next(answer.windows(question, text))
        result = answer(question, text)
        outputs.append(
            TextOutput(_rows(window.inputs)[0], result["answer"] or "", (result["probability"],))
        )
    return outputs


def _embed(folder: Path, texts: Sequence[str]) -> list[TextOutput]:
    embed, outputs = _usage("embed_texts", "TextEncoder", folder), []
    for batch in _batches(texts):
        rows = zip(_rows(embed.encode(batch)), embed(batch).tolist(), strict=True)
        outputs += [TextOutput(tokens, numbers=tuple(vector)) for tokens, vector in rows]
    return outputs


def _fill(folder: Path, texts: Sequence[str]) -> list[TextOutput]:
    fill, outputs = _usage("fill_masks", "MaskFiller", folder), []
    for text in texts:
        (candidates,) = fill(text, NUM_CANDIDATES)
        numbers = tuple(probability for _, probability in candidates)
        outputs.append(TextOutput(_rows(fill.encode(text))[0], numbers=numbers))
    return outputs
