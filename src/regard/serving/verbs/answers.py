"""Requests for the answers to questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from regard.serving.batched_calls import BatchedCalls
from regard.serving.verbs.verb_service import Body, CheckClient, Texts, VerbService, as_list
from regard.serving.verbs.written_texts import for_client
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.question_answering.answerer import Answer, contexts_of
from regard.tasks.question_answering.predictor import QuestionAnswerer


class AnswerBody(Body, frozen=True, kw_only=True):
    """A request for answers.

    Args:
        question: One question or several.
        context: The text that has the answer to all of them, or one for each.
    """

    question: Texts
    context: Texts

    def inputs(self) -> Iterable[str]:
        """Return the questions and the texts; one for all is read again with each."""
        questions = as_list(self.question)
        if isinstance(self.context, str):
            return [*questions, *[self.context] * len(questions)]
        return [*questions, *self.context]

    def rows(self) -> list[tuple[str, str]]:
        """Return each question with its text.

        Raises:
            ConfigError: There are not as many texts as questions, or a question is empty.
        """
        questions = as_list(self.question)
        return list(zip(questions, contexts_of(questions, self.context), strict=True))


class FindService(VerbService[AnswerBody]):
    """Finds answers for many requests, in batches.

    Args:
        answerer: The model.
    """

    body = AnswerBody

    def __init__(self, answerer: QuestionAnswerer) -> None:
        def answer(rows: list[tuple[str, str]]) -> list[Answer]:
            questions, contexts = zip(*rows, strict=True)
            return answerer.answer_rows(questions, contexts)

        self._answer = self.worker = BatchedCalls(answer, lambda row: len(row[0]) + len(row[1]))

    def outputs(self, body: AnswerBody, check_client: CheckClient) -> Sequence[Answer]:
        """Answer questions."""
        return self._answer(body.rows(), check_client)


class WriteService(VerbService[AnswerBody]):
    """Writes answers for many requests.

    Args:
        writer: The model.
    """

    body = AnswerBody

    def __init__(self, writer: AnswerWriter) -> None:
        self._writer, self.worker = writer, writer.share_decoding()

    def outputs(self, body: AnswerBody, check_client: CheckClient) -> Sequence[Answer]:
        """Answer questions."""
        rows, writer = body.rows(), for_client(self._writer, check_client)
        return writer.answer_rows([row[0] for row in rows], [row[1] for row in rows])


def answer_service(answerer: QuestionAnswerer | AnswerWriter) -> FindService | WriteService:
    """Return the service of a model of answers, by whether it finds or writes them."""
    if isinstance(answerer, AnswerWriter):
        return WriteService(answerer)
    return FindService(answerer)
