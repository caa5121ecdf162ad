"""Models as graphs: inputs and outputs by the names of the field, any batch and length.

A graph reads ``attention_mask`` in place of lengths. Padding is on the right: a row with padding
anywhere else gives NaN, never the output of another text. Attention is computed by the definition,
with the scores of all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.patterns.base import LengthDependentPattern
from regard.attention.patterns.hierarchical import Hierarchical
from regard.errors import ConfigError
from regard.hub.export.decoding_graphs import MODEL, causal_graphs, seq2seq_graphs
from regard.hub.export.graph import BATCH, TOKENS, Graph, read_mask, refuse
from regard.hub.export.trained_model import TrainedModel
from regard.hub.hugging_face.sentence_transformers import PoolingMode, SentencePooling
from regard.layers.recorded_attention import RecordedAttention
from regard.models import (
    Classifier,
    Decoder,
    Encoder,
    EncoderDecoder,
    Model,
    PatchTst,
    SpanModel,
    Vit,
)


def make_graphs(trained: TrainedModel) -> dict[str, Graph]:
    """Return the graphs of a model.

    Args:
        trained: The model.

    Returns:
        One, or that of the encoder and that of the decoder, by the names of their files without
        endings.

    Raises:
        ConfigError: It has a pattern of attention that no graph has for all lengths, or writes
            texts with something else than keys and values.
    """
    model = trained.model
    _check_patterns(model)
    if isinstance(model, Decoder):
        return causal_graphs(model)
    if isinstance(model, EncoderDecoder):
        return seq2seq_graphs(model)
    return {MODEL: _reading_graph(trained)}


def _reading_graph(trained: TrainedModel) -> Graph:
    """Return the graph of a model that writes no texts."""
    model = trained.model
    if isinstance(model, Classifier):
        return _text_graph(TextLabels(model), model.encoder, {"logits": {0: BATCH}})
    if isinstance(model, SpanModel):
        outputs = {"start_logits": TOKENS, "end_logits": TOKENS}
        return _text_graph(
            AnswerSpans(model),
            model.encoder,
            outputs,
            has_segments=model.encoder.config.num_segments > 1,
            has_roles=model.roles is not None,
        )
    if isinstance(model, Encoder):
        if predicts_tokens(trained):
            outputs = {"logits": TOKENS, "last_hidden_state": TOKENS}
            return _text_graph(MaskedTokens(model), model, outputs)
        outputs = {"last_hidden_state": TOKENS, "sentence_embedding": {0: BATCH}}
        pooling = trained.pooling or SentencePooling()
        return _text_graph(TextVectors(model, pooling), model, outputs)
    if isinstance(model, Vit):
        return _image_graph(model) if model.config.input == "image" else _feature_graph(model)
    assert isinstance(model, PatchTst)
    bands = () if trained.calendar is None else trained.calendar.bands
    return _forecast_graph(model, bands)


def predicts_tokens(trained: TrainedModel) -> bool:
    """Return whether a model is an encoder that predicts masked tokens."""
    tokenizer = trained.tokenizer
    has_mask = tokenizer is None or tokenizer.mask_id is not None
    return isinstance(trained.model, Encoder) and trained.model.head is not None and has_mask


def _check_patterns(model: Model) -> None:
    """Raise where a pattern of attention has other pairs, or another graph, for each length."""
    layers = (layer for layer in model.modules() if isinstance(layer, RecordedAttention))
    for pattern in dict.fromkeys(layer.pattern for layer in layers):
        if isinstance(pattern, LengthDependentPattern | Hierarchical):
            name = pattern.to_text() or repr(pattern)
            raise ConfigError(
                f"attention {name}: a graph is the same for every length, and this pattern "
                "is another one for each.  Patterns that can be written: full, causal, local:B, "
                "strided:S, global:P, top_k:K, and those joined by | and &."
            )


class TextLabels(nn.Module):
    """Logits of labels.

    Args:
        model: The classifier.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Compute logits ``[batch, labels]`` of ids and mask, ``[batch, length]``."""
        lengths, is_refused = read_mask(attention_mask)
        return {"logits": refuse(self.model(input_ids, lengths=lengths), is_refused)}


class AnswerSpans(nn.Module):
    """Logits of the first and the last token of an answer.

    Args:
        model: The finder of answers.
    """

    def __init__(self, model: SpanModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        token_roles: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute two logits, ``[batch, length]`` each, of inputs of the same shape."""
        lengths, is_refused = read_mask(attention_mask)
        logits = self.model(
            input_ids, segments=token_type_ids, roles=token_roles, lengths=lengths
        )  # [batch, length, 2]
        starts, ends = refuse(logits, is_refused).unbind(-1)
        return {"start_logits": starts, "end_logits": ends}


