"""Two published vocabularies as one: that of the sources, and that of the targets.

An encoder and a decoder that were trained apart each keep the tokens that they know (Rothe, Narayan
& Severyn 2020). What is asked of a tokenizer without telling the side is asked of the targets'.
"""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.tokenizer import Tokenizer
from regard.hub.hugging_face.published_tokenizer import PublishedTokenizer

SOURCE_FOLDER = "source"
"""Where a model folder has the vocabulary of the sources, beside that of the targets."""


class PairTokenizer(PublishedTokenizer):
    """A vocabulary for each side.

    Args:
        source: Of the sources.
        target: Of the targets.
    """

    def __init__(self, source: PublishedTokenizer, target: PublishedTokenizer) -> None:
        super().__init__(target._backend, target._path, target._ids)
        self.source, self.target = source, target

    def encode(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Turn source texts into token ids; arguments as for `PublishedTokenizer.encode`."""
        return self.source.encode(texts, adds_specials=adds_specials, reads_specials=reads_specials)

    def encode_targets(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Turn target texts into token ids; arguments as for `encode`."""
        return self.target.encode(texts, adds_specials=adds_specials, reads_specials=reads_specials)

    def files(self) -> dict[str, str | bytes]:
        """Make the files that hold both, by name, those of the sources in a folder of their own."""
        source = {f"{SOURCE_FOLDER}/{name}": file for name, file in self.source.files().items()}
        return {**self.target.files(), **source}


def sides_of_tokenizer(
    tokenizer: Tokenizer | PublishedTokenizer,
) -> tuple[Tokenizer | PublishedTokenizer, Tokenizer | PublishedTokenizer]:
    """Return the vocabularies of sources and targets, which may be one and the same."""
    if isinstance(tokenizer, PairTokenizer):
        return tokenizer.source, tokenizer.target
    return tokenizer, tokenizer
