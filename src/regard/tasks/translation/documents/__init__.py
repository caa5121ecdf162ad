"""Documents that are translated as a whole: one module a format, known by the suffix of a name."""

from collections.abc import Callable

from regard.data.readers.source import DataSource
from regard.lazy import Registry
from regard.tasks.translation.documents.document import Document, DocumentOptions

ReadDocument = Callable[[DataSource, DocumentOptions], Document]
_PACKAGE = "regard.tasks.translation.documents"

DOCUMENT_FORMATS: Registry[ReadDocument] = Registry(
    {
        ".po": f"{_PACKAGE}.gettext_catalog.read_catalog",
        ".pot": f"{_PACKAGE}.gettext_catalog.read_catalog",
    }
)
"""Readers of documents by suffix."""
