"""Decoding speed next to `transformers` and CTranslate2: the same weights, the same lengths.

    python benchmarks/decoding.py [--dim 256] [--layers 4] [--sentences 64] [--tokens 32]
        [--beams 1,4] [--rounds 3] [--threads 2] [--workers 1] [--cpu-time] [--json]
    python benchmarks/decoding.py --family gpt2 [--sentences 1] [--tokens 32] [--rounds 3]

A Marian model with random weights (vocabulary 8,000) decodes random sentences of 5 to 60 tokens;
every output is forced to the same number of tokens, greedily and by a beam. The engines take turns
in one process, each with the same number of threads (here a worker each, which decodes batches of
its own, unless `--workers` says otherwise: fewer workers share their products); figures are medians
of the rounds, in target tokens a second, and the ratio to the fastest peer in the same precision.
Engines that are not installed are left out. On a machine that others use, `--cpu-time` counts the
time of the processor instead. It also prints how many outputs are equal to those of `transformers`,
and the latency of one sentence. With `--family gpt2` a language model of the sizes of GPT-2 small
continues prompts of 32 tokens greedily.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import msgspec
import torch

import regard
from regard.generation import decode
from regard.generation.decoders import causal_decoder, decoding_path
from regard.generation.native import NativeCausalDecoder
from regard.models import Decoder, EncoderDecoder
from regard.settings.values import DecodingPrecision

VOCAB = 8_000
PAD, END, START = 0, 2, 0
LATENCY_CALLS = 15
Engine = Callable[[list[list[int]], int, int], list[list[int]]]
"""Maps sources, a beam and a number of tokens to outputs of that number of tokens."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one engine.

    Args:
        engine: Its name.
        precision: Type of its weights.
        beam: Hypotheses.
        tokens_per_second: Target tokens, median of the rounds.
        latency_ms: Median time of one sentence, in milliseconds.
        equal: Outputs that are equal to those of `transformers`, 0 to 1; None without it.
    """

    engine: str
    precision: str
    beam: int
    tokens_per_second: float
    latency_ms: float
    equal: float | None


def make_model(dim: int, num_layers: int) -> Any:
    """Return a Marian model of `transformers` with random weights."""
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=VOCAB,
        d_model=dim,
        encoder_layers=num_layers,
        decoder_layers=num_layers,
        encoder_attention_heads=dim // 64,
        decoder_attention_heads=dim // 64,
        encoder_ffn_dim=4 * dim,
        decoder_ffn_dim=4 * dim,
        activation_function="relu",
        max_position_embeddings=512,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=None,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        scale_embedding=True,
    )
    return MarianMTModel(config).eval()


def make_language_model() -> Any:
    """Return a GPT-2 small of `transformers` with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(bos_token_id=1, eos_token_id=END, pad_token_id=PAD)).eval()


def language_model_engines(folder: Path, model: Any) -> dict[tuple[str, str], Engine]:
    """Return engines that continue prompts of one length: ours, and `transformers` in two types."""
    engines: dict[tuple[str, str], Engine] = {}
    own = regard.load(folder).model
    assert isinstance(own, Decoder)
    for precision in get_args(DecodingPrecision):
        decoder = causal_decoder(own, precision)
        assert isinstance(decoder, NativeCausalDecoder)

        def run(
            sources: list[list[int]], beam: int, length: int, decoder: Any = decoder
        ) -> list[list[int]]:
            assert beam == 1
            state, ids = decoder.init_state(), torch.tensor(sources)
            written = []
            for _ in range(length):
                best = decoder.decode_top(ids, state, 2).ids
                ids = torch.where(best[:, :1] == END, best[:, 1:], best[:, :1])
                written.append(ids)
            return torch.cat(written, dim=1).tolist()

        engines["regard", precision] = run
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        converted = copy.deepcopy(model).to(dtype)

        def generate(
            sources: list[list[int]], beam: int, length: int, converted: Any = converted
        ) -> list[list[int]]:
            ids = torch.tensor(sources)
            with torch.inference_mode():
                written = converted.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    num_beams=beam,
                    do_sample=False,
                    min_new_tokens=length,
                    max_new_tokens=length,
                )
            return written[:, ids.shape[1] :].tolist()

        engines["transformers", precision] = generate
    return engines


