"""The loss of a translation model, decoding of many rows, and evaluation by chrF.

Training receives two callables: `TranslationLoss` and `TranslationEvaluator`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import Batch, PairBatches, SpecialIds, TokenRows
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search import Hypothesis, beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.layers.pointer_generator import CopyDistribution
from regard.metrics.translation import chrf
from regard.models import EncoderDecoder, EncoderDecoderModel
from regard.models.base.text_model import PAD_ID
from regard.tasks.translation.data import EncodedPairs
from regard.training.ema import ExponentialMovingAverage
from regard.training.evaluation_loop import AveragedModel, total_loss
from regard.training.loop import Evaluation
from regard.training.token_loss import TokenLoss
from regard.training.train_step import Loss, LossFunction

_DECODING_TOKENS = 4096  # source tokens decoded together
DECODED_ROWS = 256  # validation sentences that are decoded


class TranslationLoss(TokenLoss[EncoderDecoder[Any]]):
    """Label-smoothed cross-entropy of the next target token.

    Args:
        label_smoothing: Fraction of the target probability spread over the vocabulary.
        no_label: Label of padding.
        coverage: Weight of the coverage loss of a model that copies, 0 or more.
    """

    def __init__(
        self, label_smoothing: float, no_label: int = PAD_ID, coverage: float = 0.0
    ) -> None:
        super().__init__(label_smoothing, coverage)
        self.nothing = no_label

    def hidden_states(self, model: EncoderDecoder[Any], batch: Batch) -> Tensor:
        """Compute the last hidden states of the decoder, ``[batch, target_length, dim]``."""
        return model.hidden_states(batch.source_ids, batch.target_ids)

    def states_and_copies(
        self, model: EncoderDecoder[Any], batch: Batch
    ) -> tuple[Tensor, CopyDistribution | None]:
        """Compute the last hidden states, and what a model that copies mixes their logits with."""
        return model.states_and_copies(batch.source_ids, batch.target_ids)


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
        model: In evaluation mode.
        sources: Token ids of the sources, without their ends.
        rows: Rows of `sources` to decode.
        config: The search.
        ids: The tokens that pad, begin and end the rows.

    Returns:
        The hypotheses of each row, best first, in the order of `rows`.
    """
    by_length = sorted(range(len(rows)), key=lambda index: sources.lengths[rows[index]])
    results: list[list[Hypothesis]] = [[] for _ in rows]
    start = 0
    while start < len(by_length):
        end = start
        while end < len(by_length):
            width = int(sources.lengths[rows[by_length[end]]]) + 1
            if end > start and width * (end + 1 - start) * config.beam > _DECODING_TOKENS:
                break
            end += 1
        indices = by_length[start:end]
        batch = sources.pad(
            np.array([rows[index] for index in indices]), after=ids.end_of_source, fill=ids.pad
        )  # [batch, length]
        for index, hypotheses in zip(indices, beam_search(model, batch, config, ids), strict=True):
            results[index] = hypotheses
        start = end
    return results


def pair_with_other_sources(
    sources: TokenRows, order: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return for each row another row with another source, ``[rows]``; None where all are equal.

    It is the one before it in an order, so that a row of about the same length is taken.

    Args:
        sources: Token ids of the sources.
        order: All rows, sorted by length, ``[rows]``.
    """
    num_rows = len(order)

    def is_like_previous(index: int) -> bool:
        return np.array_equal(sources[order[index]], sources[order[index - 1]])

    first = next((index for index in range(num_rows) if not is_like_previous(index)), None)
    if first is None:
        return None
    partners = np.empty(num_rows, dtype=np.int64)
    for step in range(num_rows):
        index = (first + step) % num_rows
        previous = order[index - 1]
        partners[order[index]] = partners[previous] if is_like_previous(index) else previous
    return partners


class TranslationEvaluator:
    """Evaluates averaged weights: validation loss, its value with shuffled sources, and chrF.

    A model whose loss is as low with the sources of other sentences has learned to ignore its
    source. Where all sources are equal, there is no other, and the figure is left out.

    Args:
        model: The model; a copy of it is evaluated in its compute type.
        tokenizer: Decodes the output.
        valid: The validation pairs.
        search: The search for the outputs.
    """

    def __init__(
        self,
        model: EncoderDecoder[Any],
        tokenizer: AnyTokenizer,
        valid: EncodedPairs,
        search: BeamSearchConfig,
    ) -> None:
        self._averaged, self._tokenizer, self._valid = AveragedModel(model), tokenizer, valid
        self._ids = special_ids(model, tokenizer)
        self._search = forbid_unused_ids(search, model, tokenizer)
        self._batches = PairBatches(
            valid.sources, valid.targets, batch_tokens=_DECODING_TOKENS, seed=0, ids=self._ids
        )
        self._other_rows = pair_with_other_sources(
            valid.sources, np.concatenate(self._batches.in_sequence())
        )
        num_rows = len(valid.text)
        self._decoded = range(0, num_rows, max(1, num_rows // DECODED_ROWS))[:DECODED_ROWS]

    def __call__(self, average: ExponentialMovingAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        self._averaged.load(average)
        loss = TranslationLoss(0.0, self._ids.no_label)

        objectives: dict[str, LossFunction] = {"loss": loss}
        if (other_rows := self._other_rows) is not None:

            def shuffled_loss(model: EncoderDecoder[Any], batch: Batch) -> Loss:
                sources = self._batches.source_ids(other_rows[batch.rows])
                return loss(model, replace(batch, source_ids=sources))

            objectives["shuffled_loss"] = shuffled_loss
        measures = {}
        for name, objective in objectives.items():
            total, num_tokens = total_loss(objective, self._averaged.model, self._batches)
            measures[name] = total / num_tokens
        measures["chrf"], overlong_seconds = 0.0, 0.0
        if math.isfinite(measures["loss"]):  # else the model gives no numbers to search with
            measures["chrf"], overlong_seconds = self._chrf()
        return Evaluation(measures=measures, score_name="chrf", overlong_seconds=overlong_seconds)

    def _chrf(self) -> tuple[float, float]:
        """Return chrF of decoded sentences, and the seconds that overlong outputs took."""
        start = time.perf_counter()
        hypotheses = decode_rows(
            self._averaged.model, self._valid.sources, self._decoded, self._search, self._ids
        )
        seconds = time.perf_counter() - start
        best = [row[0].ids for row in hypotheses]
        num_tokens = sum(map(len, best))
        num_expected = int(self._valid.targets.lengths[self._decoded].sum())
        references = [self._valid.text.targets[row] for row in self._decoded]
        score = chrf(self._tokenizer.decode(best), references)
        return score, seconds * max(0.0, 1 - num_expected / max(1, num_tokens))
