"""What every vocabulary can do, whether a run trained it or it came with published weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class AnyTokenizer(Protocol):
    """A vocabulary: `regard.data.tokenizer.Tokenizer` or a `PublishedTokenizer`.

    Ids of special tokens are None where the vocabulary has no such token.
    """

    @property
    def special_ids(self) -> Mapping[str, int]:
        """Ids of special tokens by their roles: bos, eos, pad, unk, cls, sep, mask."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The id that ends a text."""
        ...

    @property
    def pad_id(self) -> int | None:
        """The id that fills up a row."""
        ...

    @property
    def mask_id(self) -> int | None:
        """The id that stands for a hidden token."""
        ...

    @property
    def end_id(self) -> int | None:
        """The id that ends an output: that of the end of a text, or else that of a separator."""
        ...

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """The ids before every text that the model reads."""
        ...

    @property
    def document_start(self) -> list[int]:
        """The ids before running text."""
        ...

    @property
    def prompt_start(self) -> list[int]:
        """The ids before a prompt that a model continues."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end what a model continues."""
        ...

    @property
    def document_end(self) -> list[int]:
        """The ids after a document."""
        ...

    def __len__(self) -> int:
        """Return the number of rows that a table of its tokens needs."""
        ...

    def unused_ids(self, num_rows: int) -> tuple[int, ...]:
        """List the rows of a table of `num_rows` tokens that belong to no token."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode source texts as token ids, without begin and end."""
        ...

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts as token ids, without begin and end."""
        ...

    def encode_whole(self, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        """Encode texts with special tokens around each, cut to `max_length` ids."""
        ...

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Encode lines, each with the end of its line."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Encode a text of one line or more, without begin and end."""
        ...

    def encode_masked(self, text: str) -> list[int]:
        """Encode a text with masks, with special tokens around it."""
        ...

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Decode token ids to texts, without special tokens."""
        ...

    def decode_text(self, ids: Sequence[int]) -> str:
        """Decode token ids to a text of one line or more."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as readable text."""
        ...

    def language_tag(self, text: str) -> str:
        """Return what names the target language before a text; empty where nothing does."""
        ...

    def to_json(self) -> str:
        """Return the text of its ``tokenizer.json``."""
        ...

    def files(self) -> dict[str, str | bytes]:
        """Return the files that a model folder keeps it in, by name."""
        ...


def prepend_special_tokens(
    tokenizer: AnyTokenizer, rows: Iterable[Sequence[int]]
) -> list[list[int]]:
    """Put the ids that begin every text of a vocabulary before rows of token ids."""
    return [[*tokenizer.begin_ids, *row] for row in rows]
