"""Models in a few lines, for tests of documents: what they write for a sentence is known."""

from __future__ import annotations

from regard.data.readers.source import DataSource
from regard.tasks.translation.documents import DOCUMENT_FORMATS
from regard.tasks.translation.documents.document import DocumentOptions, is_encodable
from regard.tasks.translation.documents.filling import fill_segments


def reverse_words(texts):
    """Write each word backwards, but for those with a sign; placeholders stay."""
    return [[" ".join(map(_backwards, text.split(" ")))] for text in texts]


def _backwards(word):
    return word[::-1].lower() if word.isalpha() else word


def translate(name, content, write=reverse_words, **options):
    """Return the text of a file with its texts translated, and how each was."""
    content = content.encode() if isinstance(content, str) else content
    options = DocumentOptions(**{"target": "de", "fuzzy": False, **options})
    source = DataSource(name, content)
    document = DOCUMENT_FORMATS[source.suffix](source, options)
    filled = fill_segments(document.segments, write, is_encodable(document.encoding))
    text = document.fill([item.text for item in filled], options)
    return text.encode(document.encoding).decode(document.encoding), filled
