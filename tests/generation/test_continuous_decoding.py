"""Many callers decode at once: each has what it would have alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from regard.data.batching import SpecialIds
from regard.errors import WeightsError
from regard.generation.beam_search_config import NEW_SEARCH
from regard.generation.continuous_decoding import ContinuousDecoding
from regard.generation.decoders import seq2seq_decoder
from regard.generation.graphs import GraphDecoder
from regard.generation.scheduling import decode
from regard.models import LstmConfig, LstmEncoderDecoder, Transformer, TransformerConfig

VOCAB = 40
POISON = 39  # a token that lets a step fail
GREEDY = replace(NEW_SEARCH, beam=1, max_length=12, max_length_ratio=None)
BEAM = replace(GREEDY, beam=3)


def make_model(family):
    torch.manual_seed(3)
    if family == "lstm":
        return LstmEncoderDecoder(LstmConfig(dim=16), VOCAB).eval()
    config = TransformerConfig(num_encoder_layers=1, num_decoder_layers=1, dim=16, num_heads=2)
    return Transformer(config, VOCAB).eval()


def make_sources(count, seed=0):
    rng = np.random.default_rng(seed)
    return [np.append(rng.integers(3, POISON, rng.integers(1, 9)), 2) for _ in range(count)]


class FailingDecoder:
    """A model whose encoder fails where a source has the poison."""

    def __init__(self, model):
        self.model = model

    def init_state(self, source_ids):
        if (source_ids == POISON).any():
            raise WeightsError("poison")
        return self.model.init_state(source_ids)

    def decode_step(self, ids, state):
        return self.model.decode_step(ids, state)


@pytest.mark.parametrize("path", ["compiled", "operators", "graphs"])
def test_each_caller_has_the_outputs_that_its_sources_have_alone(path):
    model = make_model("lstm" if path == "operators" else "transformer")
    is_graph = path == "graphs"  # here kernel by kernel, on the CPU
    decoder = GraphDecoder(model, record=None) if is_graph else seq2seq_decoder(model)
    sources = make_sources(24)
    settings = {"max_length": 12, "num_workers": 1}
    alone = {
        beam: decode(model, [list(map(int, source)) for source in sources], beam=beam, **settings)
        for beam in (1, 3)
    }

    def call(number):
        first, beam = number * 5 % 20, (1, 3)[number % 2]
        config = GREEDY if beam == 1 else BEAM
        outputs = decoding.decode(sources[first : first + 4], config)
        expected = alone[beam][first : first + 4]
        return [best.ids for best, *_ in outputs] == [best.ids for best in expected]

    with (
        ContinuousDecoding(decoder, SpecialIds()) as decoding,
        ThreadPoolExecutor(8) as pool,
    ):
        assert all(pool.map(call, range(40)))


class GatedDecoder:
    """A model that begins with its first source when it is allowed to."""

    def __init__(self, decoder):
        self.decoder, self.gate, self.has_begun = decoder, Event(), Event()

    def __getattr__(self, name):
        return getattr(self.decoder, name)

    def init_state(self, source_ids):
        self.has_begun.set()
        self.gate.wait()
        return self.decoder.init_state(source_ids)


def order_of_ends(decoder, calls, num_tokens=None):
    """Return in which order calls end that are all there before the first step."""
    ends = []
    with (
        ContinuousDecoding(decoder, SpecialIds(), num_workers=1, num_tokens=num_tokens) as decoding,
        ThreadPoolExecutor(len(calls)) as pool,
    ):
        for number, (name, sources, config) in enumerate(calls):
            num_waiting = len(decoding._waiting) + len(sources)
            call = pool.submit(decoding.decode, sources, config)
            call.add_done_callback(lambda _, name=name: ends.append(name))
            decoder.has_begun.wait()  # from now on the worker waits, and takes no sources
            while number and len(decoding._waiting) < num_waiting:
                sleep(0.001)
        decoder.gate.set()
    return ends


@pytest.mark.parametrize("family", ["transformer", "lstm"])
def test_a_short_output_does_not_wait_for_a_long_one_of_another_caller(family):
    decoder = GatedDecoder(seq2seq_decoder(make_model(family)))
    long = replace(GREEDY, min_length=400, max_length=400)
    calls = [
        ("long", make_sources(2), long),
        ("short", make_sources(1, seed=1), GREEDY),
    ]
    assert order_of_ends(decoder, calls) == ["short", "long"]


def test_a_caller_with_many_sources_leaves_others_their_turn():
    decoder = GatedDecoder(seq2seq_decoder(make_model("transformer")))
    calls = [("many", make_sources(100), BEAM), ("few", make_sources(2, seed=1), BEAM)]
    room = 40  # for a few sources
    assert order_of_ends(decoder, calls, room) == ["few", "many"]


def test_a_source_that_fails_takes_no_other_caller_with_it():
    decoder = FailingDecoder(make_model("lstm"))
    good, bad = make_sources(3), np.array([5, POISON, 2])

    def call(sources):
        return [best.ids for best, *_ in decoding.decode(sources, GREEDY)]

    with (
        ContinuousDecoding(decoder, SpecialIds(), num_workers=1) as decoding,
        ThreadPoolExecutor(8) as pool,
    ):
        expected = call(good)
        outcomes = [pool.submit(call, [*good, bad] if n % 2 else good) for n in range(8)]
        for number, outcome in enumerate(outcomes):
            if number % 2:
                assert isinstance(outcome.exception(), WeightsError)
            else:
                assert outcome.result() == expected


def test_what_callers_wait_for_is_finished_when_it_is_closed():
    decoding = ContinuousDecoding(seq2seq_decoder(make_model("transformer")), SpecialIds())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decoding.decode, make_sources(200), BEAM)
        while not (len(decoding._waiting) or decoding._busy):
            sleep(0.001)
        decoding.close()
        assert len(waiting.result()) == 200
    with pytest.raises(RuntimeError, match="closed"):
        decoding.decode(make_sources(1), BEAM)


def test_no_sources_have_no_outputs():
    with ContinuousDecoding(seq2seq_decoder(make_model("transformer")), SpecialIds()) as decoding:
        assert decoding.decode([], BEAM) == []
        assert decoding.is_alive


class CountingDecoder(GatedDecoder):
    """A model that pauses at its fourth step, and notes the rows of every step."""

    def __init__(self, decoder):
        super().__init__(decoder)
        self.num_rows, self.is_paused, self.goes_on = [], Event(), Event()

    def decode_step(self, ids, state):
        if len(self.num_rows) == 3:
            self.is_paused.set()
            self.goes_on.wait()
        self.num_rows.append(len(ids))
        return self.decoder.decode_step(ids, state)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_caller_who_leaves_takes_its_sources_along_and_no_others(beam):
    model, config = make_model("lstm"), replace(BEAM, beam=beam, min_length=12)
    decoder = CountingDecoder(seq2seq_decoder(model))
    sources = make_sources(6)
    rows = [list(map(int, source)) for source in sources[4:]]
    alone = decode(model, rows, beam=beam, max_length=12, min_length=12, num_workers=1)

    def leave():
        if decoder.is_paused.is_set():
            raise InterruptedError

    with (
        ContinuousDecoding(decoder, SpecialIds(), num_workers=1) as decoding,
        ThreadPoolExecutor(3) as pool,
    ):
        pool.submit(decoding.decode, sources[:1], replace(GREEDY, max_length=1))
        decoder.has_begun.wait()  # from now on the worker waits, so that both are taken together
        leaving = pool.submit(decoding.decode, sources[:4], config, leave)
        staying = pool.submit(decoding.decode, sources[4:], config, lambda: None)
        while len(decoding._waiting) < 6:
            sleep(0.001)
        decoder.gate.set()
        with pytest.raises(InterruptedError):
            leaving.result(timeout=30)
        decoder.goes_on.set()
        outputs = staying.result(timeout=30)
    assert [best.ids for best, *_ in outputs] == [best.ids for best in alone]
    assert decoder.num_rows == [1, *[6 * beam] * 3, *[2 * beam] * 9]


def test_what_waits_for_a_caller_who_left_is_not_decoded():
    decoder = GatedDecoder(seq2seq_decoder(make_model("lstm")))
    (first, *others) = make_sources(5)

    def leave():
        raise InterruptedError

    with (
        ContinuousDecoding(decoder, SpecialIds(), num_workers=1, num_tokens=1) as decoding,
        ThreadPoolExecutor(1) as pool,
    ):
        staying = pool.submit(decoding.decode, [first], GREEDY)
        decoder.has_begun.wait()
        with pytest.raises(InterruptedError):
            decoding.decode(others, GREEDY, leave)
        decoder.gate.set()
        assert len(staying.result(timeout=30)) == 1
    assert len(decoding._waiting) == 0
