"""Two published vocabularies as one: that of the sources, and that of the targets.

An encoder and a decoder that were pre-trained separately keep their own tokens (Rothe, Narayan &
Severyn 2020). Methods that do not name sources or targets are those of the targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regard.errors import WeightsError
from regard.hub.file_names import SOURCE_FOLDER, TOKENIZER
from regard.hub.hugging_face.published_tokenizer import FastTokenizer, read_tokenizer
from regard.hub.hugging_face.sentence_transformers import transformer_folder


class SourceTargetTokenizer(FastTokenizer):
    """A vocabulary of sources and one of targets.

    Args:
        source: Tokenizer of the sources.
        target: Tokenizer of the targets.
    """

    def __init__(self, source: FastTokenizer, target: FastTokenizer) -> None:
        super().__init__(target.backend, target._path, target.special_ids)
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


def read_source_target(source: Path, target: Path) -> SourceTargetTokenizer:
    """Read the vocabularies of sources and targets.

    Args:
        source: Folder of the sources.
        target: Folder of the targets.

    Returns:
        Both.

    Raises:
        WeightsError: A folder has none, or a damaged one.
    """
    return SourceTargetTokenizer(_read_fast(source), _read_fast(target))


def _read_fast(folder: Path) -> FastTokenizer:
    tokenizer = read_tokenizer(transformer_folder(folder))
    if not isinstance(tokenizer, FastTokenizer):
        raise WeightsError(f"{folder / TOKENIZER}: missing, so text cannot be read or written.")
    return tokenizer
