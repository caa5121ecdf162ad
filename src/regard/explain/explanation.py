"""Explaining one prediction by all methods: the document that pages, pictures and JSON show."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from os import PathLike, fspath
from typing import NamedTuple

import torch
from torch import Tensor

from regard.data.listing import pluralize
from regard.errors import ConfigError
from regard.explain.attention_maps import attention_maps
from regard.explain.attribution import DEFAULT_METHODS, METHODS, Attribution, Budget, method_names
from regard.explain.attribution.integrated_gradients import total_changes
from regard.explain.diagram import draw_diagram
from regard.explain.document import (
    AttentionMap,
    ExplainedModel,
    Explanation,
    MethodResult,
    WrittenFacts,
)
from regard.explain.faithfulness import FaithfulnessMeter, measure_faithfulness
from regard.explain.faithfulness.rank_correlation import kendall_tau
from regard.explain.heads import head_effects
from regard.explain.influence.influence_options import InfluenceOptions
from regard.explain.input_image import png_url
from regard.explain.lens import encoder_lens, logit_lens
from regard.explain.open_prediction import predict
from regard.explain.own_warnings import record_own_warnings
from regard.explain.prediction import ClassPrediction, Prediction
from regard.explain.predictions.written_target import WrittenTarget
from regard.explain.selected_outputs import SelectedOutputs, spread_indices
from regard.explain.shuffled_control import shuffle_weights
from regard.option_checks import require_callable
from regard.settings.validation import require_flag, require_kind
from regard.tasks import Predictor
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

_MEASURED_OUTPUTS = 4  # of faithfulness, and of the control, evenly spread over all
_CONTROL_STEPS = 20
_NO_CHANGE = 1e-3  # nats, or a fraction of the value

Progress = Callable[[str, int, int], None]
"""Hears of a long computation: its name, the rows computed so far, and the number of all rows."""


class ModelFacts(NamedTuple):
    """What a page says about the model besides what it is.

    Args:
        name: Name of its folder.
        sha: First digits of the hash of its weights.
    """

    name: str = ""
    sha: str = ""


def explain(
    predictor: Predictor,
    text: str | PathLike[str],
    *,
    context: str | None = None,
    output: str | None = None,
    contrast: str | None = None,
    row: int = 1,
    methods: Sequence[str] | None = None,
    memory: int | None = None,
    influence: InfluenceOptions | None = None,
    facts: ModelFacts = ModelFacts(),  # noqa: B008 - an immutable value
    draws_model: bool = True,
    on_progress: Progress | None = None,
) -> Explanation:
    """Explain the prediction of a model for an input.

    Args:
        predictor: From `regard.load`.
        text: The input: a text, a question, or the path of an image, recording or series.
        context: The text that a question is asked of.
        output: The output that is explained; None is the model's own.
        contrast: Another output that it is compared with ("why this, not that").
        row: Which input of a file of images, recordings or series, from 1.
        methods: Names of methods of attribution; None takes all that fit the model.
        memory: Bytes that a computation may use at once; None is half a gibibyte.
        influence: How the influence of training rows is computed, which reads the training data
            again and takes minutes; None leaves it out.
        facts: Facts about the model, for the page.
        draws_model: Whether the document has a picture of the model, which takes a second.
        on_progress: Hears of long computations.

    Returns:
        The document, which `regard.explain.page` shows.

    Raises:
        ConfigError: The text is empty, an option does not fit the task, or a method is unknown or
            does not fit the model.
        DataError: A file cannot be read, or is not the data that the model was trained on.
        TypeError: `facts` or `influence` is something else.
    """
    require_kind("facts", facts, ModelFacts, "a `ModelFacts`")
    if influence is not None:
        require_kind("influence", influence, InfluenceOptions, "an `InfluenceOptions`")
    require_flag("draws_model", draws_model)
    with record_own_warnings() as messages:
        prediction = predict(
            predictor, text, context=context, output=output, contrast=contrast, row=row
        )
    rows = None
    if influence is not None:  # first: the data may be missing
        from regard.explain.influence.influence_document import influence_document

        rows = influence_document(predictor, prediction, influence, on_progress)
    explainer = _Explainer(prediction, memory, on_progress)
    results = explainer.attribute(methods)
    first = prediction.first_method
    first = first if first in results else next(iter(results))
    control, similarity = explainer.control(first)
    return Explanation(
        model=ExplainedModel(
            name=facts.name,
            task=predictor.config.task,
            family=predictor.config.model.family,
            num_parameters=predictor.model.num_parameters,
            hash=facts.sha,
            explained=f"{datetime.now(UTC):%Y-%m-%d}",
            search=_search(predictor) if output is None else "a given output",
            diagram=draw_diagram(predictor.model),
            picture=draw_diagram(predictor.model, "svg") if draws_model else "",
        ),
        text=fspath(text),  # a model of texts has refused a path
        input=list(prediction.features),
        output=list(prediction.outputs),
        unit=prediction.unit,
        positions=(prediction.readout.argmax(-1) + prediction.stacks[-1].start).tolist(),
        contrast=contrast,
        confidence=_confidence(prediction),
        written=_written_facts(prediction),
        methods=results,
        first=first,
        attention=explainer.maps(),
        lens=logit_lens(prediction, explainer.budget("Layers")),
        encoder_lens=encoder_lens(prediction, explainer.budget("Layers of the encoder")),
        control=control,
        control_similarity=similarity,
        image="" if prediction.image is None else png_url(prediction.image),
        history=list(prediction.history),
        influence=rows,
        notes=[
            *messages,
            *prediction.notes,
            *_notes(prediction, is_own=output is None),
            *explainer.notes,
        ],
    )


def _confidence(prediction: Prediction) -> float | None:
    """Return the geometric mean of the outputs' probabilities; None where they have none."""
    if not isinstance(prediction, ClassPrediction):
        return None
    return math.exp(sum(item.score for item in prediction.outputs) / len(prediction.outputs))


