"""The layer around the Mesa solve (von Oswald et al. 2025, arXiv 2506.05233): maps, gates, norms.

Queries and keys pass a short causal convolution and SiLU and are scaled to length 1; forget and
write gates are linear maps of the input; the output is normalised head by head. Values are not
convolved (the authors' code does not either). Without a solver the same layer is gated linear
attention, o_t = G_t q_t, whose state is that in which the Mesa layer fits least squares (scalar
gates: Dao & Gu 2024, "Transformers are SSMs"; Yang et al. 2023, arXiv 2312.06635). Solve, sums and
gates are computed in float32 at least. Cost: 4 dim^2 multiply-adds a position for the maps, and
those of `regard.attention.mesa`.
"""

from __future__ import annotations

import math

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention import MesaState, mesa
from regard.attention.mesa.chunks import chunk_size, cut
from regard.errors import ConfigError, ShapeError
from regard.layers.cache import PositionCounter
from regard.layers.convolution import ConvolutionCache
from regard.layers.layer import Description, Layer
from regard.layers.linear import Linear
from regard.layers.norm import RMSNorm
from regard.option_checks import require_number, require_whole
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_probability

CHUNK = 64
"""Positions computed together."""

# Memory of the heads at first, in positions. With gates at 1/2 recall is learned late or never.
_LONGEST, _SHORTEST = 1024.0, 16.0
_REGULARIZATION = 1.0  # Lambda at first, the authors'


