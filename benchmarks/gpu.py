"""What regard does on a GPU, next to what others do there, one JSON line a claim.

    python benchmarks/gpu.py                          # all claims, at most five minutes
    python benchmarks/gpu.py --only causal,optimizers --minutes 2
    python benchmarks/gpu.py --device cpu --tiny      # does it run, not how fast

Contenders are computed in turn; times are medians over the turns, without what compiles before
them. Attention is called ten times in a row, as by the layers of a model. bfloat16, heads of 64. A
`ratio` is our time over the peer's (of decoding the peer's over ours), a `bar` what it or the time
has to meet. Peers that are not installed are named and left out: pip install transformers. So are
contenders that fail, and claims for which no time remains: while others wait, a claim has half of
the time that is left. After an error that leaves a GPU unusable another process goes on.

- peak        a bfloat16 product of matrices: what the chip has
- window      a window of 256 keys, and compiled FlexAttention
- sparse      a strided pattern with a window
- causal      causal attention, PyTorch's and compiled FlexAttention
- hvp         a Hessian-vector product with its gradient, in gradients of the fastest peer
- translator  a training step of 6+6 layers of 512 with dropout, about 13,400 target tokens, ours
              compiled as in a long run, and not; nn.Transformer; Hugging Face's Marian, plain and
              compiled
- gpt         a training step of 12 layers of 768 on 16,384 tokens; Hugging Face's GPT-2, plain and
              compiled: time and memory
- beam        beam search of 64 sentences with the model of the translator; Marian's `generate`
- optimizers  what conjugate gradient and L-BFGS compute themselves, as a part of an evaluation
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention import attend, parse_pattern
from regard.data.batching import Batch, PairBatches, TokenRows
from regard.data.token_stream import TextBatch
from regard.errors import ConfigError
from regard.generation import decode
from regard.layers.positions import sinusoids
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.optim import LBFGS, ConjugateGradient
from regard.tasks.language_modeling.loss import LanguageModelLoss
from regard.tasks.sequence_to_sequence.loss import TargetLoss
from regard.training.compilation import compile_blocks
from regard.training.device import choose_device, describe_device, finish_work
from regard.training.ema import ExponentialMovingAverage
from regard.training.train_step import LossFunction, MiniBatchStep
from regard.training.training_config import OptimizerConfig

T = TypeVar("T")
Task = Callable[[], object]
_SMOOTHING = 0.1
_WARM_UP = 2  # calls before the time is taken: the first ones compile
_GRACE = 30  # seconds after the last limit until the process ends, whatever it waits for


class TimeIsUp(BaseException):
    """The time of a claim is up; no `Exception`, which compilers take for a failure of theirs."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a run: those of the claims, or tiny ones."""

    shapes: tuple[tuple[int, int, int], ...] = ((4, 16, 4096), (1, 16, 16384))
    head_dim: int = 64
    window: int = 256
    num_layers: int = 10  # calls of attention in a row, as in a model
    vocab_size: int = 32_000
    translator: tuple[int, int, int] = (6, 512, 8)  # layers, width, heads
    target_tokens: int = 13_400
    gpt: tuple[int, int, int] = (12, 768, 12)
    gpt_batch: tuple[int, int] = (16, 1024)
    num_sentences: int = 64
    output_length: int = 40
    optimizer_model: tuple[int, int, int] = (6, 384, 6)
    optimizer_batch: tuple[int, int] = (8, 512)
    matrix: int = 8192
    repeats: int = 10
    compiles: bool = True  # else a run that says nothing about speed


