"""Model folders and published checkpoints: read, written and exported.

A folder of regard is a `ModelFolder`, one of Hugging Face is read by `read_hugging_face`; weights
are safetensors, written atomically by `write_tensors`.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.hub.export import EXPORTS, ExportFormat, TrainedModel, export_hugging_face
    from regard.hub.folder_lock import FolderLock
    from regard.hub.hugging_face import (
        Published,
        PublishedTokenizer,
        SentencePooling,
        is_hugging_face,
        read_any_tokenizer,
        read_generation_rules,
        read_hugging_face,
        read_sampling,
        read_sentence_pooling,
        write_hugging_face,
    )
    from regard.hub.manifest import Manifest
    from regard.hub.model_folder import ModelFolder
    from regard.hub.storage import read_state, read_tensors, write_atomic, write_tensors

import_lazily(__name__)

__all__ = [
    "EXPORTS",
    "ExportFormat",
    "FolderLock",
    "Manifest",
    "ModelFolder",
    "Published",
    "PublishedTokenizer",
    "SentencePooling",
    "TrainedModel",
    "export_hugging_face",
    "is_hugging_face",
    "read_any_tokenizer",
    "read_generation_rules",
    "read_hugging_face",
    "read_sampling",
    "read_sentence_pooling",
    "read_state",
    "read_tensors",
    "write_atomic",
    "write_hugging_face",
    "write_tensors",
]
