"""Predictions to explain, one file for each kind of output."""

from __future__ import annotations

import torch

from regard.data.batching import TokenRows
from regard.errors import ConfigError
from regard.explain.prediction import ClassPrediction, Prediction
from regard.explain.predictions.classified_text import ClassifiedText
from regard.explain.predictions.continued_text import ContinuedText
from regard.explain.predictions.reference_tokens import split_special
from regard.explain.predictions.written_target import WrittenTarget
from regard.generation.sampling import SamplingConfig, sample
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.tasks import Predictor
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

__all__ = [
    "ClassPrediction",
    "ClassifiedText",
    "ContinuedText",
    "Prediction",
    "WrittenTarget",
    "predict",
]

_CONTINUED_TOKENS = 20  # of a continuation that is not named


def predict(
    predictor: Predictor, text: str, *, output: str | None = None, contrast: str | None = None
) -> Prediction:
    """Open the prediction of a model for a text.

    Args:
        predictor: From `regard.load`.
        text: The input.
        output: The output that is explained: a target, a continuation or a label. None is the
            model's own; of a continuation its first tokens, the most probable ones.
        contrast: Another output that it is compared with, see `ClassPrediction`.

    Returns:
        The prediction.

    Raises:
        ConfigError: The text is empty, a label is unknown, or the contrast is the output itself.
    """
    if isinstance(predictor, TextGenerator):
        return _continue(predictor, text, output, contrast)
    if not text.strip():
        raise ConfigError("the text is empty: there is nothing to explain.")
    if isinstance(predictor, TextClassifier):
        (ids,) = predictor.tokenizer.encode_whole([text], max_length=predictor.max_length)
        label, other = (_label_index(predictor, name) for name in (output, contrast))
        return ClassifiedText(
            predictor.model,
            predictor.tokenizer,
            predictor.labels,
            ids,
            label=label,
            contrast=other,
        )
    if isinstance(predictor, TargetWriter):
        return _write(predictor, text, output, contrast)
    raise ConfigError(f"a model for {predictor.config.task} has no explanation.")


def _write(
    writer: TargetWriter, text: str, output: str | None, contrast: str | None
) -> WrittenTarget:
    """Open the prediction of a target; without an output, of the one that the model writes."""
    (source,) = writer.tokenizer.encode([text])
    source = source[: writer.max_source_length]
    if output is None:
        source_tokenizer, _ = split_tokenizer(writer.tokenizer)
        sources = TokenRows(prepend_special_tokens(source_tokenizer, [source]))
        ((best, *_),) = writer.decode(sources, writer.search_config(num_best=1))
        target = best.ids
    else:
        (target,) = writer.tokenizer.encode_targets([output])
    other = None if contrast is None else writer.tokenizer.encode_targets([contrast])[0]
    return WrittenTarget(writer.model, writer.tokenizer, source, target, other)


def _continue(
    generator: TextGenerator, text: str, output: str | None, contrast: str | None
) -> ContinuedText:
    """Open the prediction of a continuation; without an output, of the most probable tokens."""
    tokenizer = generator.tokenizer
    ids = tokenizer.encode_prompt(text) or tokenizer.document_start
    if not ids:
        raise ConfigError("the text is empty, and the vocabulary has no token that begins a text.")
    before, prompt, after = split_special(tokenizer, ids, tokenizer.document_start)
    if output is None:
        config = SamplingConfig(
            max_tokens=_CONTINUED_TOKENS,
            temperature=0.0,
            forbidden=tokenizer.unused_ids(generator.model.vocab_size),
        )
        steps = sample(
            generator.model, ids, config, ends=tokenizer.stop_ids, generator=torch.Generator()
        )
        continuation = [int(tokens[0]) for tokens in steps]
    else:
        continuation = _encode_after(tokenizer, text, output)
    return ContinuedText(
        generator.model,
        tokenizer,
        before=before,
        prompt=[*prompt, *after],
        continuation=continuation,
        contrast=None if contrast is None else _encode_after(tokenizer, text, contrast),
    )


def _encode_after(tokenizer: AnyTokenizer, text: str, continuation: str) -> list[int]:
    """Return the token ids of a continuation, with the space between it and the text before it."""
    whole, before = tokenizer.encode_text(text + continuation), tokenizer.encode_text(text)
    shared = 0
    while shared < len(before) and whole[shared : shared + 1] == before[shared : shared + 1]:
        shared += 1
    if shared < len(before):
        raise ConfigError(
            "the continuation changes the tokens of the text before it.  Begin it with a space."
        )
    return whole[shared:]


def _label_index(classifier: TextClassifier, label: str | None) -> int | None:
    """Return the index of a label, or None of None; raise ConfigError where there is no such."""
    if label is None:
        return None
    if label not in classifier.labels:
        raise ConfigError(f"label {label!r}: one of {', '.join(classifier.labels)} was expected.")
    return classifier.labels.index(label)
