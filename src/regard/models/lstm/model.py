"""Recurrent encoder-decoders on long short-term memory.

Sutskever, Vinyals & Le 2014, "Sequence to Sequence Learning with Neural Networks": the decoder
starts from the encoder's last states and has no other access to the source. With attention it sees
every state of the encoder: by an additive score before each step (Bahdanau et al. 2015, section 3,
with a bidirectional encoder) or a multiplicative one after it, with the result fed to the next step
(Luong et al. 2015, sections 3.1 and 3.3). The output is always that of Luong's equation 5. Cost of
a pass: O(length dim^2) a layer, one position after the other, and O(source x target x dim) for
attention.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention import peak_saved_bytes
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.layers.recurrent import (
    EncodedSource,
    Lstm,
    LstmEncoderLayer,
    LstmWeights,
    RecurrentState,
    lstm_cell,
)
from regard.layers.seq2seq_attention import BahdanauAttention, LuongAttention
from regard.models.base.encoder_decoder import SinglePassDecoder, Tied, tied_tables
from regard.models.base.model import Connection, FamilyConfig
from regard.models.base.pattern_support import check_patterns
from regard.models.base.text_model import lengths_of_padded
from regard.settings.validation import require_at_least, require_probability


class LstmConfig(FamilyConfig, frozen=True, kw_only=True, tag="lstm"):
    """The dimensions of a recurrent encoder-decoder.

    A language model is its decoder alone and does not use num_encoder_layers, attention,
    luong_score, input_feeding, bidirectional and reverse_source.

    Args:
        num_encoder_layers: Recurrent layers of the encoder.
        num_decoder_layers: Recurrent layers of the decoder.
        dim: Size of embeddings and states; even where the encoder is bidirectional.
        attention: none (Sutskever et al.), bahdanau or luong.
        luong_score: dot or general, of attention luong.
        input_feeding: Whether the result of attention luong is fed to the next step; without it all
            positions of a layer are computed at once.
        bidirectional: Whether half of each encoder layer reads from right to left.
        reverse_source: Whether an encoder in one direction reads from right to left.
        dropout: Rate on embeddings, between layers and on the output, 0 to below 1.
        tied: Which of source, target and output embedding share one table: all, target
            (target and output), or none.
    """

    num_encoder_layers: int = 2
    num_decoder_layers: int = 2
    dim: int = 512
    attention: Literal["none", "bahdanau", "luong"] = "luong"
    luong_score: Literal["dot", "general"] = "general"
    input_feeding: bool = True
    bidirectional: bool = True
    reverse_source: bool = False
    dropout: float = 0.2
    tied: Tied = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_encoder_layers", "num_decoder_layers", "dim")
        if self.bidirectional and self.dim % 2:
            raise ValueError(f"dim must be even with bidirectional=true, not {self.dim}")
        if self.bidirectional and self.reverse_source:
            raise ValueError("reverse_source goes with bidirectional=false only")
        require_probability(self, "dropout")

    def summary(self, attention: AttentionConfig) -> str:
        """Describe the dimensions in a line."""
        sizes = f"{self.num_encoder_layers}+{self.num_decoder_layers} layers, d={self.dim}"
        direction = ", bidirectional" if self.bidirectional else ""
        if self.attention == "none":
            return f"{sizes}{direction}, no attention"
        score = f" {self.luong_score}" if self.attention == "luong" else ""
        cross = attention.kind_summary("cross")
        return f"{sizes}{direction}, attention {self.attention}{score} {cross}"

    def decoder_summary(self, attention: AttentionConfig) -> str:  # noqa: ARG002 - it has none
        """Describe the dimensions of the decoder alone in a line."""
        return f"{self.num_decoder_layers} layers, d={self.dim}"


class LstmEncoderDecoder(SinglePassDecoder[RecurrentState]):
    """The recurrent encoder-decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids, shared by source and target.
        attention: Only its first pattern of cross-attention is used.

    Raises:
        ConfigError: A pattern of self-attention is set.
    """

    def __init__(
        self,
        config: LstmConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
    ) -> None:
        super().__init__(vocab_size, dim=config.dim)
        check_patterns(config, attention, lacks="self-attention")
        self.config = config
        dim = config.dim
        tables = tied_tables(vocab_size, dim, config.tied)
        self.source_table, self.target_table, self.output_weight = tables
        # The embedded tokens pass through these, so that others can read and replace them.
        self.embedded_source, self.embedded_target = nn.Identity(), nn.Identity()
        self.dropout = Dropout(config.dropout)
        reversals = (False, True) if config.bidirectional else (config.reverse_source,)
        self.encoder = nn.ModuleList(
            LstmEncoderLayer(dim, reversals) for _ in range(config.num_encoder_layers)
        )
        widths = [2 * dim if self.feeds_back else dim, *[dim] * (config.num_decoder_layers - 1)]
        self.decoder = nn.ModuleList(Lstm(width, dim) for width in widths)
        (pattern,) = attention.cross_patterns(1)
        self.attention = None
        if config.attention == "bahdanau":
            self.attention = BahdanauAttention(dim, pattern)
        elif config.attention == "luong":
            is_general = config.luong_score == "general"
            self.attention = LuongAttention(dim, pattern, is_general=is_general)
        self.readout = Linear(dim if self.attention is None else 2 * dim, dim)

    @property
    def feeds_back(self) -> bool:
        """Whether a step needs what the step before it attended to."""
        config = self.config
        return config.attention == "bahdanau" or (
            config.attention == "luong" and config.input_feeding
        )

    @property
    def alignment_attention(self) -> BahdanauAttention | LuongAttention | None:
        """The one attention; None with ``attention="none"``."""
        return self.attention

    def connections(self) -> list[Connection]:
        """Return what the decoder starts from, and what a step reads in addition to its token."""
        first, last = "decoder.0", f"decoder.{len(self.decoder) - 1}"
        start = Connection(f"encoder.{len(self.encoder) - 1}", first, "last states")
        if self.attention is None:
            return [start]
        connections = [start, Connection(last, "readout")]
        if self.config.attention == "bahdanau":
            connections.append(Connection(last, "attention", "to the next step", is_late=True))
            connections.append(Connection("attention", first))
        elif self.feeds_back:
            connections.append(Connection("readout", first, "to the next step", is_late=True))
        return connections

    def embedded_inputs(self) -> dict[str, nn.Module]:
        """Return what the embedded tokens of source and target pass through."""
        return {"source": self.embedded_source, "target": self.embedded_target}

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:
        """Predict the bytes a token of scores and weights; the additive score saves every pair."""
        if self.attention is None:
            return 0
        size, is_additive = self.compute_dtype.itemsize, self.config.attention == "bahdanau"
        (pattern,) = attention.cross_patterns(1)
        pair_bytes = length * self.config.dim * size if is_additive else 0
        saved = peak_saved_bytes(pattern, length, itemsize=size, is_plain=not is_additive)
        return saved + pair_bytes

    def encode(self, source_ids: Tensor, lengths: Tensor | None = None) -> EncodedSource:
        """Read the source.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right with 0.
            lengths: Tokens of each source, ``[batch]``; None finds them by the padding.

        Returns:
            States, lengths and the last states of each layer.
        """
        lengths = lengths_of_padded(source_ids, lengths)
        x = self.embedded_source(self._embed(source_ids, self.source_table))
        finals = []
        for number, layer in enumerate(self.encoder):
            x, final = layer(self.dropout(x) if number else x, lengths)
            finals.append(final)
        return EncodedSource(x, lengths, finals)

    def init_state(self, source_ids: Tensor, *, lengths: Tensor | None = None) -> RecurrentState:
        """Read a source, ``[batch, length]``; return the state before the first token."""
        # A layer starts from the encoder's at the same distance from the top, or from its first.
        states, lengths, finals = self.encode(source_ids, lengths)
        offset = len(finals) - len(self.decoder)
        return RecurrentState(
            layers=[finals[max(0, offset + number)] for number in range(len(self.decoder))],
            fed=torch.zeros_like(states[:, 0]),
            memory=None if self.attention is None else self.attention.project(states),
            lengths=lengths,
        )

    def decode(self, target_ids: Tensor, state: RecurrentState) -> Tensor:
        """Decode the next ``[batch, length]`` tokens and update the state."""
        x = self.embedded_target(self._embed(target_ids, self.target_table))
        if self.feeds_back:
            weights = [layer.weights(x.dtype) for layer in self._writing]
            steps = [self._advance(position, state, weights) for position in x.unbind(1)]
            return self.dropout(torch.stack(steps, dim=1))
        for number, layer in enumerate(self._writing):
            x = self.dropout(x) if number else x
            x, state.layers[number] = layer(x, state.layers[number])
        if self.attention is not None:
            x = torch.cat([x, state.attend(self.attention, x)], dim=-1)
        state.position += target_ids.shape[1]
        return self.dropout(self.readout(x).tanh())

    def _advance(self, x: Tensor, state: RecurrentState, weights: list[LstmWeights]) -> Tensor:
        """Take one step with an embedding; Bahdanau attends first, Luong last.

        Args:
            x: ``[batch, dim]``.
            state: State before the step; updated in place.
            weights: Weights of each decoder layer.

        Returns:
            The hidden states of the step, ``[batch, dim]``.
        """
        assert self.attention is not None
        attends_first = self.config.attention == "bahdanau"
        if attends_first:
            state.fed = state.attend(self.attention, state.layers[-1].hidden[:, None])[:, 0]
        x = torch.cat([x, state.fed], dim=-1)
        for number, layer_weights in enumerate(weights):
            x = self.dropout(x) if number else x
            state.layers[number] = lstm_cell(x, state.layers[number], layer_weights)
            x = state.layers[number].hidden
        context = state.fed if attends_first else state.attend(self.attention, x[:, None])[:, 0]
        x = self.readout(torch.cat([x, context], dim=-1)).tanh()  # Luong et al., equation 5
        state.fed = context if attends_first else x
        state.position += 1
        return x

    @property
    def _writing(self) -> list[Lstm]:
        """The decoder's layers, first to last."""
        return [layer for layer in self.decoder if isinstance(layer, Lstm)]

    def _embed(self, ids: Tensor, table: nn.Parameter) -> Tensor:
        """Embed ``[batch, length]`` with variance 1."""
        x = F.embedding(ids, table) * math.sqrt(self.config.dim)
        return self.dropout(x.to(self.compute_dtype))
