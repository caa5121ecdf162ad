"""A BART folder as others publish it: random weights, byte-level vocabulary, what is forced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tests.tasks.translation.published_pairs import ENGLISH, GERMAN, SIZES, scale_up
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
BOS, PAD, EOS, UNK = range(4)


def bart_folder(transformers: Any, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write one; the weights are so large that a wrong activation or norm shows.

    Args:
        transformers: The library.
        folder: To write.
        seed: Of the weights.
        changes: Fields of ``generation_config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = write_vocabulary(folder)
    config = transformers.BartConfig(
        vocab_size=vocab_size,
        **SIZES,
        max_position_embeddings=60,
    )
    model = transformers.BartForConditionalGeneration(config).eval()
    scale_up(model, seed, end=EOS, unknown=UNK)
    fields = {"forced_bos_token_id": BOS, "bad_words_ids": [[UNK], [PAD]], "max_length": None}
    for name, value in (fields | changes).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return folder


def write_vocabulary(folder: Path) -> int:
    """Train byte-level byte pairs on both languages, and write all three files of the vocabulary.

    Returns:
        The number of tokens.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([ENGLISH, GERMAN], trainer)
    backend.add_special_tokens(["<mask>"])
    backend.post_processor = processors.RobertaProcessing(("</s>", EOS), ("<s>", BOS))
    backend.save(str(folder / "tokenizer.json"))
    vocab = backend.get_vocab()
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = json.loads(backend.to_str())["model"]["merges"]
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BartTokenizer"}')
    return backend.get_vocab_size()


def peer_rows(model: torch.nn.Module, tokenizer: Any, text: str, **options: Any) -> list[int]:
    """Write one output by `transformers`, without the token that begins the decoder's input."""
    rows = tokenizer([text], return_tensors="pt")
    generate: Any = model.generate
    return generate(**rows, do_sample=False, **options)[0, 1:].tolist()
