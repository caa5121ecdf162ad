"""Decoding of many sources in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from regard.data.batching import SpecialIds, TokenRows
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search import Hypothesis, beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.constraints import check_logits
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.models import EncoderDecoder, EncoderDecoderModel

DECODING_TOKENS = 4096  # source tokens decoded together


def special_ids(model: EncoderDecoder[Any], tokenizer: AnyTokenizer) -> SpecialIds:
    """Return the tokens that pad, begin and end the rows of a model.

    Raises:
        WeightsError: A published vocabulary has no token that ends a text.
        ConfigError: A separate encoder pads with the token that ends the sources, or a model that
            copies has two vocabularies.
    """
    source, target = split_tokenizer(tokenizer)
    if source.end_id is None or target.end_id is None:
        raise WeightsError(
            "the vocabulary has no token that ends a text, without which no output ends.  "
            "Name it as eos_token in tokenizer_config.json."
        )
    if model.copy_head is not None and source is not target:
        raise ConfigError(
            "`model.has_copy=true`: source and target have vocabularies of their own here, and "
            "only a token that both have can be copied.  Leave it out."
        )
    has_separate_encoder = isinstance(model, EncoderDecoderModel)
    if has_separate_encoder and model.pad_id == source.end_id:
        raise ConfigError(
            f"model.encoder.pad_id={source.end_id}: this token ends the sources, so the encoder "
            "would take their end for padding.  Take another."
        )
    return SpecialIds(
        pad=model.pad_id,
        start=model.start_id,
        end=target.end_id,
        source_end=None if source.end_id == target.end_id else source.end_id,
        # A decoder that was trained alone may have no token for padding: any may be a label.
        nothing=-1 if has_separate_encoder else None,
    )


def forbid_unused_ids(
    config: BeamSearchConfig, model: EncoderDecoder[Any], tokenizer: AnyTokenizer
) -> BeamSearchConfig:
    """Forbid the ids that the model has logits for and the vocabulary no token."""
    unused = tokenizer.unused_ids(model.vocab_size)
    return replace(config, forbidden=tuple(dict.fromkeys((*config.forbidden, *unused))))


def decode_rows(
    model: EncoderDecoder[Any],
    sources: TokenRows,
    rows: Sequence[int],
    config: BeamSearchConfig,
    ids: SpecialIds = SpecialIds(),  # noqa: B008 - an immutable value
) -> list[list[Hypothesis]]:
    """Decode source rows in batches of similar length.

    Args:
        model: Model in evaluation mode.
        sources: Token ids of the sources, without their ends.
        rows: Rows of `sources` to decode.
        config: The search.
        ids: The tokens that pad, begin and end the rows.

    Returns:
        The hypotheses of each row, best first, in the order of `rows`.
    """
    results: list[list[Hypothesis]] = [[] for _ in rows]
    for indices, batch in _batches(sources, rows, config.beam, ids):
        for index, hypotheses in zip(indices, beam_search(model, batch, config, ids), strict=True):
            results[index] = hypotheses
    return results


@torch.inference_mode()
def target_log_probabilities(
    model: EncoderDecoder[Any], sources: TokenRows, target: Sequence[int], ids: SpecialIds
) -> list[float]:
    """Compute the log-probability of one target, with its end, for each source.

    Args:
        model: Model in evaluation mode.
        sources: Token ids of the sources, without their ends.
        target: Token ids, without begin and end; none for an empty output.
        ids: The tokens that pad, begin and end the rows.

    Returns:
        In nats, in the order of `sources`.

    Raises:
        WeightsError: The model gives NaN.
    """
    results = [0.0] * len(sources)
    for indices, batch in _batches(sources, range(len(sources)), 1, ids):
        state, previous = model.init_state(batch), ids.start
        total = torch.zeros(len(batch))
        for token in (*target, ids.end):
            logits = model.decode_step(torch.full((len(batch),), previous), state).float()
            check_logits(logits)
            total += logits.log_softmax(-1)[:, token]  # of [batch, vocab]
            previous = token
        for index, value in zip(indices, total.tolist(), strict=True):
            results[index] = value
    return results


def _batches(
    sources: TokenRows, rows: Sequence[int], beam: int, ids: SpecialIds
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield batches of similar length: indices into `rows`, and their sources, [batch, length]."""
    by_length = sorted(range(len(rows)), key=lambda index: sources.lengths[rows[index]])
    start = 0
    while start < len(by_length):
        end = start
        while end < len(by_length):
            width = int(sources.lengths[rows[by_length[end]]]) + 1
            if end > start and width * (end + 1 - start) * beam > DECODING_TOKENS:
                break
            end += 1
        indices = by_length[start:end]
        yield (
            indices,
            sources.pad(
                np.array([rows[index] for index in indices]), after=ids.end_of_source, fill=ids.pad
            ),
        )
        start = end
