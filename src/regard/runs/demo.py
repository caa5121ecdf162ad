"""The demonstration: a translator of CLDR phrases, trained and tested on the embedded corpus."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import msgspec

from regard.data.cldr_corpus import TAGS, cldr_corpus
from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events, resume, train
from regard.tasks.sequence_to_sequence.predictor import Alignment
from regard.training.events import Report

_MINUTES = 3.5
_VOCABULARY_SIZE = 1000
_SHADES = " ░▒▓█"


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of the demonstration model on phrases that are not in its training data.

    Args:
        folder: Folder of the model.
        num_phrases: Number of test phrases.
        exact_match: Fraction translated exactly, 0 to 1.
        by_language: Fraction translated exactly for each target language.
        by_kind: Fraction translated exactly for each kind of phrase.
        examples: Source and translation, one of each kind.
        alignment: Attention weights of the first example.
        seconds_training: Duration of the run that trained the model.
    """

    folder: str
    num_phrases: int
    exact_match: float
    by_language: dict[str, float]
    by_kind: dict[str, float]
    examples: list[tuple[str, str]]
    alignment: Alignment
    seconds_training: float


def run_demo(
    output: str | Path,
    *,
    minutes: float = _MINUTES,
    seed: int = 1,
    device: str = "auto",
    report: Report = ignore_events,
    start_time: float | None = None,
) -> DemoReport:
    """Train on the embedded corpus, or open the model of the folder, and test it.

    Args:
        output: Folder of the model. A finished run is opened, an unfinished one is resumed.
        minutes: Time budget of the training.
        seed: Seed of corpus and training.
        device: What computes: cpu, cuda, cuda:N, or auto, a GPU where there is one.
        report: Called with every event.
        start_time: Clock (``time.monotonic``) from which the budget counts; None means now.

    Returns:
        The results on the test phrases.
    """
    start_time = time.monotonic() if start_time is None else start_time
    folder = ModelFolder(output)
    if not folder.holds_model:
        settings = (
            "preset=tiny",
            f"tokenizer.vocab_size={_VOCABULARY_SIZE}",
            f"tokenizer.tags={','.join(TAGS)}",
            f"training.minutes={minutes}",
            f"training.seed={seed}",
            *(() if device == "auto" else (f"training.device={device}",)),
        )
        translator = train(None, output, settings=settings, report=report, start_time=start_time)
    else:
        translator = resume(
            output,
            device=None if device == "auto" else device,
            report=report,
            start_time=start_time,
        )
    corpus = cldr_corpus(seed=translator.config.training.seed)
    test = corpus.test
    outputs = [best[0].text for best in translator.translate_best(test.sources, beam=1)]
    hits: list[bool] = []
    by_language, by_kind = defaultdict(list), defaultdict(list)
    examples: dict[str, tuple[str, str]] = {}
    for (kind, language), source, target, translation in zip(
        corpus.test_groups, test.sources, test.targets, outputs, strict=True
    ):
        for group in (hits, by_language[language], by_kind[kind]):
            group.append(translation == target)
        examples.setdefault(kind, (source, translation))
    finished = [line for line in folder.read_metrics() if line["event"] == "finished"]
    return DemoReport(
        folder=str(folder.path),
        num_phrases=len(test),
        exact_match=fmean(hits),
        by_language={name: fmean(group) for name, group in by_language.items()},
        by_kind={name: fmean(group) for name, group in by_kind.items()},
        examples=list(examples.values()),
        alignment=translator.align(*next(iter(examples.values()))),
        seconds_training=finished[-1]["seconds"],
    )


def draw_alignment(alignment: Alignment) -> str:
    """Return attention weights as shaded cells, one row an output token, for a terminal.

    >>> print(draw_alignment(Alignment(
    ...     source_pieces=[" in", "</s>"], target_pieces=[" im", "</s>"],
    ...     weights=[[0.9, 0.1], [0.2, 0.8]])))
       0  in
       1  </s>
    <BLANKLINE>
              0  1
     im       █  ░
     </s>     ░  █
    """
    names = [piece.strip() or "␣" for piece in alignment.source_pieces]
    width = max(len(piece) for piece in [*names, *alignment.target_pieces]) + 1
    legend = [f"{index:>4d}  {name}" for index, name in enumerate(names)]
    header = " " * (width + 3) + "".join(f"{index:>3d}" for index in range(len(names)))
    rows = []
    for piece, weights in zip(alignment.target_pieces, alignment.weights, strict=True):
        cells = [_SHADES[min(4, int(weight * 5 + 0.5))] for weight in weights]
        row = f" {piece.strip() or '␣':<{width}s}  " + "".join(f"  {cell}" for cell in cells)
        rows.append(row.rstrip())
    return "\n".join([*legend, "", header, *rows])
