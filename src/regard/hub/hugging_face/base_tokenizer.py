"""What every vocabulary of published weights does, and one that is not there or cannot be read."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NoReturn, Self

from regard.data.tokenizer import PairTemplate, TokenOffsets
from regard.errors import WeightsError
from regard.hub.hugging_face.language_tokens import LanguageTokens


class PublishedTokenizer(ABC):
    """A vocabulary as it was published, with its own special tokens.

    Args:
        path: Its file, for messages.
        special_ids: Ids of special tokens, by their roles: bos, eos, pad, unk, cls, sep, mask.
        stop_ids: That end a continuation; None is the end of a text alone.
        max_length: Maximum number of tokens of a text, its special tokens counted; None sets no
            limit.
        is_cut_left: Whether a text that is too long loses its beginning, and not its end.
        num_rows: Rows of the model's table of tokens; None where it is unknown.
        first_id: That an output without a prompt begins with, where the folder names one.
        languages: The tokens of its languages, where it has some; they are put around texts.
    """

    is_missing = False
    """Whether the folder has no tokenizer, or none that can be read."""

    def __init__(
        self,
        path: Path,
        special_ids: Mapping[str, int],
        stop_ids: Collection[int] | None = None,
        *,
        max_length: int | None = None,
        is_cut_left: bool = False,
        num_rows: int | None = None,
        first_id: int | None = None,
        languages: LanguageTokens | None = None,
    ) -> None:
        self._path = path
        self.max_length, self.is_cut_left, self.first_id = max_length, is_cut_left, first_id
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
    @abstractmethod
    def written_stop_ids(self) -> frozenset[int]:
        """Those of the `stop_ids` that belong to the text: no special tokens, such as a newline."""

    @property
    def hidden_ids(self) -> list[int]:
        """The ids of special tokens and of languages, which are left out of texts."""
        languages = {} if self.languages is None else self.languages.ids
        return list(dict.fromkeys((*self.special_ids.values(), *languages.values())))

    @cached_property
    @abstractmethod
    def known_ids(self) -> frozenset[int]:
        """The ids of all tokens."""

    def unused_ids(self, num_rows: int) -> tuple[int, ...]:
        """Return the rows of a table of `num_rows` tokens that belong to no token."""
        return tuple(sorted(set(range(num_rows)) - self.known_ids))

    @abstractmethod
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

    @abstractmethod
    def encode_with_offsets(self, texts: Sequence[str]) -> list[TokenOffsets]:
        """Encode texts as token ids with the characters that they are, without special tokens.

        Returns:
            Ids and offsets of each text.

        Raises:
            WeightsError: The folder has no tokenizer, or one without offsets, or a token has no row
                in the model's table.
        """

    @property
    @abstractmethod
    def pair_template(self) -> PairTemplate:
        """The special tokens around two texts, such as ``[CLS] first [SEP] second [SEP]``.

        Raises:
            WeightsError: The vocabulary has none before the first text.
        """

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts as token ids, without special tokens around them."""
        return self.encode(texts)

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """The ids before a text with special tokens, such as BART's ``<s>``."""
        return self._ids_around()[0] if self.languages is None else self.languages.begin_ids

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids after a text with special tokens, such as BERT's ``[SEP]``."""
        return self._ids_around()[1] if self.languages is None else self.languages.end_ids

    @abstractmethod
    def _ids_around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids before and after a text where no language has its own."""

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

    @abstractmethod
    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Decode token ids to texts, without special tokens."""

    @abstractmethod
    def token_string(self, token: int) -> str | None:
        """Return a token as the vocabulary's file has it; None for an id without one."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as readable text; bytes of a split character appear as ``\\xNN``.

        Ids beyond the vocabulary, which a model's table may have rows for, give empty text.
        """

    @abstractmethod
    def to_json(self) -> str:
        """Return the text of its ``tokenizer.json``."""

    @abstractmethod
    def files(self) -> dict[str, str | bytes]:
        """Return the files that hold it, by name; none where the folder has no tokenizer."""

    def language_tag(self, text: str) -> str:  # noqa: ARG002 - of Marian's
        """Return the token before a text that names the target language: empty, there is none."""
        return ""

    @cached_property
    @abstractmethod
    def _tokens_of_texts(self) -> Mapping[int, str]:
        """The tokens that a text may become, by id."""

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


class MissingTokenizer(PublishedTokenizer):
    """The vocabulary of a folder that has none, or one that cannot be read.

    Its special tokens are known. Whatever takes the vocabulary itself raises `reason`.

    Args:
        reason: Why there is none.
        path: Its file, for messages.
        special_ids: Ids of special tokens, by their roles.
        stop_ids: That end a continuation; None is the end of a text alone.
        has_files: Whether the folder has it, so that an export without it would be damaged.
        max_length: Maximum number of tokens of a text; None sets no limit.
        first_id: That an output without a prompt begins with, where the folder names one.
    """

    is_missing = True

    def __init__(
        self,
        reason: WeightsError,
        path: Path,
        special_ids: Mapping[str, int],
        stop_ids: Collection[int] | None = None,
        *,
        has_files: bool = False,
        max_length: int | None = None,
        first_id: int | None = None,
    ) -> None:
        super().__init__(path, special_ids, stop_ids, max_length=max_length, first_id=first_id)
        self._reason, self._has_files = reason, has_files

    @cached_property
    def written_stop_ids(self) -> NoReturn:
        """Raise the reason."""
        self._raise()

    @cached_property
    def known_ids(self) -> NoReturn:
        """Raise the reason."""
        self._raise()

    def encode(
        self,
        texts: Sequence[str],  # noqa: ARG002 - they cannot be encoded
        *,
        adds_specials: bool = False,  # noqa: ARG002
        reads_specials: bool = False,  # noqa: ARG002
    ) -> NoReturn:
        """Raise the reason."""
        self._raise()

    def encode_with_offsets(self, texts: Sequence[str]) -> NoReturn:  # noqa: ARG002
        """Raise the reason."""
        self._raise()

    @property
    def pair_template(self) -> NoReturn:
        """Raise the reason."""
        self._raise()

    def decode(self, rows: Iterable[Sequence[int]]) -> NoReturn:  # noqa: ARG002
        """Raise the reason."""
        self._raise()

    def token_string(self, token: int) -> NoReturn:  # noqa: ARG002
        """Raise the reason."""
        self._raise()

    def pieces(self, ids: Sequence[int]) -> NoReturn:  # noqa: ARG002
        """Raise the reason."""
        self._raise()

    def to_json(self) -> NoReturn:
        """Raise the reason."""
        self._raise()

    def files(self) -> dict[str, str | bytes]:
        """Return no files; raise where the folder has some, which an export would lack."""
        if self._has_files:
            self._raise()
        return {}

    def _ids_around(self) -> NoReturn:
        """Raise the reason."""
        self._raise()

    @cached_property
    def _tokens_of_texts(self) -> NoReturn:
        """Raise the reason."""
        self._raise()

    def _raise(self) -> NoReturn:
        raise self._reason
