"""From a configuration to everything a run needs: text, vocabulary, token ids, model."""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from regard.data.batching import PairBatches
from regard.data.languages import has_spaces_between_words
from regard.data.pairs import Pairs
from regard.data.tokenizer import Tokenizer, check_tags
from regard.interchange.folder import ModelFolder
from regard.models import EncoderDecoder, family_of, make_model
from regard.tasks.corpus import Corpus, EncodedPairs, encode_pairs
from regard.tasks.presets import apply_preset, choose_preset
from regard.tasks.run_config import RunConfig
from regard.training.events import Data, Model, Report, Tokens
from regard.training.precision import compute_dtype, resolve_precision


class Prepared(msgspec.Struct, kw_only=True):
    """What a run works on.

    Args:
        config: With every choice made.
        corpus: The text.
        tokenizer: The vocabulary.
        batches: Of the training pairs.
        valid: Token ids of the validation pairs.
        valid_pairs: Their text.
        model: With initial weights, in training mode.
    """

    config: RunConfig
    corpus: Corpus
    tokenizer: Tokenizer
    batches: PairBatches
    valid: EncodedPairs
    valid_pairs: Pairs
    model: EncoderDecoder[Any]


def resolve_sizes(config: RunConfig, corpus: Corpus) -> RunConfig:
    """Choose the preset by the data where the configuration says ``auto``, and fill it in."""
    num_chars = sum(map(len, corpus.train.targets))
    preset = choose_preset(num_chars) if config.preset == "auto" else config.preset
    return apply_preset(config, preset)


def prepare(
    config: RunConfig, corpus: Corpus, report: Report, *, stored: ModelFolder | None = None
) -> Prepared:
    """Train or read the vocabulary, encode the text, build the model.

    Args:
        config: With sizes resolved.
        corpus: The text.
        report: Told what happens.
        stored: A folder whose vocabulary is taken; None trains one.
    """
    report(describe_corpus(corpus))
    if stored is None:
        check_tags(config.tokenizer)
        texts = [*corpus.train.sources, *corpus.train.targets]
        tokenizer = Tokenizer.train(texts, config.tokenizer)
    else:
        tokenizer = stored.read_tokenizer()
    max_length = config.data.max_length
    train, train_pairs, dropped = encode_pairs(corpus.train, tokenizer, max_length=max_length)
    valid, valid_pairs, _ = encode_pairs(corpus.valid, tokenizer, max_length=max_length)
    corpus.dropped += dropped
    corpus.train = train_pairs
    _report_tokens(config, tokenizer, train, train_pairs, report)
    assert config.training.batch_tokens is not None
    batches = PairBatches(
        train.sources,
        train.targets,
        batch_tokens=config.training.batch_tokens,
        seed=config.training.seed,
    )
    precision = resolve_precision(config.training.precision, torch.device("cpu"))
    training = msgspec.structs.replace(config.training, precision=precision)
    config = msgspec.structs.replace(config, training=training)
    prepared = Prepared(
        config=config,
        corpus=corpus,
        tokenizer=tokenizer,
        batches=batches,
        valid=valid,
        valid_pairs=valid_pairs,
        model=build_model(config, tokenizer),
    )
    _report_model(prepared, report)
    return prepared


def describe_corpus(corpus: Corpus) -> Data:
    """Tell what the data is."""
    return Data(
        path=corpus.path,
        num_pairs=len(corpus.train) + len(corpus.valid) + len(corpus.test),
        languages=corpus.languages.replace("-", " -> "),
        languages_are_guessed=corpus.languages_are_guessed,
        num_train=len(corpus.train),
        num_valid=len(corpus.valid),
        num_test=len(corpus.test),
        dropped=corpus.drop_counts(),
    )


def _report_tokens(
    config: RunConfig, tokenizer: Tokenizer, train: EncodedPairs, pairs: Pairs, report: Report
) -> None:
    texts = pairs.targets
    spaced = has_spaces_between_words(texts[:1000])
    units = sum(len(text.split()) if spaced else len(text) for text in texts)
    report(
        Tokens(
            kind=config.tokenizer.kind,
            vocab_size=len(tokenizer),
            pieces_per_word=int(train.targets.lengths.sum()) / max(1, units),
            unit="word" if spaced else "character",
        )
    )


def build_model(config: RunConfig, tokenizer: Tokenizer) -> EncoderDecoder[Any]:
    """Build the model with initial weights that follow from the seed, in training mode."""
    torch.manual_seed(config.training.seed)
    model = make_model(config.model, len(tokenizer), config.attention)
    model.compute_dtype = compute_dtype(config.training.precision)
    return model.train()


def _report_model(prepared: Prepared, report: Report) -> None:
    report(
        Model(
            summary=summarize(prepared.config),
            num_parameters=sum(parameter.numel() for parameter in prepared.model.parameters()),
            precision=prepared.config.training.precision,
        )
    )


def summarize(config: RunConfig) -> str:
    """Describe the model in a line.

    >>> summarize(RunConfig(preset="base"))
    'transformer base   6+6 layers, d=512, 8 heads, ff 2048, pre-norm, attention full'
    """
    sizes = config.model.summary(config.attention)
    return f"{family_of(config.model)} {config.preset}   {sizes}"


def drop_report(corpus: Corpus) -> str:
    """List every row left out, one a line: line number, reason, beginning of the text."""
    rows = [
        f"{corpus.path}:{drop.line}: {drop.reason}: {drop.text[:80]}\n" for drop in corpus.dropped
    ]
    return "".join(rows) or "No row was left out.\n"
