"""What the record of a run says of its stability: vanishing, exploding, oscillating, and where.

The verdicts are computed from ``metrics.jsonl`` alone, whose samples by layer are written by
`regard.training.stability_monitor`. The rules:

* Vanishing (Bengio, Simard & Frasconi 1994): the gradient of a layer is at most 1e-6 of the largest
  layer's, in three recorded steps in a row, and no larger than its own at the first one. The
  threshold is ours: ten roundings of float32, below which the layer's gradient is noise. Of the
  copy mechanism the same says that its gate has closed (See, Liu & Manning 2017, equation 9: its
  gradient has the factor ``1 - p_gen``), and is not a fault.
* Exploding (Pascanu, Mikolov & Bengio 2013): the norm of the whole gradient is more than 100 times
  the median of the earlier recorded ones; or half of the layers change by more than their own norm
  in one step; or a number is not finite. Both thresholds are ours: healthy runs stay below 20 times
  the median, and change their weights by some 1e-3 in a step.
* Oscillating (Fisher 1929; Cohen et al. 2021): the test of `regard.training.loss_oscillation` on
  the training losses. The layer is the one whose gradient norm swings most with the same period.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple

import msgspec

from regard.training.loss_oscillation import Oscillation
from regard.training.stability_monitor import (
    COPY_GATE,
    EXPLODED,
    MIN_SILENT,
    VANISHED,
    short_number,
)

_REPLACED = 1.0  # change of a layer's weights over their norm
_REPLACED_SHARE = 0.5  # of the layers: one that starts at zero changes by its norm at first


class StabilityVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Something that went wrong in a run, or, of a closed gate, that is good to know.

    Args:
        kind: What it is.
        layer: Where it is strongest.
        layers: All layers that have it.
        step: First step at which the record shows it.
        text: One sentence for people.
    """

    kind: Literal["vanishing", "exploding", "oscillating", "closed gate"]
    layer: str
    layers: list[str]
    step: int
    text: str


class StabilityRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The stability of a whole run.

    Args:
        verdicts: Empty for a run without a problem.
        steps: Recorded ones, ascending.
        layers: In the order of the model's parameters.
        gradient_norms: By layer, one a recorded step, before clipping; None where unknown.
        update_ratios: By layer, one a recorded step: norm of the change of the weights over that of
            the weights; None where unknown.
        is_mean: Whether a value is a mean between two evaluations, as earlier versions wrote it.
    """

    verdicts: list[StabilityVerdict]
    steps: list[int]
    layers: list[str]
    gradient_norms: dict[str, list[float | None]]
    update_ratios: dict[str, list[float | None]]
    is_mean: bool = False

    def sentences(self) -> list[str]:
        """Return the verdicts as sentences, and whether the run had no problem."""
        texts = [verdict.text for verdict in self.verdicts]
        if any(verdict.kind != "closed gate" for verdict in self.verdicts):
            return texts
        if len(self.steps) < MIN_SILENT:
            return [f"Not known: {MIN_SILENT} recorded steps or more are needed."]
        return ["No gradient vanished or exploded, the loss did not oscillate.", *texts]


_Row = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A line of the file, and its figures by layer."""


class _Point(NamedTuple):
    """The figures of a recorded step by layer; infinite where a number was not finite."""

    step: int
    norms: dict[str, float]
    ratios: dict[str, float]


def read_stability(lines: Iterable[Mapping[str, Any]]) -> StabilityRecord | None:
    """Return what the lines of ``metrics.jsonl`` say about the stability of their run.

    Args:
        lines: Objects of the file, oldest first.

    Returns:
        The record with its verdicts; None where no line has figures by layer.
    """
    rows = list(_rows(lines))
    points = _points(rows)
    if not points:
        return None
    layers = list(dict.fromkeys(chain.from_iterable(point.norms for point in points)))
    silent = _silent_layers(points)
    gate = silent.pop(COPY_GATE, [])
    verdicts = [
        _vanishing(silent),
        _exploding(points, rows),
        _oscillating(rows),
        _closed_gate(gate),
    ]
    return StabilityRecord(
        verdicts=[verdict for verdict in verdicts if verdict is not None],
        steps=[point.step for point in points],
        layers=layers,
        gradient_norms=_by_layer(layers, map(attrgetter("norms"), points)),
        update_ratios=_by_layer(layers, map(attrgetter("ratios"), points)),
        is_mean=any(_is_mean(stability) for _, stability in rows),
    )


