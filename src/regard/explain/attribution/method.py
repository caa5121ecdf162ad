"""What a method of attribution is: a function from a prediction to scores with a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from regard.errors import ConfigError
from regard.explain.prediction import Prediction
from regard.option_checks import require_whole

_DEFAULT_BYTES = 512 * 1024**2
_NUMBERS_PER_STATE = 40  # that a layer keeps of each position for the backward pass, times its size
_COPIES_OF_OUTPUTS = 4  # logits, their float32 form, logarithms of probabilities, a gradient


class TooLongError(ConfigError):
    """A method cannot explain a text of this length; it can explain shorter ones."""


class Attribution(NamedTuple):
    """Scores of features.

    Args:
        scores: ``[outputs, features]``; NaN where an output does not depend on a feature.
        error: How far the sum of an output's scores misses the change that they share out, as a
            fraction of it, ``[outputs]``; None where a method has no such error.
        steps: Points of an integral; None where there is none.
    """

    scores: Tensor
    error: Tensor | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Budget:
    """The memory and the passes that a method may use, and what hears of its progress.

    Args:
        memory: In bytes.
        on_progress: Called with the rows computed so far and the number of all rows.
        max_steps: Points of an integral, at most; None leaves them to the method.

    Raises:
        ConfigError: A number is not a whole one from 1 up.
    """

    memory: int = _DEFAULT_BYTES
    on_progress: Callable[[int, int], None] | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        require_whole("memory", self.memory, 1)
        if self.max_steps is not None:
            require_whole("max_steps", self.max_steps, 1)

    def chunks(
        self,
        prediction: Prediction,
        num_rows: int,
        *,
        has_gradient: bool = True,
        num_done: int = 0,
    ) -> Iterator[slice]:
        """Divide rows so that a pass over a part of them stays within the memory.

        Args:
            prediction: Whose scores are computed.
            num_rows: All rows.
            has_gradient: Whether the backward pass follows, for which all layers keep their states.
            num_done: Rows of earlier passes, for `on_progress`.

        Yields:
            Consecutive rows; `on_progress` is called after each part.
        """
        length = len(prediction.features)
        layers = max(sum(len(stack.layers) for stack in prediction.stacks), 1)
        saved_layers = layers if has_gradient else 1
        states = _NUMBERS_PER_STATE * prediction.model.dim * saved_layers * length
        pairs = 4 * saved_layers * length**2
        outputs = _COPIES_OF_OUTPUTS * len(prediction.outputs) * prediction.num_values
        size = max(1, self.memory // (4 * (states + pairs + outputs)))
        for start in range(0, num_rows, size):
            stop = min(start + size, num_rows)
            yield slice(start, stop)
            if self.on_progress is not None:
                self.on_progress(num_done + stop, num_done + num_rows)


class Method(NamedTuple):
    """A method of attribution.

    Args:
        title: Its name for a reader.
        is_signed: Whether scores below 0 speak against the output.
        compute: Computes the scores, in the prediction's unit or, where `unit` is set, in that.
        unit: Unit of the scores; empty where it is the prediction's.
        is_default: Whether it is computed where no method is named.
    """

    title: str
    is_signed: bool
    compute: Callable[[Prediction, Budget], Attribution]
    unit: str = ""
    is_default: bool = True
