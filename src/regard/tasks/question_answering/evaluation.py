"""Evaluation of a model of answers on questions, next to floors and another model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import pluralize, shorten_line
from regard.data.question_rows import NO_ANSWER, Questions
from regard.data.readers.source import DataSource
from regard.errors import NextStep
from regard.metrics import FLOORS
from regard.metrics.answers import (
    AnswerScores,
    PairedAnswerScores,
    answer_words,
    compare_answers,
    question_scores,
    score_answers,
)
from regard.metrics.classification import reliability
from regard.metrics.words import split_words
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.setup.base_task import FOLDER
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ExplainedInput,
    ScoreChart,
    ScoredRow,
    chart_by_length,
    chart_by_rarity,
)
from regard.setup.evaluation_report import (
    EvaluationOptions,
    EvaluationReport,
    TestReport,
    score_interval,
)
from regard.setup.held_out import training_rows, unseen_rows
from regard.tasks import task_of
from regard.tasks.question_answering.answerer import Answer, Answerer
from regard.tasks.question_answering.data import QuestionData, read_questions_of

_ENDS = ".!?。！？"
_LONGEST_TEXT = 60  # characters of a text in a line of the report


class WorstAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst answers.

    Args:
        where: File and line, or path in a nested file.
        question: The question.
        answer: That of the model; None for "no answer".
        probability: That the model gives it.
        expected: The true answers; none for a question without one.
        f1: F1 of this question, 0 to 100.
    """

    where: str
    question: str
    answer: str | None
    probability: float
    expected: list[str]
    f1: float


class AnswerReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a model of answers, in percent.

    Args:
        num_questions: Number of questions scored.
        num_unanswerable: How many of them have no answer.
        scores: Exact match and F1 with their intervals, and F1 of "no answer".
        floor_f1: F1 of answers that need no model, by name.
        worst: The worst answers, worst first.
        comparison: Differences to the other model; None without one.
        num_truncated: Questions of whose texts the end was cut off.
        num_questions_truncated: Questions whose own end was cut off.
    """

    num_questions: int
    num_unanswerable: int
    scores: AnswerScores
    floor_f1: dict[str, float]
    worst: list[WorstAnswer]
    comparison: PairedAnswerScores | None = None
    num_truncated: int = 0
    num_questions_truncated: int = 0

    @property
    def num_rows(self) -> int:
        """Number of questions scored."""
        return self.num_questions

    @property
    def intervals(self) -> dict[str, Any]:
        """Exact match and F1, and F1 of "no answer" where there is one."""
        scores = self.scores
        intervals: dict[str, Any] = {
            name: score_interval(score.value, score.low, score.high)
            for name, score in (("exact_match", scores.exact_match), ("f1", scores.f1))
        }
        if scores.no_answer_f1 is not None:
            intervals["no_answer_f1"] = score_interval(scores.no_answer_f1)
        return intervals

    @property
    def floors(self) -> dict[str, float | None]:
        """F1 without a model."""
        return dict(self.floor_f1)

    @property
    def verdict(self) -> str:
        """Whether the interval of F1 is above the best floor."""
        name, floor = max(self.floor_f1.items(), key=lambda item: item[1])
        is_above = self.scores.f1.low > floor
        return f"above {FLOORS[name].phrase}" if is_above else f"not above {FLOORS[name].phrase}"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the worst answers, scores, floors and the comparison."""
        unanswerable = (
            f", {self.num_unanswerable:,} without an answer" if self.num_unanswerable else ""
        )
        count = pluralize(self.num_questions, "question")
        yield "Data", f"{self.path}   {count}{unanswerable}   model {self.model}"
        for entry in self.worst:
            yield "Worst", f"{entry.where}   F1 {entry.f1:.0f}   {_shorten(entry.question)}"
            yield "", f"answer    {_shorten(entry.answer)} ({entry.probability:.2f})"
            yield "", f"expected  {_shorten(' | '.join(entry.expected) or None)}"
        for number, noun in (
            (self.num_truncated, "context"),
            (self.num_questions_truncated, "question"),
        ):
            if number:
                yield "Cut", f"the end of {pluralize(number, noun)} was not read"
        for title, score in (("Exact", self.scores.exact_match), ("F1", self.scores.f1)):
            yield title, f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]"
        if self.scores.no_answer_f1 is not None:
            yield "None", f'{self.scores.no_answer_f1:.1f}   F1 of the decision "no answer"'
        floors = (f"{self.floor_title(name)} {value:.1f}" for name, value in self.floor_f1.items())
        yield "Floors", f"F1 {', '.join(floors)}"
        yield "Verdict", self.verdict
        if self.comparison is not None:
            for title, score in (
                ("exact match", self.comparison.exact_match),
                ("F1", self.comparison.f1),
            ):
                yield (
                    "Compare",
                    f"{self.model} against {self.other}: {score.difference:+.1f} {title} "
                    f"[{score.low:+.1f}, {score.high:+.1f}], p = {score.p_value:.3f}",
                )
        yield "Rule", self.scores.f1.signature


