"""A Marian folder as others publish it: random weights, vocabulary, what is never written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

ENGLISH = "the cat sees a dog and the dog sees a red house by the old river"
GERMAN = "die Katze sieht einen Hund und der Hund sieht ein rotes Haus am alten Fluss"
TEXTS = ["the dog sees the cat", "a red house", "the old river and the old cat by a house", "dog"]


def marian_folder(transformers: Any, sentencepiece: Any, folder: Path, *, seed: int = 0) -> Path:
    """Write one; the weights are so large that a wrong activation or norm shows."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = write_vocabulary(sentencepiece, folder)
    pad = vocab["<pad>"]
    config = transformers.MarianConfig(
        vocab_size=len(vocab),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
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


def scale_up(model: torch.nn.Module, seed: int, *, end: int = 0, unknown: int = 1) -> None:
    """Draw weights; the end of a text is likely enough that some outputs end."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:  # the sinusoids of Marian
                continue
            is_norm = "norm" in name and name.endswith("weight")
            size = 0.3 if parameter.dim() == 1 else 1.5 * parameter.shape[-1] ** -0.5
            parameter.normal_(1.0 if is_norm else 0.0, size)
        bias = model.get_buffer("final_logits_bias")
        bias.normal_()
        bias[0, end] += seed / 2
        bias[0, unknown] += 4  # <unk> would stand in most outputs, were it not forbidden


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
