"""The weights of a model as the compiled decoder reads them, packed once."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.generation.native import library
from regard.generation.native.coverage import (
    Block,
    BlockStack,
    band_of,
    output_bias,
    self_attention_of,
    source_stack,
    target_stack,
    why_through_operators,
)
from regard.layers.feed_forward import GATED
from regard.layers.multi_head_attention import SelfAttention
from regard.layers.norm import LayerNorm, RMSNorm
from regard.layers.positions import LearnedPositions, SinusoidalPositions, sinusoids
from regard.layers.relative_bias import RelativeBias
from regard.layers.rotary import Rotary
from regard.layers.transformer_block import DecoderBlock, ParallelBlock
from regard.models.base.encoder_decoder import EncoderDecoder

if TYPE_CHECKING:
    from regard.layers.linear import Linear
    from regard.layers.multi_head_attention import MultiHeadAttention
    from regard.layers.pointer_generator import PointerGenerator
    from regard.models.base.text_model import TextModel
    from regard.settings.values import DecodingPrecision


class PackedModel:
    """The packed weights of a model.

    Args:
        model: In evaluation mode, on the CPU.
        precision: Type of the weights.

    Raises:
        ConfigError: The compiled decoder does not cover the model.
    """

    def __init__(self, model: TextModel, precision: DecodingPrecision) -> None:
        reason, compiled = why_through_operators(model), library.load_fastest()
        if reason is not None or compiled is None:
            raise ConfigError(f"the model decodes through PyTorch's operators: {reason}.")
        self.library = compiled
        target, source = target_stack(model), source_stack(model)
        self.target_positions = PositionTables(target)
        self.source_positions = None if source is None else PositionTables(source)
        """Of the encoder; None where PyTorch's operators encode."""
        source_sizes = None if source is None else ctypes.byref(_sizes(source, precision))
        target_sizes = ctypes.byref(_sizes(target, precision))
        self.handle: int = compiled.regard_model_new(source_sizes, target_sizes)
        library.check(0 if self.handle else 1)
        weakref.finalize(self, compiled.regard_model_free, self.handle)
        self._tables: list[Tensor] = []  # which the library reads, and does not copy
        with torch.no_grad():
            self._pack_stack(target, is_encoder=0)
            if source is not None:
                self._pack_stack(source, is_encoder=1)
            bias = output_bias(model)
            weight = _readable(model.output_weight)
            added = None if bias is None else _readable(bias.flatten())
            pointers = weight.data_ptr(), _pointer(added)
            library.check(compiled.regard_set_output(self.handle, *pointers))
            if isinstance(model, EncoderDecoder) and model.copy_head is not None:
                self._pack_copy_head(model.copy_head)

    def _pack_copy_head(self, head: PointerGenerator) -> None:
        maps = head.query, head.key, head.gate
        weights = [_readable(one.adapted_weight()) for one in maps]
        pointers = (weight.data_ptr() for weight in weights)
        bias = 0.0 if head.gate.bias is None else float(head.gate.bias)
        bonus = float(head.continuation)
        result = self.library.regard_set_copy(self.handle, *pointers, bias, bonus, head.start_id)
        library.check(result)

    def _pack_stack(self, stack: BlockStack, *, is_encoder: int) -> None:
        table, norm = _readable(stack.embedding.weight), stack.embedding.norm
        self._tables.append(table)
        weight = None if norm is None else _readable(norm.weight)
        bias = None if norm is None or norm.bias is None else _readable(norm.bias)
        result = self.library.regard_set_embedding(
            self.handle,
            is_encoder,
            table.data_ptr(),
            _pointer(weight),
            _pointer(bias),
            0.0 if norm is None else norm.epsilon,
        )
        library.check(result)
        for number, block in enumerate(stack.blocks):
            attention = self_attention_of(block)
            attentions: dict[int, MultiHeadAttention] = {library.SELF_QKV: attention}
            if isinstance(block, DecoderBlock):
                attentions[library.CROSS_Q] = block.cross_attention
            for name, maps in _maps_of(block).items():
                self._pack_map(is_encoder, number, name, maps, queries=attentions.get(name))
            for name, norm in _norms_of(block).items():
                factor, order = 1.0, None
                if name in (library.QUERY_NORM, library.KEY_NORM):
                    order = _order_of_head(attention)
                if name == library.QUERY_NORM:
                    factor = _query_factor(attention)
                self._pack_norm(is_encoder, number, name, norm, factor, order)
        if isinstance(stack.last_norm, LayerNorm | RMSNorm):
            self._pack_norm(is_encoder, -1, 0, stack.last_norm, stack.output_scale)

    def _pack_map(
        self,
        is_encoder: int,
        layer: int,
        name: int,
        maps: tuple[Linear, ...],
        *,
        queries: MultiHeadAttention | None,
    ) -> None:
        """Pack linear maps, stacked along their outputs; `queries` is whose queries are first."""
        weight = _stack([_readable(one.adapted_weight()) for one in maps])
        biases = [_readable(one.bias) for one in maps if one.bias is not None]
        bias = _stack(biases) if biases else None
        if queries is not None and getattr(queries, "query_norm", None) is None:
            num, factor = queries.num_heads * queries.head_dim, _query_factor(queries)
            weight = _scale_rows(weight, num, factor)
            bias = None if bias is None else _scale_rows(bias, num, factor)
        if isinstance(queries, SelfAttention) and (order := _order_of_head(queries)) is not None:
            num = queries.num_heads + queries.num_kv_heads
            weight = _reorder_heads(weight, num, order)
            bias = None if bias is None else _reorder_heads(bias, num, order)
        pointers = weight.data_ptr(), _pointer(bias)
        library.check(self.library.regard_set_map(self.handle, is_encoder, layer, name, *pointers))

    def _pack_norm(
        self,
        is_encoder: int,
        layer: int,
        name: int,
        norm: LayerNorm | RMSNorm,
        factor: float = 1.0,
        order: Tensor | None = None,
    ) -> None:
        """Pack a norm; its outputs are multiplied by `factor`, and heads come in `order`."""
        weight = factor * _readable(norm.scale)
        bias = None
        if isinstance(norm, LayerNorm) and norm.bias is not None:
            bias = factor * _readable(norm.bias)
        if order is not None:
            num_heads = len(weight) // len(order)
            weight = _reorder_heads(weight, num_heads, order)
            bias = None if bias is None else _reorder_heads(bias, num_heads, order)
        numbers = weight.data_ptr(), _pointer(bias), len(weight)
        library.check(self.library.regard_set_norm(self.handle, is_encoder, layer, name, *numbers))


