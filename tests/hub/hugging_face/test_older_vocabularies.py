"""Vocabularies without a ``tokenizer.json``."""

from __future__ import annotations

import json

from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer

BYTES = ["The house is small.", "é 中文 😀", "a <extra_id_0> b<extra_id_124>c", " tail ", ""]


def test_bytes_of_byt5_need_no_file(transformers, tmp_path):
    settings = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
    roles = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | roles))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": 384}))
    tokenizer = read_any_tokenizer(tmp_path)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    rows = tokenizer.encode(BYTES, adds_specials=True)
    assert rows == peer(BYTES).input_ids
    cut = [*rows, rows[1][:1], [*rows[1][:-3], 1]]  # in the middle of a character
    assert tokenizer.decode(cut) == peer.batch_decode(cut, skip_special_tokens=True)
    assert tokenizer.unused_ids(384) == ()
