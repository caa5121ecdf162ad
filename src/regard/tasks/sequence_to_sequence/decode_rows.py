"""Decoding of the sources of a task, by the tokens and the vocabularies of its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import SpecialIds, TokenRows
from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search import Hypothesis
from regard.generation.constraints import check_logits
from regard.generation.decoders import seq2seq_decoder
from regard.generation.scheduling import DECODING_TOKENS, decode_sources, length_batches
from regard.hub.any_tokenizer import split_tokenizer
from regard.training.distribution import ALONE, World

if TYPE_CHECKING:
    from regard.generation.beam_search_config import BeamSearchConfig
    from regard.generation.decoding import Seq2SeqDecoder
    from regard.hub.any_tokenizer import AnyTokenizer
    from regard.models import EncoderDecoder


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
    if model.has_separate_encoder and model.pad_id == source.end_id:
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
        ignored=-1 if model.has_separate_encoder else None,
        source_ends=_published_ends(source),
    )


def _published_ends(source: AnyTokenizer) -> tuple[int, ...] | None:
    """Return the tokens that a published vocabulary puts after a source, where it adds others.

    ``transformers`` puts none after a text where ``tokenizer.json`` has no post-processor.
    """
    if isinstance(source, Tokenizer) or source.end_ids == (source.end_id,):
        return None
    return source.end_ids


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
    world: World = ALONE,
    *,
    decoder: Seq2SeqDecoder[Any] | None = None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses for some source rows, best first, decoded in batches of similar length.

    Args:
        model: Model in evaluation mode.
        sources: Token ids of the sources, without their ends.
        rows: Rows of `sources` to decode.
        config: The search.
        ids: The tokens that pad, begin and end the rows.
        world: The processes that share the batches.
        decoder: Takes the steps of the model; None is the fastest for its weights as they are.
    """
    indices = np.asarray(rows, dtype=np.int64)
    lengths = sources.lengths[indices] + len(ids.after_source)
    decoder = seq2seq_decoder(model) if decoder is None else decoder

    def pad(rows: NDArray[np.int64]) -> Tensor:
        return sources.pad(rows, after=ids.after_source, fill=ids.pad).to(model.device)

    def decode(batch: list[int]) -> list[list[Hypothesis]]:
        of_batch = indices[batch]
        return decode_sources(
            decoder, lengths[batch], lambda part: pad(of_batch[part]), config, ids
        )

    if not world.is_shared:
        return decode(list(range(len(indices))))
    batches = length_batches(lengths, config.beam, DECODING_TOKENS)
    results: list[list[Hypothesis]] = [[] for _ in rows]
    for batch, decoded in zip(batches, world.map(decode, batches), strict=True):
        hypotheses = msgspec.convert(decoded, list[list[Hypothesis]])
        for index, of_row in zip(batch, hypotheses, strict=True):
            results[index] = of_row
    return results


@torch.inference_mode()
def target_log_probabilities(
    model: EncoderDecoder[Any],
    sources: TokenRows,
    target: Sequence[int],
    ids: SpecialIds,
    world: World = ALONE,
) -> list[float]:
    """Return the log-probability of one target with its end, for each source, in nats.

    Args:
        model: Model in evaluation mode.
        sources: Token ids of the sources, without their ends.
        target: Token ids, without begin and end; none for an empty output.
        ids: The tokens that pad, begin and end the rows.
        world: The processes that share the batches.

    Raises:
        WeightsError: The model gives NaN.
    """

    def score(indices: list[int]) -> list[float]:
        batch = sources.pad(np.array(indices), after=ids.after_source, fill=ids.pad)
        state, previous = model.init_state(batch.to(model.device)), ids.start
        total = torch.zeros(len(batch), device=model.device)
        for token in (*target, ids.end):
            last = torch.full((len(batch),), previous, device=model.device)
            logits = model.decode_step(last, state).float()
            check_logits(logits)
            total += logits.log_softmax(-1)[:, token]  # of [batch, vocab]
            previous = token
        return total.tolist()

    batches = length_batches(sources.lengths + 1, 1, DECODING_TOKENS)
    results = [0.0] * len(sources)
    for indices, values in zip(batches, world.map(score, batches), strict=True):
        for index, value in zip(indices, values, strict=True):
            results[index] = value
    return results
