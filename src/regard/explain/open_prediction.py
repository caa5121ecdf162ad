"""Opening the prediction of a trained model for an input, whatever its task."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regard.data.batching import TokenRows
from regard.data.listing import pluralize
from regard.data.readers.source import as_source
from regard.data.time_series import TimeSeries
from regard.errors import ConfigError, DataError, did_you_mean
from regard.explain.prediction import Prediction
from regard.explain.predictions.answer_span import AnswerSpan
from regard.explain.predictions.answer_window import best_window, find_span
from regard.explain.predictions.classified_input import ClassifiedInput
from regard.explain.predictions.classified_text import ClassifiedText, MultiLabeledText
from regard.explain.predictions.continued_text import ContinuedText
from regard.explain.predictions.forecast_steps import ForecastSteps
from regard.explain.predictions.reference_tokens import split_special
from regard.explain.predictions.written_target import WrittenTarget
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig, sample
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens, split_tokenizer
from regard.option_checks import require_whole
from regard.settings.validation import require_texts
from regard.setup.config import RunConfig
from regard.tasks import Predictor
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import LabelPredictor, TextClassifier
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.generative_question_answering.data import encode_sources
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier
from regard.tasks.question_answering.loss import is_null, span_text
from regard.tasks.question_answering.predictor import QuestionAnswerer, unanswered
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.sequence_to_sequence.predictor import TargetWriter
from regard.tasks.translation.predictor import Translator

_CONTINUED_TOKENS = 20  # of a continuation that is not named


class ExplanationRequest(NamedTuple):
    """What is to be explained.

    Args:
        text: The input: a text, a question, or the path of an image, recording or series.
        context: The text that a question is asked of; None where the task has none.
        output: The output that is explained: a target, a continuation, a label or an answer. None
            is the model's own; of a continuation its first tokens, the most probable ones.
        contrast: Another output that it is compared with, see `ClassPrediction`.
        row: Which input of a file of images, recordings or series, from 1.
    """

    text: str
    context: str | None = None
    output: str | None = None
    contrast: str | None = None
    row: int = 1


def predict(
    predictor: Predictor,
    text: str | PathLike[str],
    *,
    context: str | None = None,
    output: str | None = None,
    contrast: str | None = None,
    row: int = 1,
) -> Prediction:
    """Open the prediction of a model for an input; see `ExplanationRequest`.

    Args:
        predictor: From `regard.load`.
        text: The input: a text, a question, or the path of an image, recording or series.
        context: The text that a question is asked of.
        output: The output that is explained; None is the model's own.
        contrast: Another output that it is compared with.
        row: Which input of a file of images, recordings or series, from 1.

    Returns:
        The prediction.

    Raises:
        TypeError: The predictor is something else, such as a module alone.
        ConfigError: The text is empty, an option is of another type or does not fit the task, a
            label is unknown, or the contrast is the output itself.
        DataError: A file cannot be read.
    """
    _require_predictor(predictor)
    request = ExplanationRequest(_input_of(predictor, text), context, output, contrast, row)
    _check_types(request)
    _check_request(predictor, request)
    for kind, open_prediction in _OPENERS:
        if isinstance(predictor, kind):
            return open_prediction(predictor, request)
    raise ConfigError(refusal_of(predictor.config.task))


def refusal_of(task: str) -> str:
    """Return why a task is not explained: that of hidden tokens, which trains encoders first."""
    return (
        f"a model for {task} has no explanation.  Explain one that is trained from it, such as a "
        "classifier."
    )


def _require_predictor(predictor: object) -> None:
    """Raise TypeError, which says what is allowed, where something is not a predictor."""
    if isinstance(getattr(predictor, "config", None), RunConfig):
        return
    hint = ""
    if isinstance(predictor, nn.Module):
        hint = "  A module alone reads no text: pass the model whose `.model` it is."
    elif isinstance(predictor, str | PathLike):
        hint = "  Open the folder first: `regard.load(FOLDER)`."
    raise TypeError(
        f"`predictor`: a model from `regard.load` or `regard.train` was expected, not "
        f"{type(predictor).__name__}.{hint}"
    )


def _input_of(predictor: Predictor, text: str | PathLike[str]) -> str:
    """Return an input as a text: the path where a predictor reads files.

    Raises:
        ConfigError: A path for a predictor that reads texts.
    """
    if isinstance(text, PathLike) and isinstance(predictor, InputClassifier | Forecaster):
        return fspath(text)
    if isinstance(text, PathLike):
        raise ConfigError(f"`text`: a text was expected, not {type(text).__name__}.")
    return text


def _check_types(request: ExplanationRequest) -> None:
    """Raise ConfigError where a part of a request is of another type."""
    for name in ("text", "context", "output", "contrast"):
        value = getattr(request, name)
        if not isinstance(value, str) and (name == "text" or value is not None):
            raise ConfigError(f"`{name}`: a text was expected, not {type(value).__name__}.")
        require_texts([value or ""], name)
    require_whole("row", request.row, 1)


def _check_request(predictor: Predictor, request: ExplanationRequest) -> None:
    if isinstance(predictor, QuestionAnswerer | AnswerWriter):
        if request.context is None:
            raise ConfigError("a question is asked of a text.  Name it: `context`.")
    elif request.context is not None:
        raise ConfigError(f"`context`: a model for {predictor.config.task} has none.")
    if not (request.text.strip() or isinstance(predictor, TextGenerator)):
        raise ConfigError("the text is empty: there is nothing to explain.")


def _write(writer: TargetWriter, request: ExplanationRequest) -> WrittenTarget:
    """Open the prediction of a target; without an output, of the one that the model writes."""
    text = request.text
    if isinstance(writer, Translator):
        writer, text = writer.direct(text)
    (source,) = writer.encode_sources([text])
    return _write_target(writer, source, request)


def _write_answer(writer: AnswerWriter, request: ExplanationRequest) -> WrittenTarget:
    """Open the prediction of an answer that is written."""
    end = special_ids(writer.model, writer.tokenizer).end_of_source
    questions, contexts = [request.text], [request.context or ""]
    (source,) = encode_sources(questions, contexts, writer.tokenizer, end, writer.config)
    has_answer = True
    if request.output is None:
        (answer,) = writer.write_answers(questions, contexts)
        has_answer = not answer.is_null(writer.threshold)
    if not has_answer:
        request = request._replace(output="")
    prediction = _write_target(writer, source, request, writer.answer_search())
    if not has_answer:
        prediction.notes = ('The answer is "no answer", an empty output.',)
    return prediction


def _write_target(
    writer: TargetWriter,
    source: list[int],
    request: ExplanationRequest,
    search: BeamSearchConfig | None = None,
) -> WrittenTarget:
    limit = writer.max_source_length
    if len(source) > limit:
        warnings.warn(
            f"the text has {len(source):,} tokens; the first {limit:,} are explained, which the "
            "model reads together.",
            stacklevel=2,
        )
        source = source[:limit]
    is_complete, begin = True, _begin_ids(writer)
    if request.output is None:
        source_tokenizer, _ = split_tokenizer(writer.tokenizer)
        sources = TokenRows(prepend_special_tokens(source_tokenizer, [source]))
        ((best, *_),) = writer.decode(sources, search or writer.search_config())
        target, is_complete = best.ids, best.is_complete
        if tuple(target[: len(begin)]) != begin:
            begin = ()  # a search that does not force them: the model left them out
        target = target[len(begin) :]
    else:
        (target,) = writer.tokenizer.encode_targets([request.output])
    other = None
    if request.contrast is not None:
        (other,) = writer.tokenizer.encode_targets([request.contrast])
    return WrittenTarget(
        writer.model,
        writer.tokenizer,
        source,
        target,
        other,
        is_complete=is_complete,
        begin=begin,
    )


def _begin_ids(writer: TargetWriter) -> tuple[int, ...]:
    """Return the tokens that begin every output, which the vocabulary adds or the search forces."""
    _, tokenizer = split_tokenizer(writer.tokenizer)
    begin, forced = tokenizer.begin_ids, writer.config.search.forced_first
    return begin if forced in (None, *begin[:1]) else (forced,)


def _continue(generator: TextGenerator, request: ExplanationRequest) -> ContinuedText:
    """Open the prediction of a continuation; without an output, of the most probable tokens."""
    tokenizer = generator.tokenizer
    ids = tokenizer.encode_prompt(request.text) or tokenizer.document_start
    if not ids:
        raise ConfigError("the text is empty, and the vocabulary has no token that begins a text.")
    before, prompt, after = split_special(tokenizer, ids, tokenizer.document_start)
    if request.output is None:
        most = generator.model.num_positions
        room = _CONTINUED_TOKENS if most is None else most + 1 - len(ids)
        if room < 1:
            raise ConfigError(
                f"the text has {len(ids):,} tokens; the model has {most:,} positions, and none is "
                "left for a continuation."
            )
        config = SamplingConfig(
            max_tokens=min(_CONTINUED_TOKENS, room),
            temperature=0.0,
            forbidden=tokenizer.unused_ids(generator.model.vocab_size),
        )
        steps = sample(
            generator.model, ids, config, ends=tokenizer.stop_ids, generator=torch.Generator()
        )
        continuation = [int(drawn.tokens) for drawn in steps]
    else:
        continuation = _encode_after(tokenizer, request.text, request.output)
    contrast = request.contrast
    return ContinuedText(
        generator.model,
        tokenizer,
        before=before,
        prompt=[*prompt, *after],
        continuation=continuation,
        contrast=None if contrast is None else _encode_after(tokenizer, request.text, contrast),
    )


def _encode_after(tokenizer: AnyTokenizer, text: str, continuation: str) -> list[int]:
    """Return the token ids of a continuation, with the space between it and the text before it.

    Raises:
        ConfigError: Together with the text it has other tokens than the text alone.
    """
    whole, before = tokenizer.encode_text(text + continuation), tokenizer.encode_text(text)
    if whole[: len(before)] != before:
        raise ConfigError(
            "the continuation changes the tokens of the text before it.  Begin it with a space."
        )
    return whole[len(before) :]


def _classify_text(classifier: TextClassifier, request: ExplanationRequest) -> ClassifiedText:
    """Open the prediction of a text's label."""
    limit = classifier.max_length
    (ids,) = classifier.tokenizer.encode_truncated([request.text], max_length=limit)
    if any(classifier.count_truncated([request.text], [ids])):
        warnings.warn(f"no more than {limit:,} tokens of the text are read.", stacklevel=2)
    is_multi_label = isinstance(classifier, MultiLabelClassifier)
    prediction = MultiLabeledText if is_multi_label else ClassifiedText
    return prediction(
        classifier.model,
        classifier.tokenizer,
        classifier.labels,
        ids,
        label=_label_index(classifier, request.output),
        contrast=_label_index(classifier, request.contrast),
    )


