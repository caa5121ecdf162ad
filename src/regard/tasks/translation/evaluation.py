"""Evaluation of a translation model on a file, next to baselines and another model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from regard.data.parallel_corpus import ParallelCorpus
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
from regard.tasks.translation.data import exclude_overlap, read_pairs_of
from regard.tasks.translation.predictor import Translator
from regard.tasks.translation.task import TranslationTask

_TIMED_SENTENCES = 50


class WorstTranslation(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst translations; `chrf` is of this sentence, 0 to 100."""

    line: int
    chrf: float
    source: str
    output: str
    reference: str


class TranslationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a translation model on a file.

    Args:
        model: Folder of the model.
        path: File of pairs.
        num_pairs: Number of pairs scored.
        scores: BLEU and chrF with their intervals and signatures.
        copy_chrf: chrF of copying the source.
        neighbour_chrf: chrF of the target of the nearest training sentence; None where the training
            data is not available.
        latency_p50: Median seconds for one sentence alone.
        latency_p95: 95th percentile of the same.
        verdict: The comparison with the baselines in a sentence.
        worst: The worst translations, worst first.
        comparison: Differences to another model; None without one.
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
    worst: list[WorstTranslation]
    comparison: PairedScores | None


def evaluate_model(
    translator: Translator,
    pairs: ParallelCorpus,
    *,
    name: str,
    beam: int | None = None,
    other: Translator | None = None,
    num_worst: int = 20,
) -> TranslationReport:
    """Translate and score a file of pairs.

    Args:
        translator: The model.
        pairs: Sources with reference translations.
        name: Name of the model for the report.
        beam: Number of hypotheses kept in the search; None is as each model's settings say.
        other: Another model to compare with by paired bootstrap.
        num_worst: Number of worst translations to list.

    Returns:
        Scores, baselines, latency and the worst translations.
    """
    outputs = translator.translate(pairs.sources, beam=beam)
    language = translator.config.data.languages.partition("-")[2] or None
    scores = score_translations(outputs, pairs.targets, target_language=language)
    baselines = {"copying the source": chrf(copy_source(pairs.sources), pairs.targets)}
    if (train := _training_pairs(translator)) is not None:
        nearest = NearestNeighbor(train.sources, train.targets).translate(pairs.sources)
        baselines["the nearest training sentence"] = chrf(nearest, pairs.targets)
    comparison = None
    if other is not None:
        other_outputs = other.translate(pairs.sources, beam=beam)
        comparison = compare_translations(
            outputs, other_outputs, pairs.targets, target_language=language
        )
    seconds = _time_single_sentences(translator, pairs.sources, beam)
    return TranslationReport(
        model=name,
        path=pairs.path,
        num_pairs=len(pairs),
        scores=scores,
        copy_chrf=baselines["copying the source"],
        neighbour_chrf=baselines.get("the nearest training sentence"),
        latency_p50=float(np.percentile(seconds, 50)),
        latency_p95=float(np.percentile(seconds, 95)),
        verdict=_verdict(scores, baselines),
        worst=[
            WorstTranslation(
                line=pairs.lines[row],
                chrf=value,
                source=pairs.sources[row],
                output=outputs[row],
                reference=pairs.targets[row],
            )
            for row, value in worst_translations(outputs, pairs.targets, count=num_worst)
        ],
        comparison=comparison,
    )


def _time_single_sentences(
    translator: Translator, sources: Sequence[str], beam: int | None
) -> list[float]:
    """Return the seconds that sentences of the file take, translated one by one."""
    stride = max(1, len(sources) // _TIMED_SENTENCES)
    seconds = []
    for source in sources[::stride][:_TIMED_SENTENCES]:
        start = time.perf_counter()
        translator.translate([source], beam=beam)
        seconds.append(time.perf_counter() - start)
    return seconds


def _verdict(scores: TranslationScores, baselines: dict[str, float]) -> str:
    """Compare the score with the best baseline in a sentence."""
    name, baseline = max(baselines.items(), key=lambda item: item[1])
    if scores.chrf.high < baseline:
        return (
            f"worse than {name} ({baseline:.1f} chrF): this model is of no use yet; train longer."
        )
    if scores.chrf.low <= baseline:
        return f"no better than {name} ({baseline:.1f} chrF): train longer, or on more data."
    gain = scores.chrf.value - baseline
    return f"{gain:.1f} chrF above {name}, the best floor."


def read_test_pairs(
    path: str, translator: Translator, *, drop_overlap: bool = False, allow_overlap: bool = False
) -> ParallelCorpus:
    """Return test pairs, read with the settings of the model's training pairs.

    Args:
        path: The file.
        translator: The model to be tested.
        drop_overlap: Leave out pairs whose source is in the training data.
        allow_overlap: Keep such pairs.

    Raises:
        DataError: Neither is set and there are such pairs, or the file cannot be read.
    """
    pairs = read_pairs_of(path, translator.config.data)
    train = None if allow_overlap else _training_pairs(translator)
    return pairs if train is None else exclude_overlap(train, pairs, drop=drop_overlap)


def _training_pairs(translator: Translator) -> ParallelCorpus | None:
    """Read the training pairs; None where their files are not available."""
    config = translator.config
    if config.tokenizer.kind == "published" and config.start_from is None:
        return None  # a published model that was not trained further here
    try:
        return TranslationTask().read(ReadOptions.from_config(config)).train
    except DataError:
        return None