TINY = Scale(
    shapes=((1, 2, 64),),
    head_dim=8,
    window=16,
    num_layers=1,
    vocab_size=64,
    translator=(1, 16, 2),
    target_tokens=40,
    gpt=(1, 16, 2),
    gpt_batch=(2, 16),
    num_sentences=3,
    output_length=4,
    optimizer_model=(1, 16, 2),
    optimizer_batch=(2, 8),
    matrix=32,
    repeats=1,
    compiles=False,
)


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One claim.

    Args:
        claim: Name of its group.
        what: What was computed.
        ours: Our figure, in `unit`.
        unit: ms, GB, tokens/s, TFLOP/s or evaluations.
        peer: Name of what it is compared with.
        peers: Its figure.
        ratio: How they compare.
        bar: What the ratio, or our figure where there is none, is to meet, such as ``<= 1``.
        met: Whether it does.
        chip: Part of the chip's operations, by its product of matrices.
        note: Why there is no figure.
    """

    claim: str
    what: str
    ours: float | None = None
    unit: str = "ms"
    peer: str = ""
    peers: float | None = None
    ratio: float | None = None
    bar: str = ""
    met: bool | None = None
    chip: float | None = None
    note: str = ""


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """Where and at which sizes it is run.

    Args:
        device: What computes.
        scale: The sizes.
        dtype: Type of the products.
        failures: Of contenders, by what failed.
    """

    device: torch.device
    scale: Scale
    dtype: torch.dtype = torch.bfloat16
    failures: dict[str, str] = msgspec.field(default_factory=dict)

    def times(self, tasks: Mapping[str, Task], num_calls: int = 1) -> dict[str, float]:
        """Return the median milliseconds of each task that works.

        Args:
            tasks: By name; they are computed in turn.
            num_calls: In a row, before the device is waited for.
        """

        def warm_up(task: Task) -> bool:
            for _ in range(_WARM_UP):
                task()
            finish_work(self.device)
            return True

        able = {name for name, task in tasks.items() if self.attempt(name, partial(warm_up, task))}
        milliseconds: dict[str, list[float]] = {name: [] for name in tasks if name in able}
        for _ in range(self.scale.repeats):
            for name, taken in milliseconds.items():
                taken.append(self.time(tasks[name], num_calls))
        return {name: statistics.median(taken) for name, taken in milliseconds.items()}

    def attempt(self, name: str, compute: Callable[[], T]) -> T | None:
        """Return what is computed; None where it fails, which is noted by a name."""
        try:
            return compute()
        except Exception as error:  # noqa: BLE001 - peers and compilers raise errors of any kind
            message = (str(error).strip().splitlines() or [""])[0]
            self.failures[name] = f"{type(error).__name__}: {message[:200]}"
        self.free()
        return None

    def free(self) -> None:
        """Give memory back that nothing uses."""
        gc.collect()
        if self.device.type == "cuda" and not self.is_broken:
            torch.cuda.empty_cache()

    @property
    def is_broken(self) -> bool:
        """Whether an error has left this process without its GPU."""
        try:
            finish_work(self.device)
        except RuntimeError:
            return True
        return False

    def time(self, task: Task, num_calls: int = 1) -> float:
        """Return the milliseconds of one of some calls, until the device has computed them."""
        finish_work(self.device)
        start = time.perf_counter()
        for _ in range(num_calls):
            task()
        finish_work(self.device)
        return 1e3 * (time.perf_counter() - start) / num_calls

    def peak_gigabytes(self, task: Task) -> float | None:
        """Return the most memory that is held while a task is called; None without a GPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        task()
        return torch.cuda.max_memory_allocated(self.device) / 2**30

    def compiled(self, function: Any) -> Any:
        """Return a compiled function, or model; as it is in a tiny run."""
        return torch.compile(function, dynamic=False) if self.scale.compiles else function


def compare(claim: str, what: str, times: Mapping[str, float], bar: str = "") -> Iterator[Line]:
    """Yield a line for each peer of ``regard``, whose time may be missing."""
    ours = times.get("regard")
    peers = {name: taken for name, taken in times.items() if name != "regard"}
    if ours is not None and not peers:
        yield Line(claim=claim, what=what, ours=ours)
    for name, taken in peers.items():
        ratio = None if ours is None else ours / taken
        line = Line(claim=claim, what=what, ours=ours, peer=name, peers=taken, ratio=ratio)
        yield checked(msgspec.structs.replace(line, bar=bar))


