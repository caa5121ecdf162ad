"""``regard summarize``: summarizes a document, each document of a table, or lines of stdin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_documents
from regard.cli.model_options import BEAM_DEFAULTS, WRITING_DEFAULTS, BeamOptions, WritingOptions
from regard.cli.outputs import as_json, escape, print_warning, write_rows
from regard.cli.parameters import Flag, Name, Output, Text
from regard.cli.predictors import open_predictor

if TYPE_CHECKING:
    from regard.tasks.summarization.predictor import Summarizer, Summary


def summarize(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    output: Annotated[str | None, Output] = None,
    search: BeamOptions = BEAM_DEFAULTS,
    compute: WritingOptions = WRITING_DEFAULTS,
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
        JSONL, CSV, TSV and Parquet each row is one, in the column document (or article, text). - or
        nothing reads standard input, one document a line. Text that begins with a dash goes behind
        --.
    output
        File to write instead of standard output; it is replaced once all lines are written.
    search
        How summaries are searched for.
    compute
        What computes the summaries.
    text_options
        How TEXT is read.
    json
        One JSON object a line, with scores and the number of tokens that were cut off.
    """
    from regard.tasks.summarization.predictor import Summarizer

    summarizer = open_predictor(model, Summarizer, "summarize", compute, task="summarization")
    options = search.search()
    summarizer.search_config(**options)  # refuse wrong options before the first line is read
    results = summarizer.stream(input_documents(text, text_options), **options)
    write_rows(_format(summarizer, results, json=json, is_numbered=search.nbest > 1), output)


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
            yield as_json(entry)
            continue
        for summary in summaries:
            fields = [str(number), f"{summary.score:.4f}"] if is_numbered else []
            yield "\t".join([*fields, escape(summary.text.replace("\n", " "))])
    if num_cut:
        print_warning(f"{summarizer.describe_cut(num_cut, number)}.")


def _fields(summary: Summary) -> dict[str, object]:
    """Return a summary as plain values; what was cut off belongs to the document."""
    fields = msgspec.to_builtins(summary)
    del fields["truncated"]
    return fields