class MesaSolver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far every least-squares problem is solved.

    Args:
        num_iterations: Most iterations of conjugate gradient, 1 or more.
        tolerance: Stop earlier when all residuals have fallen to this fraction; 0 disables this.
    """

    num_iterations: int = 30
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "num_iterations")
        require_probability(self, "tolerance")


class MesaCache(PositionCounter):
    """What a layer keeps of the positions seen; its size does not depend on their number."""

    def __init__(self) -> None:
        self.convolution = ConvolutionCache()
        self.keys: Tensor | None = None
        """H, ``[batch, heads, head_dim, head_dim]``; None in gated linear attention."""
        self.values: Tensor | None = None
        """G, the same shape."""

    @property
    def state(self) -> MesaState | None:
        """The sums H and G; None before the first position."""
        if self.keys is None or self.values is None:
            return None
        return MesaState(self.keys, self.values)

    def store(self, keys: Tensor | None, values: Tensor, *, num_new: int) -> None:
        """Replace the sums, ``[batch, heads, head_dim, head_dim]``, after `num_new` positions."""
        self.keys, self.values = keys, values
        self.length += num_new

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        self.convolution.select(rows)
        self.keys = None if self.keys is None else self.keys.index_select(0, rows)
        self.values = None if self.values is None else self.values.index_select(0, rows)


class ShortConvolution(Layer):
    """A causal convolution of every channel: ``y_t = sum_s w_s * x_{t - width + 1 + s}``.

    Args:
        dim: Number of channels.
        width: Positions seen, 1 or more.
    """

    entrywise = ("weight",)

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        require_whole("width", width, 1)
        self.width = width
        bound = math.sqrt(3.0 / width)  # uniform with variance 1 / width: keeps that of the input
        self.weight = nn.Parameter(torch.empty(width, dim).uniform_(-bound, bound))

    def forward(self, x: Tensor, cache: ConvolutionCache | None = None) -> Tensor:
        """Convolve.

        Args:
            x: ``[batch, length, dim]``.
            cache: The inputs before `x`; updated. None where there are none.

        Returns:
            Same shape as `x`.
        """
        length, weight = x.shape[1], self.weight.to(x.dtype)
        if cache is None or cache.inputs is None:
            x = F.pad(x, (0, 0, self.width - 1, 0))
        else:
            x = torch.cat([cache.inputs, x], dim=1)
        if cache is not None:
            cache.inputs = x[:, length:].clone()  # without a reference to the others
        y = x[:, :length] * weight[0]
        for i in range(1, self.width):
            y = torch.addcmul(y, x[:, i : i + length], weight[i])
        return y

    def flops(self, length: int) -> int:
        """Count a multiplication and an addition for every weight and position."""
        return 2 * self.weight.numel() * length


class MesaMixer(Layer):
    """A `Mixer` that fits a linear map from keys to values, at each position and in each head.

    Args:
        dim: Size of the model.
        num_heads: Number of heads, which divides `dim`.
        solver: Used in training and, until ``inference_solver`` is set, in evaluation; None is
            gated linear attention.
        conv_width: Positions that the short convolution sees, 1 or more.
        regularization_min: Least value of Lambda, above 0 and below 1.
        output_init_scale: Factor on the initial weights of the output map.

    Raises:
        ConfigError: An argument is out of range.
    """

    entrywise = ("raw_regularization",)

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        solver: MesaSolver | None = MesaSolver(),  # noqa: B008 - an immutable value
        conv_width: int = 4,
        regularization_min: float = 0.25,
        output_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_whole("num_heads", num_heads, 1)
        if dim % num_heads:
            raise ConfigError(f"dim={dim}: must be a multiple of num_heads={num_heads}.")
        require_number(
            "regularization_min",
            regularization_min,
            f"above 0 and below {_REGULARIZATION:g}",
            lambda least: 0 < least < _REGULARIZATION,
        )
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.training_solver, self.inference_solver = solver, solver
        self.regularization_min = regularization_min
        self.query_key_value = Linear(dim, 3 * dim, bias=False, num_splits=3)
        self.convolution = ShortConvolution(2 * dim, conv_width)
        self.gates = Linear(dim, 2 * num_heads, init_scale=0.1, num_splits=2)
        assert self.gates.bias is not None
        with torch.no_grad():
            spans = torch.logspace(math.log10(_LONGEST), math.log10(_SHORTEST), num_heads)
            self.gates.bias[:num_heads] = (spans - 1).log()  # sigmoid of it is 1 - 1 / span
        self.norm = RMSNorm(self.head_dim)
        self.output = Linear(dim, dim, bias=False, init_scale=output_init_scale)
        if solver is None:
            self.register_parameter("raw_regularization", None)
        else:
            above = _REGULARIZATION - regularization_min
            start = torch.full((num_heads, self.head_dim), above).expm1().log()
            self.raw_regularization = nn.Parameter(start)

    @property
    def regularization(self) -> Tensor:
        """Lambda, ``[heads, head_dim]``."""
        return F.softplus(self.raw_regularization) + self.regularization_min

    @property
    def solver(self) -> MesaSolver | None:
        """How far problems are solved in the present mode, training or evaluation."""
        return self.training_solver if self.training else self.inference_solver

    def forward(
        self, x: Tensor, *, lengths: Tensor | None = None, cache: MesaCache | None = None
    ) -> Tensor:
        """Map new positions, which depend on those before them and on the cache.

        Args:
            x: ``[batch, length, dim]``.
            lengths: Valid positions of each row, ``[batch]``; None means all, and with a cache it
                must be None.
            cache: State after the positions before; updated.

        Returns:
            Same shape as `x`.

        Raises:
            ShapeError: There are lengths and a cache.
        """
        if lengths is not None and cache is not None:
            raise ShapeError("lengths and cache do not go together: give rows of equal length.")
        q, k, v = self._project(x, cache)
        forget, write = self.gates(x).to(q.dtype).transpose(1, 2).chunk(2, dim=1)
        forget, write = F.logsigmoid(forget), write.sigmoid()  # [batch, heads, length]
        solver = self.solver
        if solver is None:
            start = None if cache is None else cache.values
            out, values = gated_linear_attention(
                q, k, v, forget=forget, write=write, initial=start, lengths=lengths
            )
            keys = None
        else:
            out, state = mesa(
                *(q, k, v),
                regularization=self.regularization,
                forget=forget,
                write=write,
                num_iterations=solver.num_iterations,
                tolerance=solver.tolerance or None,
                chunk=CHUNK,
                initial=None if cache is None else cache.state,
                lengths=lengths,
                return_state=True,
            )
            keys, values = state.keys, state.values
        if cache is not None:
            cache.store(keys, values, num_new=x.shape[1])
        out = self.norm(out).to(x.dtype)
        return self.output(out.transpose(1, 2).flatten(2))

    def make_cache(self) -> MesaCache:
        """Return an empty cache."""
        return MesaCache()

    def describe(self) -> Description:
        """Return the heads, the width of the convolution and the solver of the present mode."""
        heads = f"{self.num_heads} heads of {self.head_dim}"
        width = f"short convolution of {self.convolution.width}"
        if self.solver is None:
            return Description("gated linear attention", (heads, width))
        solver = f"at most {self.solver.num_iterations} iterations of conjugate gradient"
        return Description("mesa layer", (heads, width, solver))

    def flops(self, length: int) -> int:
        """Count the maps, every chunk whole, and the most iterations of the present mode."""
        chunk, dim = min(CHUNK, length), self.head_dim
        num_chunks = -(-length // chunk)
        by_state, by_pair = 2 * chunk * dim * dim, 2 * chunk * chunk * dim
        # G: carried and applied; within a chunk queries meet keys, and weights meet values.
        of_chunk = 2 * by_state + 2 * by_pair
        if self.solver is not None:  # H is carried, the diagonals are computed, then iterations
            num_iterations = self.solver.num_iterations
            of_chunk += by_state + by_pair + num_iterations * (by_state + 2 * by_pair)
        return super().flops(length) + self.num_heads * num_chunks * of_chunk

    def _project(self, x: Tensor, cache: MesaCache | None) -> tuple[Tensor, ...]:
        """Map to queries, keys and values, ``[batch, heads, length, head_dim]``."""
        qk, v = self.query_key_value(x).tensor_split((2 * x.shape[2],), dim=-1)
        qk = F.silu(self.convolution(qk, None if cache is None else cache.convolution))
        wide = torch.promote_types(x.dtype, torch.float32)
        q, k, v = (
            part.to(wide).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (*qk.chunk(2, dim=-1), v)
        )
        return _unit(q), _unit(k), v


def gated_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    forget: Tensor,
    write: Tensor,
    initial: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``o_t = G_t q_t`` with ``G_t = g_t G_{t-1} + b_t v_t k_t^T``, chunk by chunk.

    Args:
        q: Queries, ``[batch, heads, length, dim]``.
        k: Keys, the same shape.
        v: Values, ``[batch, heads, length, value_dim]``.
        forget: Logarithms of the forget gates g, ``[batch, heads, length]``, 0 or below; minus
            infinity, a gate of 0, forgets exactly.
        write: Write gates b, the same shape, 0 or above.
        initial: G before the first position; None is 0.
        lengths: Valid positions of each row, ``[batch]``; padding on the right gives zeros and
            does not change the state.

    Returns:
        ``[batch, heads, length, value_dim]``, and G after the last position,
        ``[batch, heads, value_dim, dim]``.
    """
    tensors = (q, k, v, forget.unsqueeze(-1), write.unsqueeze(-1))
    if lengths is not None:
        padded = torch.arange(q.shape[2], device=q.device) >= lengths[:, None]
        tensors = tuple(x.masked_fill(padded[:, None, :, None], 0.0) for x in tensors)
    chunks = cut(*tensors, size=chunk_size(q.shape[2], CHUNK))
    products = chunks.v.mT @ (chunks.k * chunks.weights[..., -1:, :].mT)
    state = torch.zeros_like(products[:, :, 0]) if initial is None else initial
    starts = []
    for decay, product in zip(
        chunks.decays[..., -1:, :].unbind(2), products.unbind(2), strict=True
    ):
        starts.append(state)
        state = torch.addcmul(product, decay, state)
    within = (chunks.q @ chunks.k.mT * chunks.weights) @ chunks.v
    out = within + (chunks.q * chunks.decays) @ torch.stack(starts, dim=2).mT
    return out.flatten(2, 3)[:, :, : q.shape[2]], state


def _unit(x: Tensor) -> Tensor:
    """Scale ``[..., head_dim]`` to length 1, smoothly at 0."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
