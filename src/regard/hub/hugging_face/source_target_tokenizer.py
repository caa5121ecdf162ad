"""Two published vocabularies as one: that of the sources, and that of the targets.

An encoder and a decoder that were pre-trained separately keep their own tokens (Rothe, Narayan &
Severyn 2020). Methods that do not name sources or targets are those of the targets.
"""

from __future__ import annotations

from collections.abc import Sequence

from regard.hub.file_names import SOURCE_FOLDER
from regard.hub.hugging_face.published_tokenizer import PublishedTokenizer


class SourceTargetTokenizer(PublishedTokenizer):
    """A vocabulary of sources and one of targets.

    Args:
        source: Tokenizer of the sources.
        target: Tokenizer of the targets.
    """

    def __init__(self, source: PublishedTokenizer, target: PublishedTokenizer) -> None:
        super().__init__(target._backend, target._path, target.special_ids)
        self.source, self.target = source, target

    def encode(
        self, texts: Sequence[str], *, adds_specials: bool = False, reads_specials: bool = False
    ) -> list[list[int]]:
        """Encode source texts as token ids; see `PublishedTokenizer`."""
        return self.source.encode(texts, adds_specials=adds_specials, reads_specials=reads_specials)

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts as token ids, without special tokens around them."""
        return self.target.encode(texts)

    def files(self) -> dict[str, str | bytes]:
        """Return the files that hold both, by name, those of the sources in their own folder."""
        source = {f"{SOURCE_FOLDER}/{name}": file for name, file in self.source.files().items()}
        return {**self.target.files(), **source}
