"""T5: an encoder-decoder that knows positions by their distances (Raffel et al. 2020).

Raffel, Shazeer, Roberts et al., "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", section 2.1: pre-norm blocks without biases, with RMS norms (Zhang &
Sennrich 2019), and no embedding of positions: each stack has one table of numbers that are added
to the scores of self-attention by the distance of query and key. Scores are not divided by
``sqrt(head_dim)``; initial queries are, instead. Texts have no limit of length.

T5 v1.1, Flan-T5 and mT5 (Xue et al. 2021) have gated feed-forward networks (Shazeer 2020) and an
output of its own; umT5 (Chung et al. 2023) has a table of distances in each layer. Cost of a pass:
O(length^2 dim + length dim^2) a layer with full attention; a sparse pattern replaces length^2 by
its number of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from regard.attention import DotProduct
from regard.layers.attention_config import AttentionConfig
from regard.layers.cache import LayerCache
from regard.layers.dropout import Dropout
from regard.layers.embedding import TokenEmbedding
from regard.layers.feed_forward import Activation
from regard.layers.initialization import fill_normal
from regard.layers.multi_head_attention import SelfAttention
from regard.layers.relative_bias import RelativeBias
from regard.layers.transformer_block import BlockConfig, DecoderBlock, TransformerBlock
from regard.models.base.encoder_decoder import DecoderState, EncoderDecoder
from regard.models.base.model import FamilyConfig
from regard.models.base.text_model import PAD_ID, lengths_of_padded, token_lengths, token_table
from regard.settings.validation import require_at_least, require_positive, require_probability

Memory = list[tuple[Tensor, Tensor]]
"""Keys and values of the source for each layer of the decoder."""


class T5Config(FamilyConfig, frozen=True, kw_only=True, tag="t5"):
    """The dimensions of a T5.

    Args:
        num_encoder_layers: Encoder blocks.
        num_decoder_layers: Decoder blocks.
        dim: Size of the model.
        num_heads: Attention heads in every block.
        head_dim: Size of a head; none is dim / num_heads.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1.
        activation: relu (the paper's), geglu_tanh (T5 v1.1, mT5), swiglu, gelu, gelu_tanh or silu.
        epsilon: Epsilon of the norms, above 0.
        num_buckets: Buckets of distances in self-attention, of which an encoder uses half for what
            follows; 4 or more.
        max_distance: Tokens from which on all distances share one bucket.
        shares_buckets: Whether the layers of a stack share one table of buckets; umT5 does not.
        tied: Which embeddings share one table: all, or inputs (source and target; T5 v1.1, mT5).
        has_output_scale: Whether the last states are taken times ``dim ** -0.5`` before they are
            mapped to logits (the paper's, with one table); T5 v1.1 and mT5 do not.
        pad_id: Token that fills up the rows of a source.
        start_id: Token that begins a target; published models begin with `pad_id`.
    """

    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    dim: int = 512
    num_heads: int = 8
    head_dim: int | None = None
    hidden_dim: int = 2048
    dropout: float = 0.1
    activation: Activation = "relu"
    epsilon: float = 1e-6
    num_buckets: int = 32
    max_distance: int = 128
    shares_buckets: bool = True
    tied: Literal["all", "inputs"] = "all"
    has_output_scale: bool = True
    pad_id: int = PAD_ID
    start_id: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_encoder_layers", "num_decoder_layers", "num_heads")
        require_at_least(1, self, "dim", "head_dim", "hidden_dim", "max_distance")
        require_at_least(4, self, "num_buckets")
        require_at_least(0, self, "pad_id", "start_id")
        require_positive(self, "epsilon")
        require_probability(self, "dropout")
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads ({self.num_heads}), not {self.dim}"
            )
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                f"max_distance must be above num_buckets / 2 ({self.num_buckets // 2}), "
                f"not {self.max_distance}"
            )

    @property
    def size_of_head(self) -> int:
        """The size of a head, set or not."""
        return self.head_dim or self.dim // self.num_heads

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        return (
            f"{self.num_encoder_layers}+{self.num_decoder_layers} layers, d={self.dim}, "
            f"{self.num_heads} heads of {self.size_of_head}, ff {self.hidden_dim} "
            f"{self.activation}, relative positions, attention {attention.summary()}"
        )

    def block(self) -> BlockConfig:
        """Return the dimensions of one block."""
        num_sublayers = 2 * self.num_encoder_layers + 3 * self.num_decoder_layers
        return BlockConfig(
            dim=self.dim,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            activation=self.activation,
            # Keeps the variance of the residual stream, in the mean of both stacks.
            output_init_scale=(num_sublayers / 2) ** -0.5,
            norm_kind="rms",
            epsilon=self.epsilon,
            bias=False,
            head_dim=self.size_of_head,
            query_scale=1.0,
        )

    def position_biases(self, num_layers: int, *, bidirectional: bool) -> list[RelativeBias]:
        """Return the bias of distances of each layer of a stack, one object where they share it."""

        def make() -> RelativeBias:
            return RelativeBias(
                self.num_heads,
                num_buckets=self.num_buckets,
                max_distance=self.max_distance,
                bidirectional=bidirectional,
                std=self.dim**-0.5,
            )

        return [make()] * num_layers if self.shares_buckets else [make() for _ in range(num_layers)]


class T5(EncoderDecoder[DecoderState]):
    """The encoder-decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids, shared by source and target.
        attention: The pattern of each layer.
    """

    def __init__(
        self,
        config: T5Config,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(vocab_size, dim=config.dim)
        self.config = config
        self.pad_id, self.start_id = config.pad_id, config.start_id
        # Entries of variance 1, which embed without a factor.
        table = nn.Parameter(fill_normal(torch.empty(vocab_size, config.dim)))
        is_own = config.tied == "inputs"
        self.output_weight = token_table(vocab_size, config.dim) if is_own else table
        self.source_embedding, self.target_embedding = (
            TokenEmbedding(table, None, Dropout(config.dropout), scale=1.0) for _ in range(2)
        )
        self.output_scale = config.dim**-0.5 if config.has_output_scale else 1.0
        block = config.block()
        encoder, decoder = config.num_encoder_layers, config.num_decoder_layers
        self.encoder = nn.ModuleList(
            TransformerBlock(block, block.self_attention(pattern, bias))
            for pattern, bias in zip(
                attention.encoder_patterns(encoder),
                config.position_biases(encoder, bidirectional=True),
                strict=True,
            )
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(block, block.self_attention(pattern, bias), cross_pattern)
            for pattern, bias, cross_pattern in zip(
                attention.decoder_patterns(decoder),
                config.position_biases(decoder, bidirectional=False),
                attention.cross_patterns(decoder),
                strict=True,
            )
        )
        self.encoder_norm, self.decoder_norm = block.make_last_norm(), block.make_last_norm()
        self._scale_queries()

    @torch.no_grad()
    def _scale_queries(self) -> None:
        """Give initial queries the factor that scores lack, those over the source, too."""
        config = self.config
        factor, width = config.size_of_head**-0.5, config.num_heads * config.size_of_head
        for block in [*self.encoder, *self.decoder]:
            if isinstance(block.self_attention, SelfAttention):
                block.self_attention.query_key_value.weight[:width] *= factor
        for block in self.decoder_blocks:
            block.cross_attention.score = DotProduct(scale=1.0)
            block.cross_attention.query.weight *= factor

    @property
    def decoder_blocks(self) -> list[DecoderBlock]:
        """The decoder's blocks, first to last."""
        return [block for block in self.decoder if isinstance(block, DecoderBlock)]

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embeddings of source and target."""
        return {"source": self.source_embedding, "target": self.target_embedding}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        config = self.config
        patterns = attention.every_pattern(config.num_encoder_layers, config.num_decoder_layers)
        return self.bytes_kept(patterns, length, num_heads=config.num_heads)

    def hidden_states(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the decoder's last hidden states, ``[batch, length, dim]``; see `forward`."""
        states, lengths = self.encode(source_ids, lengths)
        return self._decode(target_ids, self._project(states), lengths)

    def encode(
        self, source_ids: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Read the source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with `pad_id`.
            lengths: Tokens of each source, ``[batch]``; None finds them by `pad_id`.

        Returns:
            States ``[batch, source_length, dim]`` and the valid lengths ``[batch]``, or None where
            no row is padded.
        """
        lengths = lengths_of_padded(source_ids, lengths, pad_id=self.pad_id)
        x = self.source_embedding(source_ids, dtype=self.compute_dtype)
        for block in self.encoder:
            x = block(x, lengths)
        return self.encoder_norm(x), lengths

    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> DecoderState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        lengths = token_lengths(source_ids, lengths, pad_id=self.pad_id)
        states, _ = self.encode(source_ids, lengths)
        return DecoderState(
            memory=self._project(states),
            lengths=lengths,
            caches=[block.make_cache() for block in self.decoder_blocks],
        )

    def next_logits(self, target_ids: Tensor, state: DecoderState) -> Tensor:
        """Decode the next tokens, ``[batch, length]``, to logits ``[batch, length, vocab]``."""
        return self.logits(self._decode(target_ids, state.memory, state.lengths, state.caches))

    def _project(self, states: Tensor) -> Memory:
        return [block.cross_attention.project(states) for block in self.decoder_blocks]

    def _decode(
        self,
        target_ids: Tensor,
        memory: Memory,
        lengths: Tensor | None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Map the next tokens, ``[batch, length]``, to the last states, ``[batch, length, dim]``.

        Args:
            target_ids: The tokens.
            memory: Keys and values of the source for each layer.
            lengths: Valid source positions of each row, ``[batch]``; None means all.
            caches: Caches of each layer, with the tokens before; None where there are none.

        Returns:
            ``[batch, length, dim]``, with the factor of the output.
        """
        x = self.target_embedding(target_ids, dtype=self.compute_dtype)
        for index, block in enumerate(self.decoder):
            x = block(x, memory[index], lengths, None if caches is None else caches[index])
        return self.decoder_norm(x) * self.output_scale
