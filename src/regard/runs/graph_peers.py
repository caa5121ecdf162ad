"""Outputs of an exported graph in what runs it, by the lines that its README shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs
from regard.data.readers.audio import read_wav
from regard.data.rows import Rows
from regard.data.time_series import TimeSeries
from regard.hub.file_names import GRAPH_NAMES
from regard.runs.input_check import forecast_outputs
from regard.runs.text_check import Peer
from regard.runs.text_outputs import (
    NUM_CANDIDATES,
    InputReader,
    TextOutput,
    TextReader,
    compared_search,
    continued_tokens,
    label_output,
    question_of,
    scored_tokens,
)
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

T = TypeVar("T")
_USAGE = "regard.hub.export.usage"
_BATCH = 16  # texts, which are padded to the longest


class _Export(NamedTuple):
    """An exported folder, and the session of its graph."""

    folder: Path
    session: Any

    def usage(self, module: str, name: str) -> Any:
        """Return an object of a class of the README."""
        return getattr(import_module(f"{_USAGE}.{module}"), name)(str(self.folder), self.session)


def _open(folder: Path, session: str) -> _Export:
    """Open a folder by a module of sessions."""
    module = import_module(f"{_USAGE}.{session}")
    return _Export(folder, module.open_session(str(folder)))


def graph_outputs(
    folder: Path, opened: TextReader, texts: Sequence[str], *, session: str
) -> list[TextOutput]:
    """Return what the lines of the README make of texts, in batches.

    Args:
        folder: The export.
        opened: The model that was exported.
        texts: The texts.
        session: Module of the usage that runs the graph.

    Returns:
        An output for each.
    """
    if isinstance(opened, TargetWriter):
        return _write(folder, opened, texts, session)
    export = _open(folder, session)
    if isinstance(opened, TextClassifier):
        return _classify(export, opened, texts)
    if isinstance(opened, QuestionAnswerer):
        return _answer(export, texts)
    if isinstance(opened, TextGenerator):
        return _continue(export, opened, texts)
    assert isinstance(opened, TextEncoder), "others are not exported"
    if opened.model.head is None or opened.tokenizer.mask_id is None:
        return _embed(export, texts)
    return _fill(export, texts)


def graph_input_outputs(
    folder: Path, opened: InputReader, inputs: Rows, *, session: str
) -> list[TextOutput]:
    """Return what the lines of the README make of images, recordings or series.

    Args:
        folder: The export.
        opened: The model that was exported.
        inputs: The inputs.
        session: Module of the usage that runs the graph.

    Returns:
        An output for each.
    """
    export = _open(folder, session)
    if isinstance(inputs, TimeSeries):
        return _forecast(export, inputs)
    assert isinstance(opened, InputClassifier) and isinstance(inputs, LabeledInputs)
    if opened.modality.reads_frames:
        return _classify_recordings(export, opened, inputs)
    is_image = opened.model.config.input == "image"
    module, name = ("images", "Image") if is_image else ("rows", "Row")
    classify = export.usage(f"classify_{module}", f"{name}Classifier")
    return [
        label_output(probabilities, opened.labels)
        for batch in _batches(inputs.values)
        for probabilities in classify(batch)
    ]


def _peer(name: str, session: str) -> Peer:
    """Return what reads inputs with a module of sessions."""
    input_outputs = partial(graph_input_outputs, session=session)
    return Peer(name, partial(graph_outputs, session=session), input_outputs=input_outputs)


ONNXRUNTIME = _peer("onnxruntime", "onnxruntime_session")
"""What ONNX is for."""
TORCH = _peer("torch.export", "torch_session")
"""What programs of PyTorch are for."""


def _batches(inputs: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(inputs), _BATCH):
        yield inputs[start : start + _BATCH]


def _rows(inputs: Mapping[str, NDArray]) -> list[tuple[int, ...]]:
    """Return the tokens of each row of inputs ``[batch, length]``, without padding."""
    pairs = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    return [tuple(ids[mask == 1].tolist()) for ids, mask in pairs]


def _classify(export: _Export, opened: TextClassifier, texts: Sequence[str]) -> list[TextOutput]:
    classify, outputs = export.usage("classify_texts", "TextClassifier"), []
    for batch in _batches(texts):
        rows = zip(_rows(classify.encode(batch)), classify(batch), strict=True)
        for tokens, probabilities in rows:
            outputs.append(label_output(probabilities, opened.labels, tokens))
    return outputs


def _classify_recordings(
    export: _Export, opened: InputClassifier, inputs: LabeledInputs
) -> list[TextOutput]:
    """Classify the files again, from their samples on."""
    classify = export.usage("classify_rows", "RowClassifier")
    log_mel = import_module(f"{_USAGE}.log_mel").log_mel
    outputs = []
    for location in inputs.locations:
        samples = read_wav(Path(inputs.path) / location).samples.numpy()
        (probabilities,) = classify([log_mel(samples, classify.settings)])
        outputs.append(label_output(probabilities, opened.labels))
    return outputs


def _forecast(export: _Export, series: TimeSeries) -> list[TextOutput]:
    forecast, quantiles = export.usage("forecast_series", "Forecaster"), []
    rows = zip(series.values, series.indices, series.known, series.observed, strict=True)
    for values, index, ahead, observed in rows:
        first = index.starting_at(len(values)).start
        result = forecast(values, first, ahead, observed)
        quantiles.append(np.array(list(result.values())).T)  # [horizon, levels]
    return forecast_outputs(series, quantiles)


def _answer(export: _Export, texts: Sequence[str]) -> list[TextOutput]:
    answer, outputs = export.usage("answer_questions", "QuestionAnswerer"), []
    answer.settings["no_answer_threshold"] = None  # the best span is compared
    for text in texts:
        question = question_of(text)
        window = next(answer.windows(question, text))
        result = answer(question, text)
        outputs.append(
            TextOutput(_rows(window.inputs)[0], result["answer"] or "", (result["probability"],))
        )
    return outputs


def _embed(export: _Export, texts: Sequence[str]) -> list[TextOutput]:
    embed, outputs = export.usage("embed_texts", "TextEncoder"), []
    for batch in _batches(texts):
        rows = zip(_rows(embed.encode(batch)), embed(batch).tolist(), strict=True)
        outputs += [TextOutput(tokens, numbers=tuple(vector)) for tokens, vector in rows]
    return outputs


def _fill(export: _Export, texts: Sequence[str]) -> list[TextOutput]:
    fill, outputs = export.usage("fill_masks", "MaskFiller"), []
    for text in texts:
        (candidates,) = fill(text, NUM_CANDIDATES)
        numbers = tuple(probability for _, probability in candidates)
        outputs.append(TextOutput(_rows(fill.encode(text))[0], numbers=numbers))
    return outputs


def _write(
    folder: Path, opened: TargetWriter, texts: Sequence[str], session: str
) -> list[TextOutput]:
    """Write outputs with the search of the folder, of at most as many tokens as are compared."""
    module = import_module(f"{_USAGE}.{session}")
    sessions = (module.open_session(str(folder), name) for name in GRAPH_NAMES[1:])
    write = import_module(f"{_USAGE}.write_texts").TextWriter(str(folder), *sessions)
    search = compared_search(opened)
    write.beam = search.beam
    longest, outputs = write.rules.get("max_length"), []
    write.rules["max_length"] = 1 + min(filter(None, (search.max_length, longest and longest - 1)))
    for text in texts:
        inputs = write.encode(text)
        ids = write.search(inputs)
        target = [*ids, write.end][: scored_tokens(opened)]
        log_probabilities = write.log_probabilities(inputs, target)
        outputs.append(
            TextOutput(
                _rows(inputs)[0],
                write.tokenizer.decode(ids),
                (float(np.mean(log_probabilities)),),
            )
        )
    return outputs


def _continue(export: _Export, opened: TextGenerator, texts: Sequence[str]) -> list[TextOutput]:
    generate, outputs = export.usage("continue_texts", "TextGenerator"), []
    for text in texts:
        tokens = generate.encode(text)
        output = generate(text, continued_tokens(opened, len(tokens)), temperature=0)
        numbers: tuple[float, ...] = ()
        if len(tokens) > 1:
            numbers = (float(np.mean(generate.log_probabilities(tokens))),)
        outputs.append(TextOutput(tuple(tokens), output, numbers))
    return outputs
