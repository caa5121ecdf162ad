"""The text of tokens that are decoded as they come is that of all tokens decoded together."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.hub.hugging_face.published_tokenizer import FastTokenizer
from regard.tasks.language_modeling.incremental_text import IncrementalText

TEXTS = [
    "The cat didn't sit, did it?  It 's there .",
    "Größe: 3 µm 🙂🙃 — naïve\n\n  x = 1\n",
    "深い海 don't we 've I 'm ' quoted '",
]


def train_published(model, pre_tokenizer, decoder, *, cleans_spaces=False):
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    kind = trainers.BpeTrainer if isinstance(model, models.BPE) else trainers.WordPieceTrainer
    alphabet = [chr(b) for b in range(33, 127)]
    backend.train_from_iterator(
        TEXTS * 3,
        kind(
            vocab_size=400, initial_alphabet=alphabet, show_progress=False, special_tokens=["[UNK]"]
        ),
    )
    return FastTokenizer(backend, Path("vocab"), {}, cleans_spaces=cleans_spaces)


def make_byte_level(*, cleans_spaces):
    return train_published(
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
        cleans_spaces=cleans_spaces,
    )


TOKENIZERS = {
    "bpe": Tokenizer.train(TEXTS, TokenizerConfig(kind="bpe", vocab_size=400)),
    "byte": Tokenizer.train(TEXTS, TokenizerConfig(kind="byte")),
    "word": Tokenizer.train(TEXTS, TokenizerConfig(kind="word")),
    "byte level": make_byte_level(cleans_spaces=False),
    "byte level, cleaned": make_byte_level(cleans_spaces=True),
    "metaspace": train_published(
        models.BPE(unk_token="[UNK]", byte_fallback=True),
        pre_tokenizers.Metaspace(),
        decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        ),
    ),
    "word pieces": train_published(
        models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    ),
}


def check_pieces(tokenizer, prompt_ids, tokens):
    """Check the text after each token, and that what is certain stays."""
    text = IncrementalText(tokenizer, prompt_ids)
    before, certain = tokenizer.decode_text(prompt_ids), ""
    for index, token in enumerate(tokens, start=1):
        text.append(token, 0.0)
        whole = tokenizer.decode_text([*prompt_ids, *tokens[:index]])
        if whole.startswith(before):
            assert text.text_so_far() == whole[len(before) :]
        assert text.certain_text().startswith(certain)
        certain = text.certain_text()
    assert text.text() == tokenizer.decode_text([*prompt_ids, *tokens])[len(before) :]
    assert text.text().startswith(certain)
    assert len(certain) >= len(text.text()) - 5


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("prompt", ["", "The cat", TEXTS[1] * 4])
def test_texts_grow_as_they_are_decoded(kind, prompt):
    tokenizer = TOKENIZERS[kind]
    tokens = tokenizer.encode_text(" ".join(TEXTS) * 2)
    check_pieces(tokenizer, tokenizer.encode_text(prompt), tokens)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.sampled_from(sorted(TOKENIZERS)), st.data())
def test_any_tokens_give_the_text_of_all(kind, data):
    tokenizer = TOKENIZERS[kind]
    token = st.integers(10, len(tokenizer) - 1)
    check_pieces(
        tokenizer, data.draw(st.lists(token, max_size=30)), data.draw(st.lists(token, max_size=80))
    )
