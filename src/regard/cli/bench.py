"""``regard bench attention``: time and memory of attention, next to other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from regard.cli.outputs import as_json
from regard.cli.parameters import Flag

if TYPE_CHECKING:
    from regard.bench.attention_bench import BenchConfig, Row
    from regard.bench.peers import Skipped

_PATTERNS = "full;local:256;local:256|global:0;local:64|strided:64"


def attention(
    *,
    lengths: str = "128,1024,8192",
    patterns: str = _PATTERNS,
    heads: int = 8,
    dim: int = 64,
    dtype: Literal["float32", "bf16"] = "float32",
    repeats: int = 5,
    encoder: Annotated[bool, Flag] = False,
    hvp: Annotated[bool, Flag] = False,
    no_memory: Annotated[bool, Flag] = False,
    peers: str = "sdpa,flex,local-attention",
    json: Annotated[bool, Flag] = False,
) -> None:
    """Measure time and memory of attention, by pattern and length.

    Each case is computed in turn by regard, by the peers that can and by torch.mm; figures are
    medians. GFLOP/s count the allowed pairs only. Memory is the growth of the peak resident set in
    a fresh process. FlexAttention is compiled for every case, which takes a while.

    Parameters
    ----------
    lengths
        Numbers of positions, joined by commas.
    patterns
        Patterns, joined by semicolons, e.g. 'full;local:256|global:0'.
    heads
        Number of heads.
    dim
        Size of a head.
    dtype
        Type of queries, keys and values.
    repeats
        Number of timed turns; figures are their medians.
    encoder
        Two-sided patterns; without it every pattern is causal, as in a decoder.
    hvp
        Time Hessian-vector products too.
    no_memory
        Measure time only.
    peers
        Other libraries, joined by commas; '' for none.
    json
        One JSON object instead of a table.
    """
    from regard.bench.attention_bench import (
        BenchConfig,
        parse_lengths,
        parse_patterns,
        run_bench,
    )

    config = BenchConfig(
        lengths=parse_lengths(lengths),
        patterns=parse_patterns(patterns),
        num_heads=heads,
        dim=dim,
        dtype=dtype,
        repeats=repeats,
        is_decoder=not encoder,
        has_hvp=hvp,
        has_memory=not no_memory,
        peers=tuple(name.strip() for name in peers.split(",") if name.strip()),
    )
    if json:
        report = run_bench(config, lambda rows, skipped: None)  # noqa: ARG005 - printed at the end
        print(as_json(report))
        return
    _print_header(config)
    report = run_bench(config, _print_case)
    print(
        f"\ntorch.mm float32 {report.mm_gflops:.0f} GFLOP/s in the same turns; GFLOP/s of fwd+bwd, "
        "or of fwd alone, over the allowed pairs; time: over regard's"
    )
    if report.memory:
        print(f"memory, of the same: {report.memory}")


def _print_header(config: BenchConfig) -> None:
    import torch

    from regard.attention.backends.cpu_kernels import instructions

    role = "decoder: every pattern & causal" if config.is_decoder else "encoder"
    kernels = f"kernels {name}" if (name := instructions()) else "no kernels"
    print(
        f"Attention   {config.num_heads} heads, dim {config.dim}, {config.dtype}, {role}   "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {kernels}   "
        f"medians of {config.repeats} turns\n"
    )
    print(
        f"{'pattern':22s} {'length':>7s} {'':16s} {'fwd ms':>9s} {'fwd+bwd':>9s} {'hvp':>9s} "
        f"{'memory':>9s} {'GFLOP/s':>9s} {'of mm':>6s} {'time':>6s}",
        flush=True,
    )


def _print_case(rows: Sequence[Row], skipped: Sequence[Skipped]) -> None:
    def milliseconds(value: float | None) -> str:
        return f"{'-':>9s}" if value is None else f"{value:9,.2f}"

    for index, row in enumerate(rows):
        case = f"{row.pattern:22s} {row.length:7,d}" if index == 0 else " " * 30
        memory = "-" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:,.0f} MB"
        print(
            f"{case} {row.side:16s} {row.forward_ms:9,.2f} {milliseconds(row.gradient_ms)} "
            f"{milliseconds(row.hvp_ms)} {memory:>9s} "
            f"{row.gradient_gflops or row.forward_gflops:9,.1f} {100 * row.of_mm:4.0f} % "
            f"{row.times_regard:5.2f}x"
        )
    for left_out in skipped:
        print(f"{'':30s} {left_out.side:16s} left out: {left_out.reason}", flush=True)
