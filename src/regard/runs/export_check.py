"""Export of a model, and comparison of its outputs with those of the exported folder.

The folder is opened here, where its format is read, and by the library that it is for, where that
is installed. Logits are compared on words of the vocabulary, which says that the weights are in
their places; only real texts through the exported vocabulary and search
(`regard.runs.text_check`) say that an export is equal.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor

from regard.errors import ConfigError, NextStep, WeightsError, did_you_mean
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.export import EXPORTS, TrainedModel
from regard.hub.export.trained_model import SeriesCalendar, SpanSearch
from regard.lazy import load
from regard.models import (
    Classifier,
    Decoder,
    Encoder,
    EncoderDecoder,
    LongformerConfig,
    Model,
    SpanModel,
    TextModel,
    Vit,
)
from regard.runs.input_check import check_inputs
from regard.runs.text_check import (
    Peer,
    TextCheck,
    check_texts,
    largest_difference,
    require_texts,
)
from regard.runs.text_outputs import InputReader, TextReader
from regard.settings.validation import LARGEST
from regard.setup.base_task import FOLDER
from regard.tasks import task_of
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.forecasting.loss import BANDS
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier
from regard.tasks.opening import open_published
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.question_answering.text_windows import max_question_tokens
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

_NUM_TEXTS = 8
_MAX_TOKENS = 24  # of a text
_WORDS = 12  # of a text that is made of a vocabulary
_SAMPLED_TOKENS = 500  # of a vocabulary, from which words are drawn
_NUM_IMAGES = 4
_CHANGE = re.compile(r"`[a-z_.]+=[^`]*`")
"""A setting that a message advises."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """An exported folder, compared with the original model.

    Args:
        folder: The folder.
        model_type: Its model type in the library that it is for.
        difference: Largest difference of a logit between the model and the folder opened here; None
            where the format is not read here.
        scale: Standard deviation of the logits; None where they are not compared.
        peer_difference: Largest difference to the library, of logits or log-probabilities; None
            where it is not installed.
        texts: What real texts gave in the exported folder.
    """

    folder: str
    model_type: str
    difference: float | None = None
    scale: float | None = None
    peer_difference: float | None = None
    texts: TextCheck = TextCheck(reason="this kind of model reads no texts")


def export_model(
    opened: Any,
    output: str | Path,
    to: str = "hf",
    *,
    texts: Sequence[str] = (),
    texts_path: str | None = None,
) -> Exported:
    """Export a model, open the result and compare the outputs.

    Args:
        opened: A model as `regard.load` returns it.
        output: Folder to write.
        to: Format, one of `EXPORTS`.
        texts: On which the outputs are compared; by default the validation texts of the run, where
            its data is unchanged, and for logits words of the vocabulary.
        texts_path: File of such texts, one a line.

    Returns:
        The folder with the differences.

    Raises:
        ConfigError: The format is unknown, or cannot express the model.
        DataError: The file of texts cannot be read.
        WeightsError: The exported vocabulary splits a text into other tokens.
    """
    if to not in EXPORTS:
        hint = did_you_mean(str(to), list(EXPORTS))
        raise ConfigError(f"`to={to}`: one of {', '.join(EXPORTS)} was expected.{hint}")
    folder, trained = Path(output), _trained_model(opened)
    if texts_path is not None:
        if not isinstance(opened, TextReader):
            raise ConfigError(
                f"`texts_path={texts_path}`: a model of {trained.inputs} reads no texts."
            )
        require_texts(texts_path)
    _require_possible(to, trained, opened.folder)
    export_format = EXPORTS[to]
    peer: Peer = load(export_format.peer)
    exported = Exported(folder=str(folder), model_type=export_format.write(trained, folder))
    words: Sequence[str] = ()
    if isinstance(opened, TextReader):
        words = vocabulary_texts(opened.tokenizer)
        check = TextCheck(reason="the folder has no vocabulary")
        if words:
            check = check_texts(folder, opened, peer, path=texts_path, texts=texts)
        exported = replace(exported, texts=check)
    elif isinstance(opened, InputReader):
        exported = replace(exported, texts=check_inputs(folder, opened, peer))
    if export_format.is_read_here or peer.difference is not None:
        return _with_logits(exported, opened, words, peer, is_read_here=export_format.is_read_here)
    return exported


def _trained_model(opened: Any) -> TrainedModel:
    """Return the parts of a model that an export writes."""
    config = opened.config
    task = task_of(config)
    longest = opened.max_source_length if task.writes_targets else config.data.max_length
    return TrainedModel(
        opened.model,
        None if task.reads_inputs else opened.tokenizer,
        config.attention,
        task=config.task,
        inputs=task.inputs,
        search=config.search,
        sampling=config.sampling,
        pooling=opened.pooling if isinstance(opened, TextEncoder) else None,
        max_length=None if longest >= LARGEST else longest,
        source_prefix=config.data.source_prefix,
        context_prefix=config.qa.context_prefix,
        uses=opened.uses if isinstance(opened, TargetWriter) else {},
        labels=config.data.labels,
        label_threshold=opened.threshold if isinstance(opened, MultiLabelClassifier) else None,
        model_type=config.fine_tuning.model_type,
        mean=config.data.mean,
        std=config.data.std,
        span_search=_span_search(opened) if isinstance(opened, QuestionAnswerer) else None,
        audio=(
            config.audio
            if isinstance(opened, InputClassifier) and opened.modality.reads_frames
            else None
        ),
        calendar=_series_calendar(opened) if isinstance(opened, Forecaster) else None,
        new_models={
            family: presets.get(config.preset, presets["small"]).model
            for family, presets in task.presets.items()
        },
    )


def _span_search(opened: QuestionAnswerer) -> SpanSearch | None:
    """Return how a model that finds answers is asked; None where it has no vocabulary."""
    if not opened.tokenizer.files():
        return None
    return SpanSearch(
        max_length=opened.max_length,
        max_question=max_question_tokens(opened.max_length, opened.tokenizer),
        overlap=opened.config.qa.overlap,
        max_answer_tokens=opened.config.qa.max_answer_tokens,
        threshold=opened.threshold,
    )


def _series_calendar(opened: Forecaster) -> SeriesCalendar:
    """Return what a forecaster knows of time."""
    calendar = opened.calendar
    return SeriesCalendar(
        step=calendar.step,
        cycles=calendar.cycles,
        seasons=tuple(opened.config.forecast.seasons or ()),
        num_harmonics=tuple(calendar.num_harmonics),
        bands=tuple(opened.bands.get(name, 1.0) for name in BANDS),
    )


def _with_logits(
    exported: Exported, opened: Any, words: Sequence[str], peer: Peer, *, is_read_here: bool
) -> Exported:
    """Compare the tokens and logits of an exported folder, opened here and by its library.

    Args:
        exported: The folder.
        opened: The model.
        words: Texts of its vocabulary; none where it reads no texts.
        peer: The library that its format is for.
        is_read_here: Whether its format is read here, too.

    Returns:
        The same with the differences.

    Raises:
        WeightsError: The exported vocabulary splits a text into other tokens.
    """
    folder, difference = Path(exported.folder), None
    inputs = _model_inputs(opened, words)
    outputs = _outputs(opened.model, inputs)
    if is_read_here:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said when the model was opened
            again: Any = open_published(folder)
        if words:
            _check_tokens(folder, opened.tokenizer, again.tokenizer, words)
        difference = largest_difference(outputs, _outputs(again.model, inputs))
    peer_difference = None
    if peer.difference is not None and peer.is_installed:
        peer_difference = peer.difference(folder, opened.model, inputs, outputs)
    return replace(
        exported,
        difference=difference,
        scale=float(torch.cat([output.flatten() for output in outputs]).std()),
        peer_difference=peer_difference,
    )


def _require_possible(to: str, trained: TrainedModel, folder: Path | None) -> None:
    """Check that a format can express a model.

    Args:
        to: Name of the format.
        trained: The model.
        folder: That it was opened from; None where it was built in memory.

    Raises:
        ConfigError: It cannot; with the commands for the formats that can, and the formats that
            could after fewer changes of settings.
    """
    find = EXPORTS[to].obstacles
    obstacles = "" if find is None else find(trained)
    if not obstacles:
        return
    name, changes = FOLDER if folder is None else str(folder), set(_CHANGE.findall(obstacles))
    sentences, steps = [obstacles], []
    for key, other in EXPORTS.items():
        if key == to or other.obstacles is None:
            continue
        other_obstacles = other.obstacles(trained)
        if not other_obstacles:
            settings = (("output", f"{name}-{key}"), ("to", key))
            steps.append(NextStep(f"For {other.purpose}", "export", (name,), settings))
        elif (fewer := _CHANGE.findall(other_obstacles)) and set(fewer) < changes:
            sentences.append(f"For {other.purpose} (`to={key}`) it is enough: {' '.join(fewer)}.")
    raise ConfigError("  ".join(sentences), *steps)


def vocabulary_texts(tokenizer: AnyTokenizer) -> list[str]:
    """Return texts of words of a vocabulary, always the same; empty where it has no files."""
    if not tokenizer.files():
        return []
    used = set(range(len(tokenizer))) - set(tokenizer.unused_ids(len(tokenizer)))
    ids = sorted(used - set(tokenizer.special_ids.values()))
    generator = random.Random(0)
    sampled = generator.sample(ids, min(_SAMPLED_TOKENS, len(ids)))
    decoded = tokenizer.decode([token] for token in sampled)
    words = [word for word in map(str.strip, decoded) if word.isprintable() and word]
    return [" ".join(generator.choices(words, k=_WORDS)) for _ in range(_NUM_TEXTS)]


def _model_inputs(opened: Any, texts: Sequence[str]) -> list[tuple[Tensor, ...]]:
    """Return inputs of a model: token ids ``[1, length]`` of each text, random without texts."""
    model = opened.model
    if isinstance(model, Vit) or not texts:
        return _random_inputs(model)
    tokenizer: AnyTokenizer = opened.tokenizer
    if isinstance(model, EncoderDecoder):
        ids = special_ids(model, tokenizer)
        sources = prepend_special_tokens(tokenizer, tokenizer.encode(texts))
        targets = prepend_special_tokens(tokenizer, tokenizer.encode_targets(texts))
        return [
            (
                torch.tensor([[*source[: _MAX_TOKENS - 1], *ids.after_source]]),
                torch.tensor([[ids.start, *target[: _MAX_TOKENS - 1]]]),
            )
            for source, target in zip(sources, targets, strict=True)
        ]
    if isinstance(model, Decoder):
        rows = [[*tokenizer.document_start, *tokenizer.encode_text(text)] for text in texts]
        length = min(_MAX_TOKENS, model.num_positions or _MAX_TOKENS)
        return [(torch.tensor([row[:length]]),) for row in rows]
    if isinstance(model, SpanModel):
        return [(torch.tensor([row]),) for row in _pair_rows(tokenizer, texts)]
    encoder = model.encoder if isinstance(model, Classifier) else model
    length = min(_MAX_TOKENS, encoder.config.max_positions)
    rows = tokenizer.encode_truncated(texts, max_length=length)
    return [(torch.tensor([row]),) for row in rows]


def _random_inputs(model: Vit | TextModel) -> list[tuple[Tensor, ...]]:
    """Return pixels ``[batch, channels, height, width]`` or token ids ``[2, length]``."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, Vit):
        shape = (_NUM_IMAGES, model.config.channels, model.config.height, model.config.width)
        return [(torch.randn(shape, generator=generator),)]
    ids = torch.randint(3, model.vocab_size, (2, _MAX_TOKENS), generator=generator)
    config = model.encoder.config if isinstance(model, SpanModel) else None
    if isinstance(config, LongformerConfig) and (end_id := config.question_end_id) is not None:
        # The form of a pair, which `transformers` asks for.
        ids[ids == end_id] = 3 if end_id != 3 else 4
        ids[:, [_MAX_TOKENS // 2, _MAX_TOKENS // 2 + 1, -1]] = end_id
    if not isinstance(model, EncoderDecoder):
        return [(ids,)]
    ids = ids.masked_fill(ids == model.pad_id, 3 if model.pad_id != 3 else 4)
    return [(ids, ids)]


def _pair_rows(tokenizer: AnyTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text as a question on the text itself."""
    begin, between, end, _ = tokenizer.pair_template
    room = (_MAX_TOKENS - tokenizer.pair_template.num_special) // 2
    return [[*begin, *row[:room], *between, *row[:room], *end] for row in tokenizer.encode(texts)]


def _check_tokens(
    folder: Path, tokenizer: AnyTokenizer, exported: AnyTokenizer, texts: Sequence[str]
) -> None:
    """Raise WeightsError where an exported vocabulary splits a text into other tokens."""
    rows = zip(texts, tokenizer.encode(texts), exported.encode(texts), strict=True)
    for text, ids, exported_ids in rows:
        if ids != exported_ids:
            raise WeightsError(
                f"{folder}: the exported vocabulary cuts {text[:40]!r} into other tokens than the "
                f"model's own: {exported_ids[:8]}, not {ids[:8]}."
            )


@torch.inference_mode()
def _outputs(model: Model, inputs: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """Return the logits of each input, ``[batch, (length,) vocabulary or labels]``.

    An encoder without a head gives its last hidden states, ``[batch, length, dim]``.
    """
    if isinstance(model, Encoder) and model.head is None:
        return [model.hidden_states(*tensors) for tensors in inputs]
    return [model(*tensors) for tensors in inputs]