def _written_facts(prediction: Prediction) -> WrittenFacts | None:
    """Return what a target looks like next to its source; None of another prediction."""
    tokens = [feature for feature in prediction.features if not feature.is_special]
    source = [feature.text for feature in tokens if feature.part == "source"]
    target = [feature.text for feature in tokens if feature.part == "target"]
    if not isinstance(prediction, WrittenTarget) or not source:
        return None
    runs = list(zip(target, target[1:], target[2:], strict=False))
    return WrittenFacts(
        length_ratio=len(target) / len(source),
        copied=sum(map(set(source).__contains__, target)),
        repeats=len(runs) - len(set(runs)),
    )


def _search(predictor: Predictor) -> str:
    """Return how a model chooses its output."""
    if not isinstance(predictor, TargetWriter):
        return "the model's own output"
    beam = predictor.config.search.beam
    return "greedy search" if beam == 1 else f"beam search of {beam}"


def _notes(prediction: Prediction, *, is_own: bool) -> Iterator[str]:
    """Yield what a reader must know of a prediction before the scores.

    Args:
        prediction: What is explained.
        is_own: Whether the model chose the outputs itself.
    """
    if isinstance(prediction, ClassPrediction):
        (log_probabilities,) = prediction.log_probabilities(prediction.full_weights()).detach()
        number = int((log_probabilities.argmax(-1) != prediction.output_classes).sum())
        if is_own and number:
            were, their = ("was", "its") if number == 1 else ("were", "their")
            yield (
                f"{pluralize(number, 'output')} of {len(prediction.outputs):,} {were} not the most "
                f"probable at {their} position: the whole was chosen, not each by itself."
            )
        if prediction.contrast is not None:
            yield from _contrasts(prediction, prediction.contrast.tolist(), log_probabilities)
    changes = total_changes(prediction).abs()
    scales = torch.tensor([abs(output.score) for output in prediction.outputs]).clamp(min=1.0)
    if bool((changes < _NO_CHANGE * scales).all()):
        yield (
            f"Without the input the outputs change by {float(changes.max()):.1g} {prediction.unit} "
            "at most: they do not depend on it, and the scores are little more than rounding."
        )


def _contrasts(
    prediction: ClassPrediction, contrasts: list[int], log_probabilities: Tensor
) -> Iterator[str]:
    """Yield which outputs are compared, with their probabilities."""
    for output, other, row in zip(prediction.outputs, contrasts, log_probabilities, strict=False):
        probability = float(row[other].exp())
        yield (
            f'The scores explain why "{output.text.strip()}" ({math.exp(output.score):.2g}), '
            f'and not "{prediction.class_text(other).strip()}" ({probability:.2g}).'
        )


