"""The copy mechanism: tokens of the source as outputs (See, Liu & Manning 2017).

"Get To The Point: Summarization with Pointer-Generator Networks". A head attends to the source; a
gate divides the probability between the vocabulary and the tokens that the head attends to
(equations 8 and 9)::

    p(w) = p_gen softmax(logits)_w + (1 - p_gen) sum over i with x_i = w of a_i

All of it is computed with logarithms, in float32 at least. Padding is never copied. Every other
token of a source may be, the one that ends it too, where it is also the one that ends a target:
copying it ends the output.

What is copied is mostly more than one token. An attention that is learned from a few thousand texts
finds the first token of a phrase long before it finds the next one each time. So a position has a
learned bonus where the token before it is the one that the decoder has just written: the rule of
induction heads (Olsson et al. 2022, "In-context Learning and Induction Heads"), here given instead
of learned, with the purpose of CopyNet's selective read (Gu et al. 2016, section 3.3). Whether the
copy continues, or begins elsewhere, is decided by all scores.

In the paper the attention also reads its coverage, the sum of the attention so far (equation 11);
all positions of a target could not be computed at once then. Here coverage has a loss alone
(equation 12).

Cost: target x source x dim, and two maps of dim x dim a position; memory of a few numbers for every
pair of a target and a source position.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.cumulative_sum import cumulative_sum
from regard.attention.exporting import is_exporting
from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear

_LOG_ZERO = -1e30  # finite, so that derivatives of every order exist; its exponential is 0
_INITIAL_GATE = 1.0  # a part of 0.73 for the vocabulary: attention at random copies nothing useful
_INITIAL_CONTINUATION = 3.0  # 20 times the attention; 3.4 is learned (docs/experiments.md)


class CopySource(NamedTuple):
    """A source as the copy head reads it.

    Args:
        ids: ``[batch, keys]``.
        keys: ``[batch, keys, dim]``, float32 at least.
        states: States of the encoder, ``[batch, keys, dim]``.
    """

    ids: Tensor
    keys: Tensor
    states: Tensor

    def select(self, rows: Tensor) -> CopySource:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        return CopySource(*(tensor.index_select(0, rows) for tensor in self))


class CopyDistribution(NamedTuple):
    """What is copied at each position of a target; all are natural logarithms, finite.

    Args:
        source_ids: Token ids of the source, ``[batch, keys]``.
        log_attention: Attention to each position of the source, ``[batch, length, keys]``.
        log_generate: ``p_gen``, the part of the vocabulary, ``[batch, length]``.
        log_copy: ``1 - p_gen``, ``[batch, length]``.
    """

    source_ids: Tensor
    log_attention: Tensor
    log_generate: Tensor
    log_copy: Tensor

    def log_copied(self, labels: Tensor) -> Tensor:
        """Compute the logarithm of ``(1 - p_gen) sum over i with x_i = label of a_i``.

        Args:
            labels: Token ids, ``[batch, length]``.

        Returns:
            ``[batch, length]``, finite: a large negative number where the source lacks the label.
        """
        is_other = self.source_ids[:, None] != labels[:, :, None]  # [batch, length, keys]
        return self.log_copy + self.log_attention.masked_fill(is_other, _LOG_ZERO).logsumexp(-1)

    def mix(self, logits: Tensor) -> Tensor:
        """Compute the logarithm of the mixture.

        Args:
            logits: Logits of the vocabulary, ``[batch, length, vocab]``.

        Returns:
            Log-probabilities, ``[batch, length, vocab]``: logits too, for their softmax is the
            mixture.
        """
        weights = self.log_copy[..., None] + self.log_attention
        generated = self.log_generate[..., None] + logits.to(weights.dtype).log_softmax(-1)
        ids = self.source_ids[:, None].expand_as(weights)
        # The log-sum-exp of the weights of each token, which may occur several times.
        largest = torch.full_like(generated, _LOG_ZERO).scatter_reduce(
            -1, ids, weights.detach(), "amax"
        )
        terms = (weights - largest.gather(-1, ids)).exp()
        total = torch.zeros_like(generated).scatter_add(-1, ids, terms)
        is_copied = total > 0
        copied = largest + torch.where(is_copied, total, 1.0).log()
        # Not torch.logaddexp, whose second derivative is NaN at this distance.
        mixed = torch.maximum(generated, copied) - _log_sigmoid((generated - copied).abs())
        return torch.where(is_copied, mixed, generated)

    def coverage_losses(self) -> Tensor:
        """Compute ``sum_i min(a_t,i, c_t,i)``, ``c_t`` the sum of the attention before ``t``.

        It is the attention that returns to what has had attention before (equation 12).

        Returns:
            ``[batch, length]``, 0 to 1.
        """
        attention = self.log_attention.exp()
        coverage = cumulative_sum(attention, 1) - attention
        return torch.minimum(attention, coverage).sum(-1)


class PointerGenerator(Layer):
    """One head of attention over the source, and the gate of equation 8.

    Queries are the decoder's last states, keys a map of the encoder's states, which are the values
    themselves; scores are divided by ``sqrt(dim)`` (Vaswani et al. 2017). Positions that continue
    what was written last have `continuation` added to their scores. The gate reads the decoder's
    state, the context and the embedding of the decoder's input.

    Args:
        dim: Size of the model.
        vocab_size: Number of token ids, the same of source and target.
        start_id: Token that begins a target; the first token of a source continues it.
    """

    reads_source = True
    reads_logits = True

    def __init__(self, dim: int, vocab_size: int, start_id: int) -> None:
        super().__init__()
        self.dim, self.vocab_size, self.start_id = dim, vocab_size, start_id
        self.query = Linear(dim, dim, bias=False)
        self.key = Linear(dim, dim, bias=False)
        self.gate = Linear(3 * dim, 1)
        nn.init.constant_(self.gate.bias, _INITIAL_GATE)
        self.continuation = nn.Parameter(torch.full((1,), _INITIAL_CONTINUATION))

    def read(self, source_ids: Tensor, states: Tensor) -> CopySource:
        """Prepare a source.

        Args:
            source_ids: ``[batch, keys]``.
            states: States of the encoder, ``[batch, keys, dim]``.

        Returns:
            The source as `forward` reads it.
        """
        exact = torch.promote_types(states.dtype, torch.float32)
        return CopySource(source_ids, self.key(states).to(exact), states)

    def forward(
        self,
        hidden: Tensor,
        embedded: Tensor,
        ids: Tensor,
        source: CopySource,
        lengths: Tensor | None = None,
        continues: Tensor | None = None,
    ) -> CopyDistribution:
        """Compute what is copied.

        Args:
            hidden: The decoder's last states, ``[batch, length, dim]``.
            embedded: Embeddings of its inputs, ``[batch, length, dim]``.
            ids: These inputs, the tokens written last, ``[batch, length]``.
            source: From `read`.
            lengths: Valid tokens of each source, ``[batch]``; None means all. Nothing is copied
                from a source without tokens.
            continues: How far each position of the source continues the token written last, 0 to 1,
                ``[batch, length, keys]``; None compares the tokens: 1 where they are equal.

        Returns:
            The attention, and how much of the probability it has.
        """
        exact = source.keys.dtype
        if lengths is None and source.ids.shape[1] == 0:
            lengths = source.ids.new_zeros(len(source.ids))
        products = self.query(hidden).to(exact) @ source.keys.transpose(1, 2)
        scores = products.to(exact) / self.dim**0.5  # a product is rounded in an autocast region
        if continues is None:
            before = F.pad(source.ids, (1, 0), value=self.start_id)[:, :-1]
            continues = before[:, None] == ids[:, :, None]  # [batch, length, keys]
        scores = scores + self.continuation.to(exact) * continues
        if lengths is not None:
            positions = torch.arange(scores.shape[2], device=scores.device)
            is_padding = positions >= lengths[:, None]  # [batch, keys]
            scores = scores.masked_fill(is_padding[:, None], _LOG_ZERO)
        log_attention = scores.log_softmax(-1)  # [batch, length, keys]
        context = log_attention.exp().to(hidden.dtype) @ source.states
        x = torch.cat([hidden, context, embedded], dim=-1)
        # A plain map of PyTorch computes in the type of its weights alone.
        gate = self.gate(x.to(exact) if isinstance(self.gate, Linear) else x)[..., 0].to(exact)
        log_generate, log_copy = _log_sigmoid(gate), _log_sigmoid(-gate)
        if lengths is not None:
            is_empty = lengths[:, None] == 0
            log_generate = log_generate.masked_fill(is_empty, 0.0)
            log_copy = log_copy.masked_fill(is_empty, _LOG_ZERO)
        return CopyDistribution(source.ids, log_attention, log_generate, log_copy)

    def describe(self) -> Description:
        """Return the head and the gate."""
        facts = (f"1 head of {self.dim}, tokens of the source", "gate to the vocabulary")
        return Description("copy mechanism", facts, out_dim=self.vocab_size)

    def flops(self, length: int) -> int:
        """Count the maps, scores and contexts; the mixture itself adds numbers only."""
        return super().flops(length) + 4 * self.dim * length * length

    def saved_bytes(self, length: int) -> int:
        """Return the bytes of a target position that a backward pass needs, all float32.

        Args:
            length: Length of the source, in tokens.

        Returns:
            Bytes of attention, its logarithm, what coverage and the label need of them, and which
            positions continue.
        """
        return (5 * 4 + 1) * length


def _log_sigmoid(x: Tensor) -> Tensor:
    """Compute the logarithm of the sigmoid of ``[...]``."""
    # ONNX takes the logarithm of a sigmoid, whose small values runtimes approximate.
    return -F.softplus(-x) if is_exporting() else F.logsigmoid(x)
