"""Translation as a task: pairs of sentences -> batches -> a model that translates."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from regard.data.batching import PairBatches
from regard.data.cldr_corpus import cldr_corpus
from regard.data.dropped_rows import count_reasons
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.tokenizer import Tokenizer, check_tags
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.hub.model_folder import ModelFolder
from regard.metrics.translation import score_translations
from regard.models import EncoderDecoder
from regard.models.base.text_model import TextModel
from regard.setup.base_task import Outcome, Prepared, Task, Text
from regard.setup.build import build_model, describe_tokens, report_model, settle_precision
from regard.setup.config import RunConfig
from regard.tasks.translation.data import Corpus, EncodedPairs, encode_pairs, read_corpus
from regard.tasks.translation.loss import (
    DECODED_ROWS,
    TranslationEvaluator,
    TranslationLoss,
    decode_rows,
    special_ids,
)
from regard.tasks.translation.predictor import Translator
from regard.training.events import Data, Evaluated, Report

_TESTED_ROWS = 500
_SOURCE_IGNORED = 0.05  # nats per token: a smaller gap means that the source is not used
_SAMPLED_ROWS = 32
_BATCHING_GAIN = 0.6  # a sentence among many costs less time than one in the small sample


class Translation(Task):
    """Sentences in one language to sentences in another."""

    @property
    def defaults(self) -> RunConfig:
        """The Transformer."""
        return RunConfig(task="translation")

    def read(self, config: RunConfig) -> Corpus:
        """Read the pairs of a configuration: its file, or the embedded corpus."""
        if config.data.path is not None:
            return read_corpus(config.data, seed=config.training.seed)
        embedded = cldr_corpus(seed=config.training.seed)
        return Corpus(
            path=embedded.train.path,
            train=embedded.train,
            valid=embedded.valid,
            test=embedded.test,
            dropped=[],
            languages="en-de,fr,zh",
            languages_are_guessed=False,
            is_generated=True,
        )

    def describe(self, text: Corpus) -> Data:
        """Tell what the data is."""
        return Data(
            path=text.path,
            unit="pairs",
            languages=text.languages.replace("-", " -> ") or "languages not known",
            languages_are_guessed=text.languages_are_guessed,
            num_train=len(text.train),
            num_valid=len(text.valid),
            num_test=len(text.test),
            dropped=count_reasons(text.dropped),
        )

    def note(self, config: RunConfig, text: Text) -> RunConfig:
        """Note the languages."""
        assert isinstance(text, Corpus)
        data = msgspec.structs.replace(config.data, languages=text.languages)
        return msgspec.structs.replace(config, data=data)

    def prepare(
        self, config: RunConfig, text: Corpus, report: Report, *, stored: ModelFolder | None = None
    ) -> PreparedTranslation:
        """Train or read the vocabulary, encode the pairs, build the model."""
        report(self.describe(text))
        if stored is None:
            check_tags(config.tokenizer)
            texts = [*text.train.sources, *text.train.targets]
            tokenizer: AnyTokenizer = Tokenizer.train(texts, config.tokenizer)
        else:
            tokenizer = stored.read_tokenizer()
        max_length = config.data.max_length
        train, train_pairs, dropped = encode_pairs(text.train, tokenizer, max_length=max_length)
        valid, valid_pairs, _ = encode_pairs(text.valid, tokenizer, max_length=max_length)
        text.dropped += dropped
        text.train = train_pairs
        num_tokens = int(train.targets.lengths.sum())
        tokens = describe_tokens(config, len(tokenizer), train_pairs.targets, num_tokens)
        source, target = split_tokenizer(tokenizer)
        is_shared = source is target
        report(msgspec.structs.replace(tokens, is_shared=is_shared))
        config = settle_precision(config)
        model = build_model(config, len(tokenizer))
        assert isinstance(model, EncoderDecoder)
        assert config.training.batch_tokens is not None
        batches = PairBatches(
            train.sources,
            train.targets,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
            ids=special_ids(model, tokenizer),
        )
        report_model(config, model, report)
        return PreparedTranslation(
            config=config,
            text=text,
            tokenizer=tokenizer,
            batches=batches,
            model=model,
            valid=valid,
            valid_pairs=valid_pairs,
        )

    def open(self, folder: str | Path) -> Translator:
        """Open a model folder for translating."""
        return Translator.open(folder)


class PreparedTranslation(Prepared):
    """A run of translation.

    Args:
        config: With every choice made.
        text: The pairs.
        tokenizer: Shared by both sides.
        batches: Of the training pairs.
        model: With initial weights, in training mode.
        valid: Token ids of the validation pairs.
        valid_pairs: Their text.
    """

    text: Corpus
    model: EncoderDecoder[Any]

    def __init__(
        self,
        *,
        config: RunConfig,
        text: Corpus,
        tokenizer: AnyTokenizer,
        batches: PairBatches,
        model: TextModel,
        valid: EncodedPairs,
        valid_pairs: ParallelCorpus,
    ) -> None:
        super().__init__(
            config=config, text=text, tokenizer=tokenizer, batches=batches, model=model
        )
        self.valid, self.valid_pairs = valid, valid_pairs

    def objective(self) -> TranslationLoss:
        """Make the label-smoothed cross-entropy."""
        return TranslationLoss(
            self.config.training.label_smoothing, special_ids(self.model, self.tokenizer).no_label
        )

    def evaluator(self) -> TranslationEvaluator:
        """Make what computes validation losses and chrF."""
        return TranslationEvaluator(
            self.model,
            self.valid.sources,
            self.valid.targets,
            self.valid_pairs.targets,
            self.tokenizer,
            replace(self.config.search, beam=1, num_best=1),
        )

    @torch.no_grad()
    def evaluation_seconds(self, model: TextModel) -> float:
        """Time the decoding of some rows to their references' length, and scale it up."""
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        assert isinstance(evaluated, EncoderDecoder)
        num_rows = len(self.valid_pairs)
        sample = list(range(0, num_rows, max(1, num_rows // _SAMPLED_ROWS)))[:_SAMPLED_ROWS]
        begun = time.perf_counter()
        search = replace(self.config.search, beam=1, num_best=1, max_length_ratio=1.0)
        ids = special_ids(evaluated, self.tokenizer)
        decode_rows(evaluated, self.valid.sources, sample, search, ids)
        per_row = (time.perf_counter() - begun) / len(sample)
        return per_row * min(num_rows, DECODED_ROWS) * _BATCHING_GAIN

    def warning(self, event: Evaluated) -> str | None:
        """Tell where the model has learned to ignore its source."""
        gap = event.measures["shuffled_loss"] - event.measures["loss"]
        if gap >= _SOURCE_IGNORED or event.step < event.total_steps // 2:
            return None
        return (
            "The output hardly depends on the source: validation loss with shuffled sources is "
            f"only {gap:.3f} nats higher.  Are the columns aligned line by line?  "
            "See: regard check"
        )

    def finish(self, opened: Translator, valid: dict[str, float]) -> Outcome:
        """Score beam search on the test pairs."""
        corpus, beam = self.text, self.config.search.beam
        test = self._test(opened)
        shown = f"valid chrF {valid['chrf']:.1f}"
        if test:
            shown += (
                f"   test chrF {test['chrf']:.1f} [{test['chrf_low']:.1f}, "
                f"{test['chrf_high']:.1f}], BLEU {test['bleu']:.1f}"
            )
        return Outcome(
            test=test,
            summary=shown,
            tries=[f'translate {{folder}} "{corpus.valid.sources[0]}"'],
            kind=f"A translation model ({corpus.languages or 'languages not told'})",
            rows=f"{len(corpus.train):,} train / {len(corpus.valid):,} validation / "
            f"{len(corpus.test):,} test",
            notes="`shuffled_loss` is the loss with the sources of other sentences: a model that "
            f"ignores its source has no gap between the two. Test figures are of beam search "
            f"({beam}).",
        )

    def _test(self, translator: Translator) -> dict[str, float]:
        corpus = self.text
        stride = max(1, len(corpus.test) // _TESTED_ROWS)
        rows = range(0, len(corpus.test), stride)
        if not rows:
            return {}
        test = corpus.test.select(rows)
        outputs = translator.translate(test.sources)
        scores = score_translations(outputs, test.targets, target_language=corpus.target_language)
        return {
            "chrf": scores.chrf.value,
            "chrf_low": scores.chrf.low,
            "chrf_high": scores.chrf.high,
            "bleu": scores.bleu.value,
        }
