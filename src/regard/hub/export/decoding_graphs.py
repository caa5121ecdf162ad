"""Models that write texts as graphs of a step, whose cache goes in and comes out as tensors.

The files and names are those of exports of ``transformers``, which Optimum and transformers.js
read: a language model is one graph, ``model``; an encoder-decoder is two, ``encoder_model`` and
``decoder_model_merged``, so called since one graph takes the first step and all others. Before the
first the keys and values have length 0. Those of a source are computed for its positions that are
not among them yet: for all in the first step, for none in the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from regard.attention import Full, TopK
from regard.errors import ConfigError
from regard.hub.export.graph import BATCH, LENGTH, TOKENS, Graph, read_mask, refuse
from regard.hub.file_names import GRAPH_NAMES
from regard.layers.explicit_cache import ExplicitCache, ExplicitRows
from regard.layers.multi_head_attention import SelfAttention
from regard.layers.pointer_generator import CopySource
from regard.models import Decoder, EncoderDecoder
from regard.models.base.encoder_decoder import DecoderState

if TYPE_CHECKING:
    from regard.models.encoder_decoder.model import EncoderDecoderModel
    from regard.models.t5.model import T5
    from regard.models.transformer.model import Transformer

    AttentiveModel = Transformer | T5 | EncoderDecoderModel
    """Has blocks of self- and cross-attention; other families may, too."""

MODEL, ENCODER, DECODER = GRAPH_NAMES
_SOURCE, _PAST = "encoder_sequence_length", "past_sequence_length"
_TOTAL = f"{_PAST} + {LENGTH}"
_COPY_KEYS = "copy.encoder.key"


def causal_graphs(model: Decoder) -> dict[str, Graph]:
    """Return the graph of a language model.

    Args:
        model: In evaluation mode.

    Returns:
        One graph by the name of its file.

    Raises:
        ConfigError: Its layers keep something else than keys and values.
    """
    attentions = _self_attentions(model, model.blocks)
    sizes = {f"{index}": _key_sizes(layer) for index, layer in enumerate(attentions)}

    def make_inputs(generator: torch.Generator, rows: int, length: int) -> dict[str, Tensor]:
        num_past, num_new = length // 3, max(1, length // 4)
        total = num_past + num_new
        padding = torch.randint(0, total, (rows, 1), generator=generator)
        padding[0] = 0
        is_token = torch.arange(total) >= padding  # a text begins in the middle of a row
        return {
            "input_ids": _draw(generator, (rows, num_new), model.vocab_size),
            "attention_mask": is_token.long(),
            "position_ids": (is_token.cumsum(1) - 1).clamp(min=0)[:, num_past:].clone(),
            **_draw_keys(generator, "past_key_values", sizes, rows, num_past),
        }

    past = {name: {0: BATCH, 2: _PAST} for name in _names("past_key_values", sizes)}
    present = {name: {0: BATCH, 2: _TOTAL} for name in _names("present", sizes)}
    mask = {"attention_mask": {0: BATCH, 1: _TOTAL}}
    return {
        MODEL: Graph(
            NextTokens(model, attentions),
            make_inputs,
            {"logits": TOKENS, **present},
            {"input_ids": TOKENS, **mask, "position_ids": TOKENS, **past},
            may_be_empty=True,
        )
    }


def seq2seq_graphs(model: EncoderDecoder[Any]) -> dict[str, Graph]:
    """Return the graphs of an encoder-decoder.

    Args:
        model: In evaluation mode.

    Returns:
        That of the encoder and that of a step of the decoder, by the names of their files.

    Raises:
        ConfigError: Its layers keep something else than keys and values.
    """
    blocks = getattr(model, "decoder_blocks", ())
    attentions = _self_attentions(model, blocks)
    attentive = cast("AttentiveModel", model)
    sizes = {f"{index}.decoder": _key_sizes(layer) for index, layer in enumerate(attentions)}
    of_source = {
        f"{index}.encoder": (block.cross_attention.num_heads, block.cross_attention.head_dim)
        for index, block in enumerate(blocks)
    }
    has_copy = model.copy_head is not None

    def make_source(generator: torch.Generator, rows: int, length: int) -> dict[str, Tensor]:
        lengths = _draw(generator, (rows, 1), length) + 1
        lengths[0] = length
        return {
            "input_ids": _draw(generator, (rows, length), _source_rows(model)),
            "attention_mask": (torch.arange(length) < lengths).long(),
        }

    def make_inputs(generator: torch.Generator, rows: int, length: int) -> dict[str, Tensor]:
        source = make_source(generator, rows, length)
        num_past, num_new = length // 3, max(1, length // 4)
        states = torch.randn(rows, length, model.dim, generator=generator)
        past = _draw_keys(generator, "past_key_values", sizes, rows, num_past)
        past |= _draw_keys(generator, "past_key_values", of_source, rows, num_past)
        inputs = {
            "encoder_attention_mask": source["attention_mask"],
            "input_ids": _draw(generator, (rows, num_new), model.vocab_size),
            "encoder_hidden_states": states,
        }
        if has_copy:
            inputs["encoder_input_ids"] = source["input_ids"]
            past[f"past_key_values.{_COPY_KEYS}"] = torch.randn(
                rows, num_past, model.dim, generator=generator
            )
        return {**inputs, **{name: past[name] for name in past_axes}}

    def axes(name: str, of_target: str, of_source_axis: str) -> dict[str, dict[int, str]]:
        of_keys = {}
        for index in range(len(attentions)):
            for side, axis in (("decoder", of_target), ("encoder", of_source_axis)):
                for part in _names(name, (f"{index}.{side}",)):
                    of_keys[part] = {0: BATCH, 2: axis}
        if has_copy:
            of_keys[f"{name}.{_COPY_KEYS}"] = {0: BATCH, 1: of_source_axis}
        return of_keys

    past_axes = axes("past_key_values", _PAST, f"past_{_SOURCE}")
    source_axes = {0: BATCH, 1: _SOURCE}
    inputs = {
        "encoder_attention_mask": source_axes,
        "input_ids": TOKENS,
        "encoder_hidden_states": source_axes,
        **({"encoder_input_ids": source_axes} if has_copy else {}),
        **past_axes,
    }
    return {
        ENCODER: Graph(
            SourceStates(attentive),
            make_source,
            {"last_hidden_state": source_axes},
            dict.fromkeys(("input_ids", "attention_mask"), source_axes),
        ),
        DECODER: Graph(
            NextTargetTokens(attentive, attentions),
            make_inputs,
            {"logits": TOKENS, **axes("present", _TOTAL, _SOURCE)},
            inputs,
            may_be_empty=True,
        ),
    }


class NextTokens(nn.Module):
    """Logits of the next token of texts.

    Args:
        model: The language model.
        attentions: The self-attention of each block.
    """

    def __init__(self, model: Decoder, attentions: Sequence[SelfAttention]) -> None:
        super().__init__()
        self.model, self.attentions = model, attentions

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Compute logits after each token, and the keys and values with it.

        Args:
            input_ids: The tokens of the step, ``[batch, length]``.
            attention_mask: 0 at padding, anywhere, ``[batch, past + length]``.
            position_ids: Positions of the tokens in their texts, ``[batch, length]``.
            past_key_values: By the number of a layer, ``[batch, kv_heads, past, head_dim]``.

        Returns:
            Logits ``[batch, length, vocab]``, and keys and values
            ``[batch, kv_heads, past + length, head_dim]``.
        """
        is_token = attention_mask != 0
        positions = (is_token.long().cumsum(1) - 1).clamp(min=0)
        # Not a slice, whose length would be a difference that a program of PyTorch checks.
        slots = past_key_values["0.key"].shape[2] + torch.arange(input_ids.shape[1])
        rows = ExplicitRows(position_ids, positions[:, slots], positions, is_token)
        caches = [
            _cache(rows, layer, past_key_values, f"{index}")
            for index, layer in enumerate(self.attentions)
        ]
        states = self.model.decode(input_ids, caches)
        outputs = {"logits": self.model.logits(states)}
        for index, cache in enumerate(caches):
            outputs |= _present(f"{index}", cache.keys, cache.values)
        return outputs