def _query_factor(attention: MultiHeadAttention) -> float:
    """Return what queries are multiplied by where scores are divided by the root of a head's size.

    The compiled decoder does the latter, whatever the scale of the scores is.
    """
    scale = attention.score.scale
    return 1.0 if scale is None else scale * attention.head_dim**0.5


def _scale_rows(tensor: Tensor, num: int, factor: float) -> Tensor:
    """Multiply the first `num` rows of ``[rows, ...]``; without a change it is not copied."""
    if factor == 1:
        return tensor
    return torch.cat([factor * tensor[:num], tensor[num:]])


def _order_of_head(attention: SelfAttention) -> Tensor | None:
    """Return an order of coordinates, ``[head_dim]``, that rotates i with ``i + head_dim / 2``.

    Products of queries and keys do not depend on it. Where a part of a head is rotated, the pairs
    after those of this part have angles of zero.

    Returns:
        None where all pairs are rotated, which have this order already.
    """
    rotary, dim = attention.rotary, attention.head_dim
    if rotary is None or rotary.fraction == 1:
        return None
    half, rest = rotary.num_rotated(dim) // 2, torch.arange(rotary.num_rotated(dim), dim)
    rotated = torch.arange(2 * half)
    first, second = rest.chunk(2) if len(rest) else (rest, rest)
    return torch.cat([rotated[:half], first, rotated[half:], second])


