"""Folders of many languages, in the forms of NLLB and M2M100, with drawn weights."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.models.published_weights import drawn_transformer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.models import CHECKPOINT_FORMATS
from regard.models.transformer.model import TransformerConfig

CODES = ["deu_Latn", "eng_Latn", "fra_Latn", "zho_Hans", "zho_Hant"]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
SEARCH = {"eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2}
SENTENCES = ["the cat sees a dog", "a red house", "old river and the house"]
CONFIG = TransformerConfig(
    num_encoder_layers=1,
    num_decoder_layers=1,
    dim=8,
    num_heads=2,
    hidden_dim=12,
    positions="sinusoidal_fairseq",
    max_positions=32,
    position_offset=2,
    pad_id=1,
    start_id=2,
)


def nllb_folder(folder: Path, *, generation: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Write a folder of NLLB, with these settings of its vocabulary and its search."""
    letters = sorted({letter for text in SENTENCES for letter in text if letter != " "})
    vocab = {token: index for index, token in enumerate([*SPECIALS, "▁", *letters])}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    backend.add_special_tokens([AddedToken(code, normalized=False) for code in CODES])
    fields = {
        "tokenizer_class": "NllbTokenizer",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        **settings,
    }
    files = {
        "tokenizer.json": backend.to_str(),
        "tokenizer_config.json": json.dumps(fields),
        "generation_config.json": json.dumps(SEARCH | (generation or {})),
    }
    return _with_weights(folder, files, backend.get_vocab_size())


def m2m100_folder(sentencepiece: Any, folder: Path, **settings: Any) -> Path:
    """Write a folder of M2M100, of the languages of WMT 21, with two rows of no token."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=stream,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
    pieces = SPECIALS + [processor.id_to_piece(token) for token in range(3, len(processor))]
    fields = {"tokenizer_class": "M2M100Tokenizer", "language_codes": "wmt21", **settings}
    files = {
        "sentencepiece.bpe.model": stream.getvalue(),
        "vocab.json": json.dumps({piece: token for token, piece in enumerate(pieces)}),
        "tokenizer_config.json": json.dumps(fields),
        "generation_config.json": json.dumps(SEARCH | {"max_length": 12}),
    }
    return _with_weights(folder, files, len(pieces) + 8 + 2)


def fairseq_folder(sentencepiece: Any, folder: Path, codes: list[str], **settings: Any) -> Path:
    """Write a folder of NLLB or mBART-50 with the model of its pieces and no tokenizer.json."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=stream,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    num_pieces = len(sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue()))
    fields = {"additional_special_tokens": codes, **settings}
    files = {
        "sentencepiece.bpe.model": stream.getvalue(),
        "tokenizer_config.json": json.dumps(fields),
        "generation_config.json": json.dumps(SEARCH | {"max_length": 12}),
    }
    return _with_weights(folder, files, num_pieces + 1 + len(codes) + 1)


def _with_weights(folder: Path, files: dict[str, str | bytes], num_rows: int) -> Path:
    model = drawn_transformer(CONFIG, num_rows)
    form = CHECKPOINT_FORMATS["m2m_100"]
    ids = {"bos": 0, "eos": 2, "pad": 1}
    write_hugging_face(folder, model, CONFIG, form, num_rows, files=files, special_ids=ids)
    return folder
