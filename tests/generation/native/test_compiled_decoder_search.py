"""Searches that the compiled decoder takes many steps of in one call."""

import pytest
import torch
from tests.generation.native.test_compiled_decoder import sources, translator

from regard.data.batching import SpecialIds
from regard.errors import WeightsError
from regard.generation.beam_search import beam_search, make_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.native import NativeDecoder, library

pytestmark = pytest.mark.skipif(
    library.load_fastest() is None, reason="the decoder was not compiled"
)


class StepByStep:
    """A compiled decoder of which every step of a search is a call."""

    def __init__(self, decoder):
        self._decoder, self.vocab_size = decoder, decoder.vocab_size
        self.init_state, self.decode_step = decoder.init_state, decoder.decode_step
        self.decode_top, self.add_sources = decoder.decode_top, decoder.add_sources
        self.batch_factor = decoder.batch_factor


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beam": 2, "length_penalty": 0.4},
        {"beam": 5, "num_best": 3},
        {"ranking": "transformers", "max_length": 9, "max_length_ratio": None},
        {"ranking": "transformers", "stopping": "likely"},
        {"stopping": "likely", "length_penalty": 0.6, "num_best": 2},
        {"ranking": "transformers", "stopping": "first", "length_penalty": 1.3},
        {"ranking": "transformers", "length_penalty": 0.0},
        {"ranking": "transformers", "length_penalty": -0.5, "num_best": 4},
        {"min_length": 7},
        {"beam": 1},
        {"beam": 1, "min_length": 6, "max_length": 9},
        {"has_copy": True},
    ],
)
def test_steps_of_a_search_in_one_call_give_the_bits_of_single_steps(changes, precision):
    settings = {key: value for key, value in changes.items() if key == "has_copy"}
    rules = {key: value for key, value in changes.items() if key != "has_copy"}
    model = translator(settings, vocab=40)
    with torch.no_grad():
        model.output_weight *= 4  # so that outputs end at different lengths
    decoder = NativeDecoder(model, precision=precision)
    config = BeamSearchConfig(**{"beam": 4, **rules})
    ids = SpecialIds(end=3)
    assert make_search(decoder, config, ids, print).searching_decoder is decoder
    lengths = set()
    for batch, seed in ((1, 1), (7, 2), (40, 3)):
        torch.manual_seed(seed)
        source = sources(batch, 12, model.vocab_size)
        at_once = beam_search(decoder, source, config, ids)
        assert at_once == beam_search(StepByStep(decoder), source, config, ids)
        lengths |= {len(best.ids) for best, *_ in at_once}
    assert len(lengths) > 3 or lengths == {config.max_length}


def test_a_search_joins_sentences_and_makes_room_for_long_outputs():
    model = translator({}, vocab=40)
    decoder = NativeDecoder(model)
    config = BeamSearchConfig(beam=3, max_length=70, max_length_ratio=None, length_penalty=2.0)
    results = []
    for searched in (decoder, StepByStep(decoder)):
        torch.manual_seed(4)
        outputs: dict[int, object] = {}
        search = make_search(searched, config, SpecialIds(end=39), outputs.__setitem__)
        search.add(sources(3, 9, model.vocab_size), [0, 1, 2])
        search.advance()
        search.add(sources(2, 5, model.vocab_size), [3, 4])
        while search.num_sentences:
            search.advance()
        results.append(outputs)
    assert results[0] == results[1]
    assert max(len(best.ids) for best, *_ in results[0].values()) > 32


def test_a_search_refuses_a_model_that_gives_no_numbers():
    model = translator({}, vocab=40)
    with torch.no_grad():
        model.output_weight[7] = torch.nan
    with pytest.raises(WeightsError, match="gives NaN for the next token"):
        beam_search(NativeDecoder(model), sources(2, 5, 40), BeamSearchConfig(), SpecialIds(end=3))


@pytest.mark.parametrize("beam", [1, 4])
def test_tokens_without_a_probability_take_no_place_of_others(beam):
    model = translator({"has_output_bias": True}, vocab=40)
    with torch.no_grad():
        model.output_bias[:, [token not in (0, 5, 6) for token in range(40)]] = -torch.inf
    decoder = NativeDecoder(model)
    config = BeamSearchConfig(beam=beam, min_length=6, num_best=beam)
    ids, source = SpecialIds(end=0), sources(3, 9, model.vocab_size)
    outputs = beam_search(decoder, source, config, ids)
    assert outputs == beam_search(StepByStep(decoder), source, config, ids)
    for best, *_ in outputs:
        assert len(best.ids) >= 5
        assert set(best.ids) <= {5, 6}
