"""XLIFF 1.2 and 2: units without a translation are filled, and their state says by what.

https://docs.oasis-open.org/xliff/v1.2/os/xliff-core.html
https://docs.oasis-open.org/xliff/xliff-core/v2.1/xliff-core-v2.1.html
"""

from __future__ import annotations

from regard.data.readers.source import DataSource
from regard.errors import DataError
from regard.tasks.translation.documents.document import DocumentOptions
from regard.tasks.translation.documents.xml_ranges import (
    Edit,
    Element,
    InlineSyntax,
    XmlDocument,
    XmlFile,
)

_PREFIX = r"(?:[\w.-]+:)?"
_INLINE = InlineSyntax(
    rf"<{_PREFIX}(?P<opaque>ph|bpt|ept|it|sub)\b(?:[^<>]*[^/<>])?>.*?</{_PREFIX}(?P=opaque)\s*>"
    rf"""|<{_PREFIX}mrk\b[^<>]*(?:mtype=["']protected|translate=["']no)[^<>]*>.*?</{_PREFIX}mrk>"""
)
_UNTRANSLATED = ("new", "needs-translation", "initial")
"""States of a target that is a copy of its source."""
_TO_BE_REVIEWED = {"state": "needs-review-translation", "state-qualifier": "leveraged-mt"}


def read_xliff(source: DataSource, options: DocumentOptions) -> XmlDocument:
    """Return the units of XLIFF, of version 1.2 or 2.

    Raises:
        DataError: It is not well-formed, no XLIFF, or a unit has no source.
    """
    file = XmlFile(source, options.encoding)
    if file.root.name != "xliff":
        raise DataError(
            f"{file.name}:{file.root.line}: <xliff> was expected, not <{file.root.name}>."
        )
    document = XmlDocument(file, _INLINE, "unit")
    is_first = file.root.attributes.get("version", "1.2").startswith("1")
    heads = list(file.root.descendants("file")) if is_first else [file.root]
    names = ("source-language", "target-language") if is_first else ("srcLang", "trgLang")
    languages = [next((h.attributes[n] for h in heads if n in h.attributes), "") for n in names]
    document.source_language, document.target_language = languages
    document.edit_head = lambda options: [
        Edit(head.start, head.inner_start, file.with_attributes(head, **{names[1]: options.target}))
        for head in heads
        if options.target and names[1] not in head.attributes
    ]
    for unit in file.root.descendants("trans-unit" if is_first else "segment"):
        _add(document, file, unit, is_first=is_first)
    return document


def _add(document: XmlDocument, file: XmlFile, unit: Element, *, is_first: bool) -> None:
    """Add a unit to a document, if its target is to be filled."""
    source = unit.child("source")
    if source is None:
        raise DataError(f"{file.name}:{unit.line}: <{unit.name}> has no <source>.")
    source = unit.child("seg-source") or source
    target = unit.child("target")
    xml = file.inner(source)
    old = "" if target is None else file.inner(target)
    state = (target if is_first and target is not None else unit).attributes.get("state")
    is_copy = old == xml and state in _UNTRANSLATED
    is_fixed = unit.inherited("translate") == "no" or unit.attributes.get("approved") == "yes"
    if is_fixed or not xml.strip() or (old.strip() and not is_copy):
        document.num_kept += 1
        return

    def edit(translation: str, options: DocumentOptions) -> list[Edit]:
        if not is_first:
            tag = file.with_attributes(unit, state="translated")
            head = Edit(unit.start, unit.inner_start, tag)
            return [_target(file, source, target, translation, {}), head]
        states = _TO_BE_REVIEWED if options.fuzzy else {"state": "translated"}
        return [_target(file, source, target, translation, states)]

    document.add(xml, edit)


def _target(
    file: XmlFile, source: Element, target: Element | None, xml: str, attributes: dict[str, str]
) -> Edit:
    """Return the change that writes a target: in place of the one there, or after the source."""
    name = file.named_like(source, "target")
    if target is not None:
        tag = file.with_attributes(target, **attributes)
        return Edit(target.start, target.end, f"{tag}{xml}</{name}>")
    settings = "".join(f' {key}="{value}"' for key, value in attributes.items())
    content = f"{file.indent_of(source)}<{name}{settings}>{xml}</{name}>"
    return Edit(source.end, source.end, content)