def evaluate_answers(
    answerer: Answerer,
    data: DataSource,
    options: EvaluationOptions,
    other: Answerer | None = None,
) -> AnswerReport:
    """Return the scores of a model on questions with answers, next to floors and another model.

    Args:
        answerer: The model.
        data: The questions.
        options: How it is evaluated.
        other: Another model to compare with.

    Raises:
        DataError: The questions cannot be read, or are in the training data and `options` do not
            say what becomes of them.
    """
    config = answerer.config
    train = training_rows(task_of(config).read, config)
    questions = unseen_rows(train, read_questions_of(data, config.data), options)
    answerer = answerer.with_beam(options.beam)
    results = answerer.answer(questions.questions, questions.contexts)
    texts = [result.answer or "" for result in results]
    comparison = None
    if other is not None:
        other = other.with_beam(options.beam)
        other_answers = other.answer(questions.questions, questions.contexts)
        other_texts = [result.answer or "" for result in other_answers]
        comparison = compare_answers(texts, other_texts, questions.answers)
    scores = question_scores(texts, questions.answers)  # exact match and F1, [2, questions]
    rows = _worst_rows(scores, results, options.num_worst)
    worst = [_describe_row(questions, results[row], 100 * scores[1, row], row) for row in rows]
    picture = ScoreByLengthPicture.from_rows(
        [len(split_words(context)) for context in questions.contexts],
        (100 * scores[::-1]).tolist(),
        unit="words of the text",
        row="question",
        names=["F1", "exact match"],
    )
    details = None
    if options.has_details:
        contexts = [questions.contexts[row] for row in rows]
        details = EvaluationDetails(
            charts=[chart_by_length(picture), _rarity(answerer, questions, scores[1], train)],
            calibrations=[_calibration(results, scores[0])],
            worst=list(map(_scored_row, worst, contexts)),
        )
    return AnswerReport(
        **options.report_fields(),
        path=data.path,
        num_questions=len(questions),
        num_unanswerable=questions.num_unanswerable,
        scores=score_answers(texts, questions.answers),
        floor_f1=_floors(questions),
        worst=worst,
        comparison=comparison,
        picture=picture,
        details=details,
        num_truncated=sum(result.truncated > 0 for result in results),
        num_questions_truncated=sum(result.question_truncated > 0 for result in results),
    )


def answer_test_report(
    dataset: QuestionData[Any],
    answers: Sequence[str],
    valid: dict[str, float],
    *,
    threshold: float | None,
    kind: str,
) -> TestReport:
    """Return the results of a finished run, in percent.

    Args:
        dataset: The data of the run.
        answers: To its test questions; empty for "no answer".
        valid: Exact match and F1 on the validation questions.
        threshold: Threshold of "no answer", in nats; None without one.
        kind: What the model is, in words.
    """
    figures: dict[str, float] = {}
    summary = f"valid F1 {valid['f1']:.1f}, exact match {valid['exact_match']:.1f}"
    notes = (
        "`exact_match` and `f1` are SQuAD's, in percent; intervals are of 1,000 bootstrap "
        "resamples, 95 %."
    )
    if answers:
        scores = score_answers(answers, dataset.test.answers)
        for name, score in (("exact_match", scores.exact_match), ("f1", scores.f1)):
            figures |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        if scores.no_answer_f1 is not None:
            figures["no_answer_f1"] = scores.no_answer_f1
        exact = scores.exact_match
        summary += (
            f"   test F1 {scores.f1.value:.1f}, exact match {exact.value:.1f} "
            f"[{exact.low:.1f}, {exact.high:.1f}]"
        )
        name, floor = max(_floors(dataset.test).items(), key=lambda item: item[1])
        figures[name] = floor
        summary += f" ({FLOORS[name].phrase}: F1 {floor:.1f})"
        notes += f" `{name}` is F1 of {FLOORS[name].phrase}, the best floor."
    if threshold is not None:
        notes += (
            f' "No answer" is given where it is {threshold:.2f} nats more likely than the best '
            "answer, chosen on the validation questions (`calibration.json`)."
        )
    settings = (("context", "FILE"),)
    return TestReport(
        test=figures,
        summary=summary,
        suggested=[NextStep("Try", "answer", (FOLDER, dataset.example()), settings)],
        kind=kind,
        rows=dataset.describe_sizes(),
        notes=notes,
    )


