"""What a folder holds, without loading what reads it."""

from __future__ import annotations

from pathlib import Path

from regard.errors import ConfigError
from regard.hub.file_names import (
    CONFIG,
    HF_CONFIG,
    MARIAN_SOURCE,
    SENTENCEPIECE_FAIRSEQ,
    SENTENCEPIECE_LLAMA,
    SENTENCEPIECE_T5,
    VOCABULARY,
)


def is_hugging_face(folder: Path) -> bool:
    """Return whether a folder has a ``config.json`` of Hugging Face, with a ``model_type``."""
    if (folder / CONFIG).exists():
        return False
    from regard.hub.hugging_face.sentence_transformers import transformer_folder
    from regard.hub.hugging_face.weight_files import read_json

    path = transformer_folder(folder) / HF_CONFIG
    return path.is_file() and "model_type" in read_json(path)


def require_no_run(folder: Path) -> None:
    """Check that an export would not write into the folder of a run.

    Args:
        folder: The folder; it need not exist.

    Raises:
        ConfigError: It holds a model of regard.
    """
    if (folder / CONFIG).exists():
        raise ConfigError(f"{folder}: holds a model of regard.  Export to another folder.")


def has_sentencepiece(folder: Path) -> bool:
    """Return whether a folder has a tokenizer of SentencePiece."""
    names = (MARIAN_SOURCE, SENTENCEPIECE_T5, SENTENCEPIECE_LLAMA)
    return has_m2m100_vocabulary(folder) or any((folder / name).is_file() for name in names)


def has_m2m100_vocabulary(folder: Path) -> bool:
    """Return whether a folder has M2M100's pieces, and their ids in a file of their own."""
    return all((folder / name).is_file() for name in (SENTENCEPIECE_FAIRSEQ, VOCABULARY))
