"""Translation as a task: pairs of sentences -> batches -> a model that translates."""

from __future__ import annotations

import copy
import time
from contextlib import suppress
from typing import Any

import torch
from msgspec.structs import replace

from regard.data.batching import PairBatches
from regard.errors import NextStep, WeightsError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.source_target_tokenizer import SourceTargetTokenizer
from regard.metrics.translation import score_translations
from regard.models import ENCODER_DECODERS, EncoderDecoder
from regard.setup.base_task import (
    FOLDER,
    ReadOptions,
    RunParts,
    Task,
    TestReport,
    TrainingSetup,
)
from regard.setup.build import summarize_tokens
from regard.setup.config import RunConfig
from regard.setup.evaluation_report import EvaluationOptions
from regard.setup.presets import SEQ2SEQ_PRESETS
from regard.tasks.translation.data import (
    EncodedPairs,
    TranslationData,
    encode_pairs,
    read_translation_data,
)
from regard.tasks.translation.evaluation import (
    TranslationReport,
    evaluate_translator,
    read_test_pairs,
)
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
_BATCHING_GAIN = 0.6  # a sentence in a full batch takes less time than one in the small sample


class TranslationTask(Task):
    """Translation of sentences from one language to another."""

    name = "translation"
    purpose = "translate"
    verbs = (("translate", "TEXT"), ("evaluate", "pairs.tsv"))
    example_data = "pairs.tsv"
    families = ENCODER_DECODERS
    presets = SEQ2SEQ_PRESETS

    @property
    def defaults(self) -> RunConfig:
        """The Transformer."""
        return RunConfig(task=self.name)

    def read(self, options: ReadOptions) -> TranslationData:
        """Read the pairs of a file, or of the embedded corpus where no file is named."""
        return read_translation_data(options)

    def set_up(
        self, parts: RunParts[TranslationData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> TranslationSetup:
        """Encode the pairs and arrange them in batches; pairs that are too long are dropped."""
        config, dataset, tokenizer = parts.config, parts.dataset, parts.tokenizer
        max_length = config.data.max_length
        train = encode_pairs(dataset.train, tokenizer, max_length=max_length)
        valid = encode_pairs(dataset.valid, tokenizer, max_length=max_length)
        dataset.dropped += train.dropped
        dataset.train = train.text
        report(
            summarize_tokens(
                config,
                len(tokenizer),
                train.text.targets,
                int(train.targets.lengths.sum()),
                is_shared=not isinstance(tokenizer, SourceTargetTokenizer),
            )
        )
        batches = PairBatches(
            train.sources,
            train.targets,
            batch_tokens=parts.batch_tokens,
            seed=config.training.seed,
            ids=special_ids(parts.model, tokenizer),
        )
        return TranslationSetup(parts, batches, valid)

    def predictor(
        self, model: EncoderDecoder[Any], tokenizer: AnyTokenizer, config: RunConfig
    ) -> Translator:
        """Return the translator of a trained model."""
        return Translator(model, tokenizer, config)

    def evaluate(
        self,
        predictor: Translator,
        path: str,
        options: EvaluationOptions,
        other: Translator | None = None,
    ) -> TranslationReport:
        """Score a translator on a file of pairs; see `Task`."""
        pairs = read_test_pairs(path, predictor, options)
        return evaluate_translator(predictor, pairs, options, other)


class TranslationSetup(TrainingSetup[TranslationData, AnyTokenizer, EncoderDecoder[Any]]):
    """Model, batches, loss and evaluation of a translation model.

    Args:
        parts: Settings, data, vocabulary and model of the run.
        batches: Batches of the training pairs.
        valid: The validation pairs.
    """

    def __init__(
        self,
        parts: RunParts[TranslationData, AnyTokenizer, EncoderDecoder[Any]],
        batches: PairBatches,
        valid: EncodedPairs,
    ) -> None:
        super().__init__(parts, batches)
        self.valid = valid

    def loss(self) -> TranslationLoss:
        """Return the label-smoothed cross-entropy."""
        training = self.config.training
        return TranslationLoss(
            training.label_smoothing,
            special_ids(self.model, self.tokenizer).no_label,
            training.coverage,
        )

    def evaluator(self) -> TranslationEvaluator:
        """Return the evaluator of validation losses and chrF."""
        greedy = replace(self.config.search, beam=1, num_best=1)
        return TranslationEvaluator(self.model, self.tokenizer, self.valid, greedy)

    @torch.no_grad()
    def evaluation_seconds(self, model: EncoderDecoder[Any]) -> float:
        """Time the decoding of some rows to the length of their sources, and scale it up."""
        evaluated = copy.deepcopy(model).to(model.compute_dtype).eval()
        num_rows = len(self.valid.text)
        sample = range(0, num_rows, max(1, num_rows // _SAMPLED_ROWS))[:_SAMPLED_ROWS]
        start = time.perf_counter()
        search = replace(self.config.search, beam=1, num_best=1, max_length_ratio=1.0)
        ids = special_ids(evaluated, self.tokenizer)
        with suppress(WeightsError):  # measured steps that end in NaN: the run itself names them
            decode_rows(evaluated, self.valid.sources, sample, search, ids)
        seconds_per_row = (time.perf_counter() - start) / len(sample)
        return seconds_per_row * min(num_rows, DECODED_ROWS) * _BATCHING_GAIN

    def data_warning(self, event: Evaluated) -> Warned | None:
        """Return a warning where the model has learned to ignore its source."""
        if "shuffled_loss" not in event.measures or event.step < event.total_steps // 2:
            return None
        gap = event.measures["shuffled_loss"] - event.measures["loss"]
        if gap >= _SOURCE_IGNORED:
            return None
        path = self.config.data.path or self.dataset.path  # a stream has a copy in the folder
        return Warned(
            text="The output hardly depends on the source: validation loss with shuffled sources "
            f"is only {gap:.3f} nats higher.  Are the columns aligned line by line?",
            next_steps=(NextStep("See", "check", (path,)),),
        )

    def evaluate_test(self, predictor: Translator, valid: dict[str, float]) -> TestReport:
        """Score beam search on at most 500 to 1,000 of the test pairs."""
        dataset, test = self.dataset, {}
        summary = f"valid chrF {valid['chrf']:.1f}"
        if num_rows := len(dataset.test):
            pairs = dataset.test.select(range(0, num_rows, max(1, num_rows // _TESTED_ROWS)))
            scores = score_translations(
                predictor.translate(pairs.sources),
                pairs.targets,
                target_language=dataset.target_language,
            )
            low, high = scores.chrf.low, scores.chrf.high
            test = {
                "chrf": scores.chrf.value,
                "chrf_low": low,
                "chrf_high": high,
                "bleu": scores.bleu.value,
            }
            summary += (
                f"   test chrF {test['chrf']:.1f} [{low:.1f}, {high:.1f}], BLEU {test['bleu']:.1f}"
            )
        return TestReport(
            test=test,
            summary=summary,
            suggested=[NextStep("Try", "translate", (FOLDER, dataset.valid.sources[0]))],
            kind=f"A translation model ({dataset.languages or 'languages not known'})",
            rows=dataset.describe_sizes(),
            notes="`shuffled_loss` is the loss with the sources of other sentences: a model that "
            "ignores its source has no gap between the two. Test figures are of beam search "
            f"({self.config.search.beam}).",
        )
