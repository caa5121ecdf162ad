"""How good a translation model is on a file of pairs, next to baselines and another model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.tables import read_pairs
from regard.data.splits import check_overlap, without_overlap
from regard.errors import DataError
from regard.metrics.baselines import NearestNeighbor, copy_source
from regard.metrics.translation import (
    PairedScores,
    TranslationScores,
    chrf,
    compare_translations,
    score_translations,
    worst_translations,
)
from regard.setup.base_task import ReadOptions
from regard.tasks.translation.data import columns_of
from regard.tasks.translation.predictor import Translator
from regard.tasks.translation.task import TranslationTask

_TIMED_SENTENCES = 50


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst translations; `chrf` is of this sentence, 0 to 100."""

    line: int
    chrf: float
    source: str
    output: str
    reference: str


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found.

    Args:
        model: Folder.
        path: File of pairs.
        num_pairs: Pairs scored.
        scores: BLEU and chrF with their intervals and signatures.
        copy_chrf: chrF of copying the source.
        neighbour_chrf: chrF of the target of the nearest training sentence; None where the training
            data is not at hand.
        latency_p50: Median seconds for one sentence alone.
        latency_p95: 95th percentile of the same.
        verdict: One plain sentence.
        worst: The worst translations, worst first.
        comparison: Against another model; None without one.
    """

    model: str
    path: str
    num_pairs: int
    scores: TranslationScores
    copy_chrf: float
    neighbour_chrf: float | None
    latency_p50: float
    latency_p95: float
    verdict: str
    worst: list[Worst]
    comparison: PairedScores | None


def evaluate_model(
    translator: Translator,
    pairs: ParallelCorpus,
    *,
    name: str,
    beam: int | None = None,
    other: Translator | None = None,
    num_worst: int = 20,
) -> EvaluationReport:
    """Translate and score a file of pairs.

    Args:
        translator: The model.
        pairs: Sources with reference translations.
        name: Of the model, for the report.
        beam: Hypotheses kept in the search; None is as each model says.
        other: Another model to compare with by paired bootstrap.
        num_worst: Number of worst translations to list.
    """
    outputs = translator.translate(pairs.sources, beam=beam)
    language = translator.config.data.languages.partition("-")[2] or None
    scores = score_translations(outputs, pairs.targets, target_language=language)
    copied = chrf(copy_source(pairs.sources), pairs.targets)
    neighbour = _neighbour_floor(translator, pairs)
    p50, p95 = _latency(translator, pairs.sources, beam)
    comparison = None
    if other is not None:
        compared = other.translate(pairs.sources, beam=beam)
        comparison = compare_translations(
            outputs, compared, pairs.targets, target_language=language
        )
    return EvaluationReport(
        model=name,
        path=pairs.path,
        num_pairs=len(pairs),
        scores=scores,
        copy_chrf=copied,
        neighbour_chrf=neighbour,
        latency_p50=p50,
        latency_p95=p95,
        verdict=_verdict(scores, copied, neighbour),
        worst=_worst(pairs, outputs, num_worst),
        comparison=comparison,
    )


def _worst(pairs: ParallelCorpus, outputs: Sequence[str], count: int) -> list[Worst]:
    return [
        Worst(
            line=pairs.lines[row],
            chrf=value,
            source=pairs.sources[row],
            output=outputs[row],
            reference=pairs.targets[row],
        )
        for row, value in worst_translations(outputs, pairs.targets, count=count)
    ]


def _neighbour_floor(translator: Translator, pairs: ParallelCorpus) -> float | None:
    """Score the nearest training sentence's target, where the training data can be read."""
    train = _training_pairs(translator)
    if train is None:
        return None
    nearest = NearestNeighbor(train.sources, train.targets).translate(pairs.sources)
    return chrf(nearest, pairs.targets)


def _latency(
    translator: Translator, sources: Sequence[str], beam: int | None
) -> tuple[float, float]:
    """Time single sentences, evenly drawn from the file."""
    stride = max(1, len(sources) // _TIMED_SENTENCES)
    seconds = []
    for source in sources[::stride][:_TIMED_SENTENCES]:
        begun = time.perf_counter()
        translator.translate([source], beam=beam)
        seconds.append(time.perf_counter() - begun)
    return float(np.percentile(seconds, 50)), float(np.percentile(seconds, 95))


def _verdict(scores: TranslationScores, copied: float, neighbour: float | None) -> str:
    """Say in a sentence how the score stands to the floors."""
    floors = {"copying the source": copied}
    if neighbour is not None:
        floors["the nearest training sentence"] = neighbour
    name, floor = max(floors.items(), key=lambda item: item[1])
    if scores.chrf.high < floor:
        return f"worse than {name} ({floor:.1f} chrF): this model is of no use yet; train longer."
    if scores.chrf.low <= floor:
        return f"no better than {name} ({floor:.1f} chrF): train longer, or on more data."
    gain = scores.chrf.value - floor
    return f"{gain:.1f} chrF above {name}, the best floor."


def read_test_pairs(
    path: str, translator: Translator, *, drop_overlap: bool = False, allow_overlap: bool = False
) -> ParallelCorpus:
    """Read a file of test pairs as the model's training data was read.

    Args:
        path: The file.
        translator: The model it is to test.
        drop_overlap: Leave out pairs whose source stands in the training data.
        allow_overlap: Keep such pairs.

    Raises:
        DataError: Neither is set and there are such pairs, or the file cannot be read.
    """
    data = translator.config.data
    pairs = read_pairs(path, encoding=data.encoding, columns=columns_of(data))
    if allow_overlap:
        return pairs
    train = _training_pairs(translator)
    if train is None:
        return pairs
    if drop_overlap:
        return without_overlap(train, pairs)
    check_overlap(train, pairs)
    return pairs


def _training_pairs(translator: Translator) -> ParallelCorpus | None:
    """Read the training pairs, where their files are still there."""
    config = translator.config
    if config.tokenizer.kind == "published" and config.start_from is None:
        return None  # others have trained it
    try:
        return TranslationTask().read(ReadOptions.from_config(config)).train
    except DataError:
        return None
