"""Translation as a task: pairs of sentences -> batches -> a model that translates."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from msgspec.structs import replace

from regard.data.batching import PairBatches
from regard.data.cldr_corpus import cldr_corpus
from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import NextStep
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import SourceTargetTokenizer
from regard.metrics.translation import score_translations
from regard.models import ENCODER_DECODERS, EncoderDecoder, Model
from regard.setup.base_task import FOLDER, ReadOptions, Task, TestReport, TrainingSetup
from regard.setup.build import summarize_tokens
from regard.setup.config import RunConfig
from regard.setup.presets import SEQ2SEQ_PRESETS
from regard.tasks.translation.data import Corpus, EncodedPairs, encode_pairs, read_corpus
from regard.tasks.translation.loss import (
    DECODED_ROWS,
    TranslationEvaluator,
    TranslationLoss,
    decode_rows,
    special_ids,
)
from regard.tasks.translation.predictor import Translator
from regard.training.events import Evaluated, Report, Warned

_TESTED_ROWS = 500
_SOURCE_IGNORED = 0.05  # nats per token: a smaller gap means that the source is not used
_SAMPLED_ROWS = 32
_BATCHING_GAIN = 0.6  # a sentence among many costs less time than one in the small sample


class TranslationTask(Task):
    """Sentences in one language to sentences in another."""

    name = "translation"
    purpose = "translate"
    families = ENCODER_DECODERS
    presets = SEQ2SEQ_PRESETS

    @property
    def defaults(self) -> RunConfig:
        """The Transformer."""
        return RunConfig(task=self.name)

    def read(self, options: ReadOptions) -> Corpus:
        """Read the pairs of a file, or the embedded corpus where none is named."""
        if options.data.path is not None:
            return read_corpus(options)
        embedded = cldr_corpus(seed=options.seed)
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

    def set_up(
        self,
        config: RunConfig,
        dataset: Corpus,
        tokenizer: AnyTokenizer | None,
        model: Model,
        report: Report,
    ) -> TranslationSetup:
        """Encode the pairs, and lay them out in batches."""
        assert tokenizer is not None
        assert isinstance(model, EncoderDecoder)
        max_length = config.data.max_length
        train, train_pairs, dropped = encode_pairs(dataset.train, tokenizer, max_length=max_length)
        valid, valid_pairs, _ = encode_pairs(dataset.valid, tokenizer, max_length=max_length)
        dataset.dropped += dropped
        dataset.train = train_pairs
        report(
            summarize_tokens(
                config,
                len(tokenizer),
                train_pairs.targets,
                int(train.targets.lengths.sum()),
                is_shared=not isinstance(tokenizer, SourceTargetTokenizer),
            )
        )
        assert config.training.batch_tokens is not None
        batches = PairBatches(
            train.sources,
            train.targets,
            batch_tokens=config.training.batch_tokens,
            seed=config.training.seed,
            ids=special_ids(model, tokenizer),
        )
        return TranslationSetup(
            config=config,
            dataset=dataset,
            tokenizer=tokenizer,
            batches=batches,
            model=model,
            valid=valid,
            valid_pairs=valid_pairs,
        )

    def predictor(self, model: Any, tokenizer: Any, config: RunConfig) -> Translator:
        """Return what translates with a trained model."""
        return Translator(model, tokenizer, config)


class TranslationSetup(TrainingSetup):
    """A run of translation.

    Args:
        config: Of the run.
        dataset: The pairs.
        tokenizer: Shared by both sides.
        batches: Of the training pairs.
        model: With initial weights, in training mode.
        valid: Token ids of the validation pairs.
        valid_pairs: Their text.
    """

    dataset: Corpus
    tokenizer: AnyTokenizer
    model: EncoderDecoder[Any]

    def __init__(
        self,
        *,
        config: RunConfig,
        dataset: Corpus,
        tokenizer: AnyTokenizer,
        batches: PairBatches,
        model: EncoderDecoder[Any],
        valid: EncodedPairs,
        valid_pairs: ParallelCorpus,
    ) -> None:
        super().__init__(
            config=config, dataset=dataset, tokenizer=tokenizer, batches=batches, model=model
        )
        self.valid, self.valid_pairs = valid, valid_pairs

    def loss(self) -> TranslationLoss:
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
    def evaluation_seconds(self, model: EncoderDecoder[Any]) -> float:
        """Time the decoding of some rows to their references' length, and scale it up."""
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        num_rows = len(self.valid_pairs)
        sample = list(range(0, num_rows, max(1, num_rows // _SAMPLED_ROWS)))[:_SAMPLED_ROWS]
        begun = time.perf_counter()
        search = replace(self.config.search, beam=1, num_best=1, max_length_ratio=1.0)
        ids = special_ids(evaluated, self.tokenizer)
        decode_rows(evaluated, self.valid.sources, sample, search, ids)
        per_row = (time.perf_counter() - begun) / len(sample)
        return per_row * min(num_rows, DECODED_ROWS) * _BATCHING_GAIN

    def data_warning(self, event: Evaluated) -> Warned | None:
        """Warn where the model has learned to ignore its source."""
        gap = event.measures["shuffled_loss"] - event.measures["loss"]
        if gap >= _SOURCE_IGNORED or event.step < event.total_steps // 2:
            return None
        path = self.config.data.path or self.dataset.path  # of a stream, its copy in the folder
        return Warned(
            text="The output hardly depends on the source: validation loss with shuffled sources "
            f"is only {gap:.3f} nats higher.  Are the columns aligned line by line?",
            next_steps=(NextStep("See", "check", (path,)),),
        )

    def evaluate_test(self, predictor: Translator, valid: dict[str, float]) -> TestReport:
        """Score beam search on the test pairs."""
        corpus, beam = self.dataset, self.config.search.beam
        test = self._test(predictor)
        shown = f"valid chrF {valid['chrf']:.1f}"
        if test:
            shown += (
                f"   test chrF {test['chrf']:.1f} [{test['chrf_low']:.1f}, "
                f"{test['chrf_high']:.1f}], BLEU {test['bleu']:.1f}"
            )
        return TestReport(
            test=test,
            summary=shown,
            suggested=[NextStep("Try", "translate", (FOLDER, corpus.valid.sources[0]))],
            kind=f"A translation model ({corpus.languages or 'languages not told'})",
            rows=f"{len(corpus.train):,} train / {len(corpus.valid):,} validation / "
            f"{len(corpus.test):,} test",
            notes="`shuffled_loss` is the loss with the sources of other sentences: a model that "
            f"ignores its source has no gap between the two. Test figures are of beam search "
            f"({beam}).",
        )

    def _test(self, translator: Translator) -> dict[str, float]:
        corpus = self.dataset
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
