"""Tokenizers of SentencePiece (Kudo & Richardson 2018): one model, or Marian's two, or M2M100's.

``spiece.model`` (T5, ALBERT) and ``tokenizer.model`` (Llama) hold pieces with their ids. Marian has
a model for either language, ``source.spm`` and ``target.spm``, and the ids of both in
``vocab.json``. M2M100 has one model, ids in ``vocab.json``, and tokens of languages after them (Fan
et al. 2020); NLLB and mBART-50 have the model alone, with the ids of fairseq. The optional package
``sentencepiece`` does the work, so that every text has exactly the pieces it was trained with.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from regard.data.tokenizer import PairTemplate, TokenOffsets
from regard.errors import WeightsError
from regard.hub.file_names import (
    HF_CONFIG,
    MARIAN_SOURCE,
    MARIAN_TARGET,
    SENTENCEPIECE_FAIRSEQ,
    SENTENCEPIECE_LLAMA,
    SENTENCEPIECE_T5,
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
)
from regard.hub.hugging_face.base_tokenizer import MissingTokenizer, PublishedTokenizer
from regard.hub.hugging_face.language_tokens import (
    FAIRSEQ_CLASSES,
    M2M100_CLASS,
    LanguageTokens,
    fairseq_tokens,
    language_class,
    m2m100_tokens,
    read_language_tokens,
)
from regard.hub.hugging_face.published_tokenizer import read_tokenizer
from regard.hub.hugging_face.recognize import has_m2m100_vocabulary, has_sentencepiece
from regard.hub.hugging_face.sentence_transformers import transformer_folder
from regard.hub.hugging_face.tokenizer_overrides import (
    T5_CLASS,
    ends_of,
    max_length_of,
    read_added_tokens,
    tokenizer_class,
)
from regard.hub.hugging_face.tokenizer_rows import rows_of_table
from regard.hub.hugging_face.weight_files import (
    dump_json,
    is_whole_number,
    read_json,
    read_optional_json,
)

# By default: whether the model of this name puts a token before and after a text.
_SINGLE = {SENTENCEPIECE_T5: (False, True), SENTENCEPIECE_LLAMA: (True, False)}
_FAIRSEQ_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}  # ids 0 to 3
_MOST_UNUSED_ROWS = 8  # after the mask: NLLB's tables have two
_NUM_OWN_TOKENS = 3  # of a model, in place of which fairseq has these
_MARIAN_TOKENS = {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
_SETTINGS = (TOKENIZER_CONFIG, SPECIAL_TOKENS)
_SPACE = "▁"
_NUM_SENTINELS = 100  # by default, of `transformers`
_TAG = re.compile(r">>[^<>]+<<")  # Marian's target language, before the source


class SentencePieceTokenizer(PublishedTokenizer):
    """A vocabulary of SentencePiece, as it was published.

    Args:
        source: The model of source texts, or of all; ``sentencepiece.SentencePieceProcessor``.
        vocab: Ids of all pieces.
        path: Its file, for messages.
        special_ids: Ids of special tokens, by their roles: bos, eos, pad, unk.
        files: The files that it was read from, by name.
        target: The model of target texts; None where there is one alone.
        begin_ids: Before a text with special tokens.
        end_ids: After a text with special tokens; None is the end alone.
        max_length: Maximum number of tokens of a text, its special tokens counted; None sets no
            limit.
        num_rows: Rows of the model's table of tokens; None where it is unknown.
        languages: The tokens of its languages, where it has some; they are put around texts.
        sentinels: Ids of T5's ``<extra_id_0>`` and so on, which are tokens in every text.
    """

    def __init__(
        self,
        source: Any,
        vocab: Mapping[str, int],
        path: Path,
        special_ids: Mapping[str, int],
        files: Mapping[str, bytes],
        *,
        target: Any = None,
        begin_ids: Sequence[int] = (),
        end_ids: Sequence[int] | None = None,
        max_length: int | None = None,
        num_rows: int | None = None,
        languages: LanguageTokens | None = None,
        sentinels: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(
            path,
            special_ids,
            max_length=max_length,
            num_rows=num_rows,
            languages=languages,
        )
        self._sentinels, self._strips = sentinels, not sentinels  # as T5's class
        self._source, self._vocab = source, vocab
        self._target = source if target is None else target
        self._begin_ids = tuple(begin_ids)
        self._end_ids = (special_ids["eos"],) if end_ids is None else tuple(end_ids)
        self._files = files
        self._specials = {self._tokens_of_texts[token]: token for token in special_ids.values()}

    def _ids_around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids before and after a text where no language has its own."""
        return self._begin_ids, self._end_ids

    @cached_property
    def _tokens_of_texts(self) -> dict[int, str]:
        """The tokens that a text may become, by id."""
        return {token: piece for piece, token in self._vocab.items()}

    @cached_property
    def written_stop_ids(self) -> frozenset[int]:
        """Those of the `stop_ids` that belong to the text, which `decode` does not leave out."""
        return (self.stop_ids & self.known_ids) - set(self.special_ids.values())

    @cached_property
    def known_ids(self) -> frozenset[int]:
        """The ids of all tokens."""
        return frozenset(self._tokens_of_texts)

    def encode(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Encode source texts as token ids; Marian's ``>>fra<<`` before a text is one token.

        Args:
            texts: Any.
            adds_specials: Whether to put special tokens around each.
            reads_specials: Whether a special token that is written in a text is that token;
                otherwise it is text like any other.

        Returns:
            The ids of each text.

        Raises:
            WeightsError: A token has no row in the model's table.
        """
        specials = {**self._sentinels, **(self._specials if reads_specials else {})}
        rows = [self._encode(self._source, text, specials) for text in texts]
        if adds_specials:
            rows = [[*self.begin_ids, *row, *self.end_ids] for row in rows]
        self._check_rows(rows)
        return rows

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts as token ids, without special tokens around them."""
        rows = [self._encode(self._target, text, self._sentinels) for text in texts]
        self._check_rows(rows)
        return rows

    def language_tag(self, text: str) -> str:
        """Return the token before a text that names the target language, such as ``>>fra<<``."""
        tag = _TAG.match(text)
        return tag[0] if tag is not None and tag[0] in self._vocab else ""

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Decode token ids to texts, without special tokens."""
        hidden = {*self.hidden_ids, *self._sentinels.values()}
        texts = [
            self._target.decode_pieces(
                [self._tokens_of_texts.get(token, "") for token in row if token not in hidden]
            ).replace(_SPACE, " ")
            for row in rows
        ]
        return list(map(str.strip, texts)) if self._strips else texts

    def token_string(self, token: int) -> str | None:
        """Return a token as the vocabulary's file has it; None for an id without one."""
        return self._tokens_of_texts.get(token)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as readable text; ids beyond the vocabulary give empty text."""
        return [self._tokens_of_texts.get(token, "").replace(_SPACE, " ") for token in ids]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:  # noqa: ARG002
        """Raise: it is not read which characters a piece is.

        Raises:
            WeightsError: Always.
        """
        self._refuse("does not say which characters of a text a token is")

    @property
    def pair_template(self) -> PairTemplate:
        """Raise: nothing says how a model of SentencePiece joins two texts.

        Raises:
            WeightsError: Always.
        """
        self._refuse("does not say which tokens join two texts")

    def to_json(self) -> str:
        """Raise: the files of SentencePiece are not a ``tokenizer.json``.

        Raises:
            WeightsError: Always.
        """
        raise WeightsError(
            f"{self._path}: a model of SentencePiece, which no tokenizer.json can hold.  "
            "Copy its files to where the tokenizer is wanted."
        )

    def files(self) -> dict[str, str | bytes]:
        """Return the files that it was read from, by name, with the languages of now."""
        files: dict[str, str | bytes] = dict(self._files)
        if self.languages is not None:
            settings = json.loads(files.get(TOKENIZER_CONFIG, "{}")) | self.languages.settings()
            files[TOKENIZER_CONFIG] = dump_json(settings)
        return files

    def _refuse(self, what: str) -> NoReturn:
        """Raise: `what` it does not do, which a ``tokenizer.json`` does."""
        raise WeightsError(
            f"{self._path}: a model of SentencePiece, which {what}.  Save a tokenizer.json, which "
            f"does:\n{_conversion(self._path.parent)}"
        )

    def _encode(self, processor: Any, text: str, specials: Mapping[str, int]) -> list[int]:
        """Encode a text, in which the tokens `specials` may be written."""
        tag = self.language_tag(text)
        pieces, rest = [tag] if tag else [], text.removeprefix(tag)
        parts = [rest]
        if specials:
            parts = re.split(f"({'|'.join(map(re.escape, specials))})", rest)
        for part in parts:
            pieces += [part] if part in specials else processor.encode(part, out_type=str)
        unknown = self.special_ids["unk"]
        return [self._vocab.get(piece, unknown) for piece in pieces]


class PackageMissingError(WeightsError):
    """A file needs a package that is not installed."""


def read_any_tokenizer(folder: Path) -> PublishedTokenizer:
    """Read the tokenizer of a Hugging Face folder, of any kind.

    Marian's two models count before ``tokenizer.json``, which holds one of them at most, and so do
    M2M100's files, which its class reads; that counts before a single model.

    Args:
        folder: Any.

    Returns:
        The tokenizer. Where the folder has none, or one that needs a package which is not
        installed, the methods that need one raise `WeightsError`.

    Raises:
        WeightsError: A file exists and is damaged.
    """
    folder = transformer_folder(folder)
    has_json = (folder / TOKENIZER).is_file()
    counts = (folder / MARIAN_SOURCE).is_file() or _is_m2m100(folder)
    has_pieces = has_sentencepiece(folder) or _is_fairseq(folder)
    if not counts and (has_json or not has_pieces):
        return read_tokenizer(folder)
    try:
        return read_sentencepiece(folder)
    except PackageMissingError as error:
        ids = read_tokenizer(folder).special_ids
        roles = ("bos", "eos", "pad", "unk")
        special_ids = {role: ids[role] for role in roles if role in ids}
        return MissingTokenizer(error, folder, special_ids, has_files=True)


def read_sentencepiece(folder: Path) -> SentencePieceTokenizer:
    """Read the tokenizer of a folder of SentencePiece.

    Args:
        folder: Folder with ``source.spm``, ``target.spm`` and ``vocab.json``, with
            ``sentencepiece.bpe.model``, without ``vocab.json`` for NLLB and mBART-50 alone, or with
            ``spiece.model`` or ``tokenizer.model``.

    Returns:
        The tokenizer.

    Raises:
        PackageMissingError: ``sentencepiece`` is not installed.
        WeightsError: A file is missing or damaged.
    """
    if (folder / MARIAN_SOURCE).is_file():
        return _read_marian(folder)
    if has_m2m100_vocabulary(folder):
        return _read_m2m100(folder)
    if _is_fairseq(folder):
        return _read_fairseq(folder)
    path = next(filter(Path.is_file, map(folder.joinpath, _SINGLE)))
    settings = read_optional_json(folder / TOKENIZER_CONFIG)
    config = read_optional_json(folder / HF_CONFIG)
    num_rows = rows_of_table(config)
    processor = _load(path)
    vocab = {processor.id_to_piece(token): token for token in range(len(processor))}
    is_t5 = tokenizer_class(settings, config.get("model_type")) == T5_CLASS
    sentinels = _sentinels(settings, len(vocab), num_rows) if is_t5 else {}
    vocab |= sentinels
    _check_settings(folder, settings, vocab)
    roles = {role: getattr(processor, f"{role}_id")() for role in ("bos", "eos", "pad", "unk")}
    ids = {role: token for role, token in roles.items() if token >= 0}
    before, after = ends_of(settings, ids, _SINGLE[path.name])
    return SentencePieceTokenizer(
        processor,
        vocab,
        path,
        ids,
        _files(folder, path.name),
        begin_ids=before,
        end_ids=after,
        max_length=max_length_of(settings),
        num_rows=num_rows,
        sentinels=sentinels,
    )


def _sentinels(
    settings: Mapping[str, Any], num_pieces: int, num_rows: int | None
) -> dict[str, int]:
    """Return the ids of T5's sentinels, which follow the pieces of its model, the last one first.

    Args:
        settings: Settings of ``tokenizer_config.json``, with ``extra_ids``.
        num_pieces: Number of pieces.
        num_rows: Rows of the model's table of tokens, beyond which there are none.
    """
    count = settings.get("extra_ids")
    count = count if is_whole_number(count) else _NUM_SENTINELS
    ids = {f"<extra_id_{count - 1 - index}>": num_pieces + index for index in range(count)}
    return {token: number for token, number in ids.items() if number < (num_rows or sys.maxsize)}


def _check_settings(folder: Path, settings: Mapping[str, Any], vocab: Mapping[str, int]) -> None:
    """Raise where a folder asks for what its models alone do not do."""
    added = read_added_tokens(folder, settings, {}).items()
    problems = {
        f"added token {token.content!r}": vocab.get(token.content) != number
        for number, token in added
    } | {
        "do_lower_case=true": settings.get("do_lower_case") is True,
        "add_prefix_space=false": settings.get("add_prefix_space") is False,
    }
    if problem := next((name for name, is_met in problems.items() if is_met), None):
        raise WeightsError(
            f"{folder}: {problem}: a model of SentencePiece does not have that by itself.  Save a "
            f"tokenizer.json, which has it:\n{_conversion(folder)}"
        )


def _conversion(folder: Path) -> str:
    """Return the lines of Python that write a ``tokenizer.json`` into a folder."""
    return (
        "    from transformers import AutoTokenizer\n"
        f"    AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )


def _read_marian(folder: Path) -> SentencePieceTokenizer:
    for name in (MARIAN_TARGET, VOCABULARY):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder / name}: missing, which belongs to {MARIAN_SOURCE}.")
    if (folder / "target_vocab.json").is_file():
        raise WeightsError(
            f"{folder}/target_vocab.json: separate vocabularies of source and target are not read."
        )
    path = folder / VOCABULARY
    vocab = _read_vocabulary(path)
    settings = read_optional_json(folder / TOKENIZER_CONFIG)
    _check_settings(folder, settings, vocab)
    ids = {role: vocab[name] for role, name in _MARIAN_TOKENS.items()}
    return SentencePieceTokenizer(
        _load(folder / MARIAN_SOURCE),
        vocab,
        path,
        ids,
        _files(folder, MARIAN_SOURCE, MARIAN_TARGET, VOCABULARY),
        target=_load(folder / MARIAN_TARGET),
        max_length=max_length_of(settings),
        num_rows=rows_of_table(read_optional_json(folder / HF_CONFIG)),
    )


def _is_m2m100(folder: Path) -> bool:
    """Return whether a folder has M2M100's files, and a class that reads them."""
    return _class_of(folder) == M2M100_CLASS and has_m2m100_vocabulary(folder)


def _read_m2m100(folder: Path) -> SentencePieceTokenizer:
    """Read M2M100's pieces, the tokens of whose languages are in no file but have fixed ids."""
    path = folder / VOCABULARY
    settings = _settings(folder)
    config = read_optional_json(folder / HF_CONFIG)
    pieces = _read_vocabulary(path)
    vocab = pieces | m2m100_tokens(folder, settings, len(pieces))
    tokens = {token: number for token, number in vocab.items() if token not in pieces}
    _check_settings(folder, settings, vocab)
    roles = {"bos": "<s>", **_MARIAN_TOKENS}
    ids = {role: vocab[token] for role, token in roles.items() if token in vocab}
    name = tokenizer_class(settings, config.get("model_type"))
    kind = language_class(name, config.get("model_type"), tokens, folder)
    languages = read_language_tokens(folder, settings, kind, tokens, ids["eos"])
    return SentencePieceTokenizer(
        _load(folder / SENTENCEPIECE_FAIRSEQ),
        vocab,
        path,
        ids,
        _files(folder, SENTENCEPIECE_FAIRSEQ, VOCABULARY),
        max_length=max_length_of(settings),
        num_rows=rows_of_table(config),
        languages=languages,
    )


def _is_fairseq(folder: Path) -> bool:
    """Return whether a folder has pieces alone, and a class that numbers them as fairseq does."""
    return (folder / SENTENCEPIECE_FAIRSEQ).is_file() and _class_of(folder) in FAIRSEQ_CLASSES


def _class_of(folder: Path) -> str:
    """Return the class of the tokenizer of a folder."""
    model_type = read_optional_json(folder / HF_CONFIG).get("model_type")
    return tokenizer_class(_settings(folder), model_type)


def _read_fairseq(folder: Path) -> SentencePieceTokenizer:
    """Read the pieces of NLLB or mBART-50, after which languages have their tokens, then a mask."""
    path, settings = folder / SENTENCEPIECE_FAIRSEQ, _settings(folder)
    processor, kind = _load(path), _class_of(folder)
    pieces = [processor.id_to_piece(token) for token in range(_NUM_OWN_TOKENS, len(processor))]
    vocab = {piece: token for token, piece in enumerate([*_FAIRSEQ_TOKENS.values(), *pieces])}
    tokens = fairseq_tokens(folder, settings, kind, len(vocab))
    vocab |= tokens
    vocab["<mask>"] = len(vocab)
    num_rows = rows_of_table(read_optional_json(folder / HF_CONFIG))
    if num_rows is not None and not 0 <= num_rows - len(vocab) < _MOST_UNUSED_ROWS:
        raise WeightsError(
            f"{folder / TOKENIZER_CONFIG}: additional_special_tokens names {len(tokens)} "
            f"languages: {len(vocab):,} tokens with the pieces, and the model's table has "
            f"{num_rows:,} rows.  All of its languages are needed, in their order."
        )
    _check_settings(folder, settings, vocab)
    ids = {role: vocab[token] for role, token in _FAIRSEQ_TOKENS.items()}
    return SentencePieceTokenizer(
        processor,
        vocab,
        path,
        ids,
        _files(folder, SENTENCEPIECE_FAIRSEQ),
        max_length=max_length_of(settings),
        num_rows=num_rows,
        languages=read_language_tokens(folder, settings, kind, tokens, ids["eos"]),
    )


def _settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a vocabulary, with its special tokens from their own file."""
    return read_optional_json(folder / SPECIAL_TOKENS) | read_optional_json(
        folder / TOKENIZER_CONFIG
    )


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Read the ids of Marian's pieces, those of the special tokens among them."""
    vocab = read_json(path)
    if not all(type(token) is int for token in vocab.values()):
        raise WeightsError(f"{path}: a whole number was expected for every piece.")
    if missing := [name for name in _MARIAN_TOKENS.values() if name not in vocab]:
        raise WeightsError(f"{path}: has no {', '.join(missing)}.")
    return vocab


def _files(folder: Path, *names: str) -> dict[str, bytes]:
    """Read the files of a vocabulary, with its settings where there are some."""
    paths = [folder / name for name in (*names, *_SETTINGS)]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def _load(path: Path) -> Any:
    """Read a model by the optional package."""
    try:
        package = import_module("sentencepiece")
    except ImportError as error:
        raise PackageMissingError(
            f"{path}: reading it takes the package sentencepiece, which is not installed.  "
            "Install it: pip install sentencepiece"
        ) from error
    try:
        return package.SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a model of SentencePiece ({error}).") from error