def opened_model(folder: Path) -> EncoderDecoder[Any]:
    """Return the model of a folder, as regard reads it."""
    model = regard.load(folder).model
    assert isinstance(model, EncoderDecoder)
    return model


def regard_engines(folder: Path, workers: int | None = None) -> dict[tuple[str, str], Engine]:
    """Return an engine for each precision; None is a worker for each thread."""
    model = opened_model(folder)
    engines: dict[tuple[str, str], Engine] = {}
    for precision in get_args(DecodingPrecision):

        def run(
            sources: list[list[int]], beam: int, length: int, precision: Any = precision
        ) -> list[list[int]]:
            outputs = decode(
                model,
                sources,
                beam=beam,
                min_length=length + 1,
                max_length=length,
                precision=precision,
                num_workers=workers,
                end_id=END,
            )
            return [output.ids for output in outputs]

        engines["regard", precision] = run
    return engines


def transformers_engine(model: Any) -> Engine:
    """Return ``generate`` on batches of the sentences in the order of their lengths."""

    def run(sources: list[list[int]], beam: int, length: int) -> list[list[int]]:
        order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        outputs: list[list[int]] = [[] for _ in sources]
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            width = max(len(sources[index]) for index in batch)
            ids = torch.tensor(
                [sources[index] + [PAD] * (width - len(sources[index])) for index in batch]
            )
            with torch.inference_mode():
                written = model.generate(
                    ids,
                    attention_mask=(ids != PAD).long(),
                    num_beams=beam,
                    do_sample=False,
                    min_new_tokens=length,
                    max_new_tokens=length,
                    bad_words_ids=None,
                )
            for index, row in zip(batch, written.tolist(), strict=True):
                outputs[index] = row[1 : 1 + length]
        return outputs

    return run


def ctranslate2_engines(model: Any, folder: Path, threads: int) -> dict[tuple[str, str], Engine]:
    """Return CTranslate2 in its float32 and its int8, with a worker for each thread."""
    import ctranslate2  # pyright: ignore[reportMissingImports]
    from ctranslate2.converters.transformers import (  # pyright: ignore[reportMissingImports]
        BartLoader,
    )

    model.config.normalize_before = model.config.normalize_embedding = False
    spec = BartLoader().get_model_spec(model)
    names = [f"t{index}" for index in range(VOCAB)]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.unk_token, spec.config.eos_token = names[1], names[END]
    spec.config.decoder_start_token, spec.config.add_source_eos = names[START], False
    spec.validate()
    spec.optimize()
    folder.mkdir()
    spec.save(str(folder))
    engines: dict[tuple[str, str], Engine] = {}
    for precision in ("float32", "int8"):
        translator = ctranslate2.Translator(
            str(folder), "cpu", compute_type=precision, inter_threads=threads, intra_threads=1
        )

        def run(
            sources: list[list[int]], beam: int, length: int, translator: Any = translator
        ) -> list[list[int]]:
            results = translator.translate_batch(
                [[names[token] for token in source] for source in sources],
                beam_size=beam,
                max_batch_size=1024,
                batch_type="tokens",
                min_decoding_length=length,
                max_decoding_length=length,
                max_input_length=0,
            )
            return [[int(name[1:]) for name in result.hypotheses[0]] for result in results]

        engines["CTranslate2", precision] = run
    return engines


def on_threads(run: Engine, threads: int) -> Engine:
    """Return an engine that computes on so many of PyTorch's threads.

    CTranslate2 sets the number of threads of OpenMP, which is PyTorch's, to that of one worker.
    """

    def run_on_threads(sources: list[list[int]], beam: int, length: int) -> list[list[int]]:
        torch.set_num_threads(threads)
        return run(sources, beam, length)

    return run_on_threads


