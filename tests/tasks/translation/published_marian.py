"""A Marian folder as others publish it: random weights, vocabulary, what is never written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.tasks.translation.published_pairs import ENGLISH, GERMAN, SIZES, scale_up


def marian_folder(transformers: Any, sentencepiece: Any, folder: Path, *, seed: int = 0) -> Path:
    """Write one; the weights are so large that a wrong activation or norm shows."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = write_vocabulary(sentencepiece, folder)
    pad = vocab["<pad>"]
    config = transformers.MarianConfig(
        vocab_size=len(vocab),
        **SIZES,
        activation_function="swish",
        max_position_embeddings=40,
        scale_embedding=True,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
    )
    model = transformers.MarianMTModel(config).eval()
    scale_up(model, seed)
    model.generation_config.bad_words_ids = [[pad], [1]]
    model.generation_config.max_length = None
    model.save_pretrained(folder)
    return folder


def write_vocabulary(sentencepiece: Any, folder: Path) -> dict[str, int]:
    """Train both models and number their pieces, ``</s>`` first and ``<pad>`` last."""
    pieces = ["</s>", "<unk>", ">>deu<<"]
    for name, text in (("source.spm", ENGLISH), ("target.spm", GERMAN)):
        (folder / name).write_bytes(_trained(sentencepiece, text))
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
        pieces += [processor.id_to_piece(token) for token in range(3, len(processor))]
    pieces = [*dict.fromkeys(pieces), "<pad>"]
    vocab = {piece: token for token, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    return vocab


def _trained(sentencepiece: Any, text: str) -> bytes:
    stream, words = io.BytesIO(), text.split()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words[n:] + words[:n]) for n in range(len(words))]),
        model_writer=stream,
        vocab_size=45,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=-1,
    )
    return stream.getvalue()