def _classify_input(classifier: InputClassifier, request: ExplanationRequest) -> ClassifiedInput:
    """Open the prediction of the label of one input of a file."""
    inputs = classifier.modality.read_unlabeled(classifier.input_format, as_source(request.text))
    read = list(itertools.islice(inputs, request.row - 1, request.row + 1))
    if not read:
        raise DataError(f"{request.text}: has no input number {request.row:,}.")
    if request.row == 1 and len(read) > 1:
        warnings.warn(
            f"there are several inputs; the first, {read[0][0]}, is explained.", stacklevel=2
        )
    return classify_values(classifier, read[0][1], request.output, request.contrast)


def classify_values(
    classifier: InputClassifier,
    values: NDArray,
    output: str | None = None,
    contrast: str | None = None,
) -> ClassifiedInput:
    """Open the prediction of the label of an image, a recording or a series.

    Args:
        classifier: The predictor.
        values: Values of the input, not standardized.
        output: The label that is explained; None is the most probable.
        contrast: Another label that it is compared with.

    Returns:
        The prediction; for an image with its pixels.
    """
    inputs, lengths = classifier.collator.lay_out([values])
    if any(classifier.collator.count_truncated([values])):
        limit, unit = classifier.max_length, classifier.length_unit
        warnings.warn(f"no more than {limit:,} {unit} of the input are read.", stacklevel=2)
    if lengths is not None:
        inputs = inputs[:, : int(lengths[0])]  # [1, length, dim]
    audio = classifier.config.audio
    seconds = audio.hop_size / audio.sample_rate
    prediction = ClassifiedInput(
        classifier.model,
        classifier.labels,
        inputs,
        label=_label_index(classifier, output),
        contrast=_label_index(classifier, contrast),
        seconds_per_row=seconds if classifier.modality.reads_frames else None,
    )
    if values.ndim == 3:
        prediction.image = values
    return prediction


