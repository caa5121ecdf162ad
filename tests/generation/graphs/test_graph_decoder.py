"""Steps on fixed memory write what the model writes, recorded or not, and wait once."""

from __future__ import annotations

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from tests.generation.graphs.recorded_operators import Records
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.data.batching import SpecialIds
from regard.errors import ShapeError
from regard.generation import BeamSearchConfig, beam_search, scheduling
from regard.generation.decoders import decoding_path, is_repeated_as_graph, seq2seq_decoder
from regard.generation.graphs import GraphDecoder, recorded_work
from regard.generation.graphs.static_step import StaticStep
from regard.generation.scheduling import decode_sources
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    T5,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GptConfig,
    T5Config,
    Transformer,
    TransformerConfig,
)

VOCAB = 24
SOURCES = [[5, 6, 2], [7, 2], [9, 9, 4, 8, 3, 2], [2], [11, 3, 2], [8, 7, 6, 5, 4, 3, 2]]
SMALL = {"dim": 16, "num_heads": 2, "hidden_dim": 32}


def transformer(pattern=None, **config):
    config = TransformerConfig(num_encoder_layers=1, num_decoder_layers=2, **SMALL, **config)
    return Transformer(config, VOCAB, AttentionConfig(decoder=pattern))


def bert_and_gpt():
    config = EncoderDecoderConfig(
        encoder=BertConfig(num_layers=1, **SMALL),
        decoder=GptConfig(num_layers=2, num_kv_heads=1, **SMALL),
    )
    return EncoderDecoderModel(config, VOCAB)


def t5(pattern=None, **config):
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 2, "num_buckets": 6, "max_distance": 9}
    return T5(T5Config(**sizes, **SMALL, **config), VOCAB, AttentionConfig(decoder=pattern))


MODELS = {
    "sinusoidal": transformer,
    "rotary, post-norm": lambda: transformer(positions="rotary", norm="post"),
    "learned": lambda: transformer(positions="learned", max_positions=4, has_output_bias=True),
    "window": lambda: transformer("local:2"),
    "bert and gpt with grouped heads": bert_and_gpt,
    "copying": lambda: transformer(has_copy=True),
    "biases of distances": t5,
    "biases of distances of each layer": lambda: t5(shares_buckets=False, head_dim=6),
    "biases of distances in a window": lambda: t5(pattern="local:2"),
}


def build(name="sinusoidal"):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(2.0)
    return model


def padded(sources=SOURCES):
    ids = torch.zeros(len(sources), max(map(len, sources)), dtype=torch.long)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = torch.tensor(source)
    return ids


def outputs_of(results):
    return [[(output.ids, output.is_complete) for output in outputs] for outputs in results]


