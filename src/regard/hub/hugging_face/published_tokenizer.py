"""The tokenizer of a Hugging Face folder: ``tokenizer.json``, or the files that came before it.

The latter are read by `older_vocabularies`; the `tokenizers` library does the work.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self

from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from regard.data.tokenizer import PairTemplate, Tokenizer, TokenOffsets
from regard.data.tokenizer_patterns import check_patterns
from regard.errors import WeightsError
from regard.hub.file_names import (
    HF_CONFIG,
    MERGES,
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    WORD_PIECES,
)
from regard.hub.hugging_face.language_tokens import (
    LanguageTokens,
    languages_of_backend,
)
from regard.hub.hugging_face.older_vocabularies import (
    ROBERTA_TOKENS,
    ROLES,
    WORD_PIECE_TOKENS,
    byte_pair_tokenizer,
    byte_tokenizer,
    named_tokens,
    word_piece_tokenizer,
)
from regard.hub.hugging_face.special_tokens import declared_ids, special_ids_of
from regard.hub.hugging_face.tokenizer_overrides import (
    BYT5_CLASS,
    GEMMA_CLASS,
    NEOX_CLASS,
    QWEN_CLASS,
    ROBERTA_CLASSES,
    WORD_PIECE_CLASSES,
    apply_settings,
    check_class_of_file,
    max_length_of,
    surround,
    tokenizer_class,
)
from regard.hub.hugging_face.tokenizer_rows import (
    drop_tokens_without_rows,
    rows_of_table,
    warn_of_texts_with_missing_rows,
)
from regard.hub.hugging_face.weight_files import (
    dump_json,
    read_optional_json,
)
from regard.hub.storage import read_text

_DEFAULTS = {  # special tokens of the classes of `transformers`
    "GPT2Tokenizer": dict.fromkeys(("bos", "eos"), "<|endoftext|>"),
    "LlamaTokenizer": {"bos": "<s>", "eos": "</s>"},
    GEMMA_CLASS: {role: f"<{role}>" for role in ("bos", "eos", "pad", "unk", "mask")},
    NEOX_CLASS: dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>") | {"pad": "<|padding|>"},
    QWEN_CLASS: dict.fromkeys(("eos", "pad", "unk"), "<|endoftext|>"),
    **dict.fromkeys(WORD_PIECE_CLASSES, WORD_PIECE_TOKENS),
    **dict.fromkeys(ROBERTA_CLASSES, ROBERTA_TOKENS),
}
_FIRST_SENTINEL = "<extra_id_0>"
SENTINEL = re.compile(r"<extra_id_\d+>")
"""Tokens of T5 that are read wherever a text has them, and never written (section 3.1.4)."""
_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What ``clean_up_tokenization_spaces`` writes without spaces, in the order of `transformers`."""