class MaskedTokens(nn.Module):
    """Logits of the token at every position, and the last hidden states.

    Args:
        model: The encoder.
    """

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Compute logits ``[batch, length, vocab]`` and states ``[batch, length, dim]``."""
        lengths, is_refused = read_mask(attention_mask)
        states = refuse(self.model.hidden_states(input_ids, lengths=lengths), is_refused)
        return {"logits": self.model.logits(states), "last_hidden_state": states}


class TextVectors(nn.Module):
    """The last hidden states, and the vector of each text.

    Args:
        model: The encoder.
        pooling: How states become a vector.
    """

    def __init__(self, model: Encoder, pooling: SentencePooling) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Compute ``[batch, length, dim]`` and ``[batch, vector]`` of ``[batch, length]``."""
        lengths, is_refused = read_mask(attention_mask)
        states = refuse(self.model.hidden_states(input_ids, lengths=lengths), is_refused)
        vectors = [pool_padded(states, lengths, mode) for mode in self.pooling.modes]
        vector = torch.cat(vectors, dim=-1)
        if self.pooling.is_normalized:
            vector = F.normalize(vector, dim=-1)
        return {"last_hidden_state": states, "sentence_embedding": vector}


def pool_padded(states: Tensor, lengths: Tensor, mode: PoolingMode) -> Tensor:
    """Compute the vectors of padded texts.

    Args:
        states: ``[batch, length, dim]``.
        lengths: Tokens of each text, ``[batch]``.
        mode: How states become a vector.

    Returns:
        ``[batch, dim]``.
    """
    positions = torch.arange(states.shape[1], device=states.device)
    is_token = (positions < lengths[:, None])[..., None]  # [batch, length, 1]
    count = lengths.clamp(min=1)[:, None].to(states.dtype)
    if mode == "cls":
        return states[:, 0]
    if mode == "lasttoken":
        is_last = (positions == (lengths - 1)[:, None])[..., None]
        return (states * is_last).sum(1)
    if mode == "max":
        return states.masked_fill(~is_token, -torch.inf).amax(1)
    if mode == "weightedmean":
        weights = is_token * (positions + 1.0)[:, None]
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)
    summed = (states * is_token).sum(1)
    return summed / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


class ImageLabels(nn.Module):
    """Logits of labels of images, or states and vectors where the model has no labels.

    Args:
        model: The Vision Transformer.
    """

    def __init__(self, model: Vit) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Compute logits ``[batch, labels]`` of pixels ``[batch, channels, height, width]``."""
        return {"logits": self.model(pixel_values)}


class FeatureLabels(nn.Module):
    """Logits of labels of rows of features.

    Args:
        model: The Vision Transformer over rows.
    """

    def __init__(self, model: Vit) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Compute logits ``[batch, labels]`` of ``[batch, length, features]`` and its mask."""
        lengths, is_refused = read_mask(attention_mask)
        return {"logits": refuse(self.model(input_features, lengths), is_refused)}


