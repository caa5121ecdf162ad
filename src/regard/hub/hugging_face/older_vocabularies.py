"""Tokenizers of the files that came before ``tokenizer.json``.

WordPiece (Schuster & Nakajima 2012; the pipeline of BERT, Devlin et al. 2019) is built from
``vocab.txt``, byte-level byte-pair encoding (Radford et al. 2019; Qwen's, which splits texts in its
own way) from ``vocab.json`` and ``merges.txt``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers import Tokenizer as Backend

from regard.errors import WeightsError
from regard.hub.file_names import MERGES, TOKENIZER_CONFIG, VOCABULARY
from regard.hub.hugging_face.tokenizer_overrides import (
    NEOX_CLASS,
    QWEN_CLASS,
    bert_normalizer,
    surround,
)
from regard.hub.storage import read_text

ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
WORD_PIECE_TOKENS = {
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "pad": "[PAD]",
    "mask": "[MASK]",
}
# What RoBERTa's and BART's files leave out: `transformers` takes these.
ROBERTA_TOKENS = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>"} | {
    role: f"<{role}>" for role in ("pad", "unk", "mask")
}

_BYT5_TOKENS = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}  # ids 0 to 2
_NUM_BYT5_SENTINELS = 125  # by default, of `transformers`
# Of `transformers` (``tokenization_qwen2``): each digit is a word.
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def word_piece_tokenizer(path: Path, settings: Mapping[str, Any]) -> Backend:
    """Build BERT's tokenizer from a list of word pieces, one a line."""
    lines = read_text(path).removesuffix("\n").split("\n")
    vocab = {line.removesuffix("\r"): index for index, line in enumerate(lines)}
    tokens = WORD_PIECE_TOKENS | named_tokens(settings)
    if "do_lower_case" not in settings:
        _warn_of_capitals(path, vocab.keys() - set(tokens.values()))
    backend = Backend(models.WordPiece(vocab, unk_token=tokens["unk"]))
    backend.normalizer = bert_normalizer(settings)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    _add_specials(backend, tokens, vocab, processors.BertProcessing)
    return backend


def _warn_of_capitals(path: Path, pieces: Iterable[str]) -> None:
    """Warn where texts are put in lower case by default, and word pieces have capitals."""
    lost = [piece for piece in pieces if piece.lower() != piece and not _is_marked(piece)]
    if lost:
        warnings.warn(
            f"{path}: texts are put in lower case, as transformers does where the folder does not "
            f"say otherwise, so {len(lost):,} of its pieces never occur, such as {min(lost)!r}.  "
            f'For texts as they are: "do_lower_case": false in {path.parent / TOKENIZER_CONFIG}.',
            stacklevel=5,
        )


def _is_marked(piece: str) -> bool:
    """Return whether a piece is written like a special token, such as ``[CLS]`` or ``<S>``."""
    return piece[:1] + piece[-1:] in ("[]", "<>")


def byte_pair_tokenizer(folder: Path, settings: Mapping[str, Any], name: str) -> Backend:
    """Build GPT-2's, NeoX's, Qwen's, or RoBERTa's tokenizer, by the class or the vocabulary."""
    paths = str(folder / VOCABULARY), str(folder / MERGES)
    try:
        vocab, merges = models.BPE.read_file(*paths)
        backend = Backend(models.BPE(vocab, merges))
    except Exception as error:
        raise WeightsError(f"{folder}: {VOCABULARY} or {MERGES} is damaged ({error}).") from error
    has_prefix = settings.get("add_prefix_space") is True
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=has_prefix)
    if name in (NEOX_CLASS, QWEN_CLASS):
        backend.normalizer = normalizers.NFC()
    if name == QWEN_CLASS:
        words = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated")
        pieces = pre_tokenizers.ByteLevel(add_prefix_space=has_prefix, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([words, pieces])
    backend.decoder = decoders.ByteLevel()
    has_one_special = name in ("GPT2Tokenizer", NEOX_CLASS, QWEN_CLASS) or "<|endoftext|>" in vocab
    defaults = {"eos": "<|endoftext|>"} if has_one_special else ROBERTA_TOKENS
    tokens = defaults | named_tokens(settings)
    processing = partial(processors.RobertaProcessing, add_prefix_space=has_prefix)
    _add_specials(backend, tokens, vocab, processing)
    return backend


def byte_tokenizer(settings: Mapping[str, Any]) -> Backend:
    """Build ByT5's tokenizer, which has no file: bytes, after three tokens and before sentinels.

    Xue et al. 2022, "ByT5", section 3. Bytes that are no UTF-8 are left out of texts, as in
    ``transformers``.

    Args:
        settings: Settings of ``tokenizer_config.json``, with ``extra_ids``.

    Returns:
        The tokenizer.
    """
    byte_names = byte_alphabet()
    vocab = {name: index for index, name in enumerate([*_BYT5_TOKENS.values(), *byte_names])}
    backend = Backend(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("\N{REPLACEMENT CHARACTER}", "")]
    )
    count = settings.get("extra_ids", _NUM_BYT5_SENTINELS)
    tokens = [*_BYT5_TOKENS.values(), *(f"<extra_id_{index}>" for index in range(count))]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
    backend.post_processor = surround([], ["</s>"], vocab)
    return backend


def byte_alphabet() -> list[str]:
    """Return the character by which byte-level vocabularies name each byte, 0 to 255.

    Radford et al. 2019: visible characters of Latin-1 are their own names, the other bytes have
    the characters from 256 on, in order.

    >>> byte_alphabet()[65], byte_alphabet()[32]
    ('A', 'Ġ')
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    invisible = [byte for byte in range(256) if byte not in visible]
    names = {byte: chr(byte) for byte in visible}
    names |= {byte: chr(256 + index) for index, byte in enumerate(invisible)}
    return [names[byte] for byte in range(256)]


def _add_specials(
    backend: Backend,
    tokens: Mapping[str, str],
    vocab: Mapping[str, int],
    processing: Callable[[tuple[str, int], tuple[str, int]], processors.PostProcessor],
) -> None:
    """Add the special tokens of a vocabulary, and put cls and sep around texts where it has both.

    Args:
        backend: Gets them.
        tokens: Tokens by their roles.
        vocab: Ids of tokens.
        processing: Puts the second token before a text and the first after it.
    """
    present = dict.fromkeys(token for token in tokens.values() if token in vocab)
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in present]
    )
    if tokens.get("cls") in vocab and tokens.get("sep") in vocab:
        sep, cls = ((tokens[role], vocab[tokens[role]]) for role in ("sep", "cls"))
        backend.post_processor = processing(sep, cls)


def named_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that are named, each as text or as an object with its content."""
    tokens = {}
    for role in ROLES:
        token = settings.get(f"{role}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            tokens[role] = text
    return tokens
