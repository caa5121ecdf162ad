"""Question answering: questions on texts -> windows -> a model of the position of the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regard.data.listing import pluralize
from regard.data.readers.shape import DataShape
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.model_folder import ModelFolder
from regard.models import ENCODERS, BertConfig, Model, SpanModel
from regard.models.base.checkpoint_format import LabelHead
from regard.models.base.classifier_checkpoints import with_label_head
from regard.models.base.encoder import EncoderConfig
from regard.models.base.span_checkpoints import with_span_head
from regard.setup.base_task import Task
from regard.setup.build import build_encoder_without_head, summarize_tokens
from regard.setup.config import DataConfig, RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import TestReport
from regard.setup.training_setup import RunParts, TrainingBatches, TrainingSetup
from regard.tasks.question_answering.answerer import THRESHOLD
from regard.tasks.question_answering.data import (
    WindowedQuestionData,
    is_for_questions,
    read_question_data,
)
from regard.tasks.question_answering.loss import (
    SpanEvaluator,
    SpanLoss,
    choose_threshold,
    given_answers,
)
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.training.evaluation_loop import time_evaluation
from regard.training.events import Report, Warned
from regard.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from regard.hub.hugging_face.published_folder import Published

_EVALUATED_QUESTIONS = 512  # of the validation data, evenly spread
_WINDOW = 384  # tokens (Devlin et al. 2019, in the released code for SQuAD)


class QuestionAnsweringSetup(TrainingSetup[WindowedQuestionData, AnyTokenizer, SpanModel]):
    """Model, batches, loss and evaluation of a model of answers.

    Args:
        parts: Settings, data, vocabulary and model of the run.
        batches: Windows of the training questions.
        answerer: The predictor; it arranges held-out questions in batches.
    """

    def __init__(
        self,
        parts: RunParts[WindowedQuestionData, AnyTokenizer, SpanModel],
        batches: TrainingBatches,
        answerer: QuestionAnswerer,
    ) -> None:
        super().__init__(parts, batches)
        self.answerer = answerer
        valid = self.dataset.valid
        step = max(1, len(valid) // _EVALUATED_QUESTIONS)
        self.evaluated = valid.select(range(0, len(valid), step)[:_EVALUATED_QUESTIONS])
        self._valid_batches = answerer.batches(self.evaluated)

    @property
    def final_evaluations(self) -> float:
        """Cost of calibration and test, in units of an evaluation."""
        rows = len(self.dataset.valid) + len(self.dataset.test)
        return 1.0 + rows / len(self.evaluated)

    def loss(self) -> SpanLoss:
        """Return the cross-entropy of both ends."""
        return SpanLoss(self.config.training.label_smoothing)

    def evaluator(self) -> SpanEvaluator:
        """Return the evaluator of loss, exact match and F1; F1 decides."""
        most = self.config.qa.max_answer_tokens
        return SpanEvaluator(
            self.model,
            self._valid_batches,
            self.evaluated,
            max_answer_tokens=most,
            world=self.world,
        )

    def evaluation_seconds(self, model: Model) -> float:
        """Time a few batches of the validation data, and scale up to both passes over them."""
        return 2 * time_evaluation(self.loss(), model, self._valid_batches, self.world)

    def calibrate(self, predictor: QuestionAnswerer) -> dict[str, float]:
        """Choose the threshold of "no answer" on the validation questions."""
        valid = self.dataset.valid
        if not valid.num_unanswerable:
            return {}
        predictor.threshold = choose_threshold(predictor.spans(valid), valid)
        return {} if predictor.threshold is None else {THRESHOLD: predictor.threshold}

    def evaluate_test(self, predictor: QuestionAnswerer, valid: dict[str, float]) -> TestReport:
        """Compute exact match and F1 on the test questions."""
        from regard.tasks.question_answering.evaluation import answer_test_report

        test = self.dataset.test
        return answer_test_report(
            self.dataset,
            given_answers(predictor.spans(test), test.contexts, predictor.threshold),
            valid,
            threshold=predictor.threshold,
            kind="A model that finds answers in texts",
        )


class QuestionAnsweringTask(Task):
    """Question answering: the position of the answer in a text."""

    name = "question-answering"
    purpose = "answer questions"
    verbs = (("answer", "questions.jsonl"), ("evaluate", "questions.jsonl"))
    example_data = "questions.jsonl"
    training_data = "questions on texts"
    loss_unit = "nats per window"
    has_picture = True
    sections = frozenset({"tokenizer", "qa"})
    families = ENCODERS
    preset_table = "QUESTION_PRESETS"
    predictor = QuestionAnswerer
    evaluation = "regard.tasks.question_answering.evaluation.evaluate_answers"

    def for_config(self, config: RunConfig) -> Task:
        """Return the task that finds answers, or the one that writes them."""
        if config.qa.kind != "generative":
            return self
        from regard.tasks.generative_question_answering.task import (
            GENERATIVE_QUESTION_ANSWERING,
        )

        return GENERATIVE_QUESTION_ANSWERING

    def start_encoder(
        self,
        model: EncoderConfig,
        head: LabelHead | None,
    ) -> EncoderConfig:
        """Return a trained encoder that reads a question with a context."""
        if head is not None and head.is_pooler:
            model = with_label_head(model, head)
        return with_span_head(model)

    @property
    def defaults(self) -> RunConfig:
        """A BERT on windows of 384 tokens."""
        return RunConfig(
            task=self.name,
            model=BertConfig(),
            data=DataConfig(max_length=_WINDOW),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether data has questions on texts, see `is_for_questions`."""
        return is_for_questions(shape)

    def claims_published(self, published: Published) -> bool:
        """Whether it is an encoder that finds answers."""
        return self.has_format_of(published) and published.finds_spans

    def published_config(self, published: Published) -> RunConfig:
        """Return its settings, with the window of SQuAD; see `Task`."""
        from regard.setup.published_config import encoder_config

        return encoder_config(published, self.name, most=_WINDOW)

    def read(self, options: ReadOptions) -> WindowedQuestionData:
        """Read the questions and split them."""
        return read_question_data(options)

    def build(self, config: RunConfig, vocab_size: int) -> SpanModel:
        """Build an encoder whose head gives the ends of an answer instead of tokens."""
        encoder = build_encoder_without_head(config, vocab_size, self)
        return SpanModel(encoder, has_roles=config.qa.match_words)

    def set_up(
        self, parts: RunParts[WindowedQuestionData, AnyTokenizer, SpanModel], report: Report
    ) -> QuestionAnsweringSetup:
        """Encode questions and texts, and arrange their windows in batches."""
        config, dataset = parts.config, parts.dataset
        answerer = QuestionAnswerer(parts.model, parts.tokenizer, config)
        batches = answerer.batches(
            dataset.train,
            batch_tokens=parts.batch_tokens,
            negatives=config.qa.negatives,
            seed=config.training.seed,
        )
        dataset.rows_of_windows = [window.row for window in batches.windows]
        contexts = {id(row.context): len(row.context.ids) for row in batches.questions}
        num_tokens = sum(contexts.values()) + sum(len(row.ids) for row in batches.questions)
        report(summarize_tokens(config, len(parts.tokenizer), dataset.texts(), num_tokens))
        lengths = [1 + row.answer[1] - row.answer[0] for row in batches.questions if row.answer]
        num_long = int((np.array(lengths) > config.qa.max_answer_tokens).sum())
        if num_cut := sum(row.truncated > 0 for row in batches.questions):
            are = pluralize(num_cut, "question is", "questions are")
            report(Warned(text=f"{are} cut: half a window is for the text."))
        if num_long:
            most = config.qa.max_answer_tokens
            report(
                Warned(
                    text=f"{num_long:,} answers are longer than {most:,} tokens and cannot be "
                    f"given whole.  Allow them: `qa.max_answer_tokens={max(lengths)}`"
                )
            )
        return QuestionAnsweringSetup(parts, batches, answerer)

    def open(self, folder: str | Path, config: RunConfig | None = None) -> QuestionAnswerer:
        """Return the predictor of a model folder, with its threshold."""
        answerer: QuestionAnswerer = super().open(folder, config)
        answerer.threshold = ModelFolder(folder).read_calibration().get(THRESHOLD)
        return answerer


QUESTION_ANSWERING = QuestionAnsweringTask()
