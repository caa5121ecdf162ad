"""Translation as a task: pairs -> batch -> loss; decoding -> chrF.

The two callables that training receives: `TranslationLoss` and `TranslationEvaluator`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from regard.data.batching import Batch, PairBatches, SpecialIds, TokenRows
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search import Hypothesis, beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.metrics.translation import chrf
from regard.models import EncoderDecoder, EncoderDecoderModel
from regard.models.base.text_model import PAD_ID
from regard.training.ema import ExponentialMovingAverage
from regard.training.evaluation_loop import AveragedModel
from regard.training.loop import Evaluation
from regard.training.token_loss import TokenLoss

_DECODING_TOKENS = 4096  # source tokens decoded together
DECODED_ROWS = 256  # validation sentences that are really decoded


class TranslationLoss(TokenLoss):
    """The training objective: label-smoothed cross-entropy of the next target token.

    Args:
        label_smoothing: Share of the target probability spread over the vocabulary.
        no_label: Label of padding.
    """

    def __init__(self, label_smoothing: float, no_label: int = PAD_ID) -> None:
        super().__init__(label_smoothing)
        self.nothing = no_label

    def hidden_states(self, model: nn.Module, batch: Batch) -> Tensor:
        """Compute the decoder's last states, ``[batch, length, dim]``."""
        assert isinstance(model, EncoderDecoder)
        return model.hidden_states(batch.source_ids, batch.target_ids)


def special_ids(model: EncoderDecoder[Any], tokenizer: AnyTokenizer) -> SpecialIds:
    """Tell what pads, begins and ends the rows of a model.

    Raises:
        WeightsError: The vocabulary came with published weights and has no end of a text.
        ConfigError: An encoder of its own pads with what ends the sources.
    """
    source, target = map(_end_of, split_tokenizer(tokenizer))
    ids = SpecialIds(pad=model.pad_id, start=model.start_id, end=target, source_end=source)
    if isinstance(model, EncoderDecoderModel) and model.pad_id == source:
        raise ConfigError(
            f"model.encoder.pad_id={source}: this token ends the sources, so the encoder would "
            "take their end for padding.  Take another."
        )
    if source == target:
        ids = ids._replace(source_end=None)
    # A decoder that was trained alone may know no token for padding: any is a label then.
    return ids._replace(nothing=-1) if isinstance(model, EncoderDecoderModel) else ids


def _end_of(tokenizer: AnyTokenizer) -> int:
    if tokenizer.end_id is None:
        raise WeightsError(
            "the vocabulary has no token that ends a text, without which no output ends.  "
            "Name it as eos_token in tokenizer_config.json."
        )
    return tokenizer.end_id


def among_tokens(
    config: BeamSearchConfig, model: EncoderDecoder[Any], tokenizer: AnyTokenizer
) -> BeamSearchConfig:
    """Forbid what a model has logits of and the vocabulary no token for."""
    unused = tokenizer.unused_ids(model.vocab_size)
    return replace(config, forbidden=tuple(dict.fromkeys((*config.forbidden, *unused))))


def decode_rows(
    model: EncoderDecoder[Any],
    sources: TokenRows,
    rows: Sequence[int],
    config: BeamSearchConfig,
    ids: SpecialIds = SpecialIds(),  # noqa: B008 - an immutable value
) -> list[list[Hypothesis]]:
    """Search for the outputs of some source rows, batched by length, in the order given."""
    by_length = sorted(range(len(rows)), key=lambda place: sources.lengths[rows[place]])
    results: list[list[Hypothesis]] = [[] for _ in rows]
    start = 0
    while start < len(by_length):
        end, widest = start, 0
        while end < len(by_length):
            widest = int(sources.lengths[rows[by_length[end]]]) + 1
            if end > start and widest * (end + 1 - start) * config.beam > _DECODING_TOKENS:
                break
            end += 1
        places = by_length[start:end]
        chosen = torch.tensor([rows[place] for place in places]).numpy()
        batch = sources.pad(chosen, after=ids.end_of_source, fill=ids.pad)
        for place, found in zip(places, beam_search(model, batch, config, ids), strict=True):
            results[place] = found
        start = end
    return results


class TranslationEvaluator:
    """Evaluates averaged weights: validation loss, its value with shuffled sources, and chrF.

    Where the loss with the sources of other sentences is as low as with the true ones, the model
    has learned to ignore its source.

    Args:
        model: Whose copy is evaluated, in its compute type throughout.
        sources: Token ids of validation sources.
        targets: Token ids of validation targets.
        references: Validation targets as text.
        tokenizer: Turns output into text.
        search: How the outputs are searched for.
    """

    def __init__(
        self,
        model: EncoderDecoder[Any],
        sources: TokenRows,
        targets: TokenRows,
        references: Sequence[str],
        tokenizer: AnyTokenizer,
        search: BeamSearchConfig = BeamSearchConfig(beam=1),  # noqa: B008 - an immutable value
    ) -> None:
        self._averaged = AveragedModel(model)
        self._sources = sources
        self._ids = special_ids(model, tokenizer)
        self._search = among_tokens(search, model, tokenizer)
        self._batches = PairBatches(
            sources, targets, batch_tokens=_DECODING_TOKENS, seed=0, ids=self._ids
        )
        self._target_lengths = targets.lengths
        self._references = references
        self._tokenizer = tokenizer
        stride = max(1, len(references) // DECODED_ROWS)
        self._decoded = list(range(0, len(references), stride))[:DECODED_ROWS]

    def __call__(self, average: ExponentialMovingAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        self._averaged.load(average)
        measures = {"loss": self._loss(shuffled=False), "shuffled_loss": self._loss(shuffled=True)}
        measures["chrf"], overlong_seconds = self._chrf()
        return Evaluation(measures=measures, score_name="chrf", overlong_seconds=overlong_seconds)

    @torch.no_grad()
    def _loss(self, *, shuffled: bool) -> float:
        """Compute the mean cross-entropy in nats per token."""
        loss, total, num_tokens = TranslationLoss(0.0, self._ids.no_label), 0.0, 0
        for rows in self._batches.in_sequence():
            batch = self._batches.batch(rows)
            found = loss(self._averaged.model, _with_other_sources(batch) if shuffled else batch)
            total += float(found.nll) * found.num_tokens
            num_tokens += found.num_tokens
        return total / num_tokens

    def _chrf(self) -> tuple[float, float]:
        """Decode, and score; tell also the seconds that overlong outputs took."""
        begun = time.perf_counter()
        found = decode_rows(
            self._averaged.model, self._sources, self._decoded, self._search, self._ids
        )
        seconds = time.perf_counter() - begun
        written = sum(len(hypotheses[0].ids) for hypotheses in found)
        wanted = int(self._target_lengths[self._decoded].sum())
        outputs = self._tokenizer.decode(hypotheses[0].ids for hypotheses in found)
        score = chrf(outputs, [self._references[row] for row in self._decoded])
        return score, seconds * max(0.0, 1 - wanted / max(1, written))


def _with_other_sources(batch: Batch) -> Batch:
    shifted: Tensor = batch.source_ids.roll(1, dims=0)
    return Batch(
        source_ids=shifted, target_ids=batch.target_ids, labels=batch.labels, rows=batch.rows
    )