def _reorder_heads(tensor: Tensor, num_heads: int, order: Tensor) -> Tensor:
    """Put the rows of the first heads of ``[rows, ...]`` in an order, ``[head_dim]``."""
    num_rows = num_heads * len(order)
    heads = tensor[:num_rows].unflatten(0, (num_heads, -1))[:, order]
    return torch.cat([heads.flatten(0, 1), tensor[num_rows:]])


def _stack(parts: list[Tensor]) -> Tensor:
    """Stack tensors along their first axis; one alone is not copied."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


class _Tables(NamedTuple):
    """Tables of positions, and the record with their addresses."""

    record: library.Positions
    tensors: tuple[Tensor, ...]
    num_positions: int


class PositionTables:
    """What is added to embeddings by position, rotary angles, and biases of distances.

    Args:
        stack: The layers that read them, of which some may share the same angles or biases.
    """

    def __init__(self, stack: BlockStack) -> None:
        attentions = [self_attention_of(block) for block in stack.blocks]
        self._positions, self._head_dim = stack.embedding.positions, attentions[0].head_dim
        self._rotaries = _of_each_kind(attention.rotary for attention in attentions)
        self._biases = _of_each_kind(attention.position_bias for attention in attentions)
        self._tables = self._compute(256)

    def up_to(self, length: int) -> _Tables:
        """Return tables of at least as many positions."""
        tables = self._tables
        if tables.num_positions < length:
            self._tables = tables = self._compute(max(length, 2 * tables.num_positions))
        return tables

    def _compute(self, num: int) -> _Tables:
        record, positions = library.Positions(), self._positions
        tensors: list[Tensor] = []
        if isinstance(positions, LearnedPositions):
            record.offset = positions.offset
            tensors.append(_readable(positions.weight))
        elif isinstance(positions, SinusoidalPositions):
            start = positions.offset
            tensors.append(sinusoids(num, positions.dim, positions.order, start=start))
        if tensors:
            record.rows, record.num_rows = tensors[0].data_ptr(), len(tensors[0])
        if self._rotaries:
            pairs = [self._rotate(rotary, num) for rotary in self._rotaries]
            cosines, sines = (torch.stack(tables) for tables in zip(*pairs, strict=True))
            tensors += [cosines, sines]
            record.cosines, record.sines = cosines.data_ptr(), sines.data_ptr()
            record.num_angles = num
        if self._biases:
            # Of the last of `num` queries to the keys before and after it.
            last, keys = torch.tensor([num - 1]), torch.arange(2 * num - 1)
            rows = [bias.of_queries(last, keys)[0, :, 0] for bias in self._biases]
            biases = F.pad(_readable(torch.stack(rows)), (0, library.LONGEST_VECTOR))
            tensors.append(biases)
            record.biases, record.bias_row = biases.data_ptr(), biases.shape[2]
            record.bias_zero = num - 1
        return _Tables(record, tuple(tensors), num)

    def _rotate(self, rotary: Rotary, num: int) -> tuple[Tensor, Tensor]:
        """Compute the cosines and the sines of positions, each ``[num, head_dim / 2]``."""
        # In float64, as the layer: [num, rotated pairs].
        angles = torch.arange(num).double()[:, None] * rotary.frequencies(self._head_dim)
        num_others = self._head_dim // 2 - angles.shape[1]
        cosines, sines = (rotary.scaling.amplitude * f(angles) for f in (torch.cos, torch.sin))
        return (
            F.pad(cosines.float(), (0, num_others), value=1.0),
            F.pad(sines.float(), (0, num_others)),
        )


Positioned = TypeVar("Positioned", Rotary, RelativeBias)


def _of_each_kind(layers: Iterable[Positioned | None]) -> list[Positioned]:
    """Return one of the layers of each kind; those that are None are left out."""
    return list({_kind_of(layer): layer for layer in layers if layer is not None}.values())


def _number_kinds(layers: Iterable[Rotary | RelativeBias | None]) -> list[int]:
    """Return the index of each layer's kind in `_of_each_kind`; without kinds it is 0."""
    kinds = [_kind_of(layer) for layer in layers]
    return [list(dict.fromkeys(kinds)).index(kind) for kind in kinds]


