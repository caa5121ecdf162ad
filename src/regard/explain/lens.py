"""What a model would say if its later layers were left out.

The logit lens (nostalgebraist 2020) reads the outputs from the residual stream after each layer, by
the model's own last norm and output map. The DecoderLens (Langedijk et al. 2024) lets the decoder
of an encoder-decoder read the encoder's stream after each of its layers, by the encoder's own last
norm. Both are the prediction itself, where the later layers of a stack give what they read, so they
work for every family whose layers add to a residual stream. Cost: a row of a pass for each layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from regard.explain.attribution.method import Budget
from regard.explain.document import LensRow
from regard.explain.prediction import ClassPrediction, Prediction, Stack, require_prediction
from regard.layers import DecoderBlock, TransformerBlock


def logit_lens(
    prediction: Prediction,
    budget: Budget = Budget(),  # noqa: B008 - an immutable value
) -> list[LensRow]:
    """Return the outputs by layer of the stack that computes them, the embedding first.

    Args:
        prediction: That is explained.
        budget: Memory, and what hears of the progress, layer by layer.

    Returns:
        The last row is the prediction itself; empty where the layers have no residual stream.
    """
    require_prediction(prediction)
    stacks = prediction.stacks[-1:] if prediction.has_encoder else prediction.stacks
    return _rows(prediction, stacks, budget)


def encoder_lens(
    prediction: Prediction,
    budget: Budget = Budget(),  # noqa: B008 - an immutable value
) -> list[LensRow]:
    """Return the outputs where the decoder reads an earlier layer of the encoder.

    Args:
        prediction: That is explained.
        budget: Memory, and what hears of the progress, layer by layer.

    Returns:
        The last row is the prediction itself; empty where the model has no encoder and decoder, or
        where the encoder's layers have no residual stream.
    """
    require_prediction(prediction)
    return _rows(prediction, prediction.stacks[:1], budget) if prediction.has_encoder else []


def _rows(prediction: Prediction, stacks: tuple[Stack, ...], budget: Budget) -> list[LensRow]:
    """Return the outputs by layer of stacks that are cut at the same depth."""
    if not _have_streams(stacks):
        return []
    paths = {module: path for path, module in prediction.model.named_modules()}
    names = ["embedding", *map(paths.__getitem__, stacks[0].layers)]
    rows: list[LensRow] = []
    for part in budget.chunks(prediction, len(names), has_gradient=False):
        depth = torch.arange(part.start, part.stop)  # layers that each row of a pass has
        skipped = {
            layer: depth <= index for stack in stacks for index, layer in enumerate(stack.layers)
        }
        with torch.no_grad(), _pass_on(skipped):
            rows += _read(prediction, names[part])
    return rows


def _have_streams(stacks: tuple[Stack, ...]) -> bool:
    """Return whether stacks of one depth have layers that all add to a residual stream."""
    depths = {len(stack.layers) for stack in stacks}
    layers = [layer for stack in stacks for layer in stack.layers]
    has_stream = (isinstance(layer, TransformerBlock | DecoderBlock) for layer in layers)
    return len(depths) == 1 and all(has_stream)


def _read(prediction: Prediction, names: list[str]) -> Iterator[LensRow]:
    """Return the outputs of the rows of a pass, as the model is now."""
    weights = prediction.full_weights(len(names))
    if not isinstance(prediction, ClassPrediction):
        for name, scores in zip(names, prediction.scores(weights).tolist(), strict=True):
            yield LensRow(layer=name, texts=[], probabilities=[], scores=scores)
        return
    log_probabilities = prediction.log_probabilities(weights)  # [rows, outputs, classes]
    all_scores = prediction.scores_of(log_probabilities).tolist()
    best = log_probabilities.max(-1)
    for name, scores, classes, values in zip(
        names, all_scores, best.indices.tolist(), best.values.exp().tolist(), strict=True
    ):
        texts = [prediction.class_text(index) for index in classes]
        yield LensRow(layer=name, texts=texts, probabilities=values, scores=scores)


@contextmanager
def _pass_on(skipped: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Let layers give their input in some rows while a block of code runs.

    Args:
        skipped: For each layer the rows that it passes on, ``[rows]``.
    """
    with ExitStack() as stack:
        for layer, rows in skipped.items():

            def replace(
                _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, rows: Tensor = rows
            ) -> Tensor:
                is_passed = rows.to(output.device)[:, None, None]
                return torch.where(is_passed, inputs[0], output)  # [rows, length, dim]

            stack.callback(layer.register_forward_hook(replace).remove)
        yield
