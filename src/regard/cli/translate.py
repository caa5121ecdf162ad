"""``regard translate``: translates text, a file or standard input, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_lines
from regard.cli.outputs import escape, write_rows
from regard.cli.parameters import Flag, Name, Output, Text
from regard.cli.predictors import open_predictor, use_precision, use_threads
from regard.settings.values import DecodingPrecision

if TYPE_CHECKING:
    from regard.tasks.sequence_to_sequence.predictor import Candidate
    from regard.tasks.translation.predictor import Translator


def translate(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    output: Annotated[str | None, Output] = None,
    beam: int | None = None,
    nbest: int = 1,
    length_penalty: float | None = None,
    align: Annotated[bool, Flag] = False,
    device: str = "auto",
    precision: DecodingPrecision | None = None,
    threads: int | None = None,
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
    beam
        Hypotheses in the beam search; 1 is greedy. The default is the model's: 4, or that of a
        published folder.
    nbest
        Number of translations for each line, best first, at most the beam.
    length_penalty
        0 favors short output, 1 is neutral, more favors long output. The default is the model's.
    align
        Add which source word each output word attended to most, as source-target pairs from 0.
    device
        What computes: cpu, cuda (a GPU; of several, cuda:N), or auto, a GPU where there is one.
    precision
        Type of the weights: float32, bf16, or int8, which is fastest where the compiled decoder
        writes (regard info MODEL). The default is what regard info says.
    threads
        Threads of the processor; the default is one for each core.
    text_options
        How TEXT is read.
    json
        One JSON object a line, with scores.
    """
    from regard.tasks.sequence_to_sequence.predictor import search_config
    from regard.tasks.translation.predictor import Translator

    use_threads(threads)
    translator = open_predictor(model, Translator, "translate", device)
    use_precision(translator, precision)
    # Refuse wrong options before the first line is read.
    search = translator.config.search
    search_config(search, beam=beam, num_best=nbest, length_penalty=length_penalty)
    lines = input_lines(text, text_options, role="source")
    results = translator.stream(lines, beam=beam, num_best=nbest, length_penalty=length_penalty)
    rows = _format(translator, results, align=align, json=json, is_numbered=nbest > 1)
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