def _label_index(classifier: LabelPredictor[Any], label: str | None) -> int | None:
    """Return the index of a label, None for None; raise ConfigError for an unknown one."""
    if label is None:
        return None
    if label not in classifier.labels:
        hint = did_you_mean(label, classifier.labels)
        raise ConfigError(
            f"label {label!r}: one of {', '.join(classifier.labels)} was expected.{hint}"
        )
    return classifier.labels.index(label)


def _answer(answerer: QuestionAnswerer, request: ExplanationRequest) -> AnswerSpan:
    """Open the prediction of an answer's first and last token, in the window where it is best."""
    context = request.context or ""
    batches = answerer.batches(unanswered([request.text], [context]))
    spans: list[tuple[int, int] | None]
    if request.output is not None:
        spans = [find_span(context, request.output)]
    else:
        best = answerer.spans(unanswered([request.text], [context]))[0]
        is_answer = not is_null(best, answerer.threshold) and bool(span_text(best, context)[0])
        # Not that of the answer's text: a token of space may be the first or the last.
        spans = [(best.start, best.end) if best is not None and is_answer else None]
    if request.contrast is not None:
        spans.append(find_span(context, request.contrast))
    index, positions = best_window(answerer, batches, spans)
    window = batches.batch(np.array([index]))
    prediction = AnswerSpan(answerer.model, answerer.tokenizer, window, *positions)
    answer = "no answer" if spans[0] is None else f'"{context[slice(*spans[0])].strip()}"'
    prediction.notes = (f"The answer is {answer}; its first and its last token are explained.",)
    if truncated := batches.questions[0].truncated:
        tokens = pluralize(truncated, "token")
        prediction.notes += (
            f"The end of the question, {tokens}, is not read: half a window is for the text.",
        )
    return prediction