def checked(line: Line) -> Line:
    """Return a line with whether it meets its bar."""
    value = line.ours if line.ratio is None else line.ratio
    if not line.bar or value is None:
        return line
    sign, number = line.bar.split()
    is_met = value <= float(number) if sign == "<=" else value >= float(number)
    return msgspec.structs.replace(line, met=is_met)


def peak(bench: Bench) -> Iterator[Line]:
    """Measure the operations a second that a product of matrices reaches."""
    yield Line(claim="peak", what="bf16 mm", ours=peak_operations(bench) / 1e12, unit="TFLOP/s")


def peak_operations(bench: Bench) -> float:
    """Return the operations a second of a product of matrices."""
    size = bench.scale.matrix
    left, right = torch.randn(2, size, size, device=bench.device, dtype=bench.dtype)
    (taken,) = bench.times({"mm": lambda: left @ right}).values()
    return 2 * size**3 / (taken / 1e3)


class Attention:
    """One attention with its operands, and the computations of its orders.

    Args:
        bench: Where it is computed.
        shape: Batch, heads and length.
        forward: From q, k and v, ``[batch, heads, length, dim]``.
        dtype: Type of the operands.
    """

    def __init__(
        self,
        bench: Bench,
        shape: tuple[int, int, int],
        forward: Callable[[Tensor, Tensor, Tensor], Tensor],
        dtype: torch.dtype | None = None,
    ) -> None:
        torch.manual_seed(0)
        self._forward = forward
        options: Any = {"device": bench.device, "dtype": dtype or bench.dtype}
        sizes = (*shape, bench.scale.head_dim)
        self.inputs = [torch.randn(sizes, **options).requires_grad_() for _ in range(3)]
        self._weight, *self._directions = torch.randn(4, *sizes, **options)

    def forward(self) -> Tensor:
        """Compute the output alone."""
        with torch.no_grad():
            return self._forward(*self.inputs)

    def gradient(self, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Compute the gradient of a weighted sum of the output."""
        value = (self._forward(*self.inputs) * self._weight).sum()
        return torch.autograd.grad(value, self.inputs, create_graph=create_graph)

    def hvp(self) -> tuple[Tensor, ...]:
        """Compute a Hessian-vector product, and the gradient before it."""
        return torch.autograd.grad(self.gradient(create_graph=True), self.inputs, self._directions)


def ours(pattern: str, length: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return our attention with a pattern as text."""
    resolved = parse_pattern(pattern, is_decoder=True).resolve(length, length)
    return partial(attend, pattern=resolved)


def flex(bench: Bench, pattern: str, length: int) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """Return FlexAttention with the blocks of a pattern; the first call compiles it."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    resolved = parse_pattern(pattern, is_decoder=True).resolve(length, length)

    def allow(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return resolved.allowed(query, key)  # pyright: ignore[reportAttributeAccessIssue]

    @cache
    def compiled() -> Callable[[Tensor, Tensor, Tensor], Any]:
        blocks = create_block_mask(allow, None, None, length, length, device=str(bench.device))
        return partial(torch.compile(flex_attention, dynamic=False), block_mask=blocks)

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return compiled()(q, k, v)

    return forward


def attention_peers(
    bench: Bench, pattern: str, length: int
) -> dict[str, Callable[[Tensor, Tensor, Tensor], Any]]:
    """Return the peers that compute a pattern; FlexAttention has no gradient on a CPU."""
    peers: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {}
    if pattern in ("causal", "full"):
        is_causal = pattern == "causal"
        peers["SDPA"] = partial(F.scaled_dot_product_attention, is_causal=is_causal)
    if bench.device.type == "cuda":
        peers["FlexAttention, compiled"] = flex(bench, pattern, length)
    return peers


def attention(bench: Bench, claim: str, pattern: str, bar: str = "") -> Iterator[Line]:
    """Compare an attention, forward and with its gradient."""
    for shape in bench.scale.shapes:
        length = shape[2]
        forwards = {"regard": ours(pattern, length), **attention_peers(bench, pattern, length)}
        cases = {name: Attention(bench, shape, forward) for name, forward in forwards.items()}
        what = f"{pattern}, {shape[0]} x {shape[1]} heads, {length:,}"
        for order in ("forward", "gradient"):
            tasks = {name: getattr(case, order) for name, case in cases.items()}
            times = bench.times(tasks, bench.scale.num_layers)
            yield from compare(claim, f"{what}: {order}", times, bar)


def window(bench: Bench) -> Iterator[Line]:
    """Compare a causal window."""
    yield from attention(bench, "window", f"local:{bench.scale.window - 1},0", "<= 1")


def sparse(bench: Bench) -> Iterator[Line]:
    """Measure a strided pattern with a window."""
    window = bench.scale.window // 4
    yield from attention(bench, "sparse", f"strided:{window} | local:{window},0")


def causal(bench: Bench) -> Iterator[Line]:
    """Compare causal attention."""
    yield from attention(bench, "causal", "causal", "<= 1.2")


def hvp(bench: Bench) -> Iterator[Line]:
    """Compare a Hessian-vector product in float32 with gradients, ours and the fastest peer's."""
    for shape in bench.scale.shapes:
        for pattern in (f"local:{bench.scale.window - 1},0", "causal", "full"):
            length = shape[2]
            case = Attention(bench, (1, 8, length), ours(pattern, length), torch.float32)
            tasks: dict[str, Task] = {"regard": case.hvp, "our gradient": case.gradient}
            for name, forward in attention_peers(bench, pattern, length).items():
                peer = Attention(bench, (1, 8, length), forward, torch.float32)
                tasks[f"gradient of {name}"] = peer.gradient
            what = f"{pattern}, 8 heads, {length:,}, float32: product and gradient"
            times = bench.times(tasks, bench.scale.num_layers)
            yield from compare("hvp", what, times, "<= 10")


class TorchTransformer(nn.Module):
    """`nn.Transformer` with tied embeddings, as in PyTorch's tutorials.

    Args:
        bench: Has its sizes.
    """

    positions: Tensor

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        num_layers, dim, num_heads = bench.scale.translator
        self.table = nn.Parameter(torch.randn(bench.scale.vocab_size, dim) * dim**-0.5)
        self.register_buffer("positions", sinusoids(1024, dim))
        self.dropout = nn.Dropout(0.1)
        self.core = nn.Transformer(
            dim, num_heads, num_layers, num_layers, 4 * dim, 0.1, batch_first=True, norm_first=True
        )

    def embed(self, ids: Tensor) -> Tensor:
        """Embed ids ``[batch, length]``."""
        embedded = F.embedding(ids, self.table) * self.table.shape[1] ** 0.5
        return self.dropout(embedded + self.positions[: ids.shape[1]])

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits ``[batch, length, vocab]``."""
        padding = batch.source_ids == 0
        length = batch.target_ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=padding.device).triu(1)
        hidden = self.core(
            self.embed(batch.source_ids),
            self.embed(batch.target_ids),
            tgt_mask=causal,
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return F.linear(hidden, self.table)


class Marian(nn.Module):
    """Hugging Face's Marian of the translator's sizes.

    Args:
        bench: Has its sizes.
    """

    def __init__(self, bench: Bench) -> None:
        from transformers import MarianConfig, MarianMTModel

        super().__init__()
        num_layers, dim, num_heads = bench.scale.translator
        config = MarianConfig(
            vocab_size=bench.scale.vocab_size,
            d_model=dim,
            encoder_layers=num_layers,
            decoder_layers=num_layers,
            encoder_attention_heads=num_heads,
            decoder_attention_heads=num_heads,
            encoder_ffn_dim=4 * dim,
            decoder_ffn_dim=4 * dim,
            dropout=0.1,
            activation_function="relu",
            pad_token_id=0,
            eos_token_id=2,
            bos_token_id=None,
            decoder_start_token_id=1,
            forced_eos_token_id=None,
            scale_embedding=True,
            max_position_embeddings=1024,
        )
        self.model = MarianMTModel(config)

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits ``[batch, length, vocab]``."""
        return self.model(
            input_ids=batch.source_ids,
            attention_mask=(batch.source_ids != 0).long(),
            decoder_input_ids=batch.target_ids,
        ).logits


class HuggingFaceGpt(nn.Module):
    """Hugging Face's GPT-2 of the size of ours, with PyTorch's attention.

    Args:
        bench: Has its sizes.
    """

    def __init__(self, bench: Bench) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        num_layers, dim, num_heads = bench.scale.gpt
        config = GPT2Config(
            vocab_size=bench.scale.vocab_size,
            n_positions=bench.scale.gpt_batch[1],
            n_embd=dim,
            n_layer=num_layers,
            n_head=num_heads,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        self.model = GPT2LMHeadModel(config)

    def forward(self, batch: TextBatch) -> Tensor:
        """Compute logits ``[batch, length, vocab]``."""
        return self.model(input_ids=batch.ids, use_cache=False).logits


class PeerStep:
    """A training step as users of a peer write it: autocast, clipping, fused AdamW.

    Args:
        bench: Where it is computed.
        model: From a batch to logits.
        batch: On the device.
        smoothing: Of the labels.
    """

    def __init__(self, bench: Bench, model: nn.Module, batch: Any, smoothing: float) -> None:
        self._bench, self._batch, self._smoothing = bench, batch, smoothing
        self._model = model.to(bench.device).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4, fused=True)

    def __call__(self) -> None:
        """Take a step."""
        with torch.autocast(self._bench.device.type, self._bench.dtype):
            logits = self._model(self._batch)
            labels = self._batch.labels.flatten().clamp_min(0)
            loss = F.cross_entropy(
                logits.flatten(0, 1).float(),
                labels,
                ignore_index=0,
                label_smoothing=self._smoothing,
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()


class OurStep:
    """A training step as ``regard train`` takes it, with the average of the weights.

    Args:
        bench: Where it is computed.
        model: Ours.
        loss: Of the task.
        batch: In main memory, from which every step copies it.
        is_compiled: Whether the model's blocks are compiled, as in a long run on a GPU.
    """

    def __init__(
        self, bench: Bench, model: Any, loss: LossFunction, batch: Any, *, is_compiled: bool
    ) -> None:
        self._batch, self._number = batch, 0
        model.to(bench.device).train()
        model.compute_dtype = bench.dtype
        if is_compiled and bench.scale.compiles:
            compile_blocks(model, loss, [batch])
        config = OptimizerConfig(name="adamw", learning_rate=1e-4, warmup=0.0)
        self._stepper = MiniBatchStep(model, loss, config)
        self._average = ExponentialMovingAverage(model, 0.998)

    def __call__(self) -> None:
        """Take a step."""
        self._number += 1
        self._stepper.step(self._batch, 0.0)
        self._average.update(self._number)


def translation_batch(scale: Scale) -> Batch:
    """Return pairs of 8 to 56 tokens with about the target tokens of the claim."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(8, 57, max(3, scale.target_tokens // 32))

    def rows() -> TokenRows:
        return TokenRows([generator.integers(3, scale.vocab_size, n).tolist() for n in lengths])

    batches = PairBatches(rows(), rows(), batch_tokens=10**9, seed=1)
    (numbers,) = batches.in_sequence()
    return batches.batch(numbers)


def on_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device."""
    fields = msgspec.structs.asdict(batch).items()
    moved = {name: value.to(device) for name, value in fields if isinstance(value, Tensor)}
    return msgspec.structs.replace(batch, **moved)


def our_translator(scale: Scale) -> Transformer:
    """Build our translator of the sizes of the claim."""
    num_layers, dim, num_heads = scale.translator
    config = TransformerConfig(
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
        dim=dim,
        num_heads=num_heads,
        hidden_dim=4 * dim,
        dropout=0.1,
    )
    return Transformer(config, scale.vocab_size)


def our_gpt(sizes: tuple[int, int, int], vocab_size: int) -> Gpt:
    """Build our language model of some layers, width and heads."""
    num_layers, dim, num_heads = sizes
    config = GptConfig(
        num_layers=num_layers, dim=dim, num_heads=num_heads, hidden_dim=4 * dim, dropout=0.0
    )
    return Gpt(config, vocab_size)


def training(
    bench: Bench,
    claim: str,
    step: Callable[..., OurStep],
    peers: Mapping[str, Callable[[], Task]],
    num_tokens: int,
) -> Iterator[Line]:
    """Compare training steps, one model in memory after the other: their memory is measured, too.

    Args:
        bench: Where they are computed.
        claim: Name of the claim.
        step: Builds ours, compiled or not.
        peers: Build those of the peers, by name.
        num_tokens: Target tokens of a step.
    """
    what = f"a step of {num_tokens:,} target tokens"
    figures: dict[str, tuple[float, float | None]] = {}
    own = {"regard": partial(step, is_compiled=True), "plain": partial(step, is_compiled=False)}
    for name, build in {**own, **peers}.items():
        measured = bench.attempt(name, partial(step_figures, bench, build))
        bench.free()
        if measured is None:
            continue
        figures[name] = measured
        if name == "regard":
            compute = partial(part_of_chip, bench, claim, num_tokens, measured[0])
            chip = bench.attempt("part of the chip", compute)
            line = Line(claim=claim, what=what, ours=measured[0], bar="<= 50", chip=chip)
            yield checked(line)
            continue
        times = {each: figures[each][0] for each in ("regard", name) if each in figures}
        yield from compare(claim, what, times)
        most, least = measured[1], figures.get("regard", (0.0, None))[1]
        if name in peers and most is not None and least is not None:
            line = Line(claim=claim, what="memory", ours=least, unit="GB", peer=name, peers=most)
            bar = "<= 0.6" if claim == "gpt" else ""
            yield checked(msgspec.structs.replace(line, ratio=least / most, bar=bar))


def step_figures(bench: Bench, build: Callable[[], Task]) -> tuple[float, float | None]:
    """Return the milliseconds and the gigabytes of a training step."""
    task = build()
    for _ in range(_WARM_UP):
        task()
    taken = statistics.median(bench.time(task) for _ in range(bench.scale.repeats))
    return taken, bench.peak_gigabytes(task)


def part_of_chip(bench: Bench, claim: str, num_tokens: int, taken: float) -> float:
    """Return which part of the chip's operations a step of some milliseconds uses."""
    if claim == "translator":
        model: nn.Module = our_translator(bench.scale)
    else:
        model = our_gpt(bench.scale.gpt, bench.scale.vocab_size)
    # A weight of a product is used once a token: two operations, and four in the backward pass.
    num_weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    return 6 * num_weights * num_tokens / (taken / 1e3) / peak_operations(bench)


def with_compiled(
    bench: Bench, name: str, build: Callable[[Bench], nn.Module], batch: Any, smoothing: float
) -> dict[str, Callable[[], PeerStep]]:
    """Return how the steps of a peer are built, plain and compiled; none where it is missing."""
    if find_spec("transformers") is None:
        return {}

    def plain() -> PeerStep:
        return PeerStep(bench, build(bench), batch, smoothing)

    def compiled() -> PeerStep:
        return PeerStep(bench, bench.compiled(build(bench)), batch, smoothing)

    return {name: plain, f"{name}, compiled": compiled}


def translator(bench: Bench) -> Iterator[Line]:
    """Compare training steps of an encoder-decoder."""
    batch = translation_batch(bench.scale)
    there = on_device(batch, bench.device)

    def step(*, is_compiled: bool) -> OurStep:
        model = our_translator(bench.scale)
        return OurStep(bench, model, TargetLoss(_SMOOTHING), batch, is_compiled=is_compiled)

    def torch_step() -> PeerStep:
        return PeerStep(bench, TorchTransformer(bench), there, _SMOOTHING)

    peers = with_compiled(bench, "Marian", Marian, there, _SMOOTHING)
    num_tokens = int((batch.labels != 0).sum())
    yield from training(
        bench, "translator", step, {"nn.Transformer": torch_step, **peers}, num_tokens
    )


def gpt(bench: Bench) -> Iterator[Line]:
    """Compare training steps of a decoder."""
    ids = torch.from_numpy(
        np.random.default_rng(0).integers(3, bench.scale.vocab_size, bench.scale.gpt_batch)
    )
    batch = TextBatch(ids=ids, labels=ids.roll(-1, 1), rows=np.arange(len(ids)))
    there = on_device(batch, bench.device)

    def step(*, is_compiled: bool) -> OurStep:
        model = our_gpt(bench.scale.gpt, bench.scale.vocab_size)
        return OurStep(bench, model, LanguageModelLoss(0.0), batch, is_compiled=is_compiled)

    peers = with_compiled(bench, "GPT-2", HuggingFaceGpt, there, 0.0)
    yield from training(bench, "gpt", step, peers, ids.numel())


def beam(bench: Bench) -> Iterator[Line]:
    """Compare beam search of four hypotheses, outputs of one length."""
    scale, length = bench.scale, bench.scale.output_length
    generator = np.random.default_rng(1)
    width = 30 if scale.compiles else 5
    sources = generator.integers(3, scale.vocab_size, (scale.num_sentences, width))
    ids = torch.from_numpy(sources).to(bench.device)
    model = our_translator(scale).to(bench.device, bench.dtype).eval()

    def own() -> object:
        return decode(model, sources.tolist(), beam=4, min_length=length, max_length=length)

    def build() -> Any:
        return Marian(bench).to(bench.device, bench.dtype).eval().model

    peer = "generate of transformers"
    has_peer = find_spec("transformers") is not None
    tasks: dict[str, Task] = {"regard": own}
    if has_peer and (marian := bench.attempt(peer, build)) is not None:

        def generate() -> object:
            with torch.inference_mode():
                return marian.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    num_beams=4,
                    do_sample=False,
                    min_new_tokens=length,
                    max_new_tokens=length,
                )

        tasks[peer] = generate
    times = bench.times(tasks)
    num_tokens = scale.num_sentences * length
    speeds = {name: num_tokens / (taken / 1e3) for name, taken in times.items()}
    for line in compare("beam", f"{scale.num_sentences} sentences, beam 4", speeds, ">= 3"):
        yield msgspec.structs.replace(line, unit="tokens/s")


def optimizers(bench: Bench) -> Iterator[Line]:
    """Measure what methods of all rows compute themselves, next to their evaluations."""
    methods: dict[str, Callable[..., Any]] = {
        "conjugate gradient": ConjugateGradient,
        "conjugate gradient, memory 11": partial(ConjugateGradient, memory=11),
        "conjugate gradient, memory 11, adam": partial(
            ConjugateGradient, memory=11, preconditioner="adam"
        ),
        "L-BFGS": LBFGS,
    }
    for name, method in methods.items():
        torch.manual_seed(0)
        model = our_gpt(bench.scale.optimizer_model, bench.scale.vocab_size).to(bench.device)
        ids = torch.randint(3, bench.scale.vocab_size, bench.scale.optimizer_batch)
        ids = ids.to(bench.device)
        optimizer = method(model.parameters())

        def closure(model: Gpt = model, ids: Tensor = ids, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            logits = model(ids)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            return loss

        own, evaluation = own_work(bench, optimizer, closure)
        yield checked(
            Line(
                claim="optimizers",
                what=f"own work of {name}, of an evaluation of {evaluation:.2f} ms",
                ours=own / evaluation,
                unit="evaluations",
                bar="<= 0.1",
            )
        )


def own_work(bench: Bench, optimizer: Any, closure: Task) -> tuple[float, float]:
    """Return the milliseconds an evaluation of a method's own work, and those of an evaluation."""
    for _ in range(3):  # the first steps evaluate more, and make the state
        optimizer.step(closure)
    own, evaluations = [], []
    for _ in range(bench.scale.repeats):
        evaluation = bench.time(closure)
        taken = bench.time(partial(optimizer.step, closure))
        count = optimizer.last.evaluations
        own.append((taken - count * evaluation) / count)
        evaluations.append(evaluation)
    return statistics.median(own), statistics.median(evaluations)


CLAIMS: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "peak": peak,
    "window": window,
    "causal": causal,
    "translator": translator,
    "gpt": gpt,
    "optimizers": optimizers,
    "hvp": hvp,
    "beam": beam,
    "sparse": sparse,
}


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp after some seconds, again and again where it is caught."""

    def stop(*_: object) -> None:
        raise TimeIsUp

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def lines_of(bench: Bench, name: str, seconds: float) -> Iterator[Line]:
    """Yield the lines of a claim as they are measured, until its time is up."""
    end, lines = time.monotonic() + seconds, CLAIMS[name](bench)

    def next_line() -> Line | None:
        with limited(end - time.monotonic()):
            return next(lines, None)

    try:
        while (line := bench.attempt("all", next_line)) is not None:
            yield line if bench.scale.compiles else msgspec.structs.replace(line, met=None)
    except TimeIsUp:
        yield Line(claim=name, what="rest", note=f"left out after {seconds:.0f} s, see --minutes")
    for what, message in bench.failures.items():
        yield Line(claim=name, what=what, note=f"failed: {message}")
    bench.failures.clear()


def run(bench: Bench, names: list[str], seconds: float) -> Iterator[Line]:
    """Yield the lines of claims, in their order; what fails does not end the others.

    Args:
        bench: Where they are computed.
        names: Of the claims; those that remain after an error that leaves the GPU unusable.
        seconds: Until all is left out that remains.
    """
    end = time.monotonic() + seconds
    while names and not bench.is_broken:
        name, left = names.pop(0), end - time.monotonic()
        if left <= 0:
            yield Line(claim=name, what="all", note="left out: the time is up, see --minutes")
            continue
        yield from lines_of(bench, name, left / 2 if names else left)
        bench.free()


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default=",".join(CLAIMS))
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args(words)
    names = options.only.split(",")
    unknown = sorted(set(names) - set(CLAIMS))
    if unknown:
        parser.error(f"--only {unknown[0]}: not known.  Known: {', '.join(CLAIMS)}.")
    try:
        device = choose_device(options.device)
    except ConfigError as error:
        print(f"This benchmark needs a GPU.  {error}", file=sys.stderr)
        return 1
    if device.type == "cpu" and not options.tiny:
        print("A CPU has the tiny sizes alone: --device cpu --tiny.", file=sys.stderr)
        return 1
    if find_spec("transformers") is None:
        print("transformers is not installed: its peers are left out.", file=sys.stderr)
    print(f"{describe_device(device)}, PyTorch {torch.__version__}", file=sys.stderr)
    if not options.tiny:  # else FlexAttention is compiled for eight kinds of calls alone
        torch._dynamo.config.recompile_limit = 64
    print_lines(Bench(device=device, scale=TINY if options.tiny else Scale()), options, names)
    return 0


def print_lines(bench: Bench, options: argparse.Namespace, names: list[str]) -> None:
    """Print the lines of claims, in another process where this one loses its GPU."""
    seconds = 60 * options.minutes
    end = time.monotonic() + seconds
    # Whatever a kernel that hangs waits for: the lines are printed.
    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=sys.__stderr__)
    for line in run(bench, names, seconds):
        print(msgspec.json.encode(line).decode(), flush=True)
    faulthandler.cancel_dump_traceback_later()
    if names:
        minutes = str((end - time.monotonic()) / 60)
        words = ["--device", options.device, "--only", ",".join(names), "--minutes", minutes]
        subprocess.run([sys.executable, __file__, *words], check=False)


if __name__ == "__main__":
    sys.exit(main())
