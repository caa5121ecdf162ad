"""Raw attention: what each output reads, as the mean of the weights over layers and heads.

In an encoder-decoder that is the mean of cross-attention over the source and of self-attention over
the target, of all layers of the decoder; a feature that attention never reads gets 0. Attention
shows where information may flow, not why a word was chosen (Jain & Wallace 2019). Cost: one pass.
"""

from __future__ import annotations

import torch

from regard.explain.attribution.attention_graph import hide_unread, read_blocks, read_stacks
from regard.explain.attribution.method import Attribution, Budget, Method
from regard.explain.prediction import Prediction


def raw_attention(prediction: Prediction, budget: Budget) -> Attribution:  # noqa: ARG001
    """Compute the mean weights of all attention that the outputs' positions do.

    Args:
        prediction: That is explained.
        budget: Not used: one pass is small.

    Returns:
        Scores whose rows sum to 1, or less where a query attends to nothing.

    Raises:
        ConfigError: The model has no attention, or a layer has no weights.
    """
    blocks = read_blocks(prediction, needs_self_attention=False)
    readout = prediction.readout
    scores = torch.zeros(len(prediction.outputs), len(prediction.features), dtype=readout.dtype)
    num_layers = 0
    for index in read_stacks(prediction, blocks):
        stack, source = prediction.stacks[index], prediction.stacks[0]
        for block in blocks[index]:
            for weights, keys in ((block.own, stack), (block.source, source)):
                if weights is not None:
                    scores[:, keys.start : keys.stop] += readout @ weights.to(readout.dtype)
                    num_layers += 1
    return Attribution(hide_unread(scores / num_layers, prediction))


RAW_ATTENTION = Method("Raw attention", is_signed=False, compute=raw_attention, unit="attention")
