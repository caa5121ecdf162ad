"""The base of encoders of text, in the manner of BERT (Devlin et al. 2019, section 3).

An `Encoder` computes hidden states of all tokens, logits of masked ones, and one vector for a text:
embeddings of tokens, positions and segments, summed and normalised, blocks, the head of
masked-token prediction and the pooler. A family passes the attention of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Self

import msgspec
from torch import Tensor, nn

from regard.attention import Pattern
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.embedding import SegmentedEmbedding
from regard.layers.feed_forward import Activation
from regard.layers.initialization import fill_normal
from regard.layers.masked_token_head import HeadActivation, MaskedTokenHead
from regard.layers.norm import LayerNorm
from regard.layers.pooling import Pooler, PoolerActivation, Pooling, mean_of_valid
from regard.layers.positions import LearnedPositions
from regard.layers.prediction_head import PredictionHead
from regard.layers.transformer_block import BlockConfig, Mixer, NormPosition, TransformerBlock
from regard.models.base.model import FamilyConfig
from regard.models.base.text_model import (
    TextModel,
    lengths_of_padded,
    token_lengths,
    token_table,
)
from regard.settings.validation import (
    require_at_least,
    require_multiple,
    require_positive,
    require_probability,
)

INITIAL_STD = 0.02  # Devlin et al. 2019: initializer_range of every published configuration


class EncoderConfig(FamilyConfig, frozen=True, kw_only=True):
    """The dimensions of an encoder in the manner of BERT.

    Args:
        num_layers: Blocks.
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Attention heads in every block.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1; attention weights are not
            dropped.
        norm: post (default, the paper's) or pre.
        activation: gelu (the paper's), gelu_tanh, relu, swiglu or geglu.
        epsilon: Added to the variance in every normalisation.
        max_positions: Longest text, in tokens; later positions count as the last.
        position_offset: Rows of the position table before the first token's.
        num_segments: Kinds of segments; 0 has no table of them.
        pad_id: Token that pads on the right.
        has_mlm_head: Whether it predicts masked tokens; else it has no logits.
        head_activation: Activation of that head: gelu, gelu_tanh or relu.
        has_pooler: Whether the first token's vector goes through a trained linear map.
        pooler_activation: Activation after that map: tanh (the paper's), relu (DistilBERT's
            classifiers) or gelu (ELECTRA's).
        pooling: The vector of a text: first (its first token's) or mean (of all its tokens).
        embedding_dim: Size of the rows of its tables, which a linear map takes to `dim` (Clark et
            al. 2020, ELECTRA); none has `dim` itself and no map.
    """

    pools_every_vector: ClassVar[bool] = False
    """Whether the pooler maps means, and tokens that answer, as well as first tokens."""

    num_layers: int = 12
    dim: int = 768
    num_heads: int = 12
    hidden_dim: int = 3072
    dropout: float = 0.1
    norm: NormPosition = "post"
    activation: Activation = "gelu"
    epsilon: float = 1e-12
    max_positions: int = 512
    position_offset: int = 0
    num_segments: int = 2
    pad_id: int = 0
    has_mlm_head: bool = True
    head_activation: HeadActivation = "gelu"
    has_pooler: bool = False
    pooler_activation: PoolerActivation = "tanh"
    pooling: Pooling = "first"
    embedding_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("num_layers", "dim", "num_heads", "hidden_dim", "max_positions", "embedding_dim")
        require_at_least(1, self, *sizes)
        require_at_least(0, self, "position_offset", "num_segments", "pad_id")
        require_multiple(self, "dim", divisor="num_heads")
        require_probability(self, "dropout")
        require_positive(self, "epsilon")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        return (
            f"{self.num_layers} layers, d={self.dim}, {self.num_heads} heads, "
            f"ff {self.hidden_dim}, {self.norm}-norm, attention {attention.kind_summary('encoder')}"
        )

    @property
    def table_dim(self) -> int:
        """Size of the rows of its tables."""
        return self.embedding_dim or self.dim

    def patterns(self, attention: AttentionConfig) -> list[Pattern]:
        """Return the pattern of each layer."""
        return attention.encoder_patterns(self.num_layers)

    def for_single_texts(self) -> Self:
        """Return the configuration for texts without a question before them."""
        return self

    def block(self) -> BlockConfig:
        """Return the dimensions of one block."""
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            norm=self.norm,
            activation=self.activation,
            output_init_scale=1.0,
            epsilon=self.epsilon,
        )

    def longest_input(self, max_length: int) -> int:
        """Return the tokens of the longest text: those that there are positions for."""
        return min(max_length, self.max_positions)

    def make_positions(self) -> LearnedPositions | None:
        """Return the table of positions; None where the layers have their own."""
        return LearnedPositions(self.table_dim, self.max_positions, self.position_offset)

    def make_embedding(self, table: nn.Parameter) -> SegmentedEmbedding:
        """Return the embedding of tokens, by a table ``[vocab, dim]``, positions and segments."""
        return SegmentedEmbedding(
            table,
            self.make_positions(),
            self.make_norm(self.table_dim),
            Dropout(self.dropout),
            num_segments=self.num_segments,
            out_dim=None if self.embedding_dim is None else self.dim,
            uncounted_id=self.pad_id if self.position_offset == self.pad_id + 1 else None,
        )

    def make_norm(self, dim: int) -> LayerNorm:
        """Return a normalisation outside of the blocks."""
        return LayerNorm(dim, self.epsilon)

    def make_head(self, vocab_size: int) -> MaskedTokenHead | None:
        """Return the head of masked tokens, if there is one."""
        if not self.has_mlm_head:
            return None
        return MaskedTokenHead(
            self.dim,
            vocab_size,
            self.make_norm(self.table_dim),
            activation=self.head_activation,
            table_dim=self.embedding_dim,
        )

    def make_pooler(self) -> Pooler | PredictionHead | None:
        """Return the pooler, if there is one."""
        return Pooler(self.dim, self.pooler_activation) if self.has_pooler else None


class Encoder(TextModel):
    """A model that reads a text in both directions.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        mixers: Attention of each layer, first to last.
        block: Dimensions of each, where they are not those of `config`.
        embedding: Builds another embedding from the table of tokens; `embed` calls it.
        initial_std: Standard deviation of all initial weights; None leaves each layer its own.
    """

    has_output_map = has_plain_logits = False

    def __init__(
        self,
        config: EncoderConfig,
        vocab_size: int,
        mixers: Iterable[Mixer],
        *,
        block: BlockConfig | None = None,
        embedding: Callable[[nn.Parameter], nn.Module] | None = None,
        initial_std: float | None = INITIAL_STD,
    ) -> None:
        super().__init__(vocab_size, dim=config.dim)
        self.config = config
        self.output_weight = token_table(vocab_size, config.table_dim)
        self.embedding = (embedding or config.make_embedding)(self.output_weight)
        block = block or config.block()
        self.blocks = nn.ModuleList(TransformerBlock(block, mixer) for mixer in mixers)
        self.norm = block.make_last_norm()
        self.head = config.make_head(vocab_size)
        self.pooler = config.make_pooler()
        if initial_std is not None:
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    fill_normal(parameter, initial_std)

    def forward(
        self, ids: Tensor, *, segments: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the logits of the token at every position.

        Args:
            ids: ``[batch, length]``, padded on the right with the configuration's `pad_id`.
            segments: Segment numbers of the same shape; None is 0 everywhere.
            lengths: Tokens of each row, ``[batch]``; None finds them by `pad_id`.

        Returns:
            ``[batch, length, vocab]``; meaningful where the token was masked.

        Raises:
            ConfigError: The model has no head for them.
        """
        return self.logits(self.hidden_states(ids, segments=segments, lengths=lengths))

    def hidden_states(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Compute the last hidden states.

        Args:
            ids: ``[batch, length]``, padded on the right with the configuration's `pad_id`.
            segments: Segment numbers of the same shape; None is 0 everywhere.
            lengths: Tokens of each row, ``[batch]``; None finds them by `pad_id`.
            features: Vectors that are added to the embeddings, ``[batch, length, dim]``.

        Returns:
            ``[batch, length, dim]``; those of padding are meaningless.
        """
        lengths = lengths_of_padded(ids, lengths, pad_id=self.config.pad_id)
        x = self.embed(ids, segments)
        if features is not None:
            x = x + features.to(x.dtype)
        for block in self.blocks:
            x = block(x, lengths)
        return self.norm(x)

    def embed(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """Embed ids and segments, ``[batch, length]`` each, as ``[batch, length, dim]``."""
        return self.embedding(ids, segments, self.compute_dtype)

    def drop_head(self) -> None:
        """Remove what a classifier does not use: the head, and a pooler where it takes the mean."""
        self.head = None
        if not self.maps_pooled:
            self.pooler = None
        self.config = msgspec.structs.replace(
            self.config, has_mlm_head=False, has_pooler=self.pooler is not None
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states ``[batch, length, dim]`` (any leading axes) to token logits.

        Returns:
            ``[batch, length, vocab]``.

        Raises:
            ConfigError: The model has no head for them.
        """
        if self.head is None:
            raise ConfigError(
                "has_mlm_head=false: the model has hidden states and vectors, no token logits.  "
                "Use hidden_states(ids) or pooled(hidden, ids), or load weights that hold the head."
            )
        return self.head(hidden, self.output_weight)

    def pooled(self, hidden: Tensor, ids: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Compute one vector for each text.

        Args:
            hidden: Last hidden states, ``[batch, length, dim]``.
            ids: Their ids, ``[batch, length]``.
            lengths: Tokens of each row, ``[batch]``; None finds them by the `pad_id`.

        Returns:
            ``[batch, dim]``: the mean over the tokens without padding, or the first token's state,
            through the pooler where there is one that maps it.
        """
        if self.config.pooling == "first":
            vectors = hidden[:, 0]
        else:
            vectors = mean_of_valid(hidden, self.lengths(ids) if lengths is None else lengths)
        return self.pooler(vectors) if self.pooler is not None and self.maps_pooled else vectors

    @property
    def maps_pooled(self) -> bool:
        """Whether the pooler, if there is one, maps the vector of a text."""
        return self.config.pooling == "first" or self.config.pools_every_vector

    def lengths(self, ids: Tensor) -> Tensor:
        """Count the tokens of each row of ``[batch, length]``, up to the last without padding."""
        return token_lengths(ids, pad_id=self.config.pad_id)

    @property
    def output_name(self) -> str:
        """Logits of tokens, or states without a head for them."""
        return "states" if self.head is None else super().output_name

    def vector_layers(self) -> list[nn.Module]:
        """Return the pooler."""
        return [] if self.pooler is None else [self.pooler]

    def unused_layers(self) -> list[nn.Module]:
        """Return the pooler, which `pooled` runs."""
        return self.vector_layers()

    def weights_passed(self) -> dict[nn.Module, nn.Parameter]:
        """Return the table of tokens for the head of masked tokens."""
        return {} if self.head is None else {self.head: self.output_weight}

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embedding of the tokens."""
        return {"text": self.embedding}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        patterns = self.config.patterns(attention)
        return self.bytes_kept(patterns, length, num_heads=self.config.num_heads)