class _Explainer:
    """Computes the parts of an explanation of one prediction.

    Args:
        prediction: What is explained.
        memory: Bytes that a computation may use at once; None is the default of `Budget`.
        on_progress: Hears of long computations.
    """

    def __init__(
        self, prediction: Prediction, memory: int | None, on_progress: Progress | None
    ) -> None:
        self.prediction, self.notes = prediction, list[str]()
        self._memory, self._on_progress = memory, on_progress
        self._attributions: dict[str, Attribution] = {}

    def budget(self, name: str) -> Budget:
        """Return the budget of a computation, by its name."""
        on_progress = None
        if self._on_progress is not None:
            require_callable("on_progress", self._on_progress, "a function")
            on_progress = partial(self._on_progress, name)
        return (
            Budget(on_progress=on_progress)
            if self._memory is None
            else Budget(self._memory, on_progress)
        )

    def attribute(self, methods: Sequence[str] | None) -> dict[str, MethodResult]:
        """Compute methods of attribution, and measure how faithful they are.

        Args:
            methods: Their names; None takes all that fit the model, and notes the others, but for
                attention flow, which takes long. Random scores are next to each as its floor.

        Returns:
            Scores and measures of each method that was computed, by name.

        Raises:
            ConfigError: A name is unknown, or its method does not fit the model.
        """
        names = list(DEFAULT_METHODS) if methods is None else method_names(methods)
        seconds: dict[str, float] = {}
        refused: dict[str, list[str]] = {}  # titles by the reason
        for number, name in enumerate(names, start=1):
            start = time.monotonic()
            method = METHODS[name]
            budget = self.budget(f"{method.title} (method {number} of {len(names)})")
            try:
                attribution = method.compute(self.prediction, budget)
            except ConfigError as error:
                if methods is not None:
                    raise
                refused.setdefault(str(error), []).append(method.title)
                continue
            self._attributions[name] = attribution
            seconds[name] = time.monotonic() - start
        self.notes += [
            f"Left out: {', '.join(titles)} ({reason.partition('.  ')[0]})."
            for reason, titles in refused.items()
        ]
        return {name: self._measure(name, seconds[name]) for name in seconds}

    def _measure(self, name: str, seconds: float) -> MethodResult:
        """Return what a method says, with its faithfulness."""
        method, attribution = METHODS[name], self._attributions[name]
        return MethodResult(
            title=method.title,
            unit=method.unit or self.prediction.unit,
            is_signed=method.is_signed,
            scores=_to_lists(attribution.scores),
            error=None if attribution.error is None else float(attribution.error.max()),
            faithfulness=measure_faithfulness(self.prediction, attribution, meter=self._meter),
            seconds=round(seconds, 3),
            steps=attribution.steps,
        )

    @cached_property
    def _meter(self) -> FaithfulnessMeter:
        """Measures all attributions; passes that occlusion took are not taken again."""
        return FaithfulnessMeter(
            self.prediction,
            self.budget("faithfulness"),
            most_outputs=_MEASURED_OUTPUTS,
            is_soft=False,
            occlusion=self._attributions.get("occlusion"),
        )

    def control(self, name: str) -> tuple[list[list[float | None]], float | None]:
        """Compute a method for the same model with shuffled weights, for some of the outputs.

        Args:
            name: Name of the method.

        Returns:
            Scores ``[outputs, features]``, None for the other outputs; and the mean rank
            correlation with the scores of the trained model, None where it is not defined.
        """
        prediction, method = self.prediction, METHODS[name]
        indices = spread_indices(len(prediction.outputs), _MEASURED_OUTPUTS)
        shuffled = SelectedOutputs(shuffle_weights(prediction), indices)
        # The control needs the order of the scores, not their last digits.
        budget = self.budget(f"{method.title}, shuffled weights")
        scores = method.compute(shuffled, replace(budget, max_steps=_CONTROL_STEPS)).scores
        trained = self._attributions[name].scores[indices]
        correlations = []
        for one, other in zip(trained, scores, strict=True):
            is_compared = ~one.isnan() & ~prediction.is_special
            correlations.append(kendall_tau(one[is_compared].numpy(), other[is_compared].numpy()))
        defined = [value for value in correlations if not math.isnan(value)]
        rows = torch.full((len(prediction.outputs), len(prediction.features)), torch.nan)
        rows = rows.to(scores.dtype).index_copy(0, indices, scores)
        return _to_lists(rows), statistics.fmean(defined) if defined else None

    def maps(self) -> list[AttentionMap]:
        """Return the attention of all layers, with the effect of each head."""
        effects = head_effects(self.prediction, self.budget("Heads"))
        memory = self.budget("Attention").memory
        attention = attention_maps(self.prediction, effects=effects, memory=memory)
        self.notes += attention.notes
        return attention.maps


def _to_lists(scores: Tensor) -> list[list[float | None]]:
    """Return scores ``[outputs, features]`` with six digits, None in place of NaN."""
    return [
        [None if math.isnan(score) else float(f"{score:.6g}") for score in row]
        for row in scores.tolist()
    ]
