"""Training throughput of regard, torch.nn.Transformer and Hugging Face Marian, in one run.

    python benchmarks/train_throughput.py pairs.tsv --steps 30        # needs: pip install
    transformers

Every contender is the same model (4+4 layers, d 256, ff 1024, 4 heads, tied vocabulary of 8,000,
dropout 0.1, label smoothing 0.1) on the same batches (4,096 target tokens at most) with the same
AdamW, on two threads, in float32 and in bfloat16 (the peers through autocast, as their users
would). They take steps in turn, one each, so that all see the same noise of the machine; the
figures are medians. The validation losses after those steps, in float32, show that they learn
the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.data.batching import Batch, PairBatches
from regard.data.cldr_corpus import cldr_corpus
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.tables import read_pairs
from regard.data.splits import clean, split
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.layers.positions import sinusoids
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.tasks.sequence_to_sequence.data import encode_pairs
from regard.tasks.sequence_to_sequence.loss import TargetLoss

DIM, HIDDEN, HEADS, LAYERS, VOCAB, DROPOUT, SMOOTHING = 256, 1024, 4, 4, 8000, 0.1, 0.1
RATE = 5e-4


class TorchTransformer(nn.Module):
    """`nn.Transformer` with tied embeddings, as in PyTorch's tutorials."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocab_size, DIM) * DIM**-0.5)
        self.register_buffer("positions", sinusoids(1024, DIM))
        self.dropout = nn.Dropout(DROPOUT)
        self.core = nn.Transformer(
            DIM, HEADS, LAYERS, LAYERS, HIDDEN, DROPOUT, batch_first=True, norm_first=True
        )

    def embed(self, ids: Tensor) -> Tensor:
        """Embed ids ``[batch, length]``."""
        return self.dropout(
            F.embedding(ids, self.table) * DIM**0.5 + self.positions[: ids.shape[1]]
        )

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Compute logits ``[batch, length, vocab]``."""
        padding = source_ids == 0
        causal = nn.Transformer.generate_square_subsequent_mask(target_ids.shape[1])
        hidden = self.core(
            self.embed(source_ids),
            self.embed(target_ids),
            tgt_mask=causal.isinf(),
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return F.linear(hidden, self.table)


def marian(vocab_size: int) -> nn.Module:
    """Build Hugging Face's Marian model of the same size."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=vocab_size,
        d_model=DIM,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=HIDDEN,
        decoder_ffn_dim=HIDDEN,
        dropout=DROPOUT,
        activation_function="relu",
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
        scale_embedding=True,
        max_position_embeddings=1024,
    )
    model = MarianMTModel(config)
    nn.init.normal_(model.model.shared.weight, std=DIM**-0.5)
    return model


class Contender:
    """One model with its optimizer and its way to the loss."""

    def __init__(
        self, name: str, model: nn.Module, loss: Callable[[nn.Module, Batch, float], Tensor]
    ) -> None:
        self.name, self.model, self.loss = name, model.train(), loss
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
        self.seconds: list[float] = []
        self.tokens: list[int] = []

    def step(self, batch: Batch, number: int) -> None:
        """Take a training step and note its time."""
        if isinstance(self.model, Transformer):
            torch.manual_seed(number)
        begun = time.perf_counter()
        loss = self.loss(self.model, batch, SMOOTHING)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - begun)
        self.tokens.append(int((batch.labels != 0).sum()))

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> float:
        """Compute the mean loss in nats per token."""
        self.model.eval()
        losses = [float(self.loss(self.model, batch, 0.0)) for batch in batches]
        self.model.train()
        return sum(losses) / len(losses)


def our_loss(model: nn.Module, batch: Batch, smoothing: float) -> Tensor:
    """Loss by our own chunked cross-entropy."""
    assert isinstance(model, Transformer)
    return TargetLoss(label_smoothing=smoothing)(model, batch).loss


