"""Evaluation while training: losses of the validation pairs and a score of decoded outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from regard.data.batching import Batch, PairBatches, TokenRows
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import EncoderDecoder
from regard.tasks.sequence_to_sequence.data import EncodedPairs
from regard.tasks.sequence_to_sequence.decode_rows import (
    decode_rows,
    forbid_unused_ids,
    special_ids,
)
from regard.tasks.sequence_to_sequence.loss import TargetLoss
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.evaluation_loop import AveragedModel, total_loss
from regard.training.events import OutputExample
from regard.training.loop import Evaluation
from regard.training.output_examples import choose_examples, output_example
from regard.training.train_step import Loss, LossFunction

DECODED_ROWS = 256  # validation rows that are decoded


def pair_with_other_sources(
    sources: TokenRows, order: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return for each row another row with another source, ``[rows]``; None where all are equal.

    It is the last one before it in an order that has another source, or, where there is none, the
    first one after it: a row of about the same length, so that batches do not grow.

    Args:
        sources: Token ids of the sources.
        order: All rows, sorted by length, ``[rows]``.
    """

    def is_like_previous(index: int) -> bool:
        return np.array_equal(sources[order[index]], sources[order[index - 1]])

    num_rows = len(order)
    first = next((index for index in range(1, num_rows) if not is_like_previous(index)), None)
    if first is None:
        return None
    partners = np.full(num_rows, order[first], dtype=np.int64)
    for index in range(first, num_rows):
        previous = order[index - 1]
        partners[order[index]] = partners[previous] if is_like_previous(index) else previous
    return partners


class TargetEvaluator:
    """Evaluates averaged weights: validation loss, its value with shuffled sources, and scores.

    A model whose loss is as low with the sources of other sentences has learned to ignore its
    source. Where all sources are equal, the figure is left out.

    Args:
        model: The model; a copy of it is evaluated in its compute type.
        tokenizer: Decodes the output.
        valid: The validation pairs.
        batches: All of them, for the losses.
        search: The search for the outputs.
        score: Computes the scores of outputs by name, 0 to 100, from them and their rows.
        score_name: Name of the score that decides.
        world: The processes that share the batches.
    """

    def __init__(
        self,
        model: EncoderDecoder[Any],
        tokenizer: AnyTokenizer,
        valid: EncodedPairs[Any],
        batches: PairBatches,
        search: BeamSearchConfig,
        *,
        score: Callable[[Sequence[str], Sequence[int]], dict[str, float]],
        score_name: str,
        world: World = ALONE,
    ) -> None:
        self._averaged, self._tokenizer, self._valid = AveragedModel(model), tokenizer, valid
        self._score, self._score_name, self._world = score, score_name, world
        self._ids = special_ids(model, tokenizer)
        self._search = forbid_unused_ids(search, model, tokenizer)
        self._batches = batches
        self._other_rows = pair_with_other_sources(
            valid.sources, np.concatenate(batches.in_sequence())
        )
        num_rows = len(valid.text)
        self._decoded = range(0, num_rows, max(1, num_rows // DECODED_ROWS))[:DECODED_ROWS]

    def __call__(self, average: ExponentialMovingAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        self._averaged.load(average)
        loss = TargetLoss(0.0, self._ids.ignore_index)

        objectives: dict[str, LossFunction] = {"loss": loss}
        if (other_rows := self._other_rows) is not None:

            def shuffled_loss(model: EncoderDecoder[Any], batch: Batch) -> Loss:
                sources = self._batches.source_ids(other_rows[batch.rows])
                return loss(model, replace(batch, source_ids=sources))

            objectives["shuffled_loss"] = shuffled_loss
        measures = {}
        for name, objective in objectives.items():
            total, num_tokens = total_loss(
                objective, self._averaged.model, self._batches, self._world
            )
            measures[name] = total / num_tokens
        name = self._score_name
        if not math.isfinite(measures["loss"]):  # the model gives no numbers to search with
            return Evaluation(measures=measures | {name: 0.0}, score_name=name)
        outputs, overlong_seconds = self._decode()
        return Evaluation(
            measures=measures | self._score(outputs, self._decoded),
            score_name=name,
            overlong_seconds=overlong_seconds,
            examples=self._examples(outputs),
        )

    def _decode(self) -> tuple[list[str], float]:
        """Return the outputs of decoded rows, and the seconds that overlong ones took."""
        start = self._world.clock()
        hypotheses = decode_rows(
            self._averaged.model,
            self._valid.sources,
            self._decoded,
            self._search,
            self._ids,
            self._world,
        )
        seconds = self._world.clock() - start
        best = [row[0].ids for row in hypotheses]
        num_tokens = sum(map(len, best))
        num_expected = int(self._valid.targets.lengths[self._decoded].sum())
        overlong = max(0.0, 1 - num_expected / max(1, num_tokens))
        return self._tokenizer.decode(best), seconds * overlong

    def _examples(self, outputs: Sequence[str]) -> list[OutputExample]:
        """Return a few outputs with what they are of, and what they should be."""
        text = self._valid.text
        return [
            output_example(text.sources[row], outputs[index], text.targets[row])
            for index, row in enumerate(self._decoded)
            if index in choose_examples(len(outputs))
        ]
