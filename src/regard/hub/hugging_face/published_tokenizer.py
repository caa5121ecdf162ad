"""The tokenizer of a Hugging Face folder: ``tokenizer.json``, or the files that came before it.

WordPiece (Schuster & Nakajima 2012; the pipeline of BERT, Devlin et al. 2019) is built from
``vocab.txt``, byte-level byte-pair encoding (Radford et al. 2019) from ``vocab.json`` and
``merges.txt``; the `tokenizers` library does the work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from regard.data.tokenizer import Tokenizer
from regard.errors import WeightsError
from regard.hub.hugging_face.tokenizer_rows import without_rowless
from regard.hub.hugging_face.weight_files import dump_json, read_json

_ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
_WORD_PIECE_TOKENS = {
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "pad": "[PAD]",
    "mask": "[MASK]",
}
# What RoBERTa's and BART's files leave out: `transformers` takes these.
_ROBERTA_TOKENS = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>"} | {
    role: f"<{role}>" for role in ("pad", "unk", "mask")
}


_USUAL_TOKENS = {token: role for role, token in _WORD_PIECE_TOKENS.items()} | {"<mask>": "mask"}
"""Roles of special tokens by the names that many folders have without telling."""


class TokenIds(NamedTuple):
    """Which ids begin, end and pad a text; None where nothing does."""

    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None

    def fields(self) -> dict[str, int | None]:
        """Name them as ``config.json`` does."""
        return {
            "bos_token_id": self.bos_id,
            "eos_token_id": self.eos_id,
            "pad_token_id": self.pad_id,
        }


class PublishedTokenizer:
    """A vocabulary as it was published, with its own special tokens.

    Args:
        backend: What reads and writes text; None where the folder has none.
        path: Where it stands, for messages.
        ids: Of special tokens, by their roles: bos, eos, pad, unk, cls, sep, mask.
    """

    def __init__(self, backend: Backend | None, path: Path, ids: Mapping[str, int]) -> None:
        self._backend = backend
        self._path = path
        self._ids = dict(ids)
        if backend is not None:
            backend.no_padding()
            backend.no_truncation()

    def id_of(self, role: str) -> int | None:
        """Find a special token by its role: bos, eos, pad, unk, cls, sep or mask."""
        return self._ids.get(role)

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text."""
        return self.id_of("bos")

    @property
    def eos_id(self) -> int | None:
        """The id that ends a text."""
        return self.id_of("eos")

    @property
    def pad_id(self) -> int | None:
        """The id that fills up a row."""
        return self.id_of("pad")

    @property
    def token_ids(self) -> TokenIds:
        """The three of them, as `write_hugging_face` takes them."""
        return TokenIds(self.bos_id, self.eos_id, self.pad_id)

    def __len__(self) -> int:
        """Return the number of rows that a table of its tokens needs: the highest id and one."""
        return 1 + max(self.known_ids)

    @cached_property
    def known_ids(self) -> frozenset[int]:
        """The ids that stand for tokens."""
        return frozenset(self._require().get_vocab().values())

    def encode(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Turn texts into token ids.

        Args:
            texts: Any.
            adds_specials: Whether to put special tokens around each, as it was published, such as
                ``[CLS]`` and ``[SEP]``.
            reads_specials: Whether a special token that a text spells out, such as ``[MASK]``, is
                that token; it is text like any other else.

        Raises:
            WeightsError: The folder has no tokenizer.
        """
        backend = self._require()
        backend.encode_special_tokens = not reads_specials
        encodings = backend.encode_batch(list(texts), add_special_tokens=adds_specials)
        return [encoding.ids for encoding in encodings]

    def encode_targets(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Turn target texts into token ids; arguments as for `encode`."""
        return self.encode(texts, adds_specials=adds_specials, reads_specials=reads_specials)

    @cached_property
    def begin_ids(self) -> tuple[int, ...]:
        """What is put before a text where special tokens are added, such as BART's ``<s>``."""
        found = self._require().encode("a", add_special_tokens=True)
        is_added = [*found.special_tokens_mask, 0]
        return tuple(found.ids[: is_added.index(0)])

    @cached_property
    def newline_id(self) -> int:
        """The last token of a line's end."""
        return self.encode(["\n"])[0][-1]

    @property
    def mask_id(self) -> int | None:
        """The id that stands for a hidden token."""
        return self.id_of("mask")

    def encode_masked(self, text: str) -> list[int]:
        """Turn a text with masks into token ids, with special tokens around it."""
        return self.encode([text], adds_specials=True, reads_specials=True)[0]

    @property
    def document_start(self) -> list[int]:
        """What stands before running text: the id that begins it, or else that ends one."""
        first = self.eos_id if self.bos_id is None else self.bos_id
        return [self.newline_id if first is None else first]

    @property
    def document_end(self) -> list[int]:
        """What stands after a document."""
        return [self.newline_id if self.eos_id is None else self.eos_id]

    def encode_whole(self, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        """Turn texts into token ids with special tokens around each, cut to `max_length` ids."""
        rows = self.encode(texts, adds_specials=True)
        return [
            row if len(row) <= max_length else [*row[: max_length - 1], row[-1]] for row in rows
        ]

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into token ids, each with the end of its line behind it."""
        return self.encode([f"{line}\n" for line in lines])

    def encode_text(self, text: str) -> list[int]:
        """Turn a text of one line or more into token ids, without begin and end."""
        return self.encode([text])[0]

    def decode_text(self, ids: Sequence[int]) -> str:
        """Turn token ids back into a text."""
        return self.decode([ids])[0]

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Turn token ids back into texts; special tokens leave no trace."""
        return self._require().decode_batch([list(row) for row in rows], skip_special_tokens=True)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Show each token as readable text; bytes of a split character appear as ``\\xNN``.

        Ids beyond the vocabulary, which a model's table may have room for, are shown as nothing.
        """
        backend = self._require()
        pieces = [backend.id_to_token(token) for token in ids]
        if not _is_byte_level(backend):
            return [(piece or "").replace("▁", " ") for piece in pieces]
        reader = Tokenizer(backend)
        return [
            "" if piece is None else reader.pieces([token])[0]
            for token, piece in zip(ids, pieces, strict=True)
        ]

    def to_json(self) -> str:
        """Return the text of its ``tokenizer.json``."""
        return self._require().to_str()

    def files(self) -> dict[str, str | bytes]:
        """Make the files that hold it, by name; none where the folder has no tokenizer."""
        if self._backend is None:
            return {}
        settings = tokenizer_settings(self.to_json(), self._ids)
        return {"tokenizer.json": self.to_json(), "tokenizer_config.json": dump_json(settings)}

    @property
    def is_missing(self) -> bool:
        """Whether the folder has no tokenizer, or none that can be read."""
        return self._backend is None

    def _require(self) -> Backend:
        if self._backend is None:
            raise WeightsError(
                f"{self._path}: missing, so text cannot be read or written; token ids can."
            )
        return self._backend


def read_tokenizer(folder: Path) -> PublishedTokenizer:
    """Read the tokenizer of a Hugging Face folder.

    Args:
        folder: With ``tokenizer.json``, or ``vocab.txt``, or ``vocab.json`` and ``merges.txt``; or
            with none of them: methods that need one raise `WeightsError` then.

    Raises:
        WeightsError: A file is there and cannot be read.
    """
    settings = _optional(folder / "special_tokens_map.json")
    settings |= _optional(folder / "tokenizer_config.json")
    path = folder / "tokenizer.json"
    backend = None
    if path.is_file():
        backend = _from_json(path)
    elif (folder / "vocab.txt").is_file():
        backend = _word_piece(folder / "vocab.txt", settings)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _byte_pairs(folder, settings)
    config = _optional(folder / "config.json")
    backend = without_rowless(backend, config.get("vocab_size"))
    ids = _special_ids(config, settings, backend)
    return PublishedTokenizer(backend, path, ids)


def vocabulary_files(tokenizer: Tokenizer | PublishedTokenizer) -> dict[str, str | bytes]:
    """Make the files of a vocabulary, by name, as ``transformers`` opens them."""
    if isinstance(tokenizer, PublishedTokenizer):
        return tokenizer.files()
    content = tokenizer.to_json()
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    if tokenizer.mask_id is not None:
        ids["mask"] = tokenizer.mask_id
    settings = tokenizer_settings(content, ids)
    return {"tokenizer.json": content, "tokenizer_config.json": dump_json(settings)}


def begun_rows(
    tokenizer: Tokenizer | PublishedTokenizer, rows: Iterable[Sequence[int]]
) -> list[list[int]]:
    """Put before rows of token ids what a published vocabulary begins every text with."""
    begin = tokenizer.begin_ids if isinstance(tokenizer, PublishedTokenizer) else ()
    return [[*begin, *row] for row in rows]


def unused_ids(tokenizer: Tokenizer | PublishedTokenizer, num_rows: int) -> tuple[int, ...]:
    """List the rows of a table of tokens that stand for none; such tables are padded.

    Args:
        tokenizer: The vocabulary.
        num_rows: Of the table.
    """
    if isinstance(tokenizer, PublishedTokenizer):
        return tuple(sorted(set(range(num_rows)) - tokenizer.known_ids))
    return tuple(range(len(tokenizer), num_rows))


def tokenizer_settings(tokenizer_json: str, ids: Mapping[str, int]) -> dict[str, Any]:
    """Make the ``tokenizer_config.json`` with which ``transformers`` opens a ``tokenizer.json``.

    Args:
        tokenizer_json: Its text.
        ids: Of special tokens, by their roles, such as eos and mask.
    """
    backend = Backend.from_str(tokenizer_json)
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role in _ROLES:
        if role in ids and (token := backend.id_to_token(ids[role])) is not None:
            settings[f"{role}_token"] = token
    return settings


def _from_json(path: Path) -> Backend:
    try:
        return Backend.from_file(str(path))
    except Exception as error:
        raise WeightsError(f"{path}: not a tokenizer file ({error}).") from error


def _word_piece(path: Path, settings: Mapping[str, Any]) -> Backend:
    """Build BERT's tokenizer from a list of word pieces, one a line."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}).") from error
    vocab = {line.removesuffix("\r"): place for place, line in enumerate(lines)}
    tokens = _WORD_PIECE_TOKENS | _tokens(settings)
    backend = Backend(models.WordPiece(vocab, unk_token=tokens["unk"]))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True) is not False,
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True) is not False,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    _add_specials(backend, tokens, vocab)
    if tokens["cls"] in vocab and tokens["sep"] in vocab:
        first, last = ((tokens[role], vocab[tokens[role]]) for role in ("cls", "sep"))
        backend.post_processor = processors.BertProcessing(last, first)
    return backend


