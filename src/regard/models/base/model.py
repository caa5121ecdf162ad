"""The base of every model: its size, and the type it computes in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec
import torch
from torch import Tensor, nn

from regard.settings.binding import check_types

if TYPE_CHECKING:
    from regard.attention import Pattern
    from regard.layers.attention_config import AttentionConfig


class FamilyConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="family"
):
    """The dimensions of a model; the setting ``family`` says of which family."""

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def family(self) -> str:
        """Name of the family."""
        return str(self.__struct_config__.tag)

    def longest_input(self, max_length: int) -> int:
        """Return the rows of the longest input: of text the most tokens that settings allow.

        Args:
            max_length: Most tokens of a text.
        """
        return max_length

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions and the patterns of attention in a line."""
        raise NotImplementedError


class PooledVector(NamedTuple):
    """How a model gets one vector for a row.

    Args:
        label: What the vector is, such as "mean over tokens".
        reader: The first layer that reads the vector; None is the map to the output.
    """

    label: str
    reader: nn.Module | None


class Connection(NamedTuple):
    """A flow of data between two layers that the order of the layers does not show.

    Args:
        start: Name of the layer that it leaves.
        end: Name of the layer that it enters.
        label: What flows; empty where that is plain.
        is_late: Whether it enters at the next step of decoding.
    """

    start: str
    end: str
    label: str = ""
    is_late: bool = False


class Model(nn.Module):
    """The base of every model.

    It computes in the type of its parameters, or in that of an autocast region.

    Args:
        dim: Size of its hidden states.
    """

    input_name = "tokens"
    """What it reads, in a word."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self._compute_dtype: torch.dtype | None = None

    def __repr__(self) -> str:
        """Describe the model on one screen; ``torch.nn.Module.__repr__(model)`` lists layers."""
        parameters = list(self.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        types = {f"{p.dtype}".removeprefix("torch.") for p in parameters}
        devices = {str(parameter.device) for parameter in parameters}
        patterns = dict.fromkeys(
            repr(module.pattern) for module in self.modules() if hasattr(module, "pattern")
        )
        facts = {
            "parameters": f"{self.num_parameters:,}"
            + ("" if trained == self.num_parameters else f" ({trained:,} trained)"),
            "config": getattr(self, "config", None),
            "attention": ", ".join(patterns) or None,
            "type": f"{', '.join(sorted(types))} on {', '.join(sorted(devices))}",
        }
        lines = [f"  {name}: {fact}" for name, fact in facts.items() if fact is not None]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    @property
    def num_parameters(self) -> int:
        """Number of its weights, those of a tied table once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type of activations: that of the parameters, unless another one is set.

        Set ``torch.bfloat16`` to keep float32 weights and round each where it is used. A cast of
        the model, such as ``.double()``, ends this.
        """
        return self._compute_dtype or next(self.parameters()).dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype | None) -> None:
        for module in self.modules():
            if isinstance(module, Model):
                module._compute_dtype = dtype

    @property
    def device(self) -> torch.device:
        """The device of its parameters, where its inputs are to be."""
        return next(self.parameters()).device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Cast or move all tensors; tied weights stay one, and their type is computed in."""
        before = next(self.parameters()).dtype
        owners: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    owners.setdefault(id(parameter), []).append((module, name))
        super()._apply(fn, recurse)
        for (first, first_name), *duplicates in owners.values():
            for module, name in duplicates:
                module._parameters[name] = first._parameters[first_name]
        if next(self.parameters()).dtype != before:
            self.compute_dtype = None
        return self

    @property
    def output_name(self) -> str:
        """What `forward` returns, in a few words."""
        return "states"

    def pooling(self) -> PooledVector | None:
        """Return how it gets one vector for a row; None where it works on states alone."""
        return None

    def vector_layers(self) -> list[nn.Module]:
        """Return the layers that read one vector of a row instead of its states."""
        return []

    def unused_layers(self) -> list[nn.Module]:
        """Return the layers that `forward` does not run."""
        return []

    def weights_passed(self) -> dict[nn.Module, nn.Parameter]:
        """Return weights of its own that it passes to layers in every call, by layer."""
        return {}

    def connections(self) -> list[Connection]:
        """Return flows of data that the order of the layers does not show."""
        return []

    def stacks(self) -> dict[str, list[nn.Module]]:
        """Return the layers of each stack, first to last; the decoder follows the encoder."""
        return {
            name: list(child)
            for name, child in self.named_children()
            if isinstance(child, nn.ModuleList)
        }

    def layers(self) -> list[nn.Module]:
        """Return the layers of all stacks, first to last."""
        return [layer for stack in self.stacks().values() for layer in stack]

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the layers that give its embedded inputs, ``[batch, length, dim]``, by name."""
        return {}

    @property
    def num_blocks(self) -> int:
        """Number of layers, of encoder and decoder together."""
        return len(self.layers())

    @abstractmethod
    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves for the backward pass, in bytes a token.

        Args:
            attention: The patterns, its own or others.
            length: Length of the input (of source and target, where there are two), in tokens.

        Returns:
            The bytes that all layers save for a token.
        """

    def bytes_kept(self, patterns: Iterable[Pattern], length: int, *, num_heads: int = 1) -> int:
        """Predict the bytes of scores and weights that the backward pass needs, of each token.

        Args:
            patterns: Pattern of each layer.
            length: Length of the input, in tokens.
            num_heads: Attention heads of a layer.

        Returns:
            The bytes that all layers save.
        """
        from regard.attention import peak_saved_bytes

        size = self.compute_dtype.itemsize
        return num_heads * sum(peak_saved_bytes(p, length, itemsize=size) for p in patterns)