def scores_of(results):
    return [output.score for outputs in results for output in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_by_recorded_steps_finds_what_the_model_finds(name, beam):
    """Outputs are longer than the first memory, and shorter ones leave it half empty."""
    model, records = build(name), Records()
    config = BeamSearchConfig(beam=beam, num_best=beam, max_length=40, max_length_ratio=9.0)
    expected = beam_search(model, padded(), config)
    results = beam_search(GraphDecoder(model, record=records), padded(), config)
    assert outputs_of(results) == outputs_of(expected)
    assert scores_of(results) == pytest.approx(scores_of(expected), rel=1e-6)
    assert records.num_recorded >= 1
    assert records.num_replayed > 5


RULES = {
    "repetition": {"repetition_penalty": 1.3},
    "n-grams": {"no_repeat_size": 2},
    "first and last tokens": {"forced_first": 7, "forces_end": True},
    "another last token": {"forced_last": 7},
    "renormalized, some forbidden": {"is_renormalized": True, "forbidden": (3, 9)},
    "a few forbidden, a least length": {"forbidden": (3, 9), "min_length": 6},
}


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", ["sinusoidal", "copying"])
@pytest.mark.parametrize("beam", [1, 3])
def test_rules_about_the_tokens_before_hold_between_recorded_steps(name, rules, beam):
    model, records = build(name), Records()
    config = BeamSearchConfig(beam=beam, num_best=beam, max_length=20, **RULES[rules])
    expected = beam_search(model, padded(), config)
    results = beam_search(GraphDecoder(model, record=records), padded(), config)
    assert outputs_of(results) == outputs_of(expected)
    assert scores_of(results) == pytest.approx(scores_of(expected), rel=1e-6)
    assert records.num_replayed > 2


@pytest.mark.parametrize("name", ["sinusoidal", "copying", "biases of distances"])
def test_a_recorded_step_has_the_bits_of_one_that_is_computed(name):
    model, ids = build(name), padded()
    rows = torch.tensor([0, 0, 2, 2, 3, 3])
    tops = []
    for record in (None, Records()):
        decoder = GraphDecoder(model, record=record)
        state = decoder.init_state(ids)
        state.select(rows)
        tokens = torch.tensor([1] * 6)
        tops.append([])
        for number in range(8):
            top = decoder.decode_top(tokens, state, 4 if number < 5 else 3)
            tokens = top.ids[:, 1 - number % 2]
            state.select(torch.tensor([1, 0, 2, 2, 5, 5]))
            tops[-1] += [top.logits, top.ids, top.log_sum]
    assert all(torch.equal(plain, recorded) for plain, recorded in zip(*tops, strict=True))
    assert tops[0][0].shape == (6, 4)
    assert tops[0][-3].shape == (6, 3)


@pytest.mark.parametrize("name", ["sinusoidal", "copying", "biases of distances"])
def test_logits_are_those_of_the_model(name):
    model, ids = build(name), padded()
    decoder = GraphDecoder(model, record=Records())
    states = model.init_state(ids), decoder.init_state(ids)
    tokens = torch.full((len(ids),), 1)
    with torch.inference_mode():
        for _ in range(5):
            expected, logits = (
                each.decode_step(tokens, state)
                for each, state in zip((model, decoder), states, strict=True)
            )
            torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
            tokens = expected.argmax(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sinusoidal", "copying", "biases of distances"])
@pytest.mark.parametrize("beam", [1, 3])
def test_sources_that_join_take_free_slots(name, beam, monkeypatch):
    model, records = build(name), Records()
    sources = [source[:length] for length in (1, 3, 7) for source in SOURCES * 4]
    lengths = torch.tensor([len(source) for source in sources]).numpy()
    ids = padded(sources)
    config = BeamSearchConfig(beam=beam, max_length=12)

    def pad(indices):
        return ids[torch.from_numpy(indices), : lengths[indices].max()]

    monkeypatch.setattr(scheduling, "DECODING_TOKENS", 12 * beam)
    decoder = GraphDecoder(model, record=records)
    results = decode_sources(decoder, lengths, pad, config, SpecialIds())
    expected = [
        beam_search(model, ids[i : i + 1, : lengths[i]], config)[0] for i in range(len(sources))
    ]
    assert outputs_of(results) == outputs_of(expected)
    assert records.num_replayed > 3 * records.num_recorded > 0


@pytest.fixture
def cuda_calls(monkeypatch):
    """What recording a graph asks of CUDA, of which nothing is there."""
    made = []

    class Graph:
        def __init__(self, graph, pool, stream, **options):
            made.append((pool, stream, options))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            if error[0] is not None:  # the recording is ended in vain, and its stream stays
                raise RuntimeError("CUDA error: invalid capture")

    class CudaGraph:
        def replay(self):
            made.append("replayed")

    @contextmanager
    def within(stream):
        made.append(f"from {stream}")
        try:
            yield
        finally:
            made.append(f"back to {stream}")

    monkeypatch.setattr(torch.cuda, "graph", Graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CudaGraph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"present one of {device}")
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *pool: made.append(pool))
    monkeypatch.setattr(recorded_work, "_capture_stream", recorded_work._capture_stream.__wrapped__)
    return made


def test_a_graph_is_recorded_on_the_device_of_its_model(cuda_calls):
    """PyTorch would take a stream of the current device, whose graph would be empty."""
    device = torch.device("cuda", 1)
    replay, result = recorded_work.record_cuda_graph(lambda: torch.ones(2), device)
    replay()
    assert cuda_calls == [
        "from present one of cuda:1",
        ("pool", "stream of cuda:1", {"capture_error_mode": "thread_local"}),
        "back to present one of cuda:1",
        "replayed",
    ]
    assert result.tolist() == [1.0, 1.0]


def test_stream_and_allocator_are_as_before_where_a_recording_fails(cuda_calls):
    def fail():
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="invalid capture"):
        recorded_work.record_cuda_graph(fail, torch.device("cuda", 1))
    assert cuda_calls[-2:] == ["back to present one of cuda:1", (1, "pool")]


@pytest.mark.parametrize("record", [None, lambda work, device: (lambda: None, work())])
def test_the_memory_of_a_step_is_free_when_nothing_reads_it(monkeypatch, record):
    """Python looks for cycles late, and a GPU that is full does not ask it to."""
    steps, begin = [], StaticStep.__init__

    def note(step, *arguments):
        steps.append(weakref.ref(step))
        begin(step, *arguments)

    monkeypatch.setattr(StaticStep, "__init__", note)
    decoder = GraphDecoder(build(), record=record)
    gc.disable()
    try:
        for _ in range(2):
            beam_search(decoder, padded(), BeamSearchConfig(beam=2, max_length=12))
        assert [step() for step in steps] == [None, None]
    finally:
        gc.enable()


