"""MesaNet: a decoder whose layers solve least squares over their past (von Oswald et al. 2025).

"MesaNet: Sequence Modeling by Locally Optimal Test-Time Training", arXiv 2506.05233. In place of
attention every head fits, at every position, the linear map that best takes the keys seen so far to
their values, by conjugate gradient; its tolerance may differ between training and inference. The
state of a text has one size, whatever its length. Blocks are those of Llama (RMS norm before each
sub-layer, SwiGLU, no biases). Gates and the short convolution depend on the order of the tokens, so
positions are not embedded. Cost of a pass: linear in the length, see `regard.attention.mesa`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from regard.layers.attention_config import AttentionConfig
from regard.layers.mesa_layer import CHUNK, MesaMixer, MesaSolver
from regard.layers.transformer_block import BlockConfig
from regard.models.base.decoder import Decoder, residual_init_scale
from regard.models.base.model import FamilyConfig
from regard.models.base.pattern_support import check_patterns
from regard.settings.validation import require_at_least, require_probability

_PAIRS_KEPT = 5  # tensors [batch, heads, length, chunk] kept for the backward pass
_STATES_KEPT = 3  # tensors [batch, heads, length / chunk, head_dim, head_dim]


class MesaNetConfig(FamilyConfig, frozen=True, kw_only=True, tag="mesanet"):
    """The dimensions of a MesaNet.

    Args:
        num_layers: Blocks.
        dim: Size of the model, a multiple of `num_heads`.
        num_heads: Heads in every block; the state of a layer has ``2 dim^2 / num_heads`` numbers.
        hidden_dim: Size inside the feed-forward networks.
        dropout: Rate on embeddings and sub-layer outputs, 0 to below 1.
        conv_width: Positions that the convolution of queries and keys sees, 1 or more.
        solver: conjugate-gradient, or none for gated linear attention.
        num_iterations: Maximum number of iterations of conjugate gradient, 1 or more.
        tolerance: Stop earlier when all residuals have fallen to this fraction; 0 never does.
        eval_iterations: num_iterations in evaluation and generation; None is the same.
        eval_tolerance: tolerance in evaluation and generation; None is the same.
        regularization_min: Least value of Lambda, above 0 and below 1.
        tied: Whether the embedding and the output share one table.
    """

    num_layers: int = 6
    dim: int = 512
    num_heads: int = 8
    hidden_dim: int = 1408
    dropout: float = 0.1
    conv_width: int = 4
    solver: Literal["conjugate-gradient", "none"] = "conjugate-gradient"
    num_iterations: int = 30
    tolerance: float = 1e-5
    eval_iterations: int | None = None
    eval_tolerance: float | None = None
    regularization_min: float = 0.25
    tied: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_layers", "num_heads", "hidden_dim")
        require_at_least(1, self, "conv_width", "num_iterations", "eval_iterations")
        if self.dim < 1 or self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads ({self.num_heads}), not {self.dim}"
            )
        require_probability(self, "dropout", "tolerance", "eval_tolerance")
        if not 0 < self.regularization_min < 1:
            raise ValueError(
                f"regularization_min must be above 0 and below 1, not {self.regularization_min}"
            )

    def solvers(self) -> tuple[MesaSolver, MesaSolver] | tuple[None, None]:
        """Return the solvers of training and inference; None is gated linear attention."""
        if self.solver == "none":
            return None, None
        training = MesaSolver(num_iterations=self.num_iterations, tolerance=self.tolerance)
        changes = {"num_iterations": self.eval_iterations, "tolerance": self.eval_tolerance}
        changes = {name: number for name, number in changes.items() if number is not None}
        return training, msgspec.structs.replace(training, **changes)

    def summary(self, attention: AttentionConfig) -> str:  # noqa: ARG002 - it has no patterns
        """Describe the dimensions in a line."""
        training, inference = self.solvers()
        sizes = (
            f"{self.num_layers} layers, d={self.dim}, {self.num_heads} heads, ff {self.hidden_dim}"
        )
        if training is None or inference is None:
            return f"{sizes}, gated linear attention"
        solve = f"conjugate gradient {_describe(training)}"
        if inference != training:
            solve += f", at inference {_describe(inference)}"
        return f"{sizes}, {solve}"


class MesaNet(Decoder):
    """The decoder.

    Args:
        config: Its dimensions.
        vocab_size: Number of token ids.
        attention: Not used, and must be the default; with a source, ``attention.cross`` is used.
        reads_source: Whether its blocks attend to the source of an encoder-decoder.

    Raises:
        ConfigError: A pattern of attention is set.
    """

    def __init__(
        self,
        config: MesaNetConfig,
        vocab_size: int,
        attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - an immutable value
        *,
        reads_source: bool = False,
    ) -> None:
        allowed = ("encoder", "cross") if reads_source else ()
        check_patterns(config, attention, lacks="attention", allowed=allowed)
        super().__init__(
            vocab_size,
            dim=config.dim,
            num_heads=config.num_heads,
            dropout=config.dropout,
            tied=config.tied,
        )
        self.config = config
        block = BlockConfig(
            dim=config.dim,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
            norm="pre",
            activation="swiglu",
            output_init_scale=residual_init_scale(config.num_layers, reads_source=reads_source),
            norm_kind="rms",
            bias=False,
        )
        training, inference = config.solvers()
        mixers = (
            MesaMixer(
                config.dim,
                config.num_heads,
                solver=training,
                conv_width=config.conv_width,
                regularization_min=config.regularization_min,
                output_init_scale=block.output_init_scale,
            )
            for _ in range(config.num_layers)
        )
        cross = attention.cross_patterns(config.num_layers) if reads_source else None
        self.add_blocks(block, mixers, cross)
        for mixer in self.mixers:
            mixer.inference_solver = inference

    @property
    def mixers(self) -> list[MesaMixer]:
        """The layers that solve, first to last."""
        return [module for module in self.modules() if isinstance(module, MesaMixer)]

    def attention_bytes(self, attention: AttentionConfig, length: int) -> int:  # noqa: ARG002
        """Predict the bytes a token of a chunk's pairs and states; no length changes them."""
        config = self.config
        by_pair = _PAIRS_KEPT * CHUNK
        by_chunk = _STATES_KEPT * config.dim**2 // (config.num_heads**2 * CHUNK)
        size = max(self.compute_dtype.itemsize, 4)
        return config.num_layers * config.num_heads * size * (by_pair + by_chunk)


def _describe(solver: MesaSolver) -> str:
    tolerance = f" to {solver.tolerance:g}" if solver.tolerance else ""
    return f"{solver.num_iterations}{tolerance}"