class Quantiles(nn.Module):
    """Quantiles of the steps after a window, with the bands that validation has stretched.

    Args:
        model: The forecaster.
        bands: Factors by which bands are stretched, outermost first; none for bands as they are.
    """

    def __init__(self, model: PatchTst, bands: Sequence[float]) -> None:
        super().__init__()
        self.model, self.bands = model, tuple(bands)

    def forward(
        self,
        past_values: Tensor,
        past_observed_mask: Tensor,
        calendar: Tensor | None = None,
        known: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute quantiles ``[batch, horizon, levels]`` of histories ``[batch, window]``."""
        quantiles = self.model(past_values, ~past_observed_mask, calendar, known, observed)
        return {"quantiles": stretch_bands(quantiles, self.bands)}


def stretch_bands(quantiles: Tensor, bands: Sequence[float]) -> Tensor:
    """Stretch bands around the median, none beyond the next one outwards.

    Args:
        quantiles: Of shape ``[batch, horizon, levels]``, rising; their number is odd.
        bands: Factors, outermost first.

    Returns:
        The same shape, rising.
    """
    levels = list(quantiles.unbind(-1))
    median = levels[len(levels) // 2]
    stretched = list(levels)
    for end in reversed(range(len(bands))):  # from the innermost band outwards
        for level, inner, sign in ((end, end + 1, -1), (-1 - end, -2 - end, 1)):
            distance = (levels[level] - median).abs() * bands[end]
            outermost = torch.maximum(distance, (stretched[inner] - median).abs())
            stretched[level] = median + sign * outermost
    return torch.stack(stretched, dim=-1)


def _text_graph(
    module: nn.Module,
    encoder: Encoder,
    outputs: Mapping[str, Mapping[int, str]],
    *,
    has_segments: bool = False,
    has_roles: bool = False,
) -> Graph:
    """Return the graph of a model of texts."""
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] * has_segments + ["token_roles"] * has_roles

    def make_inputs(generator: torch.Generator, rows: int, length: int) -> dict[str, Tensor]:
        shape, vocab_size = (rows, length), encoder.vocab_size
        lengths = torch.randint(1, length + 1, (rows,), generator=generator)
        lengths[0] = length
        inputs = {
            "input_ids": torch.randint(0, vocab_size, shape, generator=generator),
            "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
        }
        if has_segments:
            inputs["token_type_ids"] = torch.randint(0, 2, shape, generator=generator)
        if has_roles:
            inputs["token_roles"] = torch.randint(-1, 3, shape, generator=generator)
        return inputs

    return Graph(module, make_inputs, outputs, dict.fromkeys(names, TOKENS))


def _image_graph(model: Vit) -> Graph:
    config = model.config

    def make_inputs(generator: torch.Generator, rows: int, _length: int) -> dict[str, Tensor]:
        shape = (rows, config.channels, config.height, config.width)
        return {"pixel_values": torch.randn(shape, generator=generator)}

    return Graph(
        ImageLabels(model), make_inputs, {"logits": {0: BATCH}}, {"pixel_values": {0: BATCH}}
    )


def _feature_graph(model: Vit) -> Graph:
    def make_inputs(generator: torch.Generator, rows: int, length: int) -> dict[str, Tensor]:
        lengths = torch.randint(1, length + 1, (rows,), generator=generator)
        lengths[0] = length
        return {
            "input_features": torch.randn(
                rows, length, model.config.num_features, generator=generator
            ),
            "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
        }

    names = ("input_features", "attention_mask")
    return Graph(
        FeatureLabels(model), make_inputs, {"logits": {0: BATCH}}, dict.fromkeys(names, TOKENS)
    )


def _forecast_graph(model: PatchTst, bands: Sequence[float]) -> Graph:
    config = model.config

    def make_inputs(generator: torch.Generator, rows: int, _length: int) -> dict[str, Tensor]:
        def draw(*shape: int) -> Tensor:
            return torch.randn(rows, *shape, generator=generator)

        inputs = {
            "past_values": draw(config.window).double(),
            "past_observed_mask": draw(config.window) > -1.0,
            "calendar": draw(config.num_patches, config.num_calendar),
            "known": draw(config.window + config.horizon, config.num_known),
            "observed": draw(config.window, config.num_observed).double(),
        }
        return {name: values for name, values in inputs.items() if values.numel()}

    names = make_inputs(torch.Generator(), 1, 1)
    return Graph(
        Quantiles(model, bands),
        make_inputs,
        {"quantiles": {0: BATCH}},
        {name: {0: BATCH} for name in names},
    )
