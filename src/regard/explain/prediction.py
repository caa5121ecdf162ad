"""One prediction of a model, open for explaining: features go in, outputs come out with scores.

Every method of explaining reads a `Prediction` and nothing else of a task or a family. Its one
function, `Prediction.scores`, is differentiable in the weight of each feature: 1 keeps the feature,
0 replaces its embedding by that of a baseline, and values between interpolate (Sundararajan, Taly &
Yan 2017, section 3). The derivative by a weight is therefore the sum over the embedding of gradient
times difference to the baseline; a weight of 0 is occlusion.

Weights, scores and what methods make of them are in main memory; the model is on its device, where
a prediction passes its inputs to it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

import msgspec
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.errors import ConfigError, WeightsError
from regard.models import Model
from regard.settings.validation import require_kind

Baseline = Literal["reference", "zero"]
"""What replaces an embedding: that of a token or value that says nothing, or zeros."""

MOST_ALTERNATIVES = 5  # of an output


class Feature(msgspec.Struct, frozen=True):
    """A part of the input that gets a score of its own.

    Args:
        text: The token, or a name such as ``patch 3, 4``.
        part: Which input it is of: source, target, question, context, text, image, rows or history.
        is_special: Whether it is a token that every input has, such as ``</s>``. The baseline
            leaves it as it is.
    """

    text: str
    part: str
    is_special: bool = False

    @property
    def is_written(self) -> bool:
        """Whether it is an output that was fed back."""
        return self.part in ("target", "continuation")


class Output(msgspec.Struct, frozen=True):
    """An output that is explained.

    Args:
        text: The token, label or step ahead.
        score: In the prediction's unit, without contrast.
        alternatives: Probabilities of the most probable outputs, its own among them where it is one
            of these, most probable first; empty where there are none.
    """

    text: str
    score: float
    alternatives: dict[str, float] = {}


class Stack(NamedTuple):
    """Layers that follow each other, and the features at their positions.

    Args:
        name: encoder or decoder.
        layers: First to last.
        start: Feature of the first position.
        stop: The feature after that of the last position.
    """

    name: str
    layers: tuple[nn.Module, ...]
    start: int
    stop: int


def require_prediction(prediction: object) -> None:
    """Raise TypeError where something is not a prediction."""
    require_kind("prediction", prediction, Prediction, "what `regard.explain.predict` returns")


class Prediction(ABC):
    """One input of a model, and the outputs that the model has for it.

    Args:
        model: In evaluation mode.
        features: Features at all positions of all stacks, in order.
        outputs: What is explained.
        stacks: The model's stacks of layers; the last computes the outputs.
        readout: How much each output reads the last layer's state at each position of the last
            stack, of shape ``[outputs, positions]``; rows sum to 1.
    """

    first_method = "occlusion"
    """Name of the method of attribution that is shown first: the most faithful one of this kind."""
    # 200 rows each, comprehensiveness minus sufficiency in percent of probability: translation
    # en-de occlusion 47.3, integrated gradients 46.4, gradient x input 33.7, attention 33.4,
    # rollout 15.3, random 2.9; sentiment integrated gradients 2.69, occlusion 2.50, then 0.99,
    # 0.77, 0.62, 0.03. Where the ids of tokens matter, too, in the order of translation: a
    # translator that copies 54.7, 48.5, 40.3 (24 rows), answers 67.1, 54.6, 52.8 (8 rows). Other
    # inputs than texts were not tried. `benchmarks/explain.py MODEL TEST` compares the methods.
    unit = "nats"
    """Of scores: nats are logarithms of probabilities."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader must know."""
    image: NDArray | None = None
    """The image that was read, ``[channels, height, width]``; None where the input is another."""
    history: tuple[float, ...] = ()
    """Values of the window that a forecast was made from, oldest first; else empty."""
    num_values = 1
    """Numbers that the model computes for each output, such as one for each class."""
    path_power = 1
    """Points t of an integral from 0 to 1 are weights t^power: above 1 more of them are small."""

    def __init__(
        self,
        model: Model,
        features: tuple[Feature, ...],
        outputs: tuple[Output, ...],
        *,
        stacks: tuple[Stack, ...],
        readout: Tensor,
    ) -> None:
        self.model, self.features, self.outputs = model, features, outputs
        self.stacks, self.readout = stacks, readout

    @property
    def reads(self) -> Tensor:
        """Which features each output depends on, ``[outputs, features]``: all of them."""
        return torch.ones(len(self.outputs), len(self.features), dtype=torch.bool)

    @property
    def has_encoder(self) -> bool:
        """Whether a decoder reads what an encoder gives."""
        return [stack.name for stack in self.stacks] == ["encoder", "decoder"]

    @property
    def is_special(self) -> Tensor:
        """Which features the baseline leaves as they are, ``[features]``."""
        return torch.tensor([feature.is_special for feature in self.features])

    @abstractmethod
    def scores(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute scores for inputs whose features are weakened.

        Args:
            weights: Weights of the features, ``[rows, features]``, or of each number of their
                embeddings, ``[rows, features, dim]``; 1 keeps, 0 replaces by the baseline. The
                result is differentiable in them.
            baseline: What replaces a feature.
            outputs: The one output of each row whose score is computed, ``[rows]``; None computes
                all of them.

        Returns:
            ``[rows, outputs]``, or ``[rows]``, in the prediction's unit.
        """

    def refresh(self) -> None:  # noqa: B027 - inputs that are no tokens have nothing
        """Compute again what depends on the weights of the model, after a change of these."""

    def full_weights(self, rows: int = 1) -> Tensor:
        """Return the weights of the input as it is, ``[rows, features]``."""
        return torch.ones(rows, len(self.features))

    def effect_scale(self, scores: Tensor) -> Tensor:
        """Return scores, of shape ``[rows, outputs]``, as faithfulness compares them: unchanged."""
        return scores


class ClassPrediction(Prediction):
    """A prediction of classes, such as tokens or labels, by their probabilities.

    Args:
        model: In evaluation mode.
        features: Features at all positions of all stacks, in order.
        output_classes: Class of each output, ``[outputs]``.
        contrast: Class that each output is compared with, ``[outputs]``: the score is then the
            difference of the two log-probabilities ("why this, not that": Yin & Neubig 2022). None
            compares with nothing.
        stacks: The model's stacks of layers.
        readout: See `Prediction`.

    Raises:
        ConfigError: The contrast is the output itself, or an output has probability 0.
        WeightsError: A score is not a number.
    """

    def __init__(
        self,
        model: Model,
        features: tuple[Feature, ...],
        *,
        output_classes: Tensor,
        contrast: Tensor | None,
        stacks: tuple[Stack, ...],
        readout: Tensor,
    ) -> None:
        if contrast is not None and torch.equal(output_classes, contrast):
            raise ConfigError("the contrast does not differ from the output.  Name another one.")
        super().__init__(model, features, (), stacks=stacks, readout=readout)
        self.output_classes, self.contrast = output_classes, contrast
        self.outputs = tuple(self._describe_outputs())

    def output_texts(self) -> list[str]:
        """Return the texts of the outputs: those of their classes, unless a subclass knows more."""
        return [self.class_text(index) for index in self.output_classes.tolist()]

    @abstractmethod
    def class_text(self, index: int) -> str:
        """Return the text of a class."""

    @abstractmethod
    def log_probabilities(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute the logarithms of all probabilities for inputs whose features are weakened.

        Args:
            weights: As in `scores`.
            baseline: What replaces a feature.
            outputs: The one output of each row that is computed, ``[rows]``; None computes all.

        Returns:
            Of shape ``[rows, outputs, classes]``, or ``[rows, classes]``; float32 at least.
        """

    def scores(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute log-probabilities, or their differences to the contrast.

        Returns:
            Of shape ``[rows, outputs]``, or ``[rows]`` where `outputs` are given.
        """
        log_probabilities = self.log_probabilities(weights, baseline=baseline, outputs=outputs)
        return self.scores_of(log_probabilities, outputs=outputs)

    def scores_of(self, log_probabilities: Tensor, *, outputs: Tensor | None = None) -> Tensor:
        """Return the scores that log-probabilities give.

        Args:
            log_probabilities: Logarithms of probabilities, of shape ``[rows, outputs, classes]``,
                or ``[rows, classes]`` where each row has one output.
            outputs: The output of each row, ``[rows]``; None where each row has all.

        Returns:
            ``[rows, outputs]``, or ``[rows]``.
        """
        result = self._take(log_probabilities, self.output_classes, outputs)
        if self.contrast is None:
            return result
        return result - self._take(log_probabilities, self.contrast, outputs)

    def effect_scale(self, scores: Tensor) -> Tensor:
        """Return probabilities, of shape ``[rows, outputs]``; with a contrast, of one of two."""
        return scores.exp() if self.contrast is None else scores.sigmoid()

    @staticmethod
    def _take(log_probabilities: Tensor, classes: Tensor, outputs: Tensor | None) -> Tensor:
        """Take the class of each output from ``[rows, outputs, classes]``, or of each row."""
        if outputs is not None:
            return log_probabilities.gather(-1, classes[outputs][:, None])[:, 0]
        index = classes.expand(len(log_probabilities), -1)[..., None]  # [rows, outputs, 1]
        return log_probabilities.gather(-1, index)[..., 0]

    def _describe_outputs(self) -> Iterator[Output]:
        with torch.inference_mode():
            (rows,) = self.log_probabilities(self.full_weights())  # [outputs, classes]
        self.num_values = rows.shape[-1]
        for classes in (self.output_classes, self.contrast):
            if classes is not None:
                texts = [self.class_text(index) for index in classes.tolist()]
                check_scores(rows.gather(-1, classes[:, None])[:, 0], texts)
        outputs = zip(rows, self.output_classes.tolist(), self.output_texts(), strict=True)
        for row, index, text in outputs:
            top = row.exp().topk(min(MOST_ALTERNATIVES, len(row)))
            alternatives: dict[str, float] = {}
            for value, other in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                alternatives.setdefault(self.class_text(other), value)  # texts may repeat
            yield Output(text=text, score=float(row[index]), alternatives=alternatives)


def check_scores(scores: Tensor, texts: Sequence[str]) -> None:
    """Check that the scores of outputs are numbers.

    Args:
        scores: ``[outputs]``.
        texts: Texts of the outputs.

    Raises:
        WeightsError: A score is not a number.
        ConfigError: An output has probability 0.
    """
    for score, text in zip(scores.tolist(), texts, strict=True):
        if math.isnan(score):
            raise WeightsError(
                f"the model's score of {text!r} is not a number (nan): there is nothing to explain."
                "  Its weights are damaged, or its training diverged."
            )
        if score == -math.inf:
            raise ConfigError(f"the model never gives {text!r}: its probability is 0.")


@contextmanager
def replace_outputs(
    replacements: Mapping[nn.Module, Callable[[Tensor], Tensor]],
) -> Iterator[None]:
    """Replace the outputs of layers while a block of code runs.

    Args:
        replacements: For each layer, a function from its output to what replaces it.
    """
    with ExitStack() as stack:
        for layer, replace in replacements.items():
            handle = layer.register_forward_hook(
                lambda _module, _inputs, output, replace=replace: replace(output)
            )
            stack.callback(handle.remove)
        yield


def weaken(embeddings: Tensor, weights: Tensor, baseline: Tensor) -> Tensor:
    """Move embeddings towards a baseline.

    Args:
        embeddings: ``[rows, length, dim]``.
        weights: ``[rows, length]`` or ``[rows, length, dim]``; 1 keeps, 0 gives the baseline.
        baseline: ``[length, dim]``.

    Returns:
        ``[rows, length, dim]``, of the embeddings' type.
    """
    weights = weights[..., None] if weights.dim() == 2 else weights
    weights = weights.to(embeddings.device, embeddings.dtype)
    return baseline + weights * (embeddings - baseline)


def record_outputs(layers: Mapping[str, nn.Module], run: Callable[[], object]) -> dict[str, Tensor]:
    """Return what layers give while a function runs, by their names, without gradient.

    Args:
        layers: By name.
        run: Runs the model once.

    Returns:
        The output of the last call of each layer.
    """
    recorded: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def replace(output: Tensor) -> Tensor:
            recorded[name] = output.detach()
            return output

        return replace

    with torch.no_grad(), replace_outputs({layers[name]: keep(name) for name in layers}):
        run()
    return recorded
