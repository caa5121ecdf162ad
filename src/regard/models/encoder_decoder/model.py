"""An encoder and a decoder of any families, joined to read a source and write a target.

Rothe, Narayan & Severyn 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks":
any encoder reads the source, any decoder writes, and every block of the decoder gets attention
over the encoder's last states, as in the Transformer. The two sides have tables and sizes of their
own; a linear map stands between where the sizes differ. Cost of a pass: that of both, and
O(source x target x dim) a decoder layer.

A Transformer-XL writes without memory in training, and token by token sees as many positions as it
remembers: up to that length both are the same, so ``decoder.memory`` should be that of the longest
target.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.layers.multi_head_attention import CrossAttention
from regard.layers.transformer_block import DecoderBlock
from regard.models.base.decoder import StackedDecoder
from regard.models.base.encoder import Encoder
from regard.models.base.encoder_decoder import START_ID, DecoderState, EncoderDecoder
from regard.models.base.model import FamilyConfig
from regard.models.bert.model import Bert, BertConfig
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.longformer.model import Longformer, LongformerConfig
from regard.models.mesanet.model import MesaNet, MesaNetConfig
from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig
from regard.settings.validation import require_at_least


class EncoderDecoderConfig(FamilyConfig, frozen=True, kw_only=True, tag="encoder_decoder"):
    """Which encoder reads and which decoder writes.

    Args:
        encoder: Reads the source; its head for masked tokens and its pooler are left out.
        decoder: Writes the target, with attention over the source in every block.
        source_rows: Rows of the encoder's table of tokens, where the two sides have vocabularies of
            their own; none is those of the decoder's.
        start_id: Token that begins a target.
    """

    encoder: BertConfig | LongformerConfig = BertConfig()
    decoder: GptConfig | TransformerXlConfig | MesaNetConfig = GptConfig()
    source_rows: int | None = None
    start_id: int = START_ID

    def __post_init__(self) -> None:
        require_at_least(1, self, "source_rows")
        require_at_least(0, self, "start_id")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        sides = (
            f"{side.__struct_config__.tag} ({side.summary(attention)})"
            for side in (self.encoder, self.decoder)
        )
        return f"{' + '.join(sides)}, cross {attention.side_summary('cross')}"


class EncoderDecoderModel(EncoderDecoder[DecoderState]):
    """The encoder-decoder.

    Args:
        config: Its two sides.
        vocab_size: Number of token ids of the target, and of the source too where the configuration
            tells no other.
        attention: The pattern of each layer.

    Raises:
        ConfigError: A pattern is set for a decoder that has no attention of its own, or sources are
            padded with a token that the encoder's table has no row for.
    """

    def __init__(
        self,
        config: EncoderDecoderConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        num_blocks = config.encoder.num_layers + config.decoder.num_layers
        super().__init__(vocab_size, dim=config.decoder.dim, num_blocks=num_blocks)
        self.config = config
        self.pad_id, self.start_id = config.encoder.pad_id, config.start_id
        rows = config.source_rows or vocab_size
        if self.pad_id >= rows:
            raise ConfigError(
                f"model.encoder.pad_id={self.pad_id}: the encoder's table has {rows:,} rows of "
                f"tokens.  Take one of 0 to {rows - 1:,}."
            )
        self.encoder = _make_encoder(config, rows, attention)
        sizes = config.encoder.dim, config.decoder.dim
        self.encoder_output = Linear(*sizes) if sizes[0] != sizes[1] else nn.Identity()
        make_decoder = _DECODERS[type(config.decoder)]
        self.decoder = make_decoder(config.decoder, vocab_size, attention, reads_source=True)
        for module in self.modules():  # one seed for the masks of both sides
            if isinstance(module, Dropout):
                module.masks = self.dropout_masks

    @property
    def output_weight(self) -> nn.Parameter:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The decoder's map to logits, ``[vocab, dim]``."""
        return self.decoder.output_weight

    @property
    def source_dim(self) -> int:
        """Size of the encoder's states."""
        return self.encoder.dim

    @property
    def decoder_blocks(self) -> list[DecoderBlock]:
        """The decoder's blocks, first to last."""
        return [block for block in self.decoder.blocks if isinstance(block, DecoderBlock)]

    @property
    def alignment_attention(self) -> CrossAttention:
        """The cross-attention of the last-but-one decoder layer (Garg et al. 2019, section 4.1)."""
        return self.decoder_blocks[-2:][0].cross_attention

    def layers(self) -> list[nn.Module]:
        """Return its layers, first to last."""
        return [*self.encoder.layers(), *self.decoder.layers()]

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the memory that attention saves, in bytes a token; see `Model`."""
        self._agree_on_type()
        decoder, sides = self.config.decoder, (self.encoder, self.decoder)
        patterns = attention.cross_patterns(decoder.num_layers)
        cross = self.bytes_kept(patterns, length, num_heads=decoder.num_heads)
        return cross + sum(side.attention_bytes(attention, length) for side in sides)

    def encode(self, source_ids: Tensor) -> Tensor:
        """Read the source, ``[batch, source_length]``, padded on the right with `pad_id`.

        Returns:
            States in the decoder's size, ``[batch, source_length, dim]``.
        """
        self._agree_on_type()
        return self.encoder_output(self.encoder.hidden_states(source_ids))

    def hidden_states(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute the decoder's last hidden states, ``[batch, length, dim]``; see `forward`."""
        lengths = self.encoder.lengths(source_ids)
        some = lengths if bool((lengths < source_ids.shape[1]).any()) else None
        memory = self._project(self.encode(source_ids))
        return self.decoder.decode(target_ids, memory=memory, lengths=some)

    def init_state(self, source_ids: Tensor) -> DecoderState:
        """Read the source, ``[batch, source_length]``; return the state before the first token."""
        return DecoderState(
            memory=self._project(self.encode(source_ids)),
            lengths=self.encoder.lengths(source_ids),
            caches=list(self.decoder.init_state().caches),
        )

    def decode_step(self, ids: Tensor, state: DecoderState) -> Tensor:
        """Decode one token; see `EncoderDecoder`."""
        hidden = self.decoder.decode(
            ids[:, None], state.caches, memory=state.memory, lengths=state.lengths
        )
        return self.logits(hidden[:, -1])

    def _project(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [block.cross_attention.project(states) for block in self.decoder_blocks]

    def _agree_on_type(self) -> None:
        self.encoder.compute_dtype = self.decoder.compute_dtype = self.compute_dtype


_ENCODERS: dict[type, Callable[..., Encoder]] = {BertConfig: Bert, LongformerConfig: Longformer}
_DECODERS: dict[type, Callable[..., StackedDecoder]] = {
    GptConfig: Gpt,
    TransformerXlConfig: TransformerXl,
    MesaNetConfig: MesaNet,
}


def _make_encoder(
    config: EncoderDecoderConfig, vocab_size: int, attention: AttentionConfig
) -> Encoder:
    """Make the source side, which knows of no other patterns than its own."""
    sizes = msgspec.structs.replace(config.encoder, has_mlm_head=False, has_pooler=False)
    own = attention.pattern if attention.encoder is None else attention.encoder
    return _ENCODERS[type(sizes)](sizes, vocab_size, AttentionConfig(encoder=own))
