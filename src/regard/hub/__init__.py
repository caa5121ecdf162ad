"""Model folders and published checkpoints: read, written and exported.

>>> from regard.hub import read_hugging_face                    # doctest: +SKIP
>>> read_hugging_face(Path("bert-base")).config                 # doctest: +SKIP
"""

from __future__ import annotations

from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export import EXPORTS, TrainedModel, export_hugging_face
from regard.hub.hugging_face.checkpoint import (
    Published,
    is_hugging_face,
    read_hugging_face,
    write_hugging_face,
)
from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer
from regard.hub.model_folder import ModelFolder, load_weights
from regard.hub.storage import read_tensors, write_tensors

__all__ = [
    "EXPORTS",
    "AnyTokenizer",
    "ModelFolder",
    "Published",
    "TrainedModel",
    "export_hugging_face",
    "is_hugging_face",
    "load_weights",
    "read_any_tokenizer",
    "read_hugging_face",
    "read_tensors",
    "write_hugging_face",
    "write_tensors",
]
