"""A model as a graph: inputs and outputs by the names of the field, any batch and length.

A graph that reads texts has ``attention_mask`` in place of lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as shape_settings

from regard.hub.export.usage.torch_session import arguments

BATCH, LENGTH = "batch_size", "sequence_length"
"""Names of the axes that vary, as those of exports of ``transformers``."""
TOKENS = {0: BATCH, 1: LENGTH}
"""Axes of ids and masks that vary."""
_ROWS, _POSITIONS = 3, 9  # of the example that is traced; 1 would be taken for a constant
_LONGEST = 10**9  # tokens: a graph for fewer has compared a length with a constant


class Graph(NamedTuple):
    """A model with the names of its inputs and outputs.

    Args:
        module: Takes the inputs, and returns the outputs, both by name; inputs whose names have a
            point are one argument, a mapping by what follows the first point.
        make_inputs: Draws inputs from a generator, for a number of rows and a length.
        outputs: Axes that vary of each output, by its name.
        inputs: The same of each input.
        may_be_empty: Whether an axis may have length 0, as that of keys before the first token.
    """

    module: nn.Module
    make_inputs: Callable[[torch.Generator, int, int], dict[str, Tensor]]
    outputs: Mapping[str, Mapping[int, str]]
    inputs: Mapping[str, Mapping[int, str]]
    may_be_empty: bool = False

    def example(self) -> dict[str, Tensor]:
        """Return the inputs that are traced, by name."""
        # More positions than a layer has at the beginning that are treated otherwise.
        numbers = [getattr(layer, "num_global", 0) for layer in self.module.modules()]
        length = _POSITIONS + max(numbers)
        return self.make_inputs(torch.Generator().manual_seed(0), _ROWS, length)

    def trace(self) -> torch.export.ExportedProgram:
        """Return the program of the model for any batch and length."""
        axes = {
            name: dict.fromkeys(of_input, torch.export.Dim.DYNAMIC)
            for name, of_input in self.inputs.items()
        }
        # Else lengths of 0 and 1 would be taken for impossible.
        with cast("Any", shape_settings).patch(backed_size_oblivious=self.may_be_empty):
            program = torch.export.export(
                self.module, (), arguments(self.example()), dynamic_shapes=arguments(axes)
            )
        if self.may_be_empty:
            program._guards_code.clear()  # that lengths differ from each other, and from 1
        ranges = program.range_constraints.values()
        assert all(bound.upper > _LONGEST for bound in ranges), "a length of the example is in it"
        return program

    def compute(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the model for inputs, both by name, of shape ``[batch, ...]``."""
        return self.module(**arguments(inputs))


def read_mask(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens of each row, and which rows have padding that is not on the right.

    Args:
        attention_mask: Not 0 at tokens, ``[batch, length]``.

    Returns:
        Whole numbers and bool, ``[batch]`` each.
    """
    is_token = attention_mask != 0
    lengths = is_token.sum(1)
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return lengths, (is_token != (positions < lengths[:, None])).any(1)


def refuse(output: Tensor, isrefused: Tensor) -> Tensor:
    """Return ``[batch, ...]`` with NaN in the rows where bool ``[batch]`` says so."""
    return output.masked_fill(isrefused.view(-1, *[1] * (output.dim() - 1)), torch.nan)
