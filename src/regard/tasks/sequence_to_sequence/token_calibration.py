"""Whether the probabilities of target tokens are true: calibration with the reference as history.

After each part of the reference the most probable next token is compared with the one that follows
(Kumar & Sarawagi 2019, "Calibration of Encoder Decoder Models for Neural Machine Translation", ECE
of the most probable token). Cost: one forward pass over the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.batching import PairBatches
from regard.errors import ConfigError, DataError
from regard.generation.scheduling import DECODING_TOKENS
from regard.metrics.classification import Reliability, reliability
from regard.setup.evaluation_details import CalibrationChart
from regard.tasks.sequence_to_sequence.data import TextPairs, encode_pairs
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.sequence_to_sequence.predictor import TargetWriter
from regard.training.device import move_batch

_NOTE = (
    "After each part of the reference, the most probable next token is compared with the one that "
    "follows (Kumar & Sarawagi 2019).  A reference is one of many right outputs, so that even a "
    "perfect model is correct less often than it is right."
)


def chart_token_calibration(
    writer: TargetWriter, pairs: TextPairs, *, cuts_sources: bool = False
) -> CalibrationChart | str:
    """Return how often the most probable token is the reference's, by its probability.

    Args:
        writer: The model.
        pairs: Sources with references.
        cuts_sources: Whether long sources are cut, as a summarizer reads them.

    Returns:
        The comparison, or why there is none.
    """
    try:
        bins = _token_reliability(writer, pairs, cuts_sources=cuts_sources)
    except (ConfigError, DataError) as error:
        return f"No calibration of tokens: {error}"
    title = "Calibration of tokens"
    return CalibrationChart(title=title, note=_NOTE, unit="token", bins=bins)


@torch.inference_mode()
def _token_reliability(writer: TargetWriter, pairs: Any, *, cuts_sources: bool) -> Reliability:
    encoded = encode_pairs(
        pairs,
        writer.tokenizer,
        max_length=writer.config.data.max_length,
        max_source_length=writer.max_source_length if cuts_sources else None,
    )
    ids = special_ids(writer.model, writer.tokenizer)
    batches = PairBatches(
        encoded.sources, encoded.targets, batch_tokens=DECODING_TOKENS, seed=0, ids=ids
    )

    def predict(rows: NDArray[np.int64]) -> tuple[list[float], list[bool]]:
        batch = move_batch(batches.batch(rows), writer.model)
        is_label = batch.labels != ids.ignore_index
        logits = writer.model(batch.source_ids, batch.target_ids)[is_label]  # [tokens, vocab]
        best = logits.float().softmax(-1).max(-1)
        labels = batch.labels[is_label]
        return best.values.tolist(), (best.indices == labels).tolist()

    probabilities: list[float] = []
    is_correct: list[bool] = []
    for of_batch, of_batch_correct in writer.world.map(predict, batches.in_sequence()):
        probabilities += of_batch
        is_correct += of_batch_correct
    return reliability(probabilities, is_correct)