class SourceStates(nn.Module):
    """States of the encoder.

    Args:
        model: The encoder-decoder.
    """

    def __init__(self, model: AttentiveModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Compute ``[batch, length, dim]`` of ids and mask, ``[batch, length]``."""
        lengths, is_refused = read_mask(attention_mask)
        states, _ = self.model.encode(input_ids, lengths)
        return {"last_hidden_state": refuse(states, is_refused)}


class NextTargetTokens(nn.Module):
    """Logits of the next token of targets; log-probabilities where the model copies.

    Args:
        model: The encoder-decoder.
        attentions: The self-attention of each of the decoder's blocks.
    """

    def __init__(self, model: AttentiveModel, attentions: Sequence[SelfAttention]) -> None:
        super().__init__()
        self.model, self.attentions = model, attentions

    def forward(
        self,
        encoder_attention_mask: Tensor,
        input_ids: Tensor,
        encoder_hidden_states: Tensor,
        past_key_values: Mapping[str, Tensor],
        encoder_input_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute logits after each token, and the keys and values with it.

        Args:
            encoder_attention_mask: Not 0 at the tokens of the sources, ``[batch, source]``.
            input_ids: The tokens of the step, ``[batch, length]``.
            encoder_hidden_states: From the encoder, ``[batch, source, dim]``.
            past_key_values: By the number of a layer, of the targets
                ``[batch, kv_heads, past, head_dim]`` and of the sources
                ``[batch, heads, past_source, head_dim]``.
            encoder_input_ids: The sources, ``[batch, source]``, of a model that copies.

        Returns:
            Logits ``[batch, length, vocab]``, and keys and values, those of the sources for all of
            their positions.
        """
        model, past = self.model, past_key_values
        lengths, is_refused = read_mask(encoder_attention_mask)
        num_past, num_new = past["0.decoder.key"].shape[2], input_ids.shape[1]
        slots = num_past + torch.arange(num_new)[None]
        rows = ExplicitRows(slots, slots, torch.arange(num_past + num_new)[None])
        new_states = encoder_hidden_states[:, past["0.encoder.key"].shape[2] :]
        memory, caches = [], []
        for index, (block, layer) in enumerate(
            zip(model.decoder_blocks, self.attentions, strict=True)
        ):
            new = block.cross_attention.project(new_states)
            before = (past[f"{index}.encoder.{part}"] for part in ("key", "value"))
            keys, values = (torch.cat(parts, dim=2) for parts in zip(before, new, strict=True))
            memory.append((keys, values))
            caches.append(_cache(rows, layer, past, f"{index}.decoder"))
        copy_source = None
        if model.copy_head is not None and encoder_input_ids is not None:
            new_source = model.copy_head.read(encoder_input_ids, new_states)
            keys = torch.cat([past[_COPY_KEYS], new_source.keys], dim=1)
            copy_source = CopySource(encoder_input_ids, keys, encoder_hidden_states)
        state = DecoderState(memory, lengths, list(caches), copy_source)
        outputs = {"logits": refuse(model.next_logits(input_ids, state), is_refused)}
        for index, (cache, source) in enumerate(zip(caches, memory, strict=True)):
            outputs |= _present(f"{index}.decoder", cache.keys, cache.values)
            outputs |= _present(f"{index}.encoder", *source)
        if copy_source is not None:
            outputs[f"present.{_COPY_KEYS}"] = copy_source.keys
        return outputs


def _cache(
    rows: ExplicitRows, layer: SelfAttention, past: Mapping[str, Tensor], name: str
) -> ExplicitCache:
    """Return the cache of a layer, of ``[batch, kv_heads, past, head_dim]`` by name."""
    return ExplicitCache(rows, layer.pattern, past[f"{name}.key"], past[f"{name}.value"])


def _present(name: str, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
    """Return keys and values, ``[batch, heads, positions, head_dim]``, by their names."""
    return dict(zip(_names("present", (name,)), (keys, values), strict=True))


def _names(prefix: str, layers: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return the names of keys and values of layers."""
    return [f"{prefix}.{layer}.{part}" for layer in layers for part in ("key", "value")]


def _self_attentions(
    model: Decoder | EncoderDecoder[Any], blocks: Sequence[Any] | nn.ModuleList
) -> list[SelfAttention]:
    """Return the self-attention of each block.

    Raises:
        ConfigError: There is none, or a layer keeps something else than keys and values.
    """
    layers = [getattr(block, "self_attention", None) for block in blocks]
    attentions = [layer for layer in layers if isinstance(layer, SelfAttention)]
    if not layers or len(attentions) < len(layers):
        raise ConfigError(
            f"export: {type(model).__name__} keeps something else than keys and values from token "
            "to token.  Of models that write texts those whose layers all have self-attention are "
            "written as graphs, such as `model=transformer`, `gpt` and `t5`."
        )
    for block in blocks:
        cross = getattr(block, "cross_attention", None)
        if cross is not None and not isinstance(cross.pattern, Full | TopK):
            name = cross.pattern.to_text() or repr(cross.pattern)
            raise ConfigError(
                f"attention.cross={name}: a step of a graph sees all of a source.  Only full and "
                "top_k:K can be written."
            )
    return attentions


def _key_sizes(layer: SelfAttention) -> tuple[int, int]:
    """Return the heads of keys and values, and their size."""
    return layer.num_kv_heads, layer.head_dim


def _draw(generator: torch.Generator, shape: tuple[int, ...], limit: int) -> Tensor:
    """Draw whole numbers below a limit, of a shape."""
    return torch.randint(0, limit, shape, generator=generator)


def _draw_keys(
    generator: torch.Generator,
    prefix: str,
    sizes: Mapping[str, tuple[int, int]],
    rows: int,
    length: int,
) -> dict[str, Tensor]:
    """Draw keys and values by their names, ``[rows, heads, length, head_dim]`` each."""
    return {
        name: torch.randn(rows, heads, length, head_dim, generator=generator)
        for layer, (heads, head_dim) in sizes.items()
        for name in _names(prefix, (layer,))
    }


def _source_rows(model: EncoderDecoder[Any]) -> int:
    """Return the rows of the table of sources."""
    return getattr(model.config, "source_rows", None) or model.vocab_size
