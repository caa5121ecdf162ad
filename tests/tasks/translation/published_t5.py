"""A T5 folder as others publish it: random weights, pieces of words, sentinels, tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.models.published_weights import spread
from tests.tasks.translation.published_pairs import ENGLISH, GERMAN
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

SPECIALS = ["<pad>", "</s>", "<unk>"]
PAD, EOS, UNK = range(3)
NUM_SENTINELS = 5
TASKS = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 13,
        "min_length": 4,
        "no_repeat_ngram_size": 2,
        "num_beams": 3,
        "prefix": "a red house: ",
    },
    "translation_en_to_de": {"max_length": 11, "num_beams": 2, "prefix": "die Katze: "},
    "translation_en_to_fr": {"max_length": 11, "num_beams": 2, "prefix": "the dog: "},
}
"""Tasks with prefixes in words that the vocabulary was made of."""


def t5_folder(transformers: Any, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write one; the weights are so large that every part shows.

    Args:
        transformers: The library.
        folder: To write.
        seed: Of the weights.
        changes: Fields of ``config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num_tokens = write_vocabulary(folder)
    fields = {
        "vocab_size": num_tokens + 3,
        "d_model": 16,
        "d_kv": 6,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 2,
        "relative_attention_num_buckets": 8,
        "decoder_start_token_id": PAD,
        "task_specific_params": TASKS,
    }
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**fields | changes))
    spread(model, gain=1.2, seed=seed)
    model.eval().save_pretrained(folder)
    return folder


def write_vocabulary(folder: Path) -> int:
    """Train pieces on both languages, and write the files; return the number of tokens."""
    backend = Backend(models.Unigram())
    pieces = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pieces])
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=60,
        special_tokens=SPECIALS,
        unk_token="<unk>",
        initial_alphabet=[":"],
        show_progress=False,
    )
    backend.train_from_iterator([ENGLISH, GERMAN], trainer)
    sentinels = [f"<extra_id_{NUM_SENTINELS - 1 - index}>" for index in range(NUM_SENTINELS)]
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in sentinels])
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS)]
    )
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": NUM_SENTINELS,
        "additional_special_tokens": sentinels,
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return backend.get_vocab_size()