def _kind_of(layer: Rotary | RelativeBias | None) -> object:
    """Return what is equal for layers that have the same angles, or share their biases."""
    return (layer.base, layer.scaling) if isinstance(layer, Rotary) else layer


def _maps_of(block: Block) -> dict[int, tuple[Linear, ...]]:
    """Return the linear maps of a block by their numbers; some are stacked."""
    attention = self_attention_of(block)
    is_grouped = attention.is_grouped
    maps = {
        library.SELF_QKV: (attention.query, attention.key_value)
        if is_grouped
        else (attention.query_key_value,),
        library.SELF_OUT: (attention.output,),
        library.INNER: (block.feed_forward.inner,),
        library.OUTER: (block.feed_forward.outer,),
    }
    if isinstance(block, DecoderBlock):
        maps[library.CROSS_Q] = (block.cross_attention.query,)
        maps[library.CROSS_KV] = (block.cross_attention.key_value,)
        maps[library.CROSS_OUT] = (block.cross_attention.output,)
    return maps


def _norms_of(block: Block) -> dict[int, LayerNorm | RMSNorm]:
    """Return the norms of a block by their numbers."""
    attention, network = self_attention_of(block), block.feed_forward_residual
    is_reading = isinstance(block, DecoderBlock)
    own = block.self_residual if is_reading else block.attention_residual
    norms: dict[int, nn.Module | None] = {
        library.SELF_NORM: own.norm,
        library.SELF_OUTPUT_NORM: own.output_norm,
        library.FEED_FORWARD_NORM: network.norm,
        library.FEED_FORWARD_OUTPUT_NORM: network.output_norm,
        library.QUERY_NORM: attention.query_norm,
        library.KEY_NORM: attention.key_norm,
    }
    if is_reading:
        norms[library.CROSS_NORM] = block.cross_residual.norm
        norms[library.CROSS_OUTPUT_NORM] = block.cross_residual.output_norm
    return {name: norm for name, norm in norms.items() if isinstance(norm, LayerNorm | RMSNorm)}


def _sizes(stack: BlockStack, precision: DecodingPrecision) -> library.Sizes:
    """Return the dimensions of a stack of blocks of one kind."""
    first, attentions = stack.blocks[0], [self_attention_of(block) for block in stack.blocks]
    attention, norm = attentions[0], next(iter(_norms_of(first).values()))
    bands = [band_of(attention.pattern) for attention in attentions]
    of_layers = ctypes.c_int64 * len(bands)
    rotary, activation = attention.rotary, first.feed_forward.activation_name
    vocab_size, dim = stack.embedding.weight.shape
    return library.Sizes(
        num_layers=len(bands),
        dim=dim,
        num_heads=attention.num_heads,
        num_kv_heads=attention.num_kv_heads,
        head_dim=attention.head_dim,
        hidden_dim=first.feed_forward.outer.in_features,
        vocab_size=vocab_size,
        activation=library.ACTIVATIONS[activation],
        is_gated=int(activation in GATED),
        norm=int(isinstance(norm, RMSNorm)),
        is_pre=int(first.feed_forward_residual.is_pre),
        is_parallel=int(isinstance(first, ParallelBlock)),
        reads_source=int(isinstance(first, DecoderBlock)),
        rotary=0 if rotary is None else 2 if rotary.interleaved else 1,
        precision=library.PRECISIONS[precision],
        epsilon=norm.epsilon,
        embedding_scale=stack.embedding.scale,
        score_cap=attention.score.soft_cap or 0.0,
        logit_cap=stack.logit_cap or 0.0,
        before=of_layers(*(_reach(None if band is None else band.before) for band in bands)),
        after=of_layers(*(_reach(None if band is None else band.after) for band in bands)),
        angles=of_layers(*_number_kinds(attention.rotary for attention in attentions)),
        biases=of_layers(*_number_kinds(attention.position_bias for attention in attentions)),
    )


def _reach(positions: int | None) -> int:
    return -1 if positions is None else positions


def _readable(tensor: Tensor) -> Tensor:
    """Return float32 numbers side by side; the same tensor where it has them."""
    return tensor.detach().float().contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
