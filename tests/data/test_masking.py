"""Hidden tokens of running text."""

import numpy as np
import pytest

from regard.data.masking import MaskedBatches
from regard.data.readers.running_text import TextLines
from regard.data.token_stream import TokenStream
from regard.data.tokenizer import Tokenizer, TokenizerConfig

MASK_ID = 299


@pytest.fixture(scope="module")
def batches():
    tokenizer = Tokenizer.train(["hello there"] * 10, TokenizerConfig(kind="byte"))
    texts = ["the quick brown fox jumps over the lazy dog"] * 200
    lines = TextLines(path="a", texts=texts, numbers=[1] * 200, ends_document=[False] * 200)
    stream = TokenStream(lines, tokenizer)
    return MaskedBatches(
        stream, length=64, batch_tokens=1024, mask_id=MASK_ID, vocab_size=259, seed=3, pad_id=7
    )


def test_fifteen_in_a_hundred_are_hidden_as_the_paper_has_it(batches):
    ids, labels, plain = [], [], []
    for rows in batches.in_sequence()[:-1]:
        batch = batches.batch(rows)
        ids.append(batch.ids.numpy())
        labels.append(batch.labels.numpy())
        plain.append(batches.stream.ids[rows[:, None] + np.arange(64)])
    shown, wanted, text = (np.concatenate(x) for x in (ids, labels, plain))
    hidden = wanted >= 0
    assert np.array_equal(wanted[hidden], text[hidden])
    assert np.array_equal(shown[~hidden], text[~hidden])
    num = hidden.sum()
    assert abs(hidden.mean() - 0.15) < 0.02
    assert abs((shown[hidden] == MASK_ID).sum() / num - 0.8) < 0.05
    assert abs((shown[hidden] == text[hidden]).sum() / num - 0.1) < 0.05


def test_the_same_positions_have_the_same_masks_and_others_have_not(batches):
    rows = np.array([0, 64, 128])
    first, again = batches.batch(rows), batches.batch(rows)
    assert np.array_equal(first.ids, again.ids)
    other = batches.batch(rows + 1)
    assert not np.array_equal(first.labels >= 0, other.labels >= 0)


def test_what_lies_behind_the_end_is_padding(batches):
    rows = batches.in_sequence()[-1]
    batch = batches.batch(rows)
    end = len(batches.stream) - rows[-1]
    assert (batch.ids[-1, end:] == 7).all()
    assert (batch.labels[-1, end:] == -1).all()


def test_at_least_one_token_is_hidden(batches):
    for start in range(200):
        assert (batches.batch(np.array([start])).labels >= 0).any()


@pytest.mark.parametrize("length", [5, 6, 7, 10, 29, 30, 31, 40])
def test_every_token_is_read_once_in_sequence_and_the_last_one_in_training(length):
    tokenizer = Tokenizer.train(["hello there"] * 10, TokenizerConfig(kind="byte"))
    lines = TextLines(path="a", texts=["the quick brown fox jumps"], numbers=[1], ends_document=[1])
    stream = TokenStream(lines, tokenizer)
    batches = MaskedBatches(
        stream, length=length, batch_tokens=64, mask_id=MASK_ID, vocab_size=259, pad_id=7
    )

    def positions(order):
        starts = np.concatenate(order)
        return (starts[:, None] + np.arange(batches.length)).ravel()

    in_sequence = positions(batches.in_sequence())
    inside = sorted(in_sequence[in_sequence < len(stream)].tolist())
    assert inside == list(range(len(stream)))
    trained = [positions(batches.order(epoch)) for epoch in range(40)]
    assert max(each.max() for each in trained) == len(stream) - 1