def _floors(questions: Questions) -> dict[str, float]:
    """Compute F1 of the first sentence, of the one most like the question, and of no answer."""
    sentences = {text: split_sentences(text) for text in dict.fromkeys(questions.contexts)}
    first, nearest = [], []
    for question, context in zip(questions.questions, questions.contexts, strict=True):
        words = set(answer_words(question))
        candidates = sentences[context]
        first.append(candidates[0])
        nearest.append(max(candidates, key=lambda text: len(words & set(answer_words(text)))))

    def f1(answers: Sequence[str]) -> float:
        return float(100 * question_scores(answers, questions.answers)[1].mean())

    floors = {"first_sentence_f1": f1(first), "overlap_sentence_f1": f1(nearest)}
    if questions.num_unanswerable:
        floors["no_answer_f1_of_all"] = f1([""] * len(questions))
    return floors


def split_sentences(text: str) -> list[str]:
    """Split a text after the marks that end a sentence, and at the ends of lines.

    Returns:
        The sentences without spaces around them; a text that is blank stays as it is.

    >>> split_sentences("A cat sat. Was it 3.5 m away? Yes")
    ['A cat sat.', 'Was it 3.5 m away?', 'Yes']
    """
    sentences, start = [], 0
    for index, char in enumerate(text):
        following = text[index + 1 : index + 2]
        if char == "\n" or (char in _ENDS and (not char.isascii() or not following.strip())):
            sentences.append(text[start : index + 1].strip())
            start = index + 1
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence] or [text]


def _rarity(
    answerer: Answerer, questions: Questions, f1: NDArray[np.float64], train: Questions | None
) -> ScoreChart:
    """Return F1, ``[questions]`` and 0 to 1, by the rare words of questions."""
    return chart_by_rarity(
        questions.questions,
        [(100 * f1).tolist()],
        training_texts=None
        if train is None
        else [*train.questions, *dict.fromkeys(train.contexts)],
        count_tokens=lambda texts: list(map(len, answerer.tokenizer.encode(texts))),
        row="question",
        names=["F1"],
    )


def _calibration(results: Sequence[Answer], exact: NDArray[np.float64]) -> CalibrationChart:
    """Return how often answers are exact, ``[rows]``, by their probabilities."""
    return CalibrationChart(
        title="Calibration of answers",
        note="The probability of an answer, and how often it is exactly one of the expected ones.",
        unit="answer",
        bins=reliability([result.probability for result in results], (exact == 1).tolist()),
    )


def _worst_rows(scores: NDArray[np.float64], results: Sequence[Answer], count: int) -> list[int]:
    """Return the answers with the lowest F1, of equal ones those that the model is surest of.

    Args:
        scores: Exact match and F1, ``[2, questions]``.
        results: The answers.
        count: Answers to return at most; those that match exactly are left out.
    """
    exact, f1 = scores
    order = np.lexsort(([-result.probability for result in results], f1))
    return [int(row) for row in order if exact[row] < 1][:count]


def _describe_row(questions: Questions, result: Answer, f1: float, row: int) -> WorstAnswer:
    """Return an answer with what was expected."""
    return WorstAnswer(
        where=questions.locate(row),
        question=questions.questions[row],
        answer=result.answer,
        probability=result.probability,
        expected=list(questions.answers[row]),
        f1=float(f1),
    )


def _scored_row(entry: WorstAnswer, context: str) -> ScoredRow:
    return ScoredRow(
        where=entry.where,
        score=f"F1 {entry.f1:.0f}   probability {entry.probability:.2f}",
        texts={
            "question": entry.question,
            "answer": NO_ANSWER if entry.answer is None else entry.answer,
            "expected": " | ".join(entry.expected) or NO_ANSWER,
            "text": context,
        },
        explained=ExplainedInput(text=entry.question, context=context),
    )


def _shorten(text: str | None) -> str:
    return NO_ANSWER if text is None else shorten_line(text, _LONGEST_TEXT)
