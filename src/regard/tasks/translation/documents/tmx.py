"""TMX, a translation memory: units without the target language get a variant in it.

https://www.gala-global.org/tmx-14b
"""

from __future__ import annotations

from regard.data.readers.source import DataSource
from regard.errors import ConfigError, DataError
from regard.tasks.translation.documents.document import DocumentOptions
from regard.tasks.translation.documents.xml_ranges import (
    XML_LANG,
    Edit,
    Element,
    InlineSyntax,
    XmlDocument,
    XmlFile,
)
from regard.tasks.translation.languages import base_code

_INLINE = InlineSyntax(r"<(?P<opaque>ph|bpt|ept|it|ut|sub)\b(?:[^<>]*[^/<>])?>.*?</(?P=opaque)\s*>")


def read_tmx(source: DataSource, options: DocumentOptions) -> XmlDocument:
    """Return the units of a translation memory that lack the target language.

    Raises:
        ConfigError: The language to write is unknown.
        DataError: It is not well-formed, no TMX, or a variant has no segment.
    """
    file = XmlFile(source, options.encoding)
    if file.root.name != "tmx":
        raise DataError(
            f"{file.name}:{file.root.line}: <tmx> was expected, not <{file.root.name}>."
        )
    if not options.target:
        raise ConfigError(
            f"{file.name}: the language to write is not known.  Name both: `lang=en-de`"
        )
    document = XmlDocument(file, _INLINE, "unit")
    header = file.root.child("header")
    written = header.attributes.get("srclang", "") if header else ""
    document.source_language = "" if written == "*all*" else written
    for unit in file.root.descendants("tu"):
        language = unit.attributes.get("srclang", written)
        _add(document, file, unit, language, options.target)
    return document


def _add(document: XmlDocument, file: XmlFile, unit: Element, language: str, target: str) -> None:
    """Add a unit to a document, if it has the source language and no text of the target's."""
    variants = [child for child in unit.children if child.name == "tuv"]
    for variant in variants:
        if variant.child("seg") is None:
            raise DataError(f"{file.name}:{variant.line}: <tuv> has no <seg>.")
    by_language = {_base(variant): variant for variant in reversed(variants)}  # the first of each
    own = by_language.get(base_code(target))
    source = by_language.get(base_code(language))
    if language in ("", "*all*"):
        source = next((variant for variant in variants if variant is not own), None)
    segment = source and source.child("seg")
    old = own and own.child("seg")
    if segment is None or source is own or (old is not None and file.inner(old).strip()):
        document.num_kept += 1
        return
    last = variants[-1]

    def edit(translation: str, _: DocumentOptions) -> list[Edit]:
        if old is not None:
            tag = file.with_attributes(old)
            return [Edit(old.start, old.end, f"{tag}{translation}</seg>")]
        variant = f'<tuv xml:lang="{target}"><seg>{translation}</seg></tuv>'
        return [Edit(last.end, last.end, file.indent_of(last) + variant)]

    document.add(file.inner(segment), edit)


def _base(variant: Element) -> str:
    """Return the language of a variant without its region."""
    return base_code(variant.attributes.get(XML_LANG) or variant.attributes.get("lang", ""))
