"""Many callers continue texts at once: each has the tokens that it would have alone."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep

import pytest
import torch

from regard.errors import ConfigError, WeightsError
from regard.generation.continuous_sampling import ContinuousSampling
from regard.generation.decoders import causal_decoder
from regard.generation.graphs import GraphCausalDecoder
from regard.generation.sampling import SamplingConfig, sample
from regard.models import Gpt, GptConfig, MesaNet, MesaNetConfig

VOCAB = 30
SIZES = {"num_layers": 2, "dim": 16, "num_heads": 2, "hidden_dim": 24}


def make_model(family):
    torch.manual_seed(5)
    if family == "mesanet":  # through PyTorch's operators
        return MesaNet(MesaNetConfig(**SIZES), VOCAB).eval()
    model = Gpt(GptConfig(**SIZES), VOCAB).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make_prompt(length, seed=0):
    return torch.randint(3, VOCAB, (length,), generator=seeded(seed)).tolist()


CALLS = [
    (make_prompt(length, seed), SamplingConfig(max_tokens=tokens, top_k=top_k), num)
    for seed, (length, tokens, top_k, num) in enumerate(
        [(3, 9, 0, 1), (12, 4, 5, 2), (1, 15, 5, 1), (30, 6, 0, 3), (7, 1, 0, 1), (2, 12, 8, 1)]
    )
]


@pytest.mark.parametrize("path", ["compiled", "operators", "graphs"])
def test_each_caller_has_the_tokens_that_it_has_alone(path):
    model = make_model("mesanet" if path == "operators" else "gpt")
    is_graph = path == "graphs"  # here kernel by kernel, on the CPU
    decoder = GraphCausalDecoder(model, record=None) if is_graph else causal_decoder(model)

    def call(continue_prompt, seed):
        prompt, config, num = CALLS[seed]
        return [
            (drawn.tokens.tolist(), drawn.log_probabilities.tolist())
            for drawn in continue_prompt(prompt, config, num=num, generator=seeded(seed))
        ]

    def alone(*arguments, **options):
        return sample(decoder, *arguments, **options)

    expected = [call(alone, seed) for seed in range(len(CALLS))]
    with ContinuousSampling(decoder) as sampling, ThreadPoolExecutor(len(CALLS)) as pool:
        for _ in range(3):
            waiting = [pool.submit(call, sampling.sample, seed) for seed in range(len(CALLS))]
            assert [each.result() for each in waiting] == expected
        assert sampling.is_alive


def test_a_prompt_of_several_pieces_is_read_whole():
    decoder = causal_decoder(make_model("gpt"))
    prompt, config = make_prompt(600), SamplingConfig(max_tokens=5, temperature=0)
    expected = [drawn.tokens.tolist() for drawn in sample(decoder, prompt, config)]
    with ContinuousSampling(decoder) as sampling:
        assert [drawn.tokens.tolist() for drawn in sampling.sample(prompt, config)] == expected


class WatchedDecoder:
    """A model that counts its steps, begins when it may, and fails at a token."""

    def __init__(self, decoder, poison=-1):
        self.decoder, self.poison, self.rows = decoder, poison, []
        self.waits, self.gate = Event(), Event()

    def init_state(self):
        return self.decoder.init_state()

    def join(self, state, other):
        self.decoder.join(state, other)

    def decode_step(self, ids, state):
        self.waits.set()
        self.gate.wait()
        self.rows.append(len(ids))
        if (ids == self.poison).any():
            raise WeightsError("poison")
        return self.decoder.decode_step(ids, state)


def test_texts_of_several_callers_are_one_batch_and_leave_it_when_they_end():
    decoder = WatchedDecoder(causal_decoder(make_model("gpt")))
    with ContinuousSampling(decoder) as sampling, ThreadPoolExecutor(2) as pool:
        waiting = []
        for tokens in (8, 20):
            config = SamplingConfig(max_tokens=tokens)
            waiting.append(pool.submit(list, sampling.sample([4, 5], config)))
            decoder.waits.wait()
        while not sampling._new:
            sleep(0.001)
        decoder.gate.set()
        assert [len(each.result()) for each in waiting] == [8, 20]
    assert max(decoder.rows) == 2
    assert decoder.rows[-1] == 1
    assert len(decoder.rows) < 8 + 20


def test_a_caller_that_leaves_is_no_longer_computed():
    decoder = WatchedDecoder(causal_decoder(make_model("gpt")))
    decoder.gate.set()
    with ContinuousSampling(decoder) as sampling:
        tokens = sampling.sample([4, 5], SamplingConfig(max_tokens=100_000))
        assert len(list(itertools.islice(tokens, 5))) == 5
        tokens.close()
    assert len(decoder.rows) < 100_000


def test_a_text_ends_with_the_token_that_ends_it():
    decoder = causal_decoder(make_model("gpt"))
    config = SamplingConfig(max_tokens=200)
    with ContinuousSampling(decoder) as sampling:
        *before, last = (
            int(drawn.tokens)
            for drawn in sampling.sample([4, 5], config, ends=[7, 9], generator=seeded(1))
        )
    assert last in (7, 9)
    assert not {7, 9} & set(before)


def test_rules_that_leave_no_token_fail_their_caller_alone():
    decoder = causal_decoder(make_model("gpt"))
    impossible = SamplingConfig(max_tokens=60, no_repeat_size=1)  # more than there are tokens
    with ContinuousSampling(decoder) as sampling, ThreadPoolExecutor(2) as pool:
        other = pool.submit(list, sampling.sample([4], SamplingConfig(max_tokens=80)))
        with pytest.raises(ConfigError, match="no token is left"):
            list(sampling.sample([4, 5], impossible))
        assert len(other.result()) == 80


def test_a_prompt_that_fails_leaves_the_others():
    decoder = WatchedDecoder(causal_decoder(make_model("gpt")), poison=3)
    decoder.gate.set()
    config = SamplingConfig(max_tokens=4, temperature=0)
    with ContinuousSampling(decoder) as sampling:
        with pytest.raises(WeightsError, match="poison"):
            list(sampling.sample([4, 3], config))
        assert len(list(sampling.sample([4, 5], config))) == 4


def test_what_callers_wait_for_is_finished_when_it_is_closed():
    sampling = ContinuousSampling(causal_decoder(make_model("gpt")))
    tokens = sampling.sample([4], SamplingConfig(max_tokens=50))
    next(tokens)
    sampling.close()
    assert len(list(tokens)) == 49
    with pytest.raises(RuntimeError, match="closed"):
        next(sampling.sample([4], SamplingConfig()))
