"""The stability of a run: gradients and updates by layer, and four alarms, with any optimizer.

The norm of every parameter's gradient comes with clipping and costs nothing. One step in twenty is
sampled, and steps 1, 4 and 16: its norms are combined by layer, and the change of the weights is
measured on at most 65,536 evenly spaced entries of each parameter. Of the samples between two
evaluations eight at most are recorded one by one. The state is kept in the checkpoint, so that a
resumed run reports the same figures; nothing here has an influence on training. What the whole
record of a run says is in `regard.training.stability_verdicts`.

Vanishing and exploding gradients: Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013.
Oscillation: see `regard.training.loss_oscillation`. Over-fitting: Prechelt 1998, "Early Stopping -
But When?", the criterion of successive rises.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.optim.sharding import local_part
from regard.training.events import LayerSample, Stability
from regard.training.loss_oscillation import Oscillation, amplitude_at, find_oscillation
from regard.training.tensor_norms import norms_of

_SAMPLE_EVERY = 20  # steps: a sample costs up to 3 % of a step, hence below 0.2 % on average
_EARLY = (1, 4, 16)  # recorded as well: the state from which a run may explode at once
_MAX_SAMPLES = 8  # recorded between two evaluations: some 2 kB for 14 layers
_MAX_ENTRIES = 1 << 16  # of a parameter: norms from this many are within 1 %
_WINDOW = 256  # last steps in running figures
_MIN_NORMS = 40  # steps before a median is trusted: the first ones after the start are steep
VANISHED = 1e-6  # of the largest layer's norm: ten roundings of float32 (1.2e-7)
MIN_SILENT = 3  # samples: at the very start a zero may be by construction
COPY_GATE = "copy_head"  # the layer whose gradient vanishes where its gate has closed
EXPLODED = 100.0  # times the median: healthy runs with batches of all lengths stay below 20
_RISES = 3  # evaluations in a row: Prechelt's UP_3, fewer happen by chance


class MonitorState(msgspec.Struct, kw_only=True):
    """The state of the monitor; it is saved with the checkpoint.

    Args:
        num_samples: Sampled steps since the last evaluation.
        gradient_sums: Of the sampled gradient norms since the last evaluation, by layer.
        ratio_sums: Of the sampled update-to-weight ratios since the last evaluation, by layer.
        largest_norm: Of the whole gradient, since the last evaluation.
        silent: Samples in a row at which a layer's gradient had vanished, by layer.
        norms: Of the whole gradient, at the last steps, oldest first.
        losses: Training losses of the last steps, oldest first.
        median_norm: Of `norms` at the last sample; None before there are enough.
        gaps: Training and validation loss of the last evaluations, oldest first.
        raised: Kinds of the alarms that have been raised; each is raised once.
        alarms: Texts of the alarms since the last evaluation.
        largest_step: Step of `largest_norm`; 0 before the first.
        largest_layer: Layer with the largest part of it.
        samples: Recorded since the last evaluation, oldest first.
        sample_stride: One in this many samples is recorded.
        layer_norms: Of the gradient, at the last steps, ``[steps, layers]`` in float32.
    """

    num_samples: int = 0
    gradient_sums: dict[str, float] = {}
    ratio_sums: dict[str, float] = {}
    largest_norm: float = 0.0
    silent: dict[str, int] = {}
    norms: list[float] = []
    losses: list[float] = []
    median_norm: float | None = None
    gaps: list[tuple[float, float]] = []
    raised: list[str] = msgspec.field(default_factory=list, name="told")
    alarms: list[str] = []
    largest_step: int = 0
    largest_layer: str = ""
    samples: list[LayerSample] = []
    sample_stride: int = 1
    layer_norms: bytes = b""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a step.

    Args:
        number: Of the step, from 1.
        loss: Training loss, nats per token.
        norm: Of the whole gradient, before clipping.
        norms: Of each parameter's gradient, before clipping, ``[parameters]``, in their order.
    """

    number: int
    loss: float
    norm: float
    norms: Tensor


