"""Evaluation of a translation model on a file, next to baselines and another model."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from regard.data.languages import guess_pair
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.source import DataSource
from regard.errors import ConfigError
from regard.metrics import FLOORS
from regard.metrics.baselines import NearestNeighbor, copy_source
from regard.metrics.bootstrap import MetricWithInterval, PairedScore
from regard.metrics.translation import (
    TranslationScores,
    chrf,
    compare_translations,
    score_translations,
    sentence_chrf,
)
from regard.setup.evaluation_details import worst_rows
from regard.setup.evaluation_report import EvaluationOptions, EvaluationReport
from regard.setup.held_out import training_rows, unseen_rows
from regard.tasks.sequence_to_sequence.target_details import ScoredTargets, target_details
from regard.tasks.translation.data import read_pairs_of, read_translation_data
from regard.tasks.translation.languages import find_direction, means_pair
from regard.tasks.translation.predictor import Translator
from regard.training.distribution import ALONE

_TIMED_SENTENCES = 50


class WorstTranslation(msgspec.Struct, frozen=True, kw_only=True):
    """One of the worst translations; `chrf` is of this sentence, 0 to 100."""

    line: int
    chrf: float
    source: str
    output: str
    reference: str


class TranslationReport(EvaluationReport, frozen=True, kw_only=True):
    """The scores of a translation model on a file of pairs.

    Args:
        num_pairs: Number of pairs scored.
        beam: Hypotheses in the search.
        scores: BLEU and chrF with their intervals and signatures.
        copy_chrf: chrF of copying the source.
        neighbour_chrf: chrF of the target of the nearest training sentence; None where the training
            data is not available.
        latency_p50: Median seconds for one sentence alone.
        latency_p95: 95th percentile of the same.
        worst: The worst translations, worst first.
        comparison: Differences to another model; None without one.
    """

    num_pairs: int
    beam: int
    scores: TranslationScores[MetricWithInterval]
    copy_chrf: float
    neighbour_chrf: float | None
    latency_p50: float
    latency_p95: float
    worst: list[WorstTranslation]
    comparison: TranslationScores[PairedScore] | None

    @property
    def num_rows(self) -> int:
        """Number of pairs scored."""
        return self.num_pairs

    @property
    def intervals(self) -> dict[str, Any]:
        """BLEU and chrF."""
        return msgspec.to_builtins({"bleu": self.scores.bleu, "chrf": self.scores.chrf})

    @property
    def floors(self) -> dict[str, float | None]:
        """ChrF without a model."""
        return {"copy_chrf": self.copy_chrf, "neighbour_chrf": self.neighbour_chrf}

    @property
    def verdict(self) -> str:
        """The comparison of chrF with the best floor, in a sentence."""
        floors = {name: value for name, value in self.floors.items() if value is not None}
        best, baseline = max(floors.items(), key=lambda item: item[1])
        name = FLOORS[best].phrase
        score = self.scores.chrf
        if score.high < baseline:
            return (
                f"worse than {name} ({baseline:.1f} chrF): this model is of no use yet; "
                f"{self.remedy}."
            )
        if score.low <= baseline:
            return f"no better than {name} ({baseline:.1f} chrF): {self.remedy}."
        return f"{score.value - baseline:.1f} chrF above {name}, the best floor."

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the worst translations, scores, floors, latency and the comparison."""
        yield (
            "Data",
            f"{self.path}   {self.num_pairs:,} pairs   model {self.model}   beam {self.beam}",
        )
        for entry in self.worst:
            yield "Worst", f"line {entry.line:,}   chrF {entry.chrf:.1f}"
            yield "", f"source  {entry.source}"
            yield "", f"output  {entry.output}"
            yield "", f"wanted  {entry.reference}"
        for name, score in (("chrF", self.scores.chrf), ("BLEU", self.scores.bleu)):
            yield name, f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]   {score.signature}"
        floors = (
            f"{self.floor_title(name)} "
            + ("training data not at hand" if value is None else f"{value:.1f} chrF")
            for name, value in self.floors.items()
        )
        yield "Floors", "   ".join(floors)
        yield "Verdict", self.verdict
        yield (
            "Latency",
            f"p50 {1000 * self.latency_p50:.0f} ms   p95 {1000 * self.latency_p95:.0f} ms   "
            "(one sentence at a time)",
        )
        if self.comparison is not None:
            yield "Compare", f"{self.model} against {self.other}, paired bootstrap"
            for name, paired in (("chrF", self.comparison.chrf), ("BLEU", self.comparison.bleu)):
                interval = f"[{paired.low:+.1f}, {paired.high:+.1f}]"
                yield "", f"{name} {paired.difference:+.1f} {interval}   p = {paired.p_value:.3f}"