def _forecast(forecaster: Forecaster, request: ExplanationRequest) -> ForecastSteps:
    """Open the forecast of the first series of a file."""
    if request.output is not None or request.contrast is not None:
        raise ConfigError("a forecast has no other output to be explained or compared with.")
    series = forecaster.read(request.text).series
    if len(series) < request.row:
        raise DataError(
            f"{request.text}: {len(series):,} series; number {request.row:,} is asked for."
        )
    if len(series) > 1 and request.row == 1:
        warnings.warn(
            f"the file has {len(series):,} series; the first, {series.names[0]}, is explained.",
            stacklevel=2,
        )
    return forecast_series(forecaster, series.select([request.row - 1]))


def forecast_series(forecaster: Forecaster, series: TimeSeries) -> ForecastSteps:
    """Open the forecast of the steps after one series."""
    config = forecaster.model.config
    length, index = len(series.values[0]), series.indices[0]
    batch = forecaster.windows(series).batch(np.array([0]), np.array([length]))
    prediction = ForecastSteps(
        forecaster.model,
        batch.inputs,
        times=index.times(length - config.window, config.window)[:: config.patch],
        ahead=index.times(length, config.horizon),
    )
    prediction.history = tuple(batch.inputs.values[0].tolist())
    return prediction


_OPENERS: tuple[tuple[type, Callable[[Any, ExplanationRequest], Prediction]], ...] = (
    (TextGenerator, _continue),
    (TextClassifier, _classify_text),
    (InputClassifier, _classify_input),
    (QuestionAnswerer, _answer),
    (AnswerWriter, _write_answer),
    (TargetWriter, _write),
    (Forecaster, _forecast),
)
"""What opens the prediction of each kind of predictor, the first that fits."""
