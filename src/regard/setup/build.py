"""The model of a run with random weights, and summaries of model, tokens and data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regard.data.batching import parts_to_encode
from regard.data.languages import has_spaces_between_words
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import ENCODERS, Encoder, Model
from regard.setup.base_task import Task, embedding_rows
from regard.setup.config import RunConfig
from regard.setup.dataset import Dataset
from regard.setup.facts import SOURCE_LIMITS, LongSources, SourceLengths
from regard.setup.fine_tuning import freeze
from regard.training.events import ModelSummary, TokenizerSummary
from regard.training.precision import compute_dtype

_SAMPLED_TEXTS = 500
_MEASURED_TEXTS = 32  # longest sources whose tokens are counted


def build_model(config: RunConfig, vocab_size: int, task: Task) -> Model:
    """Build the model of a run with random weights from the seed, in training mode.

    Args:
        config: The settings of the run.
        vocab_size: Number of token ids; 0 where no text is read.
        task: The task of the run.

    Returns:
        The model; what fine-tuning leaves as it is does not require gradients.
    """
    torch.manual_seed(config.training.seed)
    model = task.build(config, vocab_size)
    freeze(model, config)
    model.compute_dtype = compute_dtype(config.training.precision)
    return model.train()


def build_encoder_without_head(config: RunConfig, vocab_size: int, task: Task) -> Encoder:
    """Return an encoder with random weights, without what maps its states to tokens.

    Args:
        config: The settings of the run.
        vocab_size: Number of token ids.
        task: A task of encoders.
    """
    task.require_family(config.model)
    family = ENCODERS[config.model.family]
    encoder = family.model(config.model, embedding_rows(config, vocab_size), config.attention)
    encoder.drop_head()
    return encoder


def summarize_model(config: RunConfig, model: Model, task: Task) -> ModelSummary:
    """Describe the size of a model in an event."""
    return ModelSummary(
        summary=task.summarize(config),
        num_parameters=model.num_parameters,
        precision=config.training.precision,
    )


def summarize_tokens(
    config: RunConfig,
    vocab_size: int,
    texts: Sequence[str],
    num_tokens: int,
    *,
    is_shared: bool = False,
) -> TokenizerSummary:
    """Return the event that describes how the training texts are split into tokens.

    Args:
        config: The settings of the run.
        vocab_size: Number of token ids.
        texts: The training texts.
        num_tokens: Number of their tokens.
        is_shared: Whether source and target share the vocabulary.
    """
    is_spaced = has_spaces_between_words(texts[:1000])
    units = sum(len(text.split()) if is_spaced else len(text) for text in texts)
    return TokenizerSummary(
        kind=config.tokenizer.kind,
        vocab_size=vocab_size,
        pieces_per_word=num_tokens / max(1, units),
        unit="word" if is_spaced else "character",
        is_shared=is_shared,
        knows_all=config.tokenizer.kind != "published",
    )


def estimate_num_tokens(dataset: Dataset, tokenizer: AnyTokenizer | None) -> int:
    """Estimate the tokens of one pass over the data, see `Facts`, from a sample of texts."""
    facts = dataset.facts()
    if tokenizer is None:
        return facts.num_tokens
    texts = dataset.texts()
    sample = texts[:: max(1, len(texts) // _SAMPLED_TEXTS)]
    num_tokens, num_chars = sum(map(len, tokenizer.encode(sample))), sum(map(len, sample))
    return round((facts.num_read_chars or facts.num_chars) * num_tokens / max(1, num_chars))


def measure_sources(dataset: Dataset, tokenizer: AnyTokenizer | None) -> SourceLengths | None:
    """Return the lengths of sources where they may be long, else None.

    The longest sources are measured, the others estimated by their characters. All targets are
    measured: a short one of rare words may have more tokens than one of more characters.
    """
    texts = dataset.long_sources()
    if tokenizer is None or texts is None:
        return None
    longest = LongSources(*(sorted(part, key=len)[-_MEASURED_TEXTS:] for part in texts))
    sources = tokenizer.encode(longest.sources)
    targets = list(dict.fromkeys(texts.targets))
    target_lengths = (
        len(row)
        for part in parts_to_encode(targets, "measuring the targets")
        for row in tokenizer.encode_targets(targets[part.start : part.stop])
    )
    tokens_per_char = sum(map(len, sources)) / sum(map(len, longest.sources))
    num_chars = np.array([len(text) for text in texts.sources], dtype=np.float64)
    lengths = tokens_per_char * num_chars
    return SourceLengths(
        usual=float(tokens_per_char * (num_chars**2).sum() / num_chars.sum()),
        longest=max(map(len, sources)),
        longest_target=max(target_lengths),
        beginning=max(map(len, tokenizer.encode(longest.beginnings)), default=1),
        covered={
            limit: float(np.minimum(lengths, limit).sum() / lengths.sum())
            for limit in SOURCE_LIMITS
        },
    )


def dropped_report(dataset: Dataset) -> str:
    """List all reported rows, one a line: line number, reason, beginning of the text."""
    rows = [
        f"{row.locate(dataset.path)}: {row.reason}: {row.text[:80]}\n"
        for row in dataset.reported_rows()
    ]
    return "".join(rows) or "No row was left out.\n"
