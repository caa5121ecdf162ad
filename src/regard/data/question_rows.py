"""Questions on texts, with their answers where there are some."""

from __future__ import annotations

import re
import unicodedata

from regard.data.dropped_rows import DroppedRow
from regard.data.rows import Rows

QUESTION_COLUMNS = ("context", "question", "answers")
NOT_FOUND = -1
"""Start of an answer that is not in its context."""
NO_ANSWER = "(no answer)"
"""What people read where a text has no answer."""
_POINT_IN_NUMBER = re.compile(r"\d[.,]\d")
_FIRST_UNSPACED = (
    "\u0e00"  # from here on scripts mostly have no spaces: a word of others ends there
)


class Questions(Rows, frozen=True, kw_only=True):
    """Questions, each on a text that may hold its answer.

    Args:
        path: File as named.
        contexts: The text of each question.
        questions: One a row.
        answers: The true answers of each question; none where the text has no answer.
        starts: Character at which each of these answers begins; `NOT_FOUND` if it is not there.
        ids: Ids of the questions in the file; empty where they have none.
        lines: 1-based line of each row in its file, or number of the question in a nested file.
        json_paths: Path of each question in a nested file, ``data[0].paragraphs[2].qas[1]``; empty
            in a file with one question a line.
    """

    contexts: list[str]
    questions: list[str]
    answers: list[tuple[str, ...]]
    starts: list[tuple[int, ...]]
    ids: list[str]
    lines: list[int]
    json_paths: list[str]

    @classmethod
    def empty(cls, path: str) -> Questions:
        """Return no questions of a file."""
        return cls(
            path=path,
            contexts=[],
            questions=[],
            answers=[],
            starts=[],
            ids=[],
            lines=[],
            json_paths=[],
        )

    def keys(self) -> tuple[list[str], list[str]]:
        """Return each question with its text, and the text alone.

        Two parts of the data must not share a text; rows with the same question on it are the same.
        """
        texts = zip(self.questions, self.contexts, strict=True)
        return [f"{question}\n{context}" for question, context in texts], self.contexts

    def locate(self, row: int) -> str:
        """Return where a question is, for messages."""
        json_path = self.json_paths[row]
        return f"{self.path}: {json_path}" if json_path else f"{self.path}:{self.lines[row]}"

    def drop(self, row: int, reason: str) -> DroppedRow:
        """Return the entry of a row that was left out."""
        return DroppedRow(
            line=self.lines[row],
            reason=reason,
            text=self.questions[row],
            json_path=self.json_paths[row],
        )

    @property
    def num_unanswerable(self) -> int:
        """Number of questions without an answer."""
        return sum(not answers for answers in self.answers)

    @property
    def num_unfound(self) -> int:
        """Number of answers that are not in their contexts."""
        return sum(starts.count(NOT_FOUND) for starts in self.starts)


class AnswerPairs(Questions, frozen=True, kw_only=True):
    """Questions on texts, each with what a model reads and what it should write.

    Args:
        sources: Question and text, one a row; a model reads a separator between them.
        targets: The first answer; empty where there is none.
    """

    sources: list[str]
    targets: list[str]


def drop_unfound(questions: Questions) -> tuple[Questions, list[DroppedRow]]:
    """Return the questions that a model of spans can learn, and those with no answer in the text.

    A question without any answer can be learned: its answer is that there is none.
    """
    rows, dropped = [], []
    for row, (answers, starts) in enumerate(zip(questions.answers, questions.starts, strict=True)):
        if answers and max(starts) == NOT_FOUND:
            dropped.append(questions.drop(row, "the answer is not in the context"))
        else:
            rows.append(row)
    return questions.select(rows) if dropped else questions, dropped


def find_answer(context: str, answer: str, start: int | None = None) -> int:
    """Return where an answer begins in a text; `NOT_FOUND` where the text does not have it.

    Args:
        context: The text.
        answer: The answer, one character or more.
        start: Where it should begin; None if that is not known.

    Returns:
        The start, if the answer is there; else the nearest occurrence, or the first one without a
        start. One that begins and ends with a word or a number comes before those within one.

    >>> find_answer("The generation of a rat", "rat"), find_answer("In 2015 it had 5.", "5")
    (20, 15)
    """
    if start is not None and context.startswith(answer, start):
        return start
    expected = start or 0
    starts = [match.start() for match in re.finditer(f"(?={re.escape(answer)})", context)]
    whole = [index for index in starts if _is_whole(context, index, index + len(answer))]
    return min(whole or starts, key=lambda index: abs(index - expected), default=NOT_FOUND)


def _is_whole(context: str, start: int, end: int) -> bool:
    """Return whether no word and no number of a text continues over the ends of a span."""
    return not any(_continues(context, index) for index in (start, end) if 0 < index < len(context))


def _continues(context: str, index: int) -> bool:
    """Return whether a word, or a number such as 1,500 or 3.5, continues over a position."""
    left, right = context[index - 1], context[index]
    if _is_of_word(left) and _is_of_word(right):
        return (left < _FIRST_UNSPACED) == (right < _FIRST_UNSPACED)
    return any(
        first >= 0 and _POINT_IN_NUMBER.match(context, first) is not None
        for first in (index - 2, index - 1)
    )


def _is_of_word(char: str) -> bool:
    """Return whether a character is a letter, a mark or a digit."""
    return unicodedata.category(char)[0] in "LMN"
