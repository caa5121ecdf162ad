"""Which positions of a query and a key made their score: exact, since the score is bilinear.

    s_ij = a q_i . k_j = a sum_p sum_r (W_q c_ip) . (W_k c_jr)

A query is a linear map of the state at its position, and that state is a sum of the outputs of all
earlier layers (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", the QK
circuit). What an attention layer added is itself a sum over the keys that it read, ``W_o A_ip v_p``
(Kobayashi et al. 2020), so the state at i is a sum of parts c_ip by position p, and the
score a sum over pairs of positions, as in Eberle et al. 2020 (BiLRP). The embedding, the
feed-forward networks and all biases belong to a position's own part. Norms are linear once their
statistics are known, in which all parts share. Cost: one pass, and length x dim a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regard.attention import DotProduct
from regard.errors import ConfigError
from regard.explain.capture import LayerAttention, attention_layers, capture
from regard.explain.prediction import Prediction, require_prediction
from regard.layers import (
    AttentionRecord,
    CrossAttention,
    DecoderBlock,
    LayerNorm,
    MultiHeadAttention,
    RMSNorm,
    SelfAttention,
    TransformerBlock,
)
from regard.models import EncoderDecoderModel, Transformer
from regard.option_checks import require_index


class QueryKeyAttribution(NamedTuple):
    """What made one score of a head.

    Args:
        score: Score of the query and the key, before the softmax.
        contributions: Contributions of a feature through the query and another through the key,
            ``[features, features]``; they sum to the score.
    """

    score: float
    contributions: Tensor


def query_key_attribution(
    prediction: Prediction, layer: str, head: int, query: int, key: int
) -> QueryKeyAttribution:
    """Share out the score of a query and a key among the positions that made them.

    Args:
        prediction: That is explained.
        layer: Path of a self- or cross-attention layer with scores by dot products.
        head: Index of a head.
        query: Index of a position among the layer's queries.
        key: Index of a position among its keys.

    Returns:
        The score and its contributions.

    Raises:
        ConfigError: The layer, head, query or key does not exist, or the score of the layer is not
            bilinear in states that are sums.
    """
    require_prediction(prediction)
    captured = {attention.path: attention for attention in capture(prediction)}
    if layer not in captured:
        raise ConfigError(
            f"{layer!r}: one of {', '.join(captured) or 'no layers of attention'} was expected."
        )
    attention = captured[layer]
    require_index("head", head, attention.num_heads)
    require_index("query", query, attention.num_queries)
    require_index("key", key, attention.num_keys)
    module, record, score = _find_bilinear(attention, attention_layers(prediction)[layer])
    group = attention.num_heads // record.keys.shape[1]
    stream = _Stream(prediction, list(captured.values()))
    with torch.no_grad():
        queries = _project(module, stream.query_parts(attention, query), query, is_query=True)
        if isinstance(module, SelfAttention):
            keys = _project(module, stream.query_parts(attention, key), key, is_query=False)
        else:
            keys = _project(module, stream.source_parts(key), key, is_query=False)
        exact = queries.dtype
        product = record.queries[0, head, query].to(exact) @ record.keys[0, head // group, key].to(
            exact
        )
        scale = record.keys.shape[-1] ** -0.5 if score.scale is None else score.scale
        contributions = scale * queries[head] @ keys[head // group].mT
    return QueryKeyAttribution(float(scale * product), contributions)


class _BilinearLayer(NamedTuple):
    """A layer whose scores are bilinear in states.

    Args:
        module: Its maps are linear.
        record: Its one attention.
        score: Has the factor of its products.
    """

    module: SelfAttention | CrossAttention
    record: AttentionRecord
    score: DotProduct


def _find_bilinear(attention: LayerAttention, module: nn.Module) -> _BilinearLayer:
    """Return a layer whose scores are bilinear; raise ConfigError for others."""
    (record, *further) = attention.records
    has_norms = isinstance(module, SelfAttention) and module.query_norm is not None
    if not has_norms and type(module) in (SelfAttention, CrossAttention):
        assert isinstance(module, SelfAttention | CrossAttention)
        score = record.score
        if isinstance(score, DotProduct) and not score.soft_cap and not further:
            return _BilinearLayer(module, record, score)
    raise ConfigError(
        f"{attention.path}: its scores are not products of one query and one key that are linear "
        "maps of states.  Self- and cross-attention of the Transformer, BERT and GPT have such "
        "scores, without norms of queries and keys."
    )


def _project(
    layer: SelfAttention | CrossAttention,
    parts: tuple[Tensor, int],
    position: int,
    *,
    is_query: bool,
) -> Tensor:
    """Map the parts of a state to parts of its query or key.

    Args:
        layer: Whose maps are used.
        parts: ``[features, dim]``, and the feature of the position itself, which gets the bias.
        position: Position of the state, for rotary positions.
        is_query: Whether it is a query.

    Returns:
        ``[heads or kv_heads, features, head_dim]``.
    """
    states, own = parts
    rows = torch.cat([states, torch.zeros_like(states[:1])])[None]  # the last one gives the biases
    if isinstance(layer, SelfAttention):
        (mapped,) = layer.project(rows)[0 if is_query else 1]
    elif is_query:
        mapped = layer.query(rows)[0].unflatten(-1, (-1, layer.head_dim)).transpose(0, 1)
    else:
        (mapped,) = layer.project(rows)[0]
    bias = mapped[:, -1:]
    mapped = mapped[:, :-1] - bias
    mapped[:, own] += bias[:, 0]
    if isinstance(layer, SelfAttention) and layer.rotary is not None:
        positions = torch.full((mapped.shape[1],), position, device=mapped.device)
        (mapped,) = layer.rotary(mapped[None], positions)
    return mapped


class _Pass(NamedTuple):
    """What a module read and gave at all positions, ``[positions, dim]`` each."""

    input: Tensor
    output: Tensor


class _Sublayer(NamedTuple):
    """A sub-layer of a block.

    Args:
        module: Computes it.
        norm: Before the sub-layer, or after its sum with the stream.
        output_norm: Of what it adds to the stream; None where that is not normalised.
        is_pre: Whether `norm` comes first.
    """

    module: nn.Module
    norm: nn.Module
    output_norm: nn.Module | None
    is_pre: bool


class _Stream:
    """The residual streams of a prediction, and the parts of their states by position.

    Args:
        prediction: Whose model runs once.
        attention: Attention of all its layers.
    """

    def __init__(self, prediction: Prediction, attention: Sequence[LayerAttention]) -> None:
        self._prediction = prediction
        modules = attention_layers(prediction)
        self._attention: dict[nn.Module, LayerAttention] = {
            modules[layer.path]: layer for layer in attention
        }
        self._passes: dict[nn.Module, _Pass] = {}
        watched: list[nn.Module] = [*_after_encoder(prediction)]
        for stack in prediction.stacks:
            for block in stack.layers:
                watched.append(block)
                for parts in _sublayers(block):
                    watched += [module for module in parts[:3] if module is not None]

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            exact = torch.promote_types(output.dtype, torch.float32)
            self._passes[module] = _Pass(inputs[0][0].to(exact), output[0].to(exact))

        with torch.no_grad(), ExitStack() as hooks:
            for module in watched:
                hooks.callback(module.register_forward_hook(keep).remove)
            prediction.scores(prediction.full_weights())

    def query_parts(self, attention: LayerAttention, position: int) -> tuple[Tensor, int]:
        """Return the parts of a state that a layer reads, and the feature of its position.

        Args:
            attention: The layer.
            position: Index among its queries.
        """
        stack = self._prediction.stacks[attention.stack]
        (target,) = (module for module, layer in self._attention.items() if layer is attention)
        return self._walk(stack.layers, stack.start, position, target), stack.start + position

    def source_parts(self, position: int) -> tuple[Tensor, int]:
        """Return the parts of a state of the source that cross-attention reads; see above."""
        stack = self._prediction.stacks[0]
        parts = self._walk(stack.layers, stack.start, position, None)
        own = stack.start + position
        for module in _after_encoder(self._prediction):
            parts = self._through(module, parts, position, own)
        return parts, own

    def _walk(
        self, blocks: Sequence[nn.Module], start: int, position: int, target: nn.Module | None
    ) -> Tensor:
        """Return the parts of a state, ``[features, dim]``, that the layer `target` reads."""
        own = start + position
        first = self._passes[blocks[0]].input[position]
        parts = first.new_zeros(len(self._prediction.features), len(first))
        parts[own] = first
        for block in blocks:
            for sublayer, norm, output_norm, is_pre in _sublayers(block):
                if sublayer is target:
                    return self._through(norm, parts, position, own) if is_pre else parts
                added = self._added(sublayer, position, own, len(parts))
                if output_norm is not None:
                    added = self._through(output_norm, added, position, own)
                parts = parts + added
                if not is_pre:
                    parts = self._through(norm, parts, position, own)
        return parts

    def _added(self, sublayer: nn.Module, position: int, own: int, num_features: int) -> Tensor:
        """Return the parts of what a sub-layer adds to a state, ``[features, dim]``."""
        output = self._passes[sublayer].output[position]
        added = output.new_zeros(num_features, len(output))
        layer = self._attention.get(sublayer)
        if layer is not None and not layer.refusal and isinstance(sublayer, MultiHeadAttention):
            values = layer.values_of(position)  # [heads, keys, value_dim]
            index = torch.tensor([position])
            weights = layer.weights.index_select(1, index).to_dense()[:, 0, :, None]
            mixed = (weights.to(output) * values.to(output)).transpose(0, 1).flatten(1)
            mapped = sublayer.output(mixed) - sublayer.output(torch.zeros_like(mixed[:1]))
            added[layer.first_key : layer.first_key + len(mapped)] += mapped
        added[own] += output - added.sum(0)  # feed-forward networks, biases
        return added

    def _through(self, module: nn.Module, parts: Tensor, position: int, own: int) -> Tensor:
        """Map the parts of a state through a norm or a linear map; `own` gets the bias."""
        if isinstance(module, nn.Identity):
            return parts
        state, output = self._passes[module].input[position], self._passes[module].output[position]
        if isinstance(module, LayerNorm):
            scale = (state.var(correction=0) + module.epsilon).rsqrt()
            mapped = (parts - parts.mean(-1, keepdim=True)) * scale * module.weight
        elif isinstance(module, RMSNorm):
            mapped = parts * (state.square().mean() + module.epsilon).rsqrt() * module.scale
        elif isinstance(module, nn.Linear):
            mapped = module(parts) - module(torch.zeros_like(parts[:1]))
        else:
            raise ConfigError(
                f"{type(module).__name__}: not linear in states, as the norms of regard and "
                "`nn.Linear` are, so that parts of a state have no images."
            )
        mapped[own] = mapped[own] + output - mapped.sum(0)  # the bias
        return mapped


def _sublayers(block: nn.Module) -> list[_Sublayer]:
    """Return the sub-layers of a block: attention, whose inputs alone are asked for, is first."""
    if isinstance(block, TransformerBlock):
        parts = [
            (block.self_attention, block.attention_residual),
            (block.feed_forward, block.feed_forward_residual),
        ]
    elif isinstance(block, DecoderBlock):
        parts = [
            (block.self_attention, block.self_residual),
            (block.cross_attention, block.cross_residual),
            (block.feed_forward, block.feed_forward_residual),
        ]
    else:
        return []
    return [
        _Sublayer(sublayer, residual.norm, residual.output_norm, residual.is_pre)
        for sublayer, residual in parts
        if isinstance(sublayer, nn.Module)
    ]


def _after_encoder(prediction: Prediction) -> list[nn.Module]:
    """Return the layers between the encoder's blocks and cross-attention."""
    model = prediction.model
    if isinstance(model, Transformer):
        return [model.encoder_norm]
    if isinstance(model, EncoderDecoderModel):
        return [model.encoder.norm, model.encoder_output]
    return []
