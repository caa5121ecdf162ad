"""Models as graphs of one pass: inputs and outputs by the names of the field, any batch and length.

A graph reads ``attention_mask`` in place of lengths. Padding is on the right: a row with padding
anywhere else gives NaN, never the output of another text. Attention is computed by the definition,
with the scores of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.patterns.base import LengthDependentPattern
from regard.attention.patterns.hierarchical import Hierarchical
from regard.errors import ConfigError
from regard.hub.export.trained_model import TrainedModel
from regard.hub.hugging_face.sentence_transformers import PoolingMode, SentencePooling
from regard.layers.recorded_attention import RecordedAttention
from regard.models import Classifier, Encoder, Model, PatchTst, SpanModel, Vit

BATCH, LENGTH = "batch_size", "sequence_length"
"""Names of the axes that vary, as those of exports of ``transformers``."""
_ROWS, _POSITIONS = 3, 9  # of the example that is traced; 1 would be taken for a constant
_LONGEST = 10**9  # tokens: a graph for fewer has compared a length with a constant
_TOKENS = {0: BATCH, 1: LENGTH}


class Graph(NamedTuple):
    """A model with the names of its inputs and outputs.

    Args:
        module: Takes the inputs, and returns the outputs, both by name.
        make_inputs: Draws inputs from a generator, for a number of rows and a length.
        outputs: Axes that vary of each output, by its name.
        inputs: The same of each input.
    """

    module: nn.Module
    make_inputs: Callable[[torch.Generator, int, int], dict[str, Tensor]]
    outputs: Mapping[str, Mapping[int, str]]
    inputs: Mapping[str, Mapping[int, str]]

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
        program = torch.export.export(self.module, (), self.example(), dynamic_shapes=axes)
        ranges = program.range_constraints.values()
        assert all(bound.upper > _LONGEST for bound in ranges), "a length of the example is in it"
        return program

    def compute(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the model for inputs, both by name, of shape ``[batch, ...]``."""
        return self.module(**inputs)


def make_graph(trained: TrainedModel) -> Graph:
    """Return the graph of a model.

    Args:
        trained: The model.

    Returns:
        The graph.

    Raises:
        ConfigError: It writes texts, or has a pattern of attention that no graph has for all
            lengths.
    """
    model = trained.model
    _check_patterns(model)
    if isinstance(model, Classifier):
        return _text_graph(TextLabels(model), model.encoder, {"logits": {0: BATCH}})
    if isinstance(model, SpanModel):
        outputs = {"start_logits": _TOKENS, "end_logits": _TOKENS}
        return _text_graph(
            AnswerSpans(model),
            model.encoder,
            outputs,
            has_segments=model.encoder.config.num_segments > 1,
            has_roles=model.roles is not None,
        )
    if isinstance(model, Encoder):
        if predicts_tokens(trained):
            outputs = {"logits": _TOKENS, "last_hidden_state": _TOKENS}
            return _text_graph(MaskedTokens(model), model, outputs)
        outputs = {"last_hidden_state": _TOKENS, "sentence_embedding": {0: BATCH}}
        pooling = trained.pooling or SentencePooling()
        return _text_graph(TextVectors(model, pooling), model, outputs)
    if isinstance(model, Vit):
        return _image_graph(model) if model.config.input == "image" else _feature_graph(model)
    if isinstance(model, PatchTst):
        bands = () if trained.calendar is None else trained.calendar.bands
        return _forecast_graph(model, bands)
    raise ConfigError(
        "export: a model that writes texts, token by token.  A graph is one pass over a whole "
        "text, without the cache that makes the next token cheap."
    )


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
        lengths, is_refused = _read_mask(attention_mask)
        return {"logits": _refuse(self.model(input_ids, lengths=lengths), is_refused)}


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
        lengths, is_refused = _read_mask(attention_mask)
        logits = self.model(
            input_ids, segments=token_type_ids, roles=token_roles, lengths=lengths
        )  # [batch, length, 2]
        starts, ends = _refuse(logits, is_refused).unbind(-1)
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
        lengths, is_refused = _read_mask(attention_mask)
        states = _refuse(self.model.hidden_states(input_ids, lengths=lengths), is_refused)
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
        lengths, is_refused = _read_mask(attention_mask)
        states = _refuse(self.model.hidden_states(input_ids, lengths=lengths), is_refused)
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
        lengths, is_refused = _read_mask(attention_mask)
        return {"logits": _refuse(self.model(input_features, lengths), is_refused)}


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


def _read_mask(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
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


def _refuse(output: Tensor, is_refused: Tensor) -> Tensor:
    """Replace rows of ``[batch, ...]`` by NaN where bool ``[batch]`` says so."""
    return output.masked_fill(is_refused.view(-1, *[1] * (output.dim() - 1)), torch.nan)


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

    return Graph(module, make_inputs, outputs, dict.fromkeys(names, _TOKENS))


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
        FeatureLabels(model), make_inputs, {"logits": {0: BATCH}}, dict.fromkeys(names, _TOKENS)
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
