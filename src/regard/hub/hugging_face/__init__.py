"""Folders in Hugging Face's layout: weights, vocabularies and settings, read and written."""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.hub.hugging_face.base_tokenizer import PublishedTokenizer
    from regard.hub.hugging_face.generation_rules import (
        GenerationRules,
        read_generation_rules,
        read_sampling,
    )
    from regard.hub.hugging_face.published_folder import (
        Published,
        read_hugging_face,
        write_hugging_face,
    )
    from regard.hub.hugging_face.recognize import is_hugging_face
    from regard.hub.hugging_face.sentence_transformers import SentencePooling, read_sentence_pooling
    from regard.hub.hugging_face.sentencepiece_tokenizer import (
        SentencePieceTokenizer,
        read_any_tokenizer,
    )

import_lazily(__name__)

__all__ = [
    "GenerationRules",
    "Published",
    "PublishedTokenizer",
    "SentencePieceTokenizer",
    "SentencePooling",
    "is_hugging_face",
    "read_any_tokenizer",
    "read_generation_rules",
    "read_hugging_face",
    "read_sampling",
    "read_sentence_pooling",
    "write_hugging_face",
]
