"""``regard translate``: translates text, lines, or the texts of a file of a known format."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple, Unpack

import msgspec
from cyclopts import Parameter

from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_lines
from regard.cli.model_options import BEAM_DEFAULTS, WRITING_DEFAULTS, BeamOptions, WritingOptions
from regard.cli.outputs import Progress, as_json, escape, replacing, write_rows
from regard.cli.parameters import Flag, Name, Output, Text
from regard.cli.predictors import open_predictor
from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.tasks.sequence_to_sequence.predictor import Candidate, SearchOptions
    from regard.tasks.translation.documents.document import DocumentOptions
    from regard.tasks.translation.documents.translation import FileTranslation
    from regard.tasks.translation.predictor import Translator


def translate(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    output: Annotated[str | None, Output] = None,
    search: BeamOptions = BEAM_DEFAULTS,
    align: Annotated[bool, Flag] = False,
    lang: str | None = None,
    fuzzy: Annotated[bool, Parameter(negative="--no-fuzzy")] = True,
    compute: WritingOptions = WRITING_DEFAULTS,
    text_options: TextOptions = TEXT_DEFAULTS,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Translate text, a file, or standard input.

    Parameters
    ----------
    model
        Folder of a trained model.
    text
        A file if one of that name exists, else the text itself; - or nothing reads standard input.
        Catalogs of messages (.po, .pot, .xlf, .xliff), translation memories (.tmx), subtitles
        (.srt, .vtt) and Markdown (.md) keep their form: what is not translated yet is filled, and
        placeholders, markup, times and code stay as they are. In JSONL, CSV, TSV and Parquet the
        column source (or text) is translated. Text that begins with a dash goes behind --.
    output
        File to write instead of standard output; it is replaced once all is written.
    search
        How translations are searched for.
    align
        Add which source word each output word attended to most, as source-target pairs from 0.
    lang
        Languages, such as en-de: of a file that keeps its form where it does not say them, and of
        texts for a model that writes several, which else begin with a tag. For one of many
        languages, such as NLLB, codes or names; the target alone is enough. Of a T5, which of its
        tasks it is.
    fuzzy
        Mark the translations of a catalog as to be reviewed; --no-fuzzy leaves it out.
    compute
        What computes the translations.
    text_options
        How TEXT is read.
    json
        One JSON object a line, with scores; of a file that keeps its form one, with the counts.
    """  # noqa: DOC501 - functions of this module raise it
    from regard.tasks.published_task import task_of_languages
    from regard.tasks.translation.predictor import Translator

    task = task_of_languages(model, lang)
    translator = open_predictor(model, Translator, "translate", compute, task=task)
    options = search.search()
    translator.search_config(**options)  # refuse wrong options before the first line is read
    if text is not None and not text_options.as_text and _is_document(text):
        from regard.tasks.translation.documents.document import DocumentOptions

        _refuse(nbest=search.nbest > 1, align=align, json=json and output in (None, "-"))
        settings = DocumentOptions(fuzzy=fuzzy, encoding=text_options.encoding)
        _translate_document(translator, text, output, settings, lang=lang, json=json, **options)
        return
    if not fuzzy:
        raise _for_documents("--no-fuzzy")
    if lang is not None and task is None and not translator.has_choice:
        raise _for_documents("--lang")
    text_lang = lang or "" if task is None else ""
    lines = input_lines(text, text_options, role="source")
    results = translator.stream(lines, lang=text_lang, **options)
    form = _Form(align=align, json=json, is_numbered=search.nbest > 1, lang=text_lang)
    write_rows(_format(translator, results, form), output)


def _is_document(text: str) -> bool:
    """Return whether a word of the command line is a file whose texts are to be filled."""
    if not os.path.isfile(text):  # noqa: PTH113 - any text
        return False
    from regard.data.readers.suffixes import suffix_of
    from regard.tasks.translation.documents import DOCUMENT_FORMATS

    return suffix_of(text) in DOCUMENT_FORMATS


def _for_documents(option: str) -> ConfigError:
    """Return the refusal of an option that is for files which keep their form."""
    from regard.tasks.translation.documents import DOCUMENT_FORMATS

    formats = ", ".join(DOCUMENT_FORMATS)
    return ConfigError(f"{option} is for files of these formats: {formats}.  Leave it out.")


def _refuse(*, nbest: bool, align: bool, json: bool) -> None:
    """Raise ConfigError where an option is set that is for lines, not for documents."""
    if nbest or align:
        option = "--nbest" if nbest else "--align"
        raise ConfigError(f"{option} is for lines, and this file keeps its form.  Leave it out.")
    if json:
        raise ConfigError(
            "--json: the file is written to standard output, where its counts would be in the "
            "way.  Name a file for it: -o FILE"
        )


def _translate_document(
    translator: Translator,
    name: str,
    output: str | None,
    settings: DocumentOptions,
    *,
    lang: str | None,
    json: bool,
    **options: Unpack[SearchOptions],
) -> None:
    """Translate a file of a known format, and report on standard error what was done."""
    from regard.tasks.translation.documents.translation import translate_document

    progress = Progress("sentence")

    def translate() -> FileTranslation:
        return translate_document(
            translator, name, settings, lang=lang or "", on_progress=progress.advance, **options
        )

    if output in (None, "-"):
        translation = translate()
        print(end="", flush=True)  # raises where standard output is closed
        sys.stdout.buffer.write(translation.content)
    else:
        with replacing(output) as stream:
            translation = translate()
            stream.buffer.write(translation.content)
    progress.finish(translation.describe(name if output in (None, "-") else output))
    if json:
        print(as_json({"file": output, **msgspec.structs.asdict(translation.report)}))


class _Form(NamedTuple):
    """How translations of lines are printed: the options of that name, and their languages."""

    align: bool
    json: bool
    is_numbered: bool
    lang: str


def _format(
    translator: Translator, results: Iterable[tuple[str, list[Candidate]]], form: _Form
) -> Iterator[str]:
    """Yield the translations of each line: plain, tab-separated with scores, or as JSON."""
    align, json, is_numbered, lang = form
    for number, (source, translations) in enumerate(results, start=1):
        outputs = []
        for translation in translations:
            pairs = []
            if align:
                pairs = translator.align(source, translation.text, lang=lang).words()
            if json:
                alignment = {"alignment": pairs} if align else {}
                outputs.append({**msgspec.to_builtins(translation), **alignment})
                continue
            fields = [str(number), f"{translation.score:.4f}"] if is_numbered else []
            fields.append(escape(translation.text.replace("\n", " ")))
            if align:
                fields.append(" ".join(f"{left}-{right}" for left, right in pairs))
            yield "\t".join(fields)
        if json:
            entry = {"line": number, "text": source, "source": source, "outputs": outputs}
            yield as_json(entry)
