"""Vision Transformer: an encoder whose tokens are patches of an image.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
2021. A linear map of each patch, a class token before them, learned positions, pre-norm blocks, a
norm, and a linear map of the class token's state to the labels (equations 1 to 4). The same encoder
takes rows of feature vectors instead of patches: a numeric series, or log-mel frames of a spoken
word (`regard.data.readers.audio`). Cost of a pass: O(length^2 dim + length dim^2) a layer with full
attention, where length is the number of patches or rows plus one; a sparse pattern replaces
length^2 by its number of pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from regard.attention import Pattern
from regard.attention.resolve_lengths import lengths_on_device
from regard.errors import ConfigError, ShapeError
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.feed_forward import Activation
from regard.layers.linear import Linear
from regard.layers.norm import LayerNorm
from regard.layers.patch_embedding import InputEmbedding, Patches
from regard.layers.pooling import Pooler, Pooling, mean_of_valid
from regard.layers.transformer_block import BlockConfig, TransformerBlock
from regard.models.base.model import FamilyConfig, Model, PooledVector
from regard.models.base.pattern_support import check_patterns
from regard.settings.validation import (
    require_at_least,
    require_multiple,
    require_positive,
    require_probability,
)


class VitConfig(FamilyConfig, frozen=True, kw_only=True, tag="vit"):
    """The dimensions of a Vision Transformer; the defaults are those of ViT-B/16.

    Args:
        input: image, or features: rows of numbers, such as a series or frames of a recording.
        height: Height of an image in pixels, a multiple of patch_height.
        width: Width of an image in pixels, a multiple of patch_width.
        channels: Channels of an image: 3 in colour, 1 in grey.
        patch_height: Height of a patch in pixels.
        patch_width: Width of a patch in pixels.
        num_features: Numbers in a row of features.
        max_positions: Longest input of features, in rows; later positions count as the last.
        num_layers: Blocks.
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Attention heads in every block.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1; attention weights are not
            dropped.
        activation: gelu (the paper's), gelu_tanh, relu, swiglu or geglu.
        epsilon: Added to the variance in every normalisation.
        pooling: The vector of an input: first (of the class token) or mean (of all patches or
            rows).
        has_pooler: Whether that vector goes through a trained linear map and tanh.
        num_labels: Number of labels; 0 has no head, only hidden states and vectors.
    """

    input: Literal["image", "features"] = "image"
    height: int = 224
    width: int = 224
    channels: int = 3
    patch_height: int = 16
    patch_width: int = 16
    num_features: int = 40
    max_positions: int = 512
    num_layers: int = 12
    dim: int = 768
    num_heads: int = 12
    hidden_dim: int = 3072
    dropout: float = 0.1
    activation: Activation = "gelu"
    epsilon: float = 1e-6
    pooling: Pooling = "first"
    has_pooler: bool = False
    num_labels: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("height", "width", "channels", "patch_height", "patch_width", "num_features")
        require_at_least(1, self, *sizes, "max_positions")
        require_at_least(1, self, "num_layers", "dim", "num_heads", "hidden_dim")
        if self.input == "image":
            require_multiple(self, "height", divisor="patch_height")
            require_multiple(self, "width", divisor="patch_width")
        require_multiple(self, "dim", divisor="num_heads")
        require_probability(self, "dropout")
        require_positive(self, "epsilon")
        require_at_least(0, self, "num_labels")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        inputs = f"rows of {self.num_features} feature{'' if self.num_features == 1 else 's'}"
        if self.input == "image":
            inputs = (
                f"images {self.height}x{self.width}x{self.channels} in patches of "
                f"{self.patch_height}x{self.patch_width}"
            )
        return (
            f"{self.num_layers} layers, d={self.dim}, {self.num_heads} heads, "
            f"ff {self.hidden_dim}, {inputs}, attention {attention.summary()}"
        )

    def patterns(self, attention: AttentionConfig) -> list[Pattern]:
        """Return the pattern of each layer; the class token is the first."""
        return attention.encoder_patterns(self.num_layers)

    def block(self) -> BlockConfig:
        """Return the dimensions of one block."""
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            norm="pre",
            activation=self.activation,
            output_init_scale=1.0,
            epsilon=self.epsilon,
        )

    @property
    def num_positions(self) -> int:
        """Number of patches of an image, or of rows of the longest input of features."""
        if self.input == "features":
            return self.max_positions
        return (self.height // self.patch_height) * (self.width // self.patch_width)

    def longest_input(self, max_length: int) -> int:  # noqa: ARG002 - of text
        """Return the rows of the longest input: all patches or rows, and the class token."""
        return self.num_positions + 1

    def make_embedding(self) -> InputEmbedding:
        """Return the embedding of patches or rows."""
        if self.input == "image":
            height, width = self.patch_height, self.patch_width
            projection = Patches(self.dim, channels=self.channels, height=height, width=width)
        else:
            projection = Linear(self.num_features, self.dim)
        return InputEmbedding(
            projection,
            self.dim,
            self.num_positions,
            has_class_token=True,
            dropout=Dropout(self.dropout),
        )


class Vit(Model):
    """The encoder, with a linear map to labels where the configuration has any.

    Args:
        config: Its dimensions.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: VitConfig,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(dim=config.dim)
        check_patterns(config, attention, lacks="decoder")
        self.config = config
        self.input_name = config.input
        self.num_labels = config.num_labels
        self.front_end = config.make_embedding()
        block = config.block()
        self.blocks = nn.ModuleList(
            TransformerBlock(block, block.self_attention(pattern))
            for pattern in config.patterns(attention)
        )
        self.norm = LayerNorm(config.dim, config.epsilon)
        self.pooler = Pooler(config.dim) if config.has_pooler else None
        self.head = Linear(config.dim, config.num_labels) if config.num_labels else None
        if self.head is not None:
            nn.init.zeros_(self.head.weight)  # the paper, section 3.1

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the logits of the labels.

        Args:
            inputs: Pixels ``[batch, channels, height, width]``, scaled as they were in training, or
                rows of features ``[batch, length, num_features]``, padded at the end.
            lengths: Rows without padding, ``[batch]``; None means all. Images have none. In main
                memory they are looked at without waiting for the device of the inputs.

        Returns:
            ``[batch, labels]``.

        Raises:
            ConfigError: The model has no labels.
            ShapeError: The inputs have another shape, or images come with lengths.
        """
        return self.logits(self.pooled(self.hidden_states(inputs, lengths), lengths))

    def hidden_states(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the last hidden states.

        Args:
            inputs: Pixels ``[batch, channels, height, width]``, scaled as they were in training, or
                rows of features ``[batch, length, num_features]``, padded at the end.
            lengths: Rows without padding, ``[batch]``; None means all. Images have none. In main
                memory they are looked at without waiting for the device of the inputs.

        Returns:
            ``[batch, patches + 1, dim]`` (or ``length + 1``), the class token's first; those of
            padding are meaningless.

        Raises:
            ShapeError: The inputs have another shape, or images come with lengths.
        """
        self._check(inputs, lengths)
        if lengths is not None:
            is_compiling = torch.compiler.is_compiling()
            is_padded = is_compiling or bool((lengths < inputs.shape[1]).any())
            # The class token comes first.
            lengths = lengths_on_device(lengths + 1, inputs.device) if is_padded else None
        x = self.front_end(inputs.to(self.compute_dtype))
        for block in self.blocks:
            x = block(x, lengths)
        return self.norm(x)

    def pooled(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute one vector for each input.

        Args:
            hidden: Last hidden states, ``[batch, length + 1, dim]``.
            lengths: Rows without padding, ``[batch]``; None means all.

        Returns:
            ``[batch, dim]``: the mean over patches or over rows without padding, or the class
            token's state, through the pooler where there is one.
        """
        is_first = self.config.pooling == "first"
        vectors = hidden[:, 0] if is_first else mean_of_valid(hidden[:, 1:], lengths)
        return vectors if self.pooler is None else self.pooler(vectors)

    def logits(self, vectors: Tensor) -> Tensor:
        """Map vectors of inputs to logits.

        Args:
            vectors: ``[batch, dim]``.

        Returns:
            ``[batch, labels]``.

        Raises:
            ConfigError: The model has no labels.
        """
        if self.head is None:
            raise ConfigError(
                "num_labels=0: the model has hidden states and vectors, no logits of labels.  "
                "Use hidden_states(inputs) or pooled(hidden), or load weights that hold the head."
            )
        return self.head(vectors)

    @property
    def output_name(self) -> str:
        """Logits of labels; without a head the vector of a pooler, or states."""
        if self.head is not None:
            return f"logits of {self.num_labels:,} labels"
        return "states" if self.pooler is None else "vector"

    def pooling(self) -> PooledVector | None:
        """Return the vector of an input, where a layer reads it."""
        layers = self.vector_layers()
        if not layers:
            return None
        mean = f"mean over {'patches' if self.config.input == 'image' else 'rows'}"
        label = "class token" if self.config.pooling == "first" else mean
        return PooledVector(label, layers[0])

    def vector_layers(self) -> list[nn.Module]:
        """Return the pooler and the map to the labels."""
        return [layer for layer in (self.pooler, self.head) if layer is not None]

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embedding of patches or rows."""
        return {"input": self.front_end}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = self.config.patterns(attention)
        return self.bytes_kept(patterns, length, num_heads=self.config.num_heads)

    def _check(self, inputs: Tensor, lengths: Tensor | None) -> None:
        config, shape = self.config, list(inputs.shape)
        if config.input == "features":
            if shape[2:] != [config.num_features]:
                raise ShapeError(
                    f"features are {shape}; [batch, length, {config.num_features}] is expected."
                )
            return
        image_shape = [config.channels, config.height, config.width]
        if shape[1:] != image_shape:
            raise ShapeError(
                f"pixels are {shape}; [batch, {', '.join(map(str, image_shape))}] is expected "
                "(channels, height, width).  Scale or crop the images."
            )
        if lengths is not None:
            raise ShapeError("lengths: images have none, all patches are seen.  Leave them out.")