def evaluate_translator(
    translator: Translator,
    data: DataSource,
    options: EvaluationOptions,
    other: Translator | None = None,
) -> TranslationReport:
    """Return the scores of the translations of a file of pairs, baselines, latency and the worst.

    Args:
        translator: The model.
        data: Sources with reference translations.
        options: How it is evaluated.
        other: Another model to compare with by paired bootstrap.

    Raises:
        ConfigError: A model is one of many languages, and those of the file are not known.
        DataError: The file cannot be read, or has sources of the training data and `options` do not
            say what becomes of them.
    """
    pairs = read_pairs_of(data, translator.config.data)
    translator = for_pairs(translator, pairs, data, options.lang)
    if other is not None:
        other = for_pairs(other, pairs, data, options.lang)
    config, beam = translator.config, options.beam
    train = training_rows(read_translation_data, config)
    pairs = unseen_rows(train, pairs, options)
    best = [row[0] for row in translator.translate_best(pairs.sources, beam=beam)]
    outputs = [candidate.text for candidate in best]
    language = config.data.target_language
    neighbour_chrf = None
    if train is not None:
        nearest = NearestNeighbor(train.sources, train.targets).translate(pairs.sources)
        neighbour_chrf = chrf(nearest, pairs.targets)
    comparison = None
    if other is not None:
        other_outputs = [row[0].text for row in other.translate_best(pairs.sources, beam=beam)]
        comparison = compare_translations(
            outputs, other_outputs, pairs.targets, target_language=language
        )
    seconds = _time_single_sentences(translator, pairs.sources, beam)
    scores = sentence_chrf(outputs, pairs.targets).tolist()
    worst = worst_rows(scores, options.num_worst)
    targets = ScoredTargets(
        pairs,
        best,
        "chrF",
        scores,
        source="source",
        source_row="sentence",
        target_row="sentence",
    )
    picture = targets.by_length()
    details = None
    if options.has_details:
        details = target_details(translator, targets, picture, worst, train)
    return TranslationReport(
        **options.report_fields(),
        path=pairs.path,
        num_pairs=len(pairs),
        beam=config.search.beam if beam is None else beam,
        scores=score_translations(outputs, pairs.targets, target_language=language),
        copy_chrf=chrf(copy_source(pairs.sources), pairs.targets),
        neighbour_chrf=neighbour_chrf,
        latency_p50=float(np.percentile(seconds, 50)),
        latency_p95=float(np.percentile(seconds, 95)),
        worst=[
            WorstTranslation(
                line=pairs.lines[row],
                chrf=scores[row],
                source=pairs.sources[row],
                output=outputs[row],
                reference=pairs.targets[row],
            )
            for row in worst
        ],
        comparison=comparison,
        picture=picture,
        details=details,
    )


def for_pairs(
    translator: Translator, pairs: ParallelCorpus, data: DataSource, lang: str
) -> Translator:
    """Return the translator of the languages of pairs; other models have one pair or read tags.

    Args:
        translator: The model.
        pairs: The pairs of a file.
        data: The file.
        lang: Its languages, such as ``en-de``; empty guesses them by its name or its text, which a
            warning says.

    Raises:
        ConfigError: The languages are not known, or are not among those of the model.
    """
    languages = translator.tokenizer.languages
    if languages is None:
        source, _, target = translator.config.data.languages.partition("-")
        if lang and not means_pair(lang, source, target):
            raise ConfigError(f"`lang={lang}`: for models of many languages.  Leave it out.")
        return translator
    if lang:
        return translator.between(*find_direction(languages, lang))
    if languages.target is not None:
        return translator
    source, target = guess_pair(pairs, data.path)
    if source is None or target is None or source == target:
        raise ConfigError(
            f"{data.path}: the languages of the pairs are not known.  Name them: `lang=en-fr`"
        )
    warnings.warn(
        f"{data.path}: pairs of {source} and {target}, a guess.  Otherwise: `lang=en-fr`",
        stacklevel=1,
    )
    return translator.between(source, target)


def _time_single_sentences(
    translator: Translator, sources: Sequence[str], beam: int | None
) -> list[float]:
    """Return the seconds that sentences of the file take, translated one by one."""
    stride = max(1, len(sources) // _TIMED_SENTENCES)
    alone = copy.copy(translator)
    alone.world = ALONE

    def measure() -> list[float]:
        seconds = []
        for source in sources[::stride][:_TIMED_SENTENCES]:
            start = time.perf_counter()
            alone.translate_best([source], beam=beam)
            seconds.append(time.perf_counter() - start)
        return seconds

    return translator.world.on_first(measure)
