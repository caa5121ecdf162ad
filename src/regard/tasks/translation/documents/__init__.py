"""Documents that are translated as a whole: one module a format, known by the suffix of a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from regard.lazy import Registry

if TYPE_CHECKING:
    from regard.data.readers.source import DataSource
    from regard.tasks.translation.documents.document import Document, DocumentOptions

    ReadDocument = Callable[[DataSource, DocumentOptions], Document]

_PACKAGE = "regard.tasks.translation.documents"

DOCUMENT_FORMATS: Registry[ReadDocument] = Registry(
    {
        ".po": f"{_PACKAGE}.gettext_catalog.read_catalog",
        ".pot": f"{_PACKAGE}.gettext_catalog.read_catalog",
        ".xlf": f"{_PACKAGE}.xliff.read_xliff",
        ".xliff": f"{_PACKAGE}.xliff.read_xliff",
        ".tmx": f"{_PACKAGE}.tmx.read_tmx",
        ".srt": f"{_PACKAGE}.subtitles.read_srt",
        ".vtt": f"{_PACKAGE}.subtitles.read_webvtt",
        ".md": f"{_PACKAGE}.markdown.read_markdown",
        ".markdown": f"{_PACKAGE}.markdown.read_markdown",
    }
)
"""Readers of documents by suffix."""