def _byte_pairs(folder: Path, settings: Mapping[str, Any]) -> Backend:
    """Build GPT-2's tokenizer, or RoBERTa's and BART's where there are cls and sep."""
    paths = str(folder / "vocab.json"), str(folder / "merges.txt")
    try:
        vocab, merges = models.BPE.read_file(*paths)
        backend = Backend(models.BPE(vocab, merges))
    except Exception as error:
        raise WeightsError(f"{folder}: vocab.json or merges.txt is damaged ({error}).") from error
    has_prefix = settings.get("add_prefix_space") is True
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=has_prefix)
    backend.decoder = decoders.ByteLevel()
    usual = {"eos": "<|endoftext|>"} if "<|endoftext|>" in vocab else _ROBERTA_TOKENS
    tokens = usual | _tokens(settings)
    _add_specials(backend, tokens, vocab)
    if tokens.get("cls") in vocab and tokens.get("sep") in vocab:
        first, last = ((tokens[role], vocab[tokens[role]]) for role in ("cls", "sep"))
        backend.post_processor = processors.RobertaProcessing(
            last, first, add_prefix_space=has_prefix
        )
    return backend


def _add_specials(backend: Backend, tokens: Mapping[str, str], vocab: Mapping[str, int]) -> None:
    known = dict.fromkeys(token for token in tokens.values() if token in vocab)
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in known]
    )


