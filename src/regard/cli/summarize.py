"""``regard summarize``: summarizes a document, each document of a table, or lines of stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_documents
from regard.cli.outputs import escape, write_rows
from regard.cli.parameters import Flag, Name, Output, Text
from regard.cli.predictors import other_task, use_precision, use_threads
from regard.settings.values import DecodingPrecision

if TYPE_CHECKING:
    from regard.tasks.summarization.predictor import Summarizer, Summary


def summarize(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    output: Annotated[str | None, Output] = None,
    beam: int | None = None,
    nbest: int = 1,
    length_penalty: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    device: str = "auto",
    precision: DecodingPrecision | None = None,
    threads: int | None = None,
    text_options: TextOptions = TEXT_DEFAULTS,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Summarize a document, a table of documents, or standard input.

    Parameters
    ----------
    model
        Folder of a trained model, or one in Hugging Face's format, such as BART's.
    text
        A file if one of that name exists, else the text itself. A file of text is one document; of
        JSONL, CSV and TSV each row is one, in the column document (or article, text). - or nothing
        reads standard input, one document a line. Text that begins with a dash goes behind --.
    output
        File to write instead of standard output; it is replaced once all lines are written.
    beam
        Hypotheses in the beam search; 1 is greedy. The default is the model's.
    nbest
        Number of summaries for each document, best first, at most the beam.
    length_penalty
        0 favors short summaries, 1 is neutral, more favors long ones. The default is the model's.
    min_length
        Fewest tokens of a summary, its end counted.
    max_length
        Maximum number of tokens of a summary, with its end. The default is the model's.
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
        One JSON object a line, with scores and the number of tokens that were cut off.
    """
    from regard.hub.hugging_face.published_folder import is_hugging_face
    from regard.tasks.opening import open_model
    from regard.tasks.sequence_to_sequence.predictor import SearchOptions
    from regard.tasks.summarization.predictor import Summarizer
    from regard.tasks.translation.predictor import Translator

    use_threads(threads)
    predictor = open_model(model, device)
    if isinstance(predictor, Translator) and is_hugging_face(Path(model)):
        # The configuration of a published folder does not say what its targets are.
        predictor = Summarizer(predictor.model, predictor.tokenizer, predictor.config)
    if not isinstance(predictor, Summarizer):
        raise other_task(model, predictor.config.task, "summarize")
    summarizer = predictor
    use_precision(summarizer, precision)
    options: SearchOptions = {
        "beam": beam,
        "num_best": nbest,
        "length_penalty": length_penalty,
        "min_length": min_length,
        "max_length": max_length,
    }
    summarizer.search_config(**options)  # refuse wrong options before the first line is read
    documents = input_documents(text, text_options)
    results = summarizer.stream(documents, **options)
    write_rows(_format(summarizer, results, json=json, is_numbered=nbest > 1), output)


def _format(
    summarizer: Summarizer,
    results: Iterable[tuple[str, list[Summary]]],
    *,
    json: bool,
    is_numbered: bool,
) -> Iterator[str]:
    """Yield the summaries of each document: plain, tab-separated with scores, or as JSON.

    What was cut off is noted on standard error at the end.
    """
    number = num_cut = 0
    for number, (document, summaries) in enumerate(results, start=1):
        truncated = summaries[0].truncated
        num_cut += truncated > 0
        if json:
            entry = {
                "line": number,
                "text": document,
                "outputs": [_fields(summary) for summary in summaries],
                "truncated": truncated,
            }
            yield msgspec.json.encode(entry).decode()
            continue
        for summary in summaries:
            fields = [str(number), f"{summary.score:.4f}"] if is_numbered else []
            yield "\t".join([*fields, escape(summary.text.replace("\n", " "))])
    if num_cut:
        print(f"regard: warning: {summarizer.describe_cut(num_cut, number)}.", file=sys.stderr)


def _fields(summary: Summary) -> dict[str, object]:
    """Return a summary as plain values; what was cut off belongs to the document."""
    fields = msgspec.to_builtins(summary)
    del fields["truncated"]
    return fields