@torch.no_grad()
def gradient_norms(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Compute the norm of every parameter's gradient.

    Args:
        parameters: One or more; those without a gradient count as 0.

    Returns:
        ``[parameters]``, on the device of the first.
    """
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = iter(norms_of(gradients) if gradients else [])
    device = parameters[0].device
    zero = torch.zeros((), device=device, dtype=gradients[0].dtype if gradients else torch.float32)
    return torch.stack([zero if p.grad is None else next(norms).to(device) for p in parameters])


def layer_of(parameter: str) -> str:
    """Return the layer of a parameter: its path up to the block's number, or its module's.

    >>> [layer_of(name) for name in ("decoder.5.feed_forward.inner.weight", "encoder_norm.bias")]
    ['decoder.5', 'encoder_norm']
    """
    return _path_of(parameter, depth_below=0)


def sublayer_of(parameter: str) -> str:
    """Return the part of a block that a parameter belongs to.

    >>> sublayer_of("decoder.5.feed_forward.inner.weight"), sublayer_of("output_weight")
    ('decoder.5.ffn', 'output_weight')
    """
    return _path_of(parameter, depth_below=1).replace("feed_forward", "ffn")


def _path_of(parameter: str, *, depth_below: int) -> str:
    """Cut a path `depth_below` names after its first number, and before the parameter's own."""
    *modules, own_name = parameter.split(".")
    end = next((i for i, name in enumerate(modules) if name.isdigit()), len(modules))
    return ".".join(modules[: end + 1 + depth_below] or [own_name])


def short_number(value: float) -> str:
    """Return a number of any size in a few characters.

    >>> short_number(2_134_000.0), short_number(0.25), short_number(3.2e-9)
    ('2.1e6', '0.25', '3.2e-9')
    """
    if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def largest_gradient(names: Sequence[str], norms: Tensor) -> str:
    """Return the part with the largest gradient and its norm, such as ``decoder.5.ffn 2.1e6``.

    Args:
        names: Of the parameters.
        norms: Of their gradients, ``[parameters]``.

    Returns:
        The two, with a space between.
    """
    by_part = _combine([sublayer_of(name) for name in names], norms.tolist())
    part = max(by_part, key=by_part.__getitem__)
    return f"{part} {short_number(by_part[part])}"


def _combine(groups: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Return the norm of each group: the root of the sum of the squares of its parts' norms."""
    combined: dict[str, float] = {}
    for group, norm in zip(groups, norms, strict=True):
        combined[group] = math.hypot(combined.get(group, 0.0), norm)
    return combined


class StabilityMonitor:
    """Watches the training of one model.

    Args:
        model: Its trainable parameters are watched, and its settings decide what an alarm suggests.
        has_rate: Whether the optimizer has a learning rate with warm-up.
    """

    def __init__(self, model: nn.Module, *, has_rate: bool = True) -> None:
        self._config, self._has_rate = getattr(model, "config", None), has_rate
        named = list(model.named_parameters())
        self.names = [name for name, _ in named]
        self._watched = [index for index, (_, p) in enumerate(named) if p.requires_grad]
        self._parameters = [named[index][1] for index in self._watched]
        self._layers = [layer_of(self.names[index]) for index in self._watched]
        self._layer_names = list(dict.fromkeys(self._layers))
        self._watched_indices = np.array(self._watched, dtype=np.intp)
        self._layer_indices = np.array(
            [self._layer_names.index(name) for name in self._layers], np.intp
        )
        self._before: list[Tensor] | None = None
        self._is_counted = False

    def before_step(self, number: int, *, ends_interval: bool) -> None:
        """Copy entries of the weights, where the step is to be sampled.

        Args:
            number: Of the step, from 1.
            ends_interval: Whether an evaluation follows it.
        """
        self._is_counted = ends_interval or number % _SAMPLE_EVERY == 0
        is_sampled = self._is_counted or number in _EARLY
        self._before = [part.clone() for part in self._spaced()] if is_sampled else None

    def after_step(
        self, state: MonitorState, step: Step, describe_batch: Callable[[], str]
    ) -> str | None:
        """Add the figures of a step.

        Args:
            state: It is updated.
            step: Its figures, all finite.
            describe_batch: Describes the batch of the step, for a message.

        Returns:
            An alarm, if the gradient has exploded for the first time in the run.
        """
        alarm, usual = None, state.median_norm
        if usual and step.norm > EXPLODED * usual and "exploding" not in state.raised:
            alarm = _raise_once(
                state,
                "exploding",
                f"Exploding gradient at step {step.number:,} ({describe_batch()}): its norm, "
                f"{short_number(step.norm)}, is {step.norm / usual:,.0f} times the usual "
                f"{short_number(usual)}.  Largest: {largest_gradient(self.names, step.norms)}.  "
                "Look at that text; if it is as it should be, lower `optimizer.learning_rate` or "
                "`optimizer.clip`, with another `output`.",
            )
        state.losses = [*state.losses[1 - _WINDOW :], step.loss]
        state.norms = [*state.norms[1 - _WINDOW :], step.norm]
        norms = self._norms_by_layer(step)
        row_bytes = norms.size * norms.itemsize
        state.layer_norms = state.layer_norms[-(_WINDOW - 1) * row_bytes :] + norms.tobytes()
        if step.norm > state.largest_norm and self._layer_names:
            state.largest_norm, state.largest_step = step.norm, step.number
            state.largest_layer = self._layer_names[int(norms.argmax())]
        if self._before is not None:
            self._sample(state, step, self._before)
            self._before = None
        return alarm

    def after_evaluation(
        self, state: MonitorState, *, step: int, train_loss: float, valid_loss: float | None
    ) -> tuple[Stability, list[str]]:
        """Summarise the interval that an evaluation ends, and begin the next.

        Args:
            state: It is updated.
            step: Steps so far.
            train_loss: Of the interval, nats per token.
            valid_loss: Of the evaluation; None where it has none.

        Returns:
            The figures, and the alarms that follow from them.
        """
        oscillation = find_oscillation(state.losses)
        alarms = self._check_vanishing(state, step)
        if oscillation is not None and oscillation.is_sustained:
            first = step - len(state.losses) + 1
            alarms.append(
                _raise_once(
                    state,
                    "oscillation",
                    f"Training loss swings by {short_number(oscillation.amplitude)} to either side "
                    f"of {short_number(oscillation.level)}, once in {oscillation.period:.1f} "
                    f"steps, and does not settle (steps {first:,} to {step:,}).  A lower "
                    "`optimizer.learning_rate` or a larger `training.batch_tokens`, with another "
                    "`output`, steadies it.",
                )
            )
        if valid_loss is not None:
            state.gaps = [*state.gaps[-_RISES:], (train_loss, valid_loss)]
            alarms.append(_check_over_fitting(state))
        gap = None if valid_loss is None else valid_loss - train_loss
        stability = self._summarize(state, oscillation, gap)
        state.num_samples, state.largest_norm, state.largest_step = 0, 0.0, 0
        state.gradient_sums, state.ratio_sums, state.alarms = {}, {}, []
        state.samples, state.sample_stride = [], 1
        return stability, [alarm for alarm in alarms if alarm is not None]

    def after_failure(self, state: MonitorState) -> Stability:
        """Summarise the steps since the last evaluation of a run that cannot continue.

        Args:
            state: It stays as it is.

        Returns:
            The figures.
        """
        return self._summarize(state, find_oscillation(state.losses), gap=None)

    def _summarize(
        self, state: MonitorState, oscillation: Oscillation | None, gap: float | None
    ) -> Stability:
        is_sustained = oscillation is not None and oscillation.is_sustained
        return Stability(
            num_samples=state.num_samples,
            gradient_norms=_means(state.gradient_sums, state.num_samples),
            update_ratios=_means(state.ratio_sums, state.num_samples),
            largest_gradient_norm=state.largest_norm,
            oscillation=None if oscillation is None else oscillation.fraction,
            gap=gap,
            alarms=list(state.alarms),
            largest_gradient_step=state.largest_step,
            largest_gradient_layer=state.largest_layer,
            samples=list(state.samples),
            loss_oscillation={} if oscillation is None else msgspec.structs.asdict(oscillation),
            oscillation_by_layer=(
                self._amplitudes(state, oscillation.period)
                if oscillation is not None and is_sustained
                else {}
            ),
        )

    def _check_vanishing(self, state: MonitorState, step: int) -> list[str | None]:
        """Return alarms where layers had nearly no gradient in the whole interval."""
        num_needed = max(MIN_SILENT, state.num_samples)
        silent = [layer for layer, count in state.silent.items() if count >= num_needed]
        alarms: list[str | None] = []
        if COPY_GATE in silent and state.num_samples:
            silent.remove(COPY_GATE)
            text = (
                f"The copy gate has closed up to step {step:,}: the model copies nothing from the "
                "source.  Where outputs repeat no words of it, `model.has_copy=false`, with "
                "another `output`, is faster."
            )
            alarms.append(_raise_once(state, "closed gate", text))
        if not silent or not state.num_samples:
            return alarms
        text = self._describe_vanishing(silent, step, state)
        return [*alarms, _raise_once(state, "vanishing", text)]

    def _describe_vanishing(self, silent: Sequence[str], step: int, state: MonitorState) -> str:
        """Return which layers had nearly no gradient up to a step, and what may help."""
        norms = _means(state.gradient_sums, state.num_samples)
        smallest = min(silent, key=norms.__getitem__)
        largest = max(norms, key=norms.__getitem__)
        num_more = len(silent) - 1
        more = f" (and {num_more} more layer{'' if num_more == 1 else 's'})" if num_more else ""
        layers = f"{smallest}{more} up to step {step:,}"
        if norms[smallest] == 0:
            advice = _advise_on_silence(self._config, has_rate=self._has_rate)
            return f"No gradient reaches {layers}: it is exactly 0 at every sample.{advice}"
        remedies = _advise_on_depth(smallest, norms, self._config, has_rate=self._has_rate)
        return (
            f"Vanishing gradient in {layers}: its norm, {short_number(norms[smallest])}, is "
            f"{short_number(norms[smallest] / norms[largest])} of that of {largest}."
            f"{_sentence(list(remedies))}"
        )

    def _norms_by_layer(self, step: Step) -> NDArray[np.float32]:
        """Return the norm of each layer's gradient, ``[layers]``."""
        squares = step.norms.detach().float().cpu().numpy()[self._watched_indices] ** 2
        sums = np.bincount(self._layer_indices, squares, minlength=len(self._layer_names))
        return np.sqrt(sums).astype(np.float32)

    def _amplitudes(self, state: MonitorState, period: float) -> dict[str, float]:
        """Return by layer how strongly its gradient norm oscillates with a period, relatively."""
        norms = np.frombuffer(state.layer_norms, np.float32).reshape(-1, len(self._layer_names))
        if len(norms) < len(state.losses):  # resumed from a checkpoint that had none
            return {}
        series = np.log(np.maximum(norms.astype(np.float64), np.finfo(np.float32).tiny))
        return {
            name: _four_digits(amplitude_at(column, period))
            for name, column in zip(self._layer_names, series.T, strict=True)
        }

    @torch.no_grad()
    def _sample(self, state: MonitorState, step: Step, before: Sequence[Tensor]) -> None:
        """Add the norms of gradients and the relative updates of each layer to their sums."""
        of_parameters = step.norms.tolist()
        norms = _combine(self._layers, [of_parameters[index] for index in self._watched])
        now = self._spaced()
        weights = self._norms_of_layers(before)
        updates = self._norms_of_layers([new - old for new, old in zip(now, before, strict=True)])
        ratios = {layer: updates[layer] / size for layer, size in weights.items() if size > 0}
        self._record(state, step.number, norms, ratios)
        if not self._is_counted:
            return
        for sums, figures in ((state.gradient_sums, norms), (state.ratio_sums, ratios)):
            for layer, figure in figures.items():
                sums[layer] = sums.get(layer, 0.0) + figure
        state.num_samples += 1
        largest = max(norms.values(), default=0.0)
        if largest > 0:  # at an exact minimum nothing has vanished
            for layer, norm in norms.items():
                is_silent = norm <= VANISHED * largest
                state.silent[layer] = state.silent.get(layer, 0) + 1 if is_silent else 0
        if len(state.norms) >= _MIN_NORMS:
            state.median_norm = statistics.median(state.norms)

    def _norms_of_layers(self, parts: Sequence[Tensor]) -> dict[str, float]:
        """Return the norm of each layer, estimated by evenly spaced entries of its parameters.

        Args:
            parts: Entries of each parameter, of shape ``[entries]``.
        """
        # Norms grow with the root of the number of entries.
        scales = [
            math.sqrt(local_part(parameter).numel() / max(1, len(part)))
            for parameter, part in zip(self._parameters, parts, strict=True)
        ]
        norms = torch.stack(norms_of(parts, self._parameters)).tolist()
        scaled = [scale * norm for scale, norm in zip(scales, norms, strict=True)]
        return _combine(self._layers, scaled)

    def _record(
        self,
        state: MonitorState,
        number: int,
        norms: dict[str, float],
        ratios: dict[str, float],
    ) -> None:
        """Record a sample; where there are too many, every second one is dropped."""
        if self._is_counted and state.num_samples % state.sample_stride:
            return
        sample = LayerSample(
            step=number,
            gradient_norms={layer: _four_digits(norm) for layer, norm in norms.items()},
            update_ratios={layer: _four_digits(ratio) for layer, ratio in ratios.items()},
        )
        state.samples = [*state.samples, sample]
        if len(state.samples) > _MAX_SAMPLES:
            state.samples, state.sample_stride = state.samples[::2], 2 * state.sample_stride

    def _spaced(self) -> list[Tensor]:
        """Return views of evenly spaced entries of every parameter, ``[at most 65,536]`` each."""
        # An odd stride meets all columns of a matrix, whose sides are mostly even.
        return [
            local_part(parameter.detach()).flatten()[:: -(-parameter.numel() // _MAX_ENTRIES) | 1]
            for parameter in self._parameters
        ]


def _four_digits(value: float) -> float:
    return float(f"{value:.4g}")


def _means(sums: dict[str, float], count: int) -> dict[str, float]:
    return {layer: total / count for layer, total in sums.items()}


def _raise_once(state: MonitorState, kind: str, text: str) -> str | None:
    """Return an alarm, or None where one of its kind has been raised in this run."""
    if kind in state.raised:
        return None
    state.raised = [*state.raised, kind]
    state.alarms = [*state.alarms, text]
    return text


def _is_block(layer: str) -> bool:
    return layer.rpartition(".")[2].isdigit()


def _advise_on_depth(
    layer: str, layers: Iterable[str], config: object, *, has_rate: bool
) -> Iterator[str]:
    """Yield what may help a layer whose gradient vanishes: nothing that is the case already.

    Depth is the cause for blocks and embeddings alone, which have other blocks above.
    """
    blocks = list(filter(_is_block, layers))
    if len(blocks) < 2 or not (layer in blocks or "embedding" in layer):
        return
    if getattr(config, "norm", None) == "post":
        yield "`model.norm=pre`"
    yield "fewer layers"
    if has_rate:
        yield "a longer `optimizer.warmup`"


def _advise_on_silence(config: object, *, has_rate: bool) -> str:
    """Return what to look at where no gradient at all reaches a layer, after two spaces."""
    question = "  Is the layer connected to the output?"
    if getattr(config, "activation", None) != "relu":
        return question
    rate = " or a lower `optimizer.learning_rate`" if has_rate else ""
    return (
        f"{question}  Where its inputs are all negative before a relu, `model.activation=gelu`"
        f"{rate}, with another `output`, helps."
    )


def _sentence(remedies: Sequence[str]) -> str:
    """Return remedies as a sentence, after two spaces; empty without any.

    >>> _sentence(["fewer layers", "a longer `optimizer.warmup`"])
    '  Fewer layers or a longer `optimizer.warmup`, with another `output`, helps.'
    """
    if not remedies:
        return ""
    *earlier, last = remedies
    text = f"{', '.join(earlier)} or {last}" if earlier else last
    return f"  {text[0].upper()}{text[1:]}, with another `output`, helps."


def _check_over_fitting(state: MonitorState) -> str | None:
    """Return an alarm where validation loss and its gap to training loss rise repeatedly."""
    if len(state.gaps) <= _RISES:
        return None
    valid = [loss for _, loss in state.gaps]
    gaps = [loss - train for train, loss in state.gaps]
    if not all(a < b for series in (valid, gaps) for a, b in pairwise(series)):
        return None
    return _raise_once(
        state,
        "over-fitting",
        f"Over-fitting: validation loss rose {_RISES} evaluations in a row "
        f"({valid[0]:.3f} to {valid[-1]:.3f}), its gap to training loss from {gaps[0]:.3f} to "
        f"{gaps[-1]:.3f}.  The best weights so far are kept.  More data, a smaller model or a "
        "higher `model.dropout`, with another `output`, helps.",
    )
