"""Outputs in float32, token for token: the compiled decoder, PyTorch's operators, `transformers`.

    regard train pairs.tsv -o ende --set model.norm=post --set model.positions=sinusoidal_halves \
        --set model.has_copy=false
    regard export ende -o ende-hf
    python benchmarks/equal_outputs.py ende-hf sentences.tsv [--sentences 1000] [--beams 1,4]

The model of a published folder (Marian, BART) writes for the first column of a file, in each of the
three ways with the settings of the folder. Printed is how many outputs are equal to those of the
compiled decoder. Of each that differs, the scores of both are computed in float64: where they
differ by less than what float32 rounds off, it is a tie, and named.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

import regard
from regard.data.batching import SpecialIds, TokenRows
from regard.generation import BeamSearchConfig, Seq2SeqDecoder
from regard.generation.decoders import decoding_path, seq2seq_decoder
from regard.generation.scheduling import decode_sources
from regard.models import EncoderDecoder
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.translation.predictor import Translator

BATCH = 32  # sentences of `transformers`
TIE = 1e-5  # nats a token; float32 has 24 bits, and sums over a vocabulary lose some of them


def pad(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Return rows of tokens as ``[rows, longest]``."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def write(
    decoder: Seq2SeqDecoder[Any],
    sources: list[list[int]],
    search: BeamSearchConfig,
    ids: SpecialIds,
) -> list[list[int]]:
    """Return the best output of each source, without its end."""
    rows = TokenRows([torch.tensor(source).numpy() for source in sources])
    outputs = decode_sources(
        decoder, rows.lengths, lambda indices: rows.pad(indices, fill=ids.pad), search, ids
    )
    return [best.ids for best, *_ in outputs]


@torch.inference_mode()
def generate(
    folder: Path, sources: list[list[int]], search: BeamSearchConfig, ids: SpecialIds
) -> list[list[int]]:
    """Return the outputs of `transformers`, in batches of sources of about equal length."""
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    outputs: list[list[int]] = [[] for _ in sources]
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        source_ids = pad([sources[index] for index in batch], ids.pad)
        written = model.generate(
            source_ids,
            attention_mask=(source_ids != ids.pad).long(),
            num_beams=search.beam,
            do_sample=False,
            max_new_tokens=search.max_length,
        )
        for index, row in zip(batch, written[:, 1:].tolist(), strict=True):
            outputs[index] = row[: row.index(ids.end)] if ids.end in row else row
    return outputs


@torch.inference_mode()
def score(
    model: EncoderDecoder[Any], source: list[int], output: list[int], ids: SpecialIds, longest: int
) -> float:
    """Return the mean log-probability of the tokens of an output in float64."""
    target = [*output, ids.end][:longest]
    logits = model(torch.tensor([source]), torch.tensor([[ids.start, *target[:-1]]]))[0]
    chosen = logits.log_softmax(-1)[torch.arange(len(target)), torch.tensor(target)]
    return float(chosen.mean())


def main() -> None:
    """Write in three ways, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="published folder")
    parser.add_argument("file", type=Path, help="sentences, alone or before a tab")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beams", default="1,4")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an output")
    options = parser.parse_args()
    translator = regard.load(options.model)
    assert isinstance(translator, Translator)
    model, ids = translator.model, special_ids(translator.model, translator.tokenizer)
    lines = options.file.read_text().splitlines()[: options.sentences]
    texts = [line.partition("\t")[0] for line in lines]
    sources = [[*row, ids.end_of_source] for row in translator.tokenizer.encode(texts)]
    exact = regard.load(options.model).model.double()
    print(f"{options.model} writes by {decoding_path(model, 'float32')}")
    for beam in map(int, options.beams.split(",")):
        search = msgspec.structs.replace(
            translator.search_config(beam=beam),
            ranking="transformers",
            stopping="likely",
            max_length_ratio=None,
            max_length=options.tokens,
        )
        ours = write(seq2seq_decoder(model, "float32"), sources, search, ids)
        others = {
            "operators": write(model, sources, search, ids),
            "transformers": generate(options.model, sources, search, ids),
        }
        mean = sum(map(len, ours)) / len(ours)
        for name, outputs in others.items():
            gaps = {
                index: score(exact, sources[index], one, ids, options.tokens)
                - score(exact, sources[index], other, ids, options.tokens)
                for index, (one, other) in enumerate(zip(ours, outputs, strict=True))
                if one != other
            }
            ties = sum(abs(gap) < TIE for gap in gaps.values())
            print(
                f"beam {beam}: {len(ours) - len(gaps):,} of {len(ours):,} outputs of {mean:.1f} "
                f"tokens are equal to those of {name}; ties {ties}, different {len(gaps) - ties}",
                flush=True,
            )
            for index, gap in gaps.items():
                print(f"  sentence {index + 1}: the scores differ by {gap:.1e} a token")


if __name__ == "__main__":
    main()
