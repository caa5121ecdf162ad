"""Question answering: questions on texts -> batches -> a model that writes the answer.

What is read is the question, a separator, and the text; an empty output means that the text has no
answer. T5 separates them by words (Raffel et al. 2020, appendix D.15).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from regard.data.question_rows import AnswerPairs
from regard.data.readers.shape import DataShape
from regard.generation.beam_search_config import NEW_SEARCH
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.model_folder import ModelFolder
from regard.models import ENCODER_DECODERS, EncoderDecoder
from regard.setup.base_task import Task
from regard.setup.config import QuestionAnsweringConfig, RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.evaluation_report import TestReport
from regard.setup.training_setup import RunParts
from regard.tasks.generative_question_answering.data import (
    WrittenAnswerData,
    encode_sources,
    read_written_answers,
)
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.question_answering.answerer import THRESHOLD
from regard.tasks.question_answering.data import is_for_questions
from regard.tasks.question_answering.evaluation import answer_test_report
from regard.tasks.question_answering.loss import answer_measures, best_threshold
from regard.tasks.question_answering.task import QuestionAnsweringTask
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.sequence_to_sequence.target_setup import SequenceToSequenceSetup
from regard.training.events import Report
from regard.training.training_config import TrainingConfig


class GenerativeQuestionAnsweringTask(Task):
    """Question answering by a model that writes the answer."""

    name = QuestionAnsweringTask.name
    purpose = QuestionAnsweringTask.purpose
    verbs = QuestionAnsweringTask.verbs
    example_data = QuestionAnsweringTask.example_data
    training_data = "questions on texts"
    has_picture = True
    has_long_sources = True
    sections = frozenset({"tokenizer", "search", "qa"})
    unread = Task.unread - {"source_prefix"}
    families = ENCODER_DECODERS
    preset_table = "WRITTEN_ANSWER_PRESETS"
    predictor = AnswerWriter
    evaluation = "regard.tasks.question_answering.evaluation.evaluate_answers"

    @property
    def defaults(self) -> RunConfig:
        """The Transformer, whose best answer is the most probable one."""
        return RunConfig(
            task=self.name,
            qa=QuestionAnsweringConfig(kind="generative"),
            search=replace(
                NEW_SEARCH, stopping="certain", length_penalty=0.0, max_length_ratio=1.0
            ),
            training=TrainingConfig(label_smoothing=0.0),
        )

    def claims(self, shape: DataShape) -> bool:
        """Whether data has questions on texts, see `is_for_questions`."""
        return is_for_questions(shape)

    def read(self, options: ReadOptions) -> WrittenAnswerData:
        """Read the questions and split them."""
        return read_written_answers(options)

    def set_up(
        self, parts: RunParts[WrittenAnswerData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> WrittenAnswerSetup:
        """Encode questions with their texts, and arrange them in batches."""
        return WrittenAnswerSetup(parts, report)

    def open(self, folder: str | Path, config: RunConfig | None = None) -> AnswerWriter:
        """Return the predictor of a model folder, with its threshold."""
        writer: AnswerWriter = super().open(folder, config)
        writer.threshold = ModelFolder(folder).read_calibration().get(THRESHOLD)
        return writer


class WrittenAnswerSetup(SequenceToSequenceSetup[WrittenAnswerData, AnswerPairs]):
    """Model, batches, loss and evaluation of a model that writes answers."""

    score_name = "f1"

    def __init__(
        self, parts: RunParts[WrittenAnswerData, AnyTokenizer, EncoderDecoder[Any]], report: Report
    ) -> None:
        super().__init__(parts, report)
        self.dataset.truncated += self.truncated
        self.report_cut(report, "questions with their texts", "answer", "answers")

    @staticmethod
    def encode_sources(
        parts: RunParts[WrittenAnswerData, AnyTokenizer, EncoderDecoder[Any]], pairs: AnswerPairs
    ) -> list[list[int]]:
        """Return the tokens of questions with their texts."""
        separator = special_ids(parts.model, parts.tokenizer).end_of_source
        return encode_sources(
            pairs.questions, pairs.contexts, parts.tokenizer, separator, parts.config
        )

    def score(self, outputs: Sequence[str], rows: Sequence[int]) -> dict[str, float]:
        """Return exact match and F1 of answers."""
        texts = [text.strip() for text in outputs]
        return answer_measures(texts, self.valid.text.select(rows))

    def calibrate(self, predictor: AnswerWriter) -> dict[str, float]:
        """Choose the threshold of "no answer" on the validation questions."""
        valid = self.dataset.valid
        if not valid.num_unanswerable:
            return {}
        outputs = predictor.write_answers(valid.questions, valid.contexts)
        margins = [output.margin for output in outputs]
        predictor.threshold = best_threshold(margins, [output.text for output in outputs], valid)
        return {} if predictor.threshold is None else {THRESHOLD: predictor.threshold}

    def evaluate_test(self, predictor: AnswerWriter, valid: dict[str, float]) -> TestReport:
        """Compute exact match and F1 on the test questions."""
        test = self.dataset.test
        results = predictor.answer_rows(test.questions, test.contexts)
        return answer_test_report(
            self.dataset,
            [result.answer or "" for result in results],
            valid,
            threshold=predictor.threshold,
            kind="A model that writes answers to questions on texts",
        )


GENERATIVE_QUESTION_ANSWERING = GenerativeQuestionAnsweringTask()
