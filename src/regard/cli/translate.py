"""``regard translate``: translates text, a file or standard input, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_lines
from regard.cli.model_options import BEAM_DEFAULTS, WRITING_DEFAULTS, BeamOptions, WritingOptions
from regard.cli.outputs import escape, write_rows
from regard.cli.parameters import Flag, Name, Output, Text
from regard.cli.predictors import open_predictor

if TYPE_CHECKING:
    from regard.tasks.sequence_to_sequence.predictor import Candidate
    from regard.tasks.translation.predictor import Translator


def translate(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    output: Annotated[str | None, Output] = None,
    search: BeamOptions = BEAM_DEFAULTS,
    align: Annotated[bool, Flag] = False,
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
        In JSONL, CSV and TSV the column source (or text) is translated. Text that begins with a
        dash goes behind --.
    output
        File to write instead of standard output; it is replaced once all lines are written.
    search
        How translations are searched for.
    align
        Add which source word each output word attended to most, as source-target pairs from 0.
    compute
        What computes the translations.
    text_options
        How TEXT is read.
    json
        One JSON object a line, with scores.
    """
    from regard.tasks.translation.predictor import Translator

    translator = open_predictor(model, Translator, "translate", compute)
    options = search.search()
    translator.search_config(**options)  # refuse wrong options before the first line is read
    results = translator.stream(input_lines(text, text_options, role="source"), **options)
    rows = _format(translator, results, align=align, json=json, is_numbered=search.nbest > 1)
    write_rows(rows, output)


def _format(
    translator: Translator,
    results: Iterable[tuple[str, list[Candidate]]],
    *,
    align: bool,
    json: bool,
    is_numbered: bool,
) -> Iterator[str]:
    """Yield the translations of each line: plain, tab-separated with scores, or as JSON."""
    for number, (source, translations) in enumerate(results, start=1):
        outputs = []
        for translation in translations:
            pairs = translator.align(source, translation.text).words() if align else []
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
            yield msgspec.json.encode(entry).decode()