def test_threads_record_one_after_another(cuda_calls):
    """The wait with which a recording begins would end that of another thread."""
    device, num_within, most = torch.device("cuda", 0), 0, 0

    def work():
        nonlocal num_within, most
        num_within += 1
        most = max(most, num_within)
        time.sleep(0.002)
        num_within -= 1
        return torch.ones(2)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: recorded_work.record_cuda_graph(work, device), range(8)):
            pass
    assert most == 1


@pytest.mark.parametrize("name", ["sinusoidal", "copying", "biases of distances"])
def test_weights_of_another_type_than_the_products(name):
    model, ids = build(name).float(), padded()
    model.compute_dtype = torch.bfloat16
    decoder = GraphDecoder(model, record=Records())
    states = model.init_state(ids), decoder.init_state(ids)
    tokens = torch.full((len(ids),), 1)
    with torch.inference_mode():
        for _ in range(4):
            expected, logits = (
                each.decode_step(tokens, state)
                for each, state in zip((model, decoder), states, strict=True)
            )
            assert logits.dtype == expected.dtype
            torch.testing.assert_close(logits, expected, rtol=0.1, atol=0.1)
            tokens = expected.argmax(1)


@pytest.mark.parametrize("name", ["sinusoidal", "copying", "biases of distances"])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_step_of_a_search_waits_once(name, beam):
    """For the best tokens: nothing within the step waits, and no order of beams is read."""
    on_cpu = build(name)
    config = BeamSearchConfig(beam=beam, max_length=12)
    expected = beam_search(on_cpu, padded(), config)
    of_steps = []

    class Counting(GraphDecoder):
        def decode_top(self, ids, state, k):
            gpu.waits.clear()
            top = super().decode_top(ids, state, k)
            of_steps.append(list(gpu.waits))
            gpu.waits.clear()
            return top

    with PretendedGpu() as gpu:
        decoder = Counting(build(name).to(DEVICE), record=None)
        results = beam_search(decoder, padded(), config)
        waits_between = list(gpu.waits)
    assert outputs_of(results) == outputs_of(expected)
    assert len(of_steps) >= 8
    for waits in of_steps:
        assert [wait.partition(" at ")[2].split(":")[0] for wait in waits] == [
            "generation/graphs/graph_decoder.py"
        ]
    assert waits_between == []


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("beam", [1, 3])
def test_a_step_with_rules_waits_once(rules, beam):
    """The encoder looks at the lengths of the sources before."""
    on_cpu, num_steps = build(), 0
    config = BeamSearchConfig(beam=beam, max_length=12, **RULES[rules])
    expected = beam_search(on_cpu, padded(), config)

    class Counting(GraphDecoder):
        def _step(self, *args):
            nonlocal num_steps
            num_steps += 1
            return super()._step(*args)

    with PretendedGpu() as gpu:
        decoder = Counting(build().to(DEVICE), record=None)
        gpu.waits.clear()
        results = beam_search(decoder, padded(), config)
        of_steps = [wait for wait in gpu.waits if " at models/base/text_model.py" not in wait]
    assert len(of_steps) == num_steps > 5, of_steps
    assert outputs_of(results) == outputs_of(expected)


def test_a_recording_that_fails_is_said_once_and_steps_are_computed():
    model, calls = build(), []

    def record(work, device):
        calls.append((work, device))
        raise RuntimeError("CUDA error: operation not permitted\nmore")

    config = BeamSearchConfig(beam=3, max_length=12)
    decoder = GraphDecoder(model, record=record)
    with pytest.warns(UserWarning, match="CUDA graph of them failed") as caught:
        results = beam_search(decoder, padded(), config)
    assert "operation not permitted)" in str(caught[0].message)
    assert len(caught) == len(calls) == 1
    assert outputs_of(results) == outputs_of(beam_search(model, padded(), config))


def test_rows_that_are_no_groups_are_refused():
    decoder = GraphDecoder(build(), record=None)
    state = decoder.init_state(padded())
    state.select(torch.tensor([0, 0, 1, 2, 2]))
    with pytest.raises(ShapeError, match="the same number of each"):
        decoder.decode_top(torch.tensor([1] * 5), state, 2)
    with pytest.raises(ShapeError, match="5 tokens are expected"):
        decoder.decode_top(torch.tensor([1] * 4), state, 2)


@pytest.mark.parametrize("name", ["sinusoidal", "biases of distances"])
def test_a_model_on_a_gpu_has_a_graph(name, monkeypatch):
    there = [SimpleNamespace(device=torch.device("cuda"))]
    model = build(name).float()
    monkeypatch.setattr(model, "parameters", lambda: iter(there))
    assert decoding_path(model) == "CUDA graphs, float32"


def test_a_model_on_a_cpu_has_no_graph():
    model = build()
    assert not is_repeated_as_graph(model)
    assert not isinstance(seq2seq_decoder(model), GraphDecoder)
    assert "CUDA graphs" not in decoding_path(model)