def measure(
    engines: dict[tuple[str, str], Engine],
    sources: list[list[int]],
    beams: list[int],
    length: int,
    rounds: int,
    clock: Callable[[], float],
) -> list[Result]:
    """Time all engines in turn."""
    results = []
    middle = sorted(sources, key=len)[len(sources) // 2]
    for beam in beams:
        seconds: dict[tuple[str, str], list[float]] = {name: [] for name in engines}
        latencies: dict[tuple[str, str], list[float]] = {name: [] for name in engines}
        outputs = {name: run(sources, beam, length) for name, run in engines.items()}  # warm up
        for _ in range(rounds):
            for name, run in engines.items():
                start = clock()
                run(sources, beam, length)
                seconds[name].append(clock() - start)
        for _ in range(LATENCY_CALLS):
            for name, run in engines.items():
                start = clock()
                run([middle], beam, 20)
                latencies[name].append(clock() - start)
        wanted = outputs.get(("transformers", "float32"))
        for name in engines:
            equal = None
            if wanted is not None:
                pairs = zip(outputs[name], wanted, strict=True)
                equal = sum(found == right for found, right in pairs) / len(wanted)
            results.append(
                Result(
                    engine=name[0],
                    precision=name[1],
                    beam=beam,
                    tokens_per_second=len(sources) * length / statistics.median(seconds[name]),
                    latency_ms=1000 * statistics.median(latencies[name]),
                    equal=equal,
                )
            )
    return results


def show(results: list[Result]) -> None:
    """Print a table; the ratio is to the fastest peer of the same beam.

    It is in the same precision, but for bf16, and where no peer has that, in any.
    """
    print(
        f"{'engine':14}{'type':9}{'beam':>5}{'tokens/s':>10}{'ratio':>8}{'one, ms':>9}{'equal':>8}"
    )
    for result in results:
        peers = [r for r in results if r.engine != "regard" and r.beam == result.beam]
        if result.precision != "bf16":
            peers = [peer for peer in peers if peer.precision == result.precision] or peers
        fastest = max((peer.tokens_per_second for peer in peers), default=None)
        ratio = "-" if fastest is None else f"{result.tokens_per_second / fastest:.2f}"
        equal = "-" if result.equal is None else f"{result.equal:.0%}"
        print(
            f"{result.engine:14}{result.precision:9}{result.beam:5}"
            f"{result.tokens_per_second:10,.0f}{ratio:>8}{result.latency_ms:9.1f}{equal:>8}"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=("marian", "gpt2"), default="marian")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--beams", default="1,4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(1)
    clock = time.process_time if options.cpu_time else time.perf_counter
    is_marian = options.family == "marian"
    sources = []
    for _ in range(options.sentences):
        length = int(torch.randint(5, 61, (), generator=generator)) if is_marian else 32
        source = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        sources.append([*source, END] if is_marian else source)
    with tempfile.TemporaryDirectory() as name:
        hf = Path(name) / "hf"
        model = make_model(options.dim, options.layers) if is_marian else make_language_model()
        model.save_pretrained(hf)
        if is_marian:
            engines = regard_engines(hf, options.workers)
            engines["transformers", "float32"] = transformers_engine(model)
            if find_spec("ctranslate2"):
                engines |= ctranslate2_engines(model, Path(name) / "ct2", options.threads)
        else:
            engines = language_model_engines(hf, model)
        if not options.json:
            path = decoding_path(regard.load(hf).model)
            print(f"regard writes by {path}; {options.threads} threads", flush=True)
        engines = {name: on_threads(run, options.threads) for name, run in engines.items()}
        beams = [int(beam) for beam in options.beams.split(",")] if is_marian else [1]
        results = measure(engines, sources, beams, options.tokens, options.rounds, clock)
    if options.json:
        print(json.dumps(msgspec.to_builtins(results)))
    else:
        show(results)


if __name__ == "__main__":
    main()