def _rows(lines: Iterable[Mapping[str, Any]]) -> Iterator[_Row]:
    """Yield the lines that have figures by layer, with these figures."""
    for line in lines:
        stability = line.get("stability")
        if stability and line.get("event") in ("evaluated", "diverged"):
            yield line, stability


def _by_layer(
    layers: Sequence[str], figures: Iterable[Mapping[str, float]]
) -> dict[str, list[float | None]]:
    """Return the figures of all recorded steps by layer; None where one is not finite."""
    steps = list(figures)
    return {layer: [_finite(step.get(layer)) for step in steps] for layer in layers}


def _is_mean(stability: Mapping[str, Any]) -> bool:
    """Return whether a line has one mean in place of samples, as earlier versions wrote it."""
    return bool(not stability.get("samples") and stability.get("num_samples"))


def _points(rows: Iterable[_Row]) -> list[_Point]:
    """Return the recorded steps, ascending; of one that is there twice, the later record."""
    points: dict[int, _Point] = {}
    for line, stability in rows:
        for sample in _samples(line, stability):
            step, norms = int(sample["step"]), _numbers(sample.get("gradient_norms"))
            points[step] = _Point(step, norms, _numbers(sample.get("update_ratios")))
    return [points[step] for step in sorted(points)]


def _samples(line: Mapping[str, Any], stability: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the samples of a line; of an earlier version its mean, as that of its own step."""
    if _is_mean(stability):
        return [{**stability, "step": line.get("step", 0)}]
    return stability.get("samples") or ()


def _numbers(figures: Mapping[str, float | None] | None) -> dict[str, float]:
    """Return figures by layer; JSON has null for what is not finite."""
    present = (figures or {}).items()
    return {name: math.inf if value is None else value for name, value in present}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _silent_layers(points: Sequence[_Point]) -> dict[str, list[_Point]]:
    """Return the first recorded steps in a row at which the gradient of a layer is negligible."""
    streaks: dict[str, list[_Point]] = {}
    silent: dict[str, list[_Point]] = {}
    first_norms: dict[str, float] = {}
    for point in points:
        largest = max(point.norms.values(), default=0.0)
        if not 0 < largest < math.inf:
            continue
        for layer, norm in point.norms.items():
            is_silent = norm <= min(VANISHED * largest, first_norms.setdefault(layer, norm))
            streak = [*streaks.get(layer, ()), point] if is_silent else []
            streaks[layer] = streak
            if len(streak) >= MIN_SILENT:
                silent.setdefault(layer, streak)
    return silent


def _closed_gate(streak: Sequence[_Point]) -> StabilityVerdict | None:
    """Return that the model has stopped copying, from the first of some recorded steps."""
    if not streak:
        return None
    step = streak[0].step
    text = f"Closed copy gate from step {step:,}: the model copies nothing from the source."
    return StabilityVerdict(
        kind="closed gate", layer=COPY_GATE, layers=[COPY_GATE], step=step, text=text
    )


def _vanishing(silent: Mapping[str, Sequence[_Point]]) -> StabilityVerdict | None:
    """Return the layers whose gradient has vanished.

    Args:
        silent: By layer, the recorded steps at which its gradient is negligible.
    """
    if not silent:
        return None
    last = {layer: streak[-1].norms for layer, streak in silent.items()}
    layer = min(last, key=lambda name: last[name][name] / max(last[name].values()))
    first, norms = silent[layer][0].step, last[layer]
    strongest = max(norms, key=norms.__getitem__)
    if norms[layer] == 0:
        what = "no gradient reaches it"
    else:
        share = short_number(norms[layer] / norms[strongest])
        what = f"its norm is {share} of that of {strongest}"
    return StabilityVerdict(
        kind="vanishing",
        layer=layer,
        layers=list(silent),
        step=first,
        text=f"Vanishing gradient in {layer}{_others(list(silent))} from step {first:,}: {what}.",
    )


def _exploding(points: Sequence[_Point], rows: Sequence[_Row]) -> StabilityVerdict | None:
    """Return where gradient or weights exploded first."""
    end = _not_finite(rows)
    candidates = [_large_gradient(points, rows), _replaced_weights(points), end]
    present = [candidate for candidate in candidates if candidate is not None]
    first = min(present, key=lambda verdict: verdict.step, default=None)
    if first is None or end is None or first is end:
        return first
    text = f"{first.text}  The run ended at step {end.step:,}."
    return msgspec.structs.replace(first, text=text)


def _large_gradient(points: Sequence[_Point], rows: Sequence[_Row]) -> StabilityVerdict | None:
    """Return the first step whose gradient is far above the earlier ones."""
    observed: list[tuple[int, float, str]] = [
        (
            point.step,
            math.hypot(*point.norms.values()),
            max(point.norms.items(), key=itemgetter(1))[0],
        )
        for point in points
        if point.norms
    ]
    totals = [(step, norm) for step, norm, _ in observed]
    for _, stability in rows:
        if step := stability.get("largest_gradient_step", 0):
            norm, layer = stability["largest_gradient_norm"], stability["largest_gradient_layer"]
            observed.append((step, math.inf if norm is None else norm, layer))
    for step, norm, layer in sorted(observed):
        earlier = [total for other, total in totals if other < step]
        usual = statistics.median(earlier) if earlier else 0.0
        if usual > 0 and norm > EXPLODED * usual:
            text = (
                f"Exploding gradient at step {step:,}: its norm, {short_number(norm)}, is "
                f"{norm / usual:,.0f} times the usual {short_number(usual)}.  Largest in {layer}."
            )
            return _explosion(step, layer, text)
    return None


def _replaced_weights(points: Sequence[_Point]) -> StabilityVerdict | None:
    """Return the first step that changed half of the layers by more than their own norm."""
    for point in points:
        replaced = [layer for layer, ratio in point.ratios.items() if ratio > _REPLACED]
        if replaced and len(replaced) >= _REPLACED_SHARE * len(point.norms):
            layer = max(replaced, key=point.ratios.__getitem__)
            text = (
                f"Exploding updates at step {point.step:,}: it changes {layer} by "
                f"{short_number(point.ratios[layer])} times the norm of its weights"
                f"{_others(replaced)}."
            )
            return _explosion(point.step, layer, text, replaced)
    return None


def _not_finite(
    rows: Sequence[_Row],
) -> StabilityVerdict | None:
    """Return the end of a run whose numbers are not finite."""
    for line, stability in rows:
        if line.get("event") == "diverged":
            problem, cause = line.get("problem", ""), line.get("cause", "")
            layer = stability.get("largest_gradient_layer", "")
            step = int(line.get("step", 0))
            return _explosion(step, layer, f"Exploded: {problem}.  {cause}".rstrip())
    return None


def _explosion(
    step: int, layer: str, text: str, layers: Sequence[str] | None = None
) -> StabilityVerdict:
    layers = [layer] if layers is None else list(layers)
    return StabilityVerdict(kind="exploding", layer=layer, layers=layers, step=step, text=text)


def _oscillating(
    rows: Sequence[_Row],
) -> StabilityVerdict | None:
    """Return the first oscillation of the loss that does not settle."""
    for line, stability in rows:
        figures = _numbers(stability.get("loss_oscillation"))
        if not figures:
            continue
        oscillation = msgspec.convert(figures, Oscillation)
        if not oscillation.is_sustained:
            continue
        amplitudes = _numbers(stability.get("oscillation_by_layer"))
        layer = max(amplitudes, key=amplitudes.__getitem__, default="")
        last = int(line.get("step", 0)) - (line.get("event") == "diverged")
        first = max(1, last - oscillation.num_steps + 1)
        where = (
            f"  The gradient of {layer} swings most with it, by {amplitudes[layer]:.0%}."
            if layer
            else ""
        )
        text = (
            f"Oscillating loss from step {first:,}: it swings by "
            f"{short_number(oscillation.amplitude)} to either side of "
            f"{short_number(oscillation.level)}, once in {oscillation.period:.1f} steps.{where}"
        )
        return StabilityVerdict(
            kind="oscillating", layer=layer, layers=list(amplitudes), step=first, text=text
        )
    return None


def _others(layers: Sequence[str]) -> str:
    num_others = len(layers) - 1
    if num_others < 1:
        return ""
    return f" (and {num_others} more layer{'' if num_others == 1 else 's'})"