class PublishedTokenizer:
    """A vocabulary as it was published, with its own special tokens.

    Args:
        backend: Encodes and decodes text; None where the folder has none.
        path: Its file, for messages.
        special_ids: Ids of special tokens, by their roles: bos, eos, pad, unk, cls, sep, mask.
        stop_ids: That end a continuation; None is the end of a text alone.
        max_length: Maximum number of tokens of a text, its special tokens counted; None sets no
            limit.
        is_cut_left: Whether a text that is too long loses its beginning, and not its end.
        cleans_spaces: Whether no text that is decoded has a space before punctuation.
        num_rows: Rows of the model's table of tokens; None where it is unknown.
        first_id: That an output without a prompt begins with, where the folder names one.
        reader: Vocabulary that texts are read with, where it has tokens without a row, which
            `backend` has not; a text with one of them is refused.
        languages: The tokens of its languages, where it has some; they are put around texts.
    """

    def __init__(
        self,
        backend: Backend | None,
        path: Path,
        special_ids: Mapping[str, int],
        stop_ids: Collection[int] | None = None,
        *,
        max_length: int | None = None,
        is_cut_left: bool = False,
        cleans_spaces: bool = False,
        num_rows: int | None = None,
        first_id: int | None = None,
        reader: Backend | None = None,
        languages: LanguageTokens | None = None,
    ) -> None:
        self._backend = backend
        self._reader = reader
        self._path = path
        self.max_length, self.is_cut_left, self.first_id = max_length, is_cut_left, first_id
        self._cleans_spaces = cleans_spaces
        self.languages = languages
        self.special_ids = dict(special_ids)
        self.bos_id = special_ids.get("bos")
        """The id that begins a text; None, as for those that follow, where there is none."""
        self.eos_id = special_ids.get("eos")
        """The id that ends a text."""
        self.pad_id = special_ids.get("pad")
        """The id that pads a row."""
        self.mask_id = special_ids.get("mask")
        """The id of a masked token."""
        self.end_id = special_ids.get("sep") if self.eos_id is None else self.eos_id
        """The id that ends an output: that of the end of a text, or else BERT's separator."""
        ends = [] if self.eos_id is None else [self.eos_id]
        self.stop_ids = frozenset(ends if stop_ids is None else stop_ids)
        self._num_rows = num_rows

    def __len__(self) -> int:
        """Return the number of rows that a table of its tokens needs: the highest id plus one."""
        return 1 + max(self.known_ids)

    @cached_property
    def written_stop_ids(self) -> frozenset[int]:
        """Those of the `stop_ids` that belong to the text: no special tokens, such as a newline."""
        added = self._require().get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        return (self.stop_ids & self.known_ids) - special

    @property
    def hidden_ids(self) -> list[int]:
        """The ids of special tokens and of languages, which are left out of texts."""
        languages = {} if self.languages is None else self.languages.ids
        return list(dict.fromkeys((*self.special_ids.values(), *languages.values())))

    @cached_property
    def known_ids(self) -> frozenset[int]:
        """The ids of all tokens."""
        return frozenset(self._require().get_vocab().values())

    def unused_ids(self, num_rows: int) -> tuple[int, ...]:
        """Return the rows of a table of `num_rows` tokens that belong to no token."""
        return tuple(sorted(set(range(num_rows)) - self.known_ids))

    def encode(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Encode texts as token ids.

        Args:
            texts: Any.
            adds_specials: Whether to put special tokens around each, such as ``[CLS]`` and
                ``[SEP]``.
            reads_specials: Whether a special token that is written in a text, such as ``[MASK]``,
                is that token; otherwise it is text like any other.

        Returns:
            The ids of each text.

        Raises:
            WeightsError: The folder has no tokenizer, or a token has no row in the model's table.
        """
        reader = self._require_reader()
        reader.encode_special_tokens = not reads_specials
        adds_ends = adds_specials and self.languages is None
        encodings = reader.encode_batch(list(texts), add_special_tokens=adds_ends)
        rows = [encoding.ids for encoding in encodings]
        if adds_specials and not adds_ends:
            rows = [[*self.begin_ids, *row, *self.end_ids] for row in rows]
        self._check_rows(rows)
        return rows

    def between(self, source: str | None, target: str) -> Self:
        """Return the vocabulary for a pair of languages by name; see `LanguageTokens`."""
        assert self.languages is not None, "a vocabulary with languages"
        return self._with_languages(self.languages.between(source, target))

    def of_targets(self) -> Self:
        """Return the vocabulary with what is put around targets, where it has languages."""
        return self if self.languages is None else self._with_languages(self.languages.of_targets())

    def _with_languages(self, languages: LanguageTokens) -> Self:
        other = copy.copy(self)
        other.languages = languages
        return other

    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        """Encode texts as token ids with the characters that they are, without special tokens.

        Returns:
            Ids and offsets of each text.

        Raises:
            WeightsError: The folder has no tokenizer, or a token has no row in the model's table.
        """
        reader = self._require_reader()
        reader.encode_special_tokens = True
        encodings = reader.encode_batch(list(texts), add_special_tokens=False)
        rows = [TokenOffsets(encoding.ids, encoding.offsets) for encoding in encodings]
        self._check_rows([row.ids for row in rows])
        return rows

    @property
    def pair_template(self) -> PairTemplate:
        """The special tokens around two texts, such as ``[CLS] first [SEP] second [SEP]``.

        Raises:
            WeightsError: The vocabulary has none before the first text.
        """
        encoding = self._require().encode("a", "b", add_special_tokens=True)
        is_text = [number is not None for number in encoding.sequence_ids]
        texts = encoding.sequence_ids
        first, second = texts.index(0), texts.index(1)
        between = next(i for i in range(first, len(texts)) if not is_text[i] or texts[i] == 1)
        end = next((i for i in range(second, len(texts)) if texts[i] != 1), len(texts))
        if not first:
            raise WeightsError(
                f"{self._path}: the vocabulary puts no special token before a question, which "
                'could say "no answer".  Take a folder of BERT, RoBERTa, DistilBERT or Longformer.'
            )
        ids, types = encoding.ids, encoding.type_ids
        return PairTemplate(
            tuple(ids[:first]),
            tuple(ids[between:second]),
            tuple(ids[end:]),
            (types[0], types[first], types[second - 1], types[second], types[-1]),
        )

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts as token ids, without special tokens around them."""
        return self.encode(texts)

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """The ids before a text with special tokens, such as BART's ``<s>``."""
        if self.languages is not None:
            return self.languages.begin_ids
        encoding = self._require().encode("a", add_special_tokens=True)
        is_added = [*encoding.special_tokens_mask, 0]
        return tuple(encoding.ids[: is_added.index(0)])

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids after a text with special tokens, such as BERT's ``[SEP]``."""
        if self.languages is not None:
            return self.languages.end_ids
        encoding = self._require().encode("a", add_special_tokens=True)
        is_added = [*encoding.special_tokens_mask[::-1], 0]
        return tuple(encoding.ids[len(encoding.ids) - is_added.index(0) :])

    @cached_property
    def newline_id(self) -> int | None:
        """The last token of the end of a line; None where the vocabulary drops line ends."""
        ids = self.encode(["\n"])[0]
        return ids[-1] if ids else None

    def encode_masked(self, text: str) -> list[int]:
        """Encode a text with masks, with special tokens around it."""
        return self.encode([text], adds_specials=True, reads_specials=True)[0]

    @property
    def document_start(self) -> list[int]:
        """The ids before running text: the one that begins a text, or else the one that ends it."""
        ids = (self.first_id, self.bos_id, self.eos_id, self.newline_id)
        return [token for token in ids if token is not None][:1]

    def encode_prompt(self, text: str) -> list[int]:
        """Encode a text to continue, with what ``transformers`` adds, such as Llama's ``<s>``."""
        return self.encode([text], adds_specials=True)[0]

    @property
    def document_end(self) -> list[int]:
        """The ids after a document."""
        end = self.newline_id if self.eos_id is None else self.eos_id
        return [] if end is None else [end]

    def encode_truncated(self, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        """Encode texts with special tokens around each, cut to `max_length` ids.

        A text is cut between its special tokens: at its end, or where the folder says
        ``truncation_side`` left, at its beginning.

        Returns:
            The ids of each text.
        """
        num_begin, num_end = len(self.begin_ids), len(self.end_ids)
        rows = self.encode(texts, adds_specials=True)
        for index, row in enumerate(rows):
            if len(row) > max_length:
                text = row[num_begin : len(row) - num_end]
                room = max(0, max_length - num_begin - num_end)
                text = text[len(text) - room :] if self.is_cut_left else text[:room]
                rows[index] = [*row[:num_begin], *text, *row[len(row) - num_end :]]
        return rows

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Encode lines, each with the end of its line."""
        return self.encode([f"{line}\n" for line in lines])

    def encode_text(self, text: str) -> list[int]:
        """Encode a text of one line or more, without begin and end."""
        return self.encode([text])[0]

    def decode_text(self, ids: Sequence[int]) -> str:
        """Decode token ids to a text."""
        return self.decode([ids])[0]

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Decode token ids to texts, without special tokens."""
        backend = self._require()
        texts = backend.decode_batch([list(row) for row in rows], skip_special_tokens=True)
        return list(map(_clean_spaces, texts)) if self._cleans_spaces else texts

    def token_string(self, token: int) -> str | None:
        """Return a token as the vocabulary's file has it; None for an id without one."""
        return self._require().id_to_token(token)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as readable text; bytes of a split character appear as ``\\xNN``.

        Ids beyond the vocabulary, which a model's table may have rows for, give empty text.
        """
        backend = self._require()
        pieces = list(map(backend.id_to_token, ids))
        if '"ByteLevel"' not in json.dumps(json.loads(backend.to_str())["decoder"]):
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
        """Return the files that hold it, by name; none where the folder has no tokenizer."""
        if self._backend is None:
            return {}
        content = self.to_json()
        settings = tokenizer_settings(content, self.special_ids)
        if self.languages is not None:
            content = self._with_ends_of_languages(content)
            settings |= self.languages.settings()
        if self.max_length is not None:
            settings["model_max_length"] = self.max_length
        if self.is_cut_left:
            settings["truncation_side"] = "left"
        if self._cleans_spaces:
            settings["clean_up_tokenization_spaces"] = True
        return {TOKENIZER: content, TOKENIZER_CONFIG: dump_json(settings)}

    def _with_ends_of_languages(self, content: str) -> str:
        """Return a ``tokenizer.json`` that puts the tokens of languages around texts."""
        backend = Backend.from_str(content)
        begin, end = (
            [str(backend.id_to_token(token)) for token in ids]
            for ids in (self.begin_ids, self.end_ids)
        )
        backend.post_processor = surround(begin, end, backend.get_vocab())
        return backend.to_str()

    def language_tag(self, text: str) -> str:  # noqa: ARG002 - of Marian's
        """Return the token before a text that names the target language: empty, there is none."""
        return ""

    @cached_property
    def _tokens_of_texts(self) -> dict[int, str]:
        """The tokens that a text may become, by id."""
        vocab = self._require_reader().get_vocab(with_added_tokens=True)
        return {token: piece for piece, token in vocab.items()}

    @cached_property
    def _num_tokens_of_texts(self) -> int:
        return 1 + max(self._tokens_of_texts)

    def _check_rows(self, rows: Sequence[Sequence[int]]) -> None:
        """Raise where a token has no row in the model's table."""
        num_rows = self._num_rows
        if num_rows is None or self._num_tokens_of_texts <= num_rows:
            return
        token = max(chain.from_iterable(rows), default=0)
        if token >= num_rows:
            raise WeightsError(
                f"{self._path.parent}: the weights have {num_rows} rows of tokens, the vocabulary "
                f"has {self._num_tokens_of_texts} tokens, so some have no row, such as "
                f"{self._tokens_of_texts[token]!r}.  Take the vocabulary that the weights were "
                "trained with, or leave the token out of the text."
            )

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

    def _require_reader(self) -> Backend:
        backend = self._require()
        return self._reader or backend


def read_tokenizer(folder: Path) -> PublishedTokenizer:
    """Read the tokenizer of a Hugging Face folder.

    Args:
        folder: Folder with ``tokenizer.json``, or ``vocab.txt``, or ``vocab.json`` and
            ``merges.txt``.

    Returns:
        The tokenizer. In a folder without these files, methods that need one raise `WeightsError`.

    Raises:
        WeightsError: A file exists and cannot be read.
    """
    settings = _read_settings(folder)
    config = read_optional_json(folder / HF_CONFIG)
    name = tokenizer_class(settings, config.get("model_type"))
    num_rows = rows_of_table(config)
    cleans_spaces = settings.get("clean_up_tokenization_spaces") is True
    reader = backend = _read_backend(folder, settings, name)
    if reader is not None:
        reader.no_padding()
        reader.no_truncation()
        tokens = _DEFAULTS.get(name, {}) | named_tokens(settings)
        apply_settings(reader, folder, settings, tokens, name)
        warn_of_texts_with_missing_rows(reader, num_rows, folder)
        backend = drop_tokens_without_rows(reader, num_rows)
        reader = reader_of(reader)
        # `transformers` ignores the setting where a space belongs to a token.
        cleans_spaces &= not isinstance(reader.model, models.BPE)
    declared = declared_ids(folder, config, num_rows)
    special_ids = special_ids_of(declared, settings, backend)
    languages = None
    if backend is not None:
        model_type, end_id = config.get("model_type"), special_ids.get("eos")
        languages = languages_of_backend(backend, folder, settings, name, model_type, end_id)
    return PublishedTokenizer(
        backend,
        folder / TOKENIZER,
        special_ids,
        declared.get("stop"),
        max_length=max_length_of(settings),
        is_cut_left=settings.get("truncation_side") == "left",
        cleans_spaces=cleans_spaces,
        num_rows=num_rows,
        first_id=next(iter(declared.get("first", [])), None),
        reader=reader,
        languages=languages,
    )


def _read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a tokenizer, and its special tokens from their own file.

    As in ``transformers`` that file counts before the settings, except where they have
    ``added_tokens_decoder``, which newer releases write.

    Returns:
        The settings by name; empty where the folder has neither file.
    """
    settings = read_optional_json(folder / TOKENIZER_CONFIG)
    specials = read_optional_json(folder / SPECIAL_TOKENS)
    return specials | settings if "added_tokens_decoder" in settings else settings | specials


def _read_backend(folder: Path, settings: Mapping[str, Any], name: str) -> Backend | None:
    """Read ``tokenizer.json``, or else a vocabulary by its class; None where there is neither."""
    path = folder / TOKENIZER
    if path.is_file():
        text = read_text(path)
        check_patterns(text, name=str(path))
        try:
            return Backend.from_str(text)
        except Exception as error:
            raise WeightsError(f"{path}: not a tokenizer file ({error}).") from error
    if (folder / WORD_PIECES).is_file():
        check_class_of_file(folder / WORD_PIECES, name)
        return word_piece_tokenizer(folder / WORD_PIECES, settings)
    if (folder / VOCABULARY).is_file() and (folder / MERGES).is_file():
        check_class_of_file(folder / VOCABULARY, name)
        return byte_pair_tokenizer(folder, settings, name)
    return byte_tokenizer(settings) if name == BYT5_CLASS else None


def vocabulary_files(tokenizer: Tokenizer | PublishedTokenizer) -> dict[str, str | bytes]:
    """Return the files of a vocabulary, by name, as ``transformers`` opens them."""
    files = tokenizer.files()
    if isinstance(tokenizer, Tokenizer):
        settings = tokenizer_settings(tokenizer.to_json(), tokenizer.special_ids)
        files[TOKENIZER_CONFIG] = dump_json(settings)
    return files


def tokenizer_settings(tokenizer_json: str, ids: Mapping[str, int]) -> dict[str, Any]:
    """Return the ``tokenizer_config.json`` with which ``transformers`` opens a ``tokenizer.json``.

    Args:
        tokenizer_json: Its text.
        ids: Ids of special tokens, by their roles, such as eos and mask.

    Returns:
        The content of the file.
    """
    backend = Backend.from_str(tokenizer_json)
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role in ROLES:
        if role in ids and (token := backend.id_to_token(ids[role])) is not None:
            settings[f"{role}_token"] = token
    return settings


def reader_of(backend: Backend) -> Backend:
    """Return a tokenizer for which special tokens in texts are text, but T5's sentinels tokens.

    Args:
        backend: It is the same for other texts.
    """
    if backend.token_to_id(_FIRST_SENTINEL) is not None:
        backend = _read_sentinels(backend)
    if isinstance(backend.model, models.Unigram | models.WordLevel):
        return _split_special_tokens(backend)
    return backend


def _read_sentinels(backend: Backend) -> Backend:
    """Return a tokenizer that takes T5's sentinels for tokens where texts are but text.

    They are what is left out of a text, so that a text with them is not as it is without.
    """
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        token["special"] &= SENTINEL.fullmatch(token["content"]) is None
    return Backend.from_str(json.dumps(content))


def _split_special_tokens(backend: Backend) -> Backend:
    """Return a tokenizer for which a special token that is written in a text is text.

    The pieces of these models include the special tokens, so that a ``</s>`` in a text would be the
    end of it. Here its last character begins a word of its own; T5's sentinels stay whole.
    """
    content = json.loads(backend.to_str())
    vocab = content["model"]["vocab"]
    pieces = vocab.keys() if isinstance(vocab, dict) else {piece for piece, _ in vocab}
    special = {token["content"] for token in content["added_tokens"] if token["special"]}
    if not (matched := sorted(token for token in special & pieces if len(token) > 1)):
        return backend
    ends = "|".join(f"(?<={re.escape(token[:-1])}){re.escape(token[-1])}" for token in matched)
    split = pre_tokenizers.Split(Regex(ends), behavior="merged_with_next")
    reader = Backend.from_str(json.dumps(content))
    steps = [] if reader.pre_tokenizer is None else [reader.pre_tokenizer]
    reader.pre_tokenizer = pre_tokenizers.Sequence([*steps, split])
    return reader


def _clean_spaces(text: str) -> str:
    """Return a text without the spaces that ``clean_up_tokenization_spaces`` takes out."""
    for spaced in _SPACED:
        text = text.replace(spaced, spaced.strip())
    return text