def plain_loss(bf16: bool, is_marian: bool) -> Callable[[nn.Module, Batch, float], Tensor]:
    """Loss by torch's cross-entropy over all logits, under autocast where asked."""

    def compute(model: nn.Module, batch: Batch, smoothing: float) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16 and model.training):
            if is_marian:
                logits = model(
                    input_ids=batch.source_ids,
                    attention_mask=(batch.source_ids != 0).long(),
                    decoder_input_ids=batch.target_ids,
                ).logits
            else:
                logits = model(batch.source_ids, batch.target_ids)
            return F.cross_entropy(
                logits.flatten(0, 1),
                batch.labels.flatten(),
                ignore_index=0,
                label_smoothing=smoothing,
            )

    return compute


def ours(vocab_size: int, dtype: torch.dtype) -> Transformer:
    """Build our own model of the same size."""
    config = TransformerConfig(
        num_encoder_layers=LAYERS,
        num_decoder_layers=LAYERS,
        dim=DIM,
        num_heads=HEADS,
        hidden_dim=HIDDEN,
        dropout=DROPOUT,
    )
    model = Transformer(config, vocab_size)
    model.compute_dtype = dtype
    return model


def contenders(vocab_size: int) -> list[Contender]:
    """Build all of them, each from the same seed."""
    built = []
    for label, bf16 in (("float32", False), ("bf16", True)):
        torch.manual_seed(1)
        dtype = torch.bfloat16 if bf16 else torch.float32
        built.append(Contender(f"regard {label}", ours(vocab_size, dtype), our_loss))
        torch.manual_seed(1)
        built.append(
            Contender(
                f"nn.Transformer {label}", TorchTransformer(vocab_size), plain_loss(bf16, False)
            )
        )
        torch.manual_seed(1)
        built.append(Contender(f"Marian {label}", marian(vocab_size), plain_loss(bf16, True)))
    return built


def load(path: str | None) -> tuple[PairBatches, PairBatches, int]:
    """Read pairs, and make training and validation batches."""
    if path is None:
        corpus = cldr_corpus()
        train: ParallelCorpus = corpus.train
        valid: ParallelCorpus = corpus.valid
    else:
        parts = split(clean(read_pairs(path))[0], seed=1)
        train, valid = parts.train, parts.valid
    tokenizer = Tokenizer.train([*train.sources, *train.targets], TokenizerConfig(vocab_size=VOCAB))
    made = []
    for pairs in (train, valid):
        encoded = encode_pairs(pairs, tokenizer, max_length=200)
        made.append(PairBatches(encoded.sources, encoded.targets, batch_tokens=4096, seed=1))
    return made[0], made[1], len(tokenizer)


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "pairs", nargs="?", help="TSV of sentence pairs; the embedded corpus if none"
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    train, valid, vocab_size = load(arguments.pairs)
    models = contenders(vocab_size)
    order = train.order(0)
    for number in range(arguments.steps + 2):
        batch = train.batch(order[number % len(order)])
        for contender in models:
            contender.step(batch, number)
    held_out = [valid.batch(rows) for rows in valid.in_sequence()[:4]]
    rows = []
    for contender in models:
        speeds = [
            tokens / seconds
            for tokens, seconds in zip(contender.tokens[2:], contender.seconds[2:], strict=True)
        ]
        if isinstance(contender.model, Transformer):
            contender.model.compute_dtype = torch.float32
        rows.append(
            {
                "name": contender.name,
                "tokens_per_second": statistics.median(speeds),
                "valid_loss": contender.validate(held_out),
            }
        )
    if arguments.json:
        print(msgspec.json.encode(rows).decode())
        return
    peers = [row["tokens_per_second"] for row in rows if not row["name"].startswith("regard")]
    print(f"{'':24s} target tokens/s   of the best peer   valid loss after {arguments.steps} steps")
    for row in rows:
        speed = row["tokens_per_second"]
        print(
            f"{row['name']:24s} {speed:15,.0f} {speed / max(peers):17.2f}x "
            f"{row['valid_loss']:12.3f}"
        )


if __name__ == "__main__":
    main()
