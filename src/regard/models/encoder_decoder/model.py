"""An encoder and a decoder of any families, joined to read a source and write a target.

Rothe, Narayan & Severyn 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks":
any encoder reads the source, any decoder writes, and every block of the decoder attends to the
encoder's last states as in the Transformer. Encoder and decoder have tables and sizes of their own,
with a linear map between them where the sizes differ. Cost of a pass: that of both, and
O(source x target x dim) a decoder layer.

A Transformer-XL has no memory in training, and token by token it sees ``decoder.memory`` positions.
The two agree up to that length, so it should be the length of the longest target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.linear import Linear
from regard.layers.transformer_block import DecoderBlock
from regard.models.base.encoder_decoder import START_ID, DecoderState, EncoderDecoder
from regard.models.base.model import FamilyConfig
from regard.models.base.text_model import lengths_of_padded, token_lengths
from regard.models.bert.model import Bert, BertConfig
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.longformer.model import Longformer, LongformerConfig
from regard.models.mesanet.model import MesaNet, MesaNetConfig
from regard.models.modernbert.model import ModernBert, ModernBertConfig
from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig
from regard.settings.validation import require_at_least

if TYPE_CHECKING:
    from regard.models.base.decoder import Decoder
    from regard.models.base.encoder import Encoder


class EncoderDecoderConfig(FamilyConfig, frozen=True, kw_only=True, tag="encoder_decoder"):
    """Which encoder reads and which decoder writes.

    Args:
        encoder: Reads the source; its head for masked tokens and its pooler are left out.
        decoder: Writes the target, with attention over the source in every block.
        source_rows: Rows of the encoder's table of tokens, where encoder and decoder have
            different vocabularies; none is the number of the decoder's rows.
        start_id: Token that begins a target.
    """

    encoder: BertConfig | LongformerConfig | ModernBertConfig = BertConfig()
    decoder: GptConfig | TransformerXlConfig | MesaNetConfig = GptConfig()
    source_rows: int | None = None
    start_id: int = START_ID

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "source_rows")
        require_at_least(0, self, "start_id")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        summaries = (
            f"{config.family} ({config.summary(attention)})"
            for config in (self.encoder, self.decoder)
        )
        return f"{' + '.join(summaries)}, cross {attention.kind_summary('cross')}"


class EncoderDecoderModel(EncoderDecoder[DecoderState]):
    """The encoder-decoder.

    Args:
        config: Configuration of encoder and decoder.
        vocab_size: Number of token ids of the target, and of the source where the configuration has
            no `source_rows`.
        attention: The pattern of each layer.

    Raises:
        ConfigError: A pattern is set for a decoder without self-attention, or the encoder's table
            has no row for the token that pads sources.
    """

    has_separate_encoder = True

    def __init__(
        self,
        config: EncoderDecoderConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(vocab_size, dim=config.decoder.dim)
        self.config = config
        self.pad_id, self.start_id = config.encoder.pad_id, config.start_id
        rows = config.source_rows or vocab_size
        if self.pad_id >= rows:
            raise ConfigError(
                f"model.encoder.pad_id={self.pad_id}: the encoder's table has {rows:,} rows of "
                f"tokens.  Take one of 0 to {rows - 1:,}."
            )
        encoder = msgspec.structs.replace(config.encoder, has_mlm_head=False, has_pooler=False)
        # The encoder accepts no patterns but its own.
        pattern = attention.pattern if attention.encoder is None else attention.encoder
        self.encoder = _ENCODERS[type(encoder)](encoder, rows, AttentionConfig(encoder=pattern))
        sizes = config.encoder.dim, config.decoder.dim
        self.encoder_output = Linear(*sizes) if sizes[0] != sizes[1] else nn.Identity()
        self.decoder = _DECODERS[type(config.decoder)](
            config.decoder, vocab_size, attention, reads_source=True
        )

    @property
    def output_weight(self) -> nn.Parameter:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The decoder's map to logits, ``[vocab, dim]``."""
        return self.decoder.output_weight

    @property
    def has_plain_logits(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether logits are the decoder's last states times `output_weight`, and nothing else."""
        return self.decoder.has_plain_logits

    def logits(self, hidden: Tensor) -> Tensor:
        """Map the decoder's states, ``[batch, length, dim]``, to logits, ``[..., vocab]``."""
        return self.decoder.logits(hidden)

    @property
    def source_dim(self) -> int:
        """Size of the encoder's states."""
        return self.encoder.dim

    @property
    def decoder_blocks(self) -> list[DecoderBlock]:
        """The decoder's blocks, first to last."""
        return [block for block in self.decoder.blocks if isinstance(block, DecoderBlock)]

    def stacks(self) -> dict[str, list[nn.Module]]:
        """Return the layers of encoder and decoder, first to last."""
        return {"encoder": self.encoder.layers(), "decoder": self.decoder.layers()}

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return the embeddings of source and target."""
        return {"source": self.encoder.embedding, "target": self.decoder.embedding}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        decoder = self.config.decoder
        patterns = attention.cross_patterns(decoder.num_layers)
        cross = self.bytes_kept(patterns, length, num_heads=decoder.num_heads)
        parts = (self.encoder, self.decoder)
        return cross + sum(part.attention_bytes(attention, length) for part in parts)

    def encode(
        self, source_ids: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Read the source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with `pad_id`.
            lengths: Tokens of each source, ``[batch]``; None finds them by `pad_id`.

        Returns:
            States in the decoder's size, ``[batch, source_length, dim]``, and the valid lengths
            ``[batch]``, or None where no row is padded.
        """
        states = self.encoder_output(self.encoder.hidden_states(source_ids, lengths=lengths))
        return states, lengths_of_padded(source_ids, lengths, pad_id=self.pad_id)

    def hidden_states(
        self, source_ids: Tensor, target_ids: Tensor, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the decoder's last hidden states, ``[batch, length, dim]``; see `forward`."""
        states, lengths = self.encode(source_ids, lengths)
        return self.decoder.decode(target_ids, memory=self._project(states), lengths=lengths)

    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> DecoderState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        states, _ = self.encode(source_ids, lengths)
        return DecoderState(
            memory=self._project(states),
            lengths=token_lengths(source_ids, lengths, pad_id=self.pad_id),
            caches=list(self.decoder.init_state().caches),
        )

    def next_logits(self, target_ids: Tensor, state: DecoderState) -> Tensor:
        """Decode the next tokens, ``[batch, length]``, to logits ``[batch, length, vocab]``."""
        hidden = self.decoder.decode(
            target_ids, state.caches, memory=state.memory, lengths=state.lengths
        )
        return self.logits(hidden)

    def _project(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [block.cross_attention.project(states) for block in self.decoder_blocks]


_ENCODERS: dict[type, Callable[..., Encoder]] = {
    BertConfig: Bert,
    LongformerConfig: Longformer,
    ModernBertConfig: ModernBert,
}
_DECODERS: dict[type, Callable[..., Decoder]] = {
    GptConfig: Gpt,
    TransformerXlConfig: TransformerXl,
    MesaNetConfig: MesaNet,
}
PART_CONFIGS: dict[str, tuple[type[Any], ...]] = {
    "encoder": tuple(_ENCODERS),
    "decoder": tuple(_DECODERS),
}
"""The configurations that each part may have."""
