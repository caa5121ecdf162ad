"""Running text as token ids, and the segments it is cut into."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.data.readers.running_text import TextLines
from regard.data.token_stream import StreamBatches, TokenStream
from regard.data.tokenizer import Tokenizer, TokenizerConfig


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["hello there"] * 10, TokenizerConfig(kind="byte"))


def stream_of(tokenizer, *texts, ends=None):
    lines = TextLines(
        path="a.txt",
        texts=list(texts),
        numbers=list(range(1, len(texts) + 1)),
        ends_document=ends or [False] * (len(texts) - 1) + [True],
    )
    return TokenStream(lines, tokenizer)


@given(text=st.text(max_size=60))
def test_a_text_of_several_lines_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode_text(tokenizer.encode_text(text)) == text


def test_lines_end_with_newlines_and_documents_with_an_end(tokenizer):
    stream = stream_of(tokenizer, "ab", "c", "d", ends=[False, True, True])
    newline, end = tokenizer.newline_id, tokenizer.eos_id
    a, c, d = (tokenizer.encode([text])[0] for text in ("ab", "c", "d"))
    wanted = [newline, *a, newline, *c, newline, end, newline, *d, newline, end, newline]
    assert stream.ids.tolist() == wanted


def test_a_segment_knows_its_lines(tokenizer):
    stream = stream_of(tokenizer, "abc", "d", "", "efg")
    width = len(tokenizer.encode(["abc"])[0])
    assert stream.lines_between(0, 2) == [1]
    assert stream.lines_between(1, width + 3) == [1, 2]
    assert stream.lines_between(0, len(stream)) == [1, 2, 3, 4]


def test_labels_are_the_ids_that_follow(tokenizer):
    batches = StreamBatches(stream_of(tokenizer, "abcdefgh"), length=4, batch_tokens=8)
    batch = batches.batch(np.array([0, 2]))
    assert batch.ids.shape == batch.labels.shape == (2, 4)
    assert batch.ids[:, 1:].tolist() == batch.labels[:, :-1].tolist()
    assert batch.labels[1].tolist() == batches.stream.ids[3:7].tolist()


@given(length=st.integers(1, 40), batch_tokens=st.integers(1, 60))
def test_segments_in_sequence_predict_every_token_once(tokenizer, length, batch_tokens):
    stream = stream_of(tokenizer, "a sentence", "and another")
    batches = StreamBatches(stream, length=length, batch_tokens=batch_tokens)
    found = []
    for rows in batches.in_sequence():
        labels = batches.batch(rows).labels
        found += labels[labels >= 0].tolist()
    assert found == stream.ids[1:].tolist()


@given(length=st.integers(1, 40), epoch=st.integers(0, 3))
def test_an_epoch_holds_whole_segments_that_do_not_overlap(tokenizer, length, epoch):
    batches = StreamBatches(
        stream_of(tokenizer, "a sentence", "and another"), length=length, batch_tokens=50
    )
    order = batches.order(epoch)
    assert [rows.tolist() for rows in batches.order(epoch)] == [rows.tolist() for rows in order]
    starts = np.sort(np.concatenate(order))
    assert np.all(np.diff(starts) == batches.length)
    assert 0 <= starts[0] < batches.length
    assert starts[-1] + batches.length < len(batches.stream)


def test_epochs_cut_at_different_positions(tokenizer):
    batches = StreamBatches(stream_of(tokenizer, "x" * 200), length=20, batch_tokens=40)
    first = {int(np.concatenate(batches.order(epoch)).min()) for epoch in range(6)}
    assert len(first) > 1


def test_a_segment_has_the_tokens_before_it(tokenizer):
    batches = StreamBatches(stream_of(tokenizer, "x" * 90), length=8, batch_tokens=24, context=5)
    ids = batches.stream.ids
    seen = 0
    for rows in batches.in_sequence():
        batch = batches.batch(rows)
        if rows[0] == 0:
            assert batch.before is None
            assert len(rows) == 1
        else:
            assert batch.before is not None
            wanted = [ids[row - 5 : row].tolist() for row in rows]
            assert batch.before.tolist() == wanted
        seen += int((batch.labels >= 0).sum())
    assert seen == len(ids) - 1


def test_training_with_a_context_predicts_the_beginning_of_the_text_too(tokenizer):
    stream = stream_of(tokenizer, "x" * 90)
    batches = StreamBatches(stream, length=8, batch_tokens=24, context=5)
    predicted = set()
    for epoch in range(40):
        for rows in batches.order(epoch):
            context = min(5, int(rows.min()))
            before = batches.batch(rows).before
            assert context == 5 or len(rows) == 1
            assert (before is None) if context == 0 else before.shape == (len(rows), context)
            predicted.update((rows[:, None] + np.arange(1, 9)).ravel().tolist())
    assert predicted == set(range(1, len(stream)))
