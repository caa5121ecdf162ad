"""The demonstration: a translator of CLDR phrases, trained and tried on the embedded corpus."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import msgspec

from regard.data.cldr_corpus import TAGS, cldr_corpus
from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events, resume, train
from regard.tasks.translation.predictor import Alignment, Translator
from regard.training.events import Report

_MINUTES = 3.5
_VOCABULARY_SIZE = 1000
_SHADES = " ░▒▓█"


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the demonstration model did on phrases it has never seen.

    Args:
        folder: Of the model.
        num_phrases: Test phrases.
        exact_match: Share translated exactly, 0 to 1.
        by_language: The same for each target language.
        by_kind: The same for each kind of phrase.
        examples: Source and translation, one of each kind.
        alignment: Of the first example.
        seconds_training: Of the run; what the folder's run took where it was trained before.
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
    report: Report = ignore_events,
    start_time: float | None = None,
) -> DemoReport:
    """Train on the embedded corpus, or take the model that is there, and try it.

    Args:
        output: Folder of the model. A finished run is used as it is, an unfinished one is resumed.
        minutes: Budget of the training.
        seed: Of corpus and training.
        report: Called with every event.
        start_time: Clock (``time.monotonic``) from which the budget counts; None means now.
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
        )
        translator = train(None, output, settings=settings, report=report, start_time=start_time)
    else:
        translator = resume(output, report=report, start_time=start_time)
    return _try(translator, folder)


def _try(translator: Translator, folder: ModelFolder) -> DemoReport:
    corpus = cldr_corpus(seed=translator.config.training.seed)
    test, groups = corpus.test, corpus.test_groups
    outputs = translator.translate(test.sources, beam=1)
    hits = [output == wanted for output, wanted in zip(outputs, test.targets, strict=True)]
    by_language, by_kind = defaultdict(list), defaultdict(list)
    examples: dict[str, tuple[str, str]] = {}
    for hit, (kind, language), source, output in zip(
        hits, groups, test.sources, outputs, strict=True
    ):
        by_language[language].append(hit)
        by_kind[kind].append(hit)
        examples.setdefault(kind, (source, output))
    first = next(iter(examples.values()))
    finished = [line for line in folder.read_metrics() if line["event"] == "finished"]
    return DemoReport(
        folder=str(folder.path),
        num_phrases=len(test),
        exact_match=sum(hits) / len(hits),
        by_language={name: sum(found) / len(found) for name, found in by_language.items()},
        by_kind={name: sum(found) / len(found) for name, found in by_kind.items()},
        examples=list(examples.values()),
        alignment=translator.align(*first),
        seconds_training=finished[-1]["seconds"],
    )


def draw_alignment(alignment: Alignment) -> str:
    """Draw attention weights as shaded cells, one row an output token, for a terminal.

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
    legend = [f"{place:>4d}  {name}" for place, name in enumerate(names)]
    header = " " * (width + 3) + "".join(f"{place:>3d}" for place in range(len(names)))
    rows = []
    for piece, weights in zip(alignment.target_pieces, alignment.weights, strict=True):
        cells = [_SHADES[min(4, int(weight * 5 + 0.5))] for weight in weights]
        row = f" {piece.strip() or '␣':<{width}s}  " + "".join(f"  {cell}" for cell in cells)
        rows.append(row.rstrip())
    return "\n".join([*legend, "", header, *rows])
