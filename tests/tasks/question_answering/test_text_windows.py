"""Windows of long texts: every token is in one, answers are where they were, spans are the best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from regard.data.question_rows import Questions
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models import ENCODERS, BertConfig, LongformerConfig, SpanModel, TransformerConfig
from regard.tasks.question_answering.loss import (
    SpanLoss,
    choose_threshold,
    given_answers,
    span_text,
)
from regard.tasks.question_answering.text_windows import (
    IN_BOTH,
    OF_CONTEXT,
    OF_QUESTION,
    Span,
    WindowBatches,
    best_spans,
    encode_questions,
    max_question_tokens,
    window_logits,
)

SIZES: dict[str, Any] = {"dim": 16, "num_heads": 2, "hidden_dim": 24}
CONFIGS = {
    "bert": BertConfig(num_layers=1, num_segments=0, rotary_base=1e4, **SIZES),
    "segments": BertConfig(num_layers=1, num_segments=2, **SIZES),
    "longformer": LongformerConfig(num_layers=1, window=4, **SIZES),
    "transformer": TransformerConfig(num_encoder_layers=1, **SIZES),
}
CONTEXT = "The red cat sees 42 dogs. Été à Paris: 東京 is far; the cat sleeps."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([CONTEXT] * 3, TokenizerConfig(kind="byte"))


def make_model(kind: str, vocab_size: int, *, has_roles: bool = True) -> SpanModel:
    """Build a model with weights so large that every part shows."""
    torch.manual_seed(1)
    family = kind if kind in ENCODERS else "bert"
    encoder: Any = ENCODERS[family].model(CONFIGS[kind], vocab_size, AttentionConfig())
    encoder.drop_head()
    model = SpanModel(encoder, has_roles=has_roles).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def ask(context: str, question: str, *answers: str) -> Questions:
    """Return one question with answers that are in its text."""
    return Questions(
        path="q",
        contexts=[context],
        questions=[question],
        answers=[answers],
        starts=[tuple(context.index(answer) for answer in answers)],
        ids=[""],
        lines=[1],
        json_paths=[""],
    )


def windows_of(
    questions: Questions, tokenizer: Tokenizer, model: SpanModel, *, max_length=60, **options: Any
) -> WindowBatches:
    encoded = encode_questions(questions, tokenizer, max_question=20)
    options = {"overlap": 10, "batch_tokens": 100, **options}
    return WindowBatches(encoded, tokenizer, model, max_length=max_length, **options)


@pytest.mark.parametrize("length", [2, 41, 42, 43, 73, 74, 75, 200])
def test_windows_cover_a_text_and_share_the_overlap(tokenizer, length) -> None:
    model = make_model("bert", len(tokenizer))
    # A question of 15 tokens and three special ones leave 42 of 60. A space is before each text.
    batches = windows_of(ask("x" * (length - 1), "q" * 14), tokenizer, model)
    ends = [window.first + window.size for window in batches.windows]
    starts = [window.first for window in batches.windows]
    assert starts[0] == 0
    assert ends[-1] == length
    assert all(after == before - 10 for before, after in zip(ends, starts[1:], strict=False))
    assert max(batches.lengths) <= 60
    assert len(ends) == 1 + max(0, math.ceil((length - 42) / 32))


@pytest.mark.parametrize("answer", ["The", "42", "Été", "東京", "sleeps.", "Paris: 東京 is far"])
@pytest.mark.parametrize("max_length", [40, 60, 200])
def test_the_tokens_of_an_answer_are_its_characters_in_every_window(
    tokenizer, answer, max_length
) -> None:
    model = make_model("bert", len(tokenizer))
    batches = windows_of(
        ask(CONTEXT, "Where?", answer), tokenizer, model, max_length=max_length, overlap=14
    )
    texts = []
    for index in range(len(batches.windows)):
        batch = batches.batch(np.array([index]))
        first, last = int(batch.starts[0]), int(batch.ends[0])
        if first:
            assert bool(batch.is_context[0, first : last + 1].all())
            start, end = batches.characters(index, first, last)
            texts.append(CONTEXT[start:end].strip())
    fits = len(tokenizer.encode([answer])[0]) <= 14
    assert texts or not fits
    assert set(texts) <= {answer}


def test_an_answer_that_is_cut_in_a_window_is_not_in_it(tokenizer) -> None:
    model, questions = make_model("bert", len(tokenizer)), ask("abcdefghij", "q?", "gh")
    batches = windows_of(questions, tokenizer, model, max_length=14, overlap=0)
    sizes = [window.size for window in batches.windows]
    assert sizes == [8, 3]  # the space and seven letters, then three letters
    assert [int(batches.batch(np.array([i])).starts[0]) for i in (0, 1)] == [0, 0]
    overlapping = windows_of(questions, tokenizer, model, max_length=14, overlap=2)
    assert int(overlapping.batch(np.array([1])).starts[0]) > 0


def test_words_of_the_question_are_marked_as_whole_words(tokenizer) -> None:
    model = make_model("bert", len(tokenizer))
    batches = windows_of(ask(CONTEXT, "THE at?"), tokenizer, model, max_length=200)
    roles = batches.batch(np.array([0])).roles
    assert roles is not None
    context = roles[0][roles[0] != OF_QUESTION].tolist()
    text = b" " + CONTEXT.encode()  # a token each
    assert len(context) == len(text)
    marked = bytes(byte for byte, role in zip(text, context, strict=True) if role == IN_BOTH)
    assert marked == b" Thethe"  # not the "at" in "cat"; the first word has the space before it
    assert context.count(OF_CONTEXT) == len(text) - 7


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_logits_do_not_depend_on_padding_and_neighbours(tokenizer, kind) -> None:
    model = make_model(kind, len(tokenizer))
    questions = ask(CONTEXT, "Where is the cat?", "Paris")
    batches = windows_of(questions, tokenizer, model, max_length=50)
    rows = np.arange(len(batches.windows))
    assert len(rows) > 2
    together = window_logits(model, batches.batch(rows))
    for row in rows:
        alone = window_logits(model, batches.batch(np.array([row])))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=1e-4, atol=1e-4)
        assert bool(torch.isneginf(together[row, len(alone) :]).all())


@pytest.mark.parametrize("kind", ["bert", "segments"])
def test_the_roles_of_tokens_change_the_logits(tokenizer, kind) -> None:
    model = make_model(kind, len(tokenizer))
    batches = windows_of(ask(CONTEXT, "cat?"), tokenizer, model)
    batch = batches.batch(np.array([0]))
    assert (batch.segments is not None) == (kind == "segments")
    with torch.no_grad():
        full = model(batch.ids, segments=batch.segments, roles=batch.roles)
        assert float((full - model(batch.ids, segments=batch.segments)).abs().max()) > 0.1
        if kind == "segments":
            assert float((full - model(batch.ids, roles=batch.roles)).abs().max()) > 0.1


@pytest.mark.parametrize("most", [1, 3, 200])
def test_the_best_span_is_the_best_of_all_pairs(tokenizer, most) -> None:
    model = make_model("bert", len(tokenizer))
    questions = ask(CONTEXT, "Where?", "Paris")
    batches = windows_of(questions, tokenizer, model, max_length=40)
    (span,) = best_spans(model, batches, max_answer_tokens=most)
    best, nulls = (-math.inf, 0, 0), []
    for index in range(len(batches.windows)):
        batch = batches.batch(np.array([index]))
        start, end = window_logits(model, batch)[0].log_softmax(0).detach().unbind(1)
        nulls.append(float(start[0] + end[0]))
        inside = batch.is_context[0].nonzero()[:, 0].tolist()
        for first in inside:
            for last in [other for other in inside if first <= other < first + most]:
                place = batches.characters(index, first, last)
                best = max(best, (float(start[first] + end[last]), *place))
    assert span is not None
    assert (span.start, span.end) == best[1:]
    assert span.log_probability == pytest.approx(best[0], rel=1e-5)
    assert span.log_null == pytest.approx(min(nulls), rel=1e-5)


def test_an_empty_text_has_no_span(tokenizer) -> None:
    model = make_model("bert", len(tokenizer))
    batches = windows_of(ask("", "Where?"), tokenizer, model)
    assert best_spans(model, batches, max_answer_tokens=5) == [None]
    assert given_answers([None], [""], None) == [""]


def test_windows_without_the_answer_are_drawn_up_to_a_number(tokenizer) -> None:
    model = make_model("bert", len(tokenizer))
    context = "x" * 200 + "Paris" + "x" * 200
    questions = ask(context, "Where?", "Paris")
    every = windows_of(questions, tokenizer, model, max_length=40)
    few = windows_of(questions, tokenizer, model, max_length=40, negatives=2)
    with_answer = [int(every.batch(np.array([i])).starts[0]) > 0 for i in range(len(every.windows))]
    assert len(few.windows) == sum(with_answer) + 2
    kept = [window in few.windows for window in every.windows]
    assert all(kept[i] for i, has in enumerate(with_answer) if has)
    other = windows_of(questions, tokenizer, model, max_length=40, negatives=2, seed=5)
    assert other.windows != few.windows


def test_a_window_without_room_is_refused(tokenizer) -> None:
    assert max_question_tokens(19, tokenizer) == 8
    with pytest.raises(ConfigError, match=r"data.max_length=18: no room.*data.max_length=19"):
        max_question_tokens(18, tokenizer)


def test_smoothing_spreads_over_the_text_alone(tokenizer) -> None:
    model = make_model("bert", len(tokenizer))
    batches = windows_of(ask(CONTEXT, "Where?", "Paris"), tokenizer, model, max_length=60)
    batch = batches.batch(np.arange(len(batches.windows)))
    with torch.no_grad():
        plain, smooth = SpanLoss(0.0)(model, batch), SpanLoss(0.1)(model, batch)
    assert math.isfinite(float(smooth.loss))
    assert float(smooth.nll) == pytest.approx(float(plain.loss))
    assert float(smooth.loss) != pytest.approx(float(plain.loss))


def test_a_span_is_given_without_the_space_around_it() -> None:
    span = Span(start=1, end=7, log_probability=-1.0, log_null=-2.0)
    assert span_text(span, "a  bc  d") == ("bc", 3, 5)


def spans_of(*margins: float) -> list[Span | None]:
    """Return spans of the character "b" with differences to "no answer"."""
    return [Span(0, 1, -2.0, -2.0 + margin) for margin in margins]


@pytest.mark.parametrize(
    ("margins", "answers", "threshold"),
    [
        ((-3.0, -1.0, 1.0, 3.0), ("b", "b", "", ""), 0.0),
        ((-3.0, -1.0, 1.0, 3.0), ("b", "", "", ""), -2.0),
        ((-3.0, 2.0, 2.0, 3.0), ("b", "", "", ""), -0.5),
        ((1.0, 2.0), ("", ""), 0.0),  # one nat below the least: all have no answer
        ((1.0, 2.0), ("", "b"), 3.0),  # one above the largest
        ((1.0, 2.0), ("b", "b"), None),
    ],
)
def test_the_threshold_is_where_most_answers_are_right(margins, answers, threshold) -> None:
    count = len(margins)
    questions = Questions(
        path="q",
        contexts=["b c"] * count,
        questions=["?"] * count,
        answers=[(text,) if text else () for text in answers],
        starts=[(0,) if text else () for text in answers],
        ids=[""] * count,
        lines=list(range(count)),
        json_paths=[""] * count,
    )
    assert choose_threshold(spans_of(*margins), questions) == threshold
