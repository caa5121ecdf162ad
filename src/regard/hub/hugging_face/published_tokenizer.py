"""The tokenizer of a Hugging Face folder: ``tokenizer.json``, or the files that came before it.

The latter are read by `older_vocabularies`; the `tokenizers` library does the work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from regard.hub.hugging_face.base_tokenizer import MissingTokenizer, PublishedTokenizer
from regard.hub.hugging_face.language_tokens import LanguageTokens, languages_of_backend
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


class FastTokenizer(PublishedTokenizer):
    """A vocabulary that the `tokenizers` library reads, which ``transformers`` calls fast.

    Args:
        backend: Encodes and decodes text.
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
        backend: Backend,
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
        super().__init__(
            path,
            special_ids,
            stop_ids,
            max_length=max_length,
            is_cut_left=is_cut_left,
            num_rows=num_rows,
            first_id=first_id,
            languages=languages,
        )
        self.backend, self._cleans_spaces = backend, cleans_spaces
        self._reader = backend if reader is None else reader

    @cached_property
    def written_stop_ids(self) -> frozenset[int]:
        """Those of the `stop_ids` that belong to the text: no special tokens, such as a newline."""
        added = self.backend.get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        return (self.stop_ids & self.known_ids) - special

    @cached_property
    def known_ids(self) -> frozenset[int]:
        """The ids of all tokens."""
        return frozenset(self.backend.get_vocab().values())

    def encode(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Encode texts as token ids; see `PublishedTokenizer.encode`."""
        reader = self._reader
        reader.encode_special_tokens = not reads_specials
        adds_ends = adds_specials and self.languages is None
        encodings = reader.encode_batch(list(texts), add_special_tokens=adds_ends)
        rows = [encoding.ids for encoding in encodings]
        if adds_specials and not adds_ends:
            rows = [[*self.begin_ids, *row, *self.end_ids] for row in rows]
        self._check_rows(rows)
        return rows

    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        """Encode texts as token ids with the characters that they are, without special tokens.

        Returns:
            Ids and offsets of each text.

        Raises:
            WeightsError: The folder has no tokenizer, or a token has no row in the model's table.
        """
        reader = self._reader
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
        encoding = self.backend.encode("a", "b", add_special_tokens=True)
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

    def _ids_around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids before and after a text where no language has its own."""
        encoding = self.backend.encode("a", add_special_tokens=True)
        ids, is_added = encoding.ids, encoding.special_tokens_mask
        num_before = [*is_added, 0].index(0)
        num_after = [*is_added[::-1], 0].index(0)
        return tuple(ids[:num_before]), tuple(ids[len(ids) - num_after :])

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Decode token ids to texts, without special tokens."""
        backend = self.backend
        texts = backend.decode_batch([list(row) for row in rows], skip_special_tokens=True)
        return list(map(_clean_spaces, texts)) if self._cleans_spaces else texts

    def token_string(self, token: int) -> str | None:
        """Return a token as the vocabulary's file has it; None for an id without one."""
        return self.backend.id_to_token(token)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as readable text; bytes of a split character appear as ``\\xNN``.

        Ids beyond the vocabulary, which a model's table may have rows for, give empty text.
        """
        backend = self.backend
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
        return self.backend.to_str()

    def files(self) -> dict[str, str | bytes]:
        """Return the files that hold it, by name."""
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

    @cached_property
    def _tokens_of_texts(self) -> dict[int, str]:
        """The tokens that a text may become, by id."""
        vocab = self._reader.get_vocab(with_added_tokens=True)
        return {token: piece for piece, token in vocab.items()}


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
    model_type = config.get("model_type")
    name = tokenizer_class(settings, model_type)
    num_rows, path = rows_of_table(config), folder / TOKENIZER
    declared = declared_ids(folder, config, num_rows)
    stop_ids, first_id = declared.get("stop"), next(iter(declared.get("first", [])), None)
    max_length = max_length_of(settings)
    published = _read_backend(folder, settings, name)
    if published is None:
        return MissingTokenizer(
            WeightsError(f"{path}: missing, so text cannot be read or written; token ids can."),
            path,
            special_ids_of(declared, settings, None),
            stop_ids,
            max_length=max_length,
            first_id=first_id,
        )
    published.no_padding()
    published.no_truncation()
    tokens = _DEFAULTS.get(name, {}) | named_tokens(settings)
    apply_settings(published, folder, settings, tokens, name)
    warn_of_texts_with_missing_rows(published, num_rows, folder)
    backend, reader = drop_tokens_without_rows(published, num_rows), reader_of(published)
    special_ids = special_ids_of(declared, settings, backend)
    end_id = special_ids.get("eos")
    # `transformers` ignores the setting where a space belongs to a token.
    cleans_spaces = settings.get("clean_up_tokenization_spaces") is True
    cleans_spaces &= not isinstance(reader.model, models.BPE)
    return FastTokenizer(
        backend,
        path,
        special_ids,
        stop_ids,
        max_length=max_length,
        is_cut_left=settings.get("truncation_side") == "left",
        cleans_spaces=cleans_spaces,
        num_rows=num_rows,
        first_id=first_id,
        reader=reader,
        languages=languages_of_backend(backend, folder, settings, name, model_type, end_id),
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


def _describe_unread(text: str, error: Exception) -> str:
    """Return why ``tokenizer.json`` cannot be read: damaged, or of another version of the package.

    What newer versions write has parts that older ones call data of no variant.
    """
    try:
        is_tokenizer = "model" in json.loads(text)
    except (ValueError, TypeError, RecursionError):
        is_tokenizer = False
    if not is_tokenizer:
        return f"not a tokenizer file ({error})."
    return (
        f"not read by tokenizers {version('tokenizers')}, which is installed ({error}).  "
        "Of a newer version?  Install that: pip install -U tokenizers"
    )


def _read_backend(folder: Path, settings: Mapping[str, Any], name: str) -> Backend | None:
    """Read ``tokenizer.json``, or else a vocabulary by its class; None where there is neither."""
    path = folder / TOKENIZER
    if path.is_file():
        text = read_text(path)
        check_patterns(text, name=str(path))
        try:
            return Backend.from_str(text)
        except Exception as error:
            raise WeightsError(f"{path}: {_describe_unread(text, error)}") from error
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
