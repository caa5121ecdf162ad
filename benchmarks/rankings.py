"""What ranks the outputs of a beam: scores, lengths and time of the ways that there are.

    python benchmarks/rankings.py MODEL FILE [--rows 200] [--beam 4] [--ways wu/certain,...]
        [--tokens 257]

The model, a translator or a summarizer of regard's own, writes for the sources of a file once in
each way: a ranking, a rule of stopping, and a length penalty if it is not 1. Printed are the scores
and their differences to the first way, with 95 % intervals by paired bootstrap, the words of an
output, how many were cut off, and the seconds of the processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

import regard
from regard.generation import BeamSearchConfig
from regard.metrics.bootstrap import PairedScore
from regard.metrics.rouge import compare_summaries
from regard.metrics.translation import compare_translations
from regard.tasks.summarization.data import read_documents
from regard.tasks.summarization.predictor import Summarizer
from regard.tasks.translation.data import read_pairs_of
from regard.tasks.translation.predictor import Translator

WAYS = "wu/certain,transformers/likely,transformers/certain,transformers/first"
SCORES = {Translator: ("chrf", "bleu"), Summarizer: ("rouge1", "rouge2", "rougeL")}


def search_of(way: str, base: BeamSearchConfig) -> BeamSearchConfig:
    """Return the search of a way such as ``transformers/likely/0.75``."""
    ranking, stopping, *penalty = way.split("/")
    alpha = float(penalty[0]) if penalty else 1.0
    fields: dict[str, Any] = {"ranking": ranking, "stopping": stopping, "length_penalty": alpha}
    return replace(base, **fields)


def compare(
    opened: Translator | Summarizer,
    outputs: Sequence[str],
    first: Sequence[str],
    expected: list[str],
) -> dict[str, PairedScore]:
    """Return the differences of two sets of outputs in each score."""
    if isinstance(opened, Summarizer):
        paired: Any = compare_summaries(outputs, first, expected)
    else:
        language = opened.config.data.target_language
        paired = compare_translations(outputs, first, expected, target_language=language)
    return {name: getattr(paired, name) for name in SCORES[type(opened)]}


def main() -> None:
    """Write in each way, and compare with the first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a model that was trained here")
    parser.add_argument("file", help="sentence pairs, or documents with summaries")
    parser.add_argument("--rows", type=int, help="of the file; all by default")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--ways", default=WAYS)
    parser.add_argument("--tokens", type=int, help="most of an output, whatever its source")
    options = parser.parse_args()
    opened: Any = regard.load(options.model)
    is_summarizer = isinstance(opened, Summarizer)
    read = read_documents if is_summarizer else read_pairs_of
    pairs = read(options.file, opened.config.data)
    sources, expected = pairs.sources[: options.rows], pairs.targets[: options.rows]
    write = opened.summarize_best if is_summarizer else opened.translate_best
    base, first = replace(opened.config.search, beam=options.beam), None
    if options.tokens is not None:
        base = replace(base, max_length=options.tokens, max_length_ratio=None)
    for way in options.ways.split(","):
        opened.config = replace(opened.config, search=search_of(way, base))
        start = time.process_time()
        best = [row[0] for row in write(sources)]
        seconds = time.process_time() - start
        outputs = [output.text for output in best]
        first = outputs if first is None else first
        words = sum(len(output.split()) for output in outputs) / len(outputs)
        num_cut = sum(not output.is_complete for output in best)
        num_equal = sum(map(str.__eq__, outputs, first))
        print(
            f"{way}: {words:.2f} words, {num_cut} of {len(outputs):,} cut off at the limit, "
            f"{num_equal:,} equal to the first, {seconds:.1f} s"
        )
        for name, score in compare(opened, outputs, first, expected).items():
            print(
                f"  {name} {score.value:.2f}, difference {score.difference:+.2f} "
                f"[{score.low:+.2f}, {score.high:+.2f}], p {score.p_value:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
