"""What a model would say if its later layers were left out.

The logit lens (nostalgebraist 2020) reads the outputs from the residual stream after each layer, by
the model's own last norm and output map. The DecoderLens (Langedijk et al. 2024) lets the decoder
of an encoder-decoder read the encoder's stream after each of its layers, by the encoder's own last
norm. Both are the prediction itself with the later layers of a stack in place of which their input
passes on, so they work for every family whose layers add to a residual stream. Cost: one pass for
each layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from regard.explain.document import LensRow
from regard.explain.prediction import ClassPrediction, Prediction, Stack
from regard.layers import DecoderBlock, TransformerBlock


def logit_lens(prediction: Prediction) -> list[LensRow]:
    """Return the outputs by layer of the stack that computes them, the embedding first.

    Args:
        prediction: That is explained.

    Returns:
        The last row is the prediction itself; empty where the layers have no residual stream.
    """
    return _rows(prediction, prediction.stacks[-1:] if _has_encoder(prediction) else None)


def encoder_lens(prediction: Prediction) -> list[LensRow]:
    """Return the outputs where the decoder reads an earlier layer of the encoder.

    Args:
        prediction: That is explained.

    Returns:
        The last row is the prediction itself; empty where the model has no encoder and decoder, or
        where the encoder's layers have no residual stream.
    """
    return _rows(prediction, prediction.stacks[:1]) if _has_encoder(prediction) else []


def _has_encoder(prediction: Prediction) -> bool:
    return [stack.name for stack in prediction.stacks] == ["encoder", "decoder"]


def _rows(prediction: Prediction, stacks: tuple[Stack, ...] | None) -> list[LensRow]:
    """Return the outputs by layer of stacks that are cut at the same depth; None cuts all."""
    stacks = prediction.stacks if stacks is None else stacks
    depths = {len(stack.layers) for stack in stacks}
    layers = [layer for stack in stacks for layer in stack.layers]
    if len(depths) > 1 or not all(isinstance(x, TransformerBlock | DecoderBlock) for x in layers):
        return []
    paths = {module: path for path, module in prediction.model.named_modules()}
    (depth,) = depths
    names = ["embedding", *(paths[layer] for layer in stacks[0].layers)]
    with torch.no_grad():
        rows = []
        for number in range(depth + 1):
            skipped = [layer for stack in stacks for layer in stack.layers[number:]]
            with _pass_on(skipped):
                rows.append(_read(prediction, names[number]))
    return rows


def _read(prediction: Prediction, name: str) -> LensRow:
    """Return the outputs of the model as it is now."""
    weights = prediction.full_weights()
    (scores,) = prediction.scores(weights).tolist()
    if not isinstance(prediction, ClassPrediction):
        return LensRow(layer=name, texts=[], probabilities=[], scores=scores)
    (log_probabilities,) = prediction.log_probabilities(weights)
    best = log_probabilities.max(-1)
    return LensRow(
        layer=name,
        texts=[prediction.class_text(index) for index in best.indices.tolist()],
        probabilities=best.values.exp().tolist(),
        scores=scores,
    )


@contextmanager
def _pass_on(layers: list[nn.Module]) -> Iterator[None]:
    """Let layers give their input while a block of code runs."""

    def replace(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        return inputs[0]

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(replace).remove)
        yield