def _tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Find the special tokens that are named, each as text or as an object with its content."""
    tokens = {}
    for role in _ROLES:
        given = settings.get(f"{role}_token")
        text = given.get("content") if isinstance(given, dict) else given
        if isinstance(text, str):
            tokens[role] = text
    return tokens


def _special_ids(
    config: Mapping[str, Any], settings: Mapping[str, Any], backend: Backend | None
) -> dict[str, int]:
    """Find the ids of special tokens: what the tokenizer says goes before ``config.json``."""
    ids = {}
    for role in _ROLES:
        given = config.get(f"{role}_token_id")
        if isinstance(given, list) and given:
            given = given[0]  # one of several that end a text
        if isinstance(given, int) and not isinstance(given, bool):
            ids[role] = given
    if backend is not None:
        for role, token in _tokens(settings).items():
            if (token_id := backend.token_to_id(token)) is not None:
                ids[role] = token_id
        added = backend.get_added_tokens_decoder()
        special = {token.content: token_id for token_id, token in added.items() if token.special}
        for token, role in _USUAL_TOKENS.items():
            if token in special:
                ids.setdefault(role, special[token])
    return ids


def _is_byte_level(backend: Backend) -> bool:
    return '"ByteLevel"' in json.dumps(json.loads(backend.to_str())["decoder"])


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
