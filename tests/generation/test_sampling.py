"""Sampling: the tokens that may be drawn, their frequency, the cache, and rules of repetition."""

from __future__ import annotations

import pytest
import torch

from regard.errors import ConfigError, WeightsError
from regard.generation.sampling import SamplingConfig, next_probabilities, sample

LOGITS = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]]).log()
LOGITS_OF_RULES = torch.tensor([[0.1, 3.0, 2.5, -0.5, 1.0]])


class Counting:
    """Predicts the sum of all tokens read, modulo ten."""

    def init_state(self):
        return Sums()

    def decode_step(self, ids, state):
        state.sums = ids.sum(1) if state.sums is None else state.sums + ids.sum(1)
        return torch.nn.functional.one_hot(state.sums % 10, 10) * 50.0


class Sums:
    sums = None

    def select(self, rows):
        self.sums = self.sums.index_select(0, rows)


def test_without_limits_the_model_is_sampled_as_it_is():
    probabilities = next_probabilities(LOGITS, SamplingConfig())
    torch.testing.assert_close(probabilities, LOGITS.exp())


def test_temperature_sharpens():
    probabilities = next_probabilities(LOGITS, SamplingConfig(temperature=0.5))
    torch.testing.assert_close(probabilities, (2 * LOGITS).softmax(-1))


def test_temperature_zero_takes_the_best():
    probabilities = next_probabilities(LOGITS, SamplingConfig(temperature=0))
    assert probabilities.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_forbidden_has_no_probability(temperature):
    probabilities = next_probabilities(
        LOGITS, SamplingConfig(temperature=temperature, forbidden=(0, 3))
    )
    assert (probabilities[:, [0, 3]] == 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


def test_top_k_keeps_the_k_most_probable_tokens():
    probabilities = next_probabilities(LOGITS, SamplingConfig(top_k=2))
    torch.testing.assert_close(probabilities[0], torch.tensor([4 / 7, 3 / 7, 0, 0]))


def test_top_p_keeps_the_fewest_that_reach_it():
    probabilities = next_probabilities(LOGITS, SamplingConfig(top_p=0.65))
    torch.testing.assert_close(probabilities[0], torch.tensor([4 / 7, 3 / 7, 0, 0]))
    torch.testing.assert_close(probabilities[1], torch.tensor([0.0, 0, 0, 1]))


def test_top_p_is_of_what_top_k_leaves():
    """Of 4/7 and 3/7 the first alone reaches 0.57; of 0.4 and 0.3 both would be needed."""
    probabilities = next_probabilities(LOGITS[:1], SamplingConfig(top_k=2, top_p=0.57))
    assert probabilities.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize(("vocab", "spread"), [(10, 1), (64, 0), (65, 9), (600, 4), (5000, 0.3)])
@pytest.mark.parametrize("top_k", [0, 1, 63, 64, 4000])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.97, 1.0])
def test_limits_keep_the_first_tokens_of_a_sorted_vocabulary(vocab, spread, top_k, top_p):
    """Also among equal logits, of which bfloat16 has many, and above 64 and 512 tokens."""
    logits = torch.randn(3, vocab, generator=torch.Generator().manual_seed(vocab)) * spread
    logits[1] = logits[1].bfloat16()
    logits[2, ::3] = -torch.inf
    expected = torch.zeros_like(logits, dtype=torch.float64)
    for row, values in zip(expected, logits.double(), strict=True):
        ordered, tokens = values.sort(descending=True, stable=True)
        ordered = ordered[: top_k or vocab]
        probabilities = ordered.softmax(0)
        is_kept = probabilities.cumsum(0) - probabilities < top_p
        row[tokens[: len(ordered)]] = ordered.masked_fill(~is_kept, -torch.inf).softmax(0)
    probabilities = next_probabilities(logits, SamplingConfig(top_k=top_k, top_p=top_p))
    torch.testing.assert_close(probabilities.double(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_vocabulary_that_is_forbidden_whole_is_refused(temperature):
    config = SamplingConfig(temperature=temperature, forbidden=(3, 2, 1, 0, 9))
    with pytest.raises(ConfigError, match="`forbidden` names all 4 tokens, so that nothing can be"):
        next_probabilities(LOGITS, config)


def test_the_coldest_temperature_is_as_good_as_certain():
    probabilities = next_probabilities(LOGITS, SamplingConfig(temperature=1e-4))
    assert probabilities.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("largest", [3e38, -3e38])
def test_logits_of_any_size_give_probabilities_at_any_temperature(largest):
    logits = torch.tensor([[largest, largest, -torch.inf]])
    for temperature in (1e-4, 1.0, 1e4):
        probabilities = next_probabilities(logits, SamplingConfig(temperature=temperature))
        assert probabilities.tolist() == [[0.5, 0.5, 0.0]]


def test_continuations_do_not_depend_on_how_many_there_are():
    def draw(num):
        generator = torch.Generator().manual_seed(1)
        config = SamplingConfig(temperature=30.0, max_tokens=20)
        steps = sample(Counting(), [1], config, num=num, generator=generator)
        rows = torch.stack([drawn.tokens for drawn in steps], dim=1).tolist()
        return rows, generator.get_state()

    (one, state), (three, _), (five, last_state) = draw(1), draw(3), draw(5)
    assert three == five[:3]
    assert one == five[:1]
    assert len({tuple(row) for row in five}) == 5
    assert torch.equal(state, last_state)


def test_no_continuations_are_refused():
    with pytest.raises(ConfigError, match="num must be 1 or more, not 0"):
        next(sample(Counting(), [1], SamplingConfig(), num=0))


@pytest.mark.slow
def test_draws_are_as_frequent_as_the_model_says():
    generator = torch.Generator().manual_seed(1)

    class Fixed(Counting):
        def decode_step(self, ids, state):
            super().decode_step(ids, state)
            return LOGITS[:1].expand(len(ids), -1)

    tokens, _ = next(sample(Fixed(), [1], SamplingConfig(), num=20_000, generator=generator))
    frequencies = torch.bincount(tokens, minlength=4) / 20_000
    torch.testing.assert_close(frequencies, LOGITS[0].exp(), rtol=0, atol=0.015)  # four deviations


def test_every_token_written_is_read():
    batches = sample(Counting(), [1, 2], SamplingConfig(temperature=0, max_tokens=4), num=2)
    assert [drawn.tokens.tolist() for drawn in batches] == [[3, 3], [6, 6], [2, 2], [4, 4]]


def test_the_same_seed_draws_the_same():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        config = SamplingConfig(temperature=30.0, max_tokens=20)
        steps = sample(Counting(), [1], config, generator=generator)
        return [drawn.tokens.tolist() for drawn in steps]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more, not -1.0"),
        ({"top_k": -1}, "top_k must be 0 or more, not -1"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more, not 0"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**changes)


class Fixed:
    """Writes from the same logits after any text."""

    def init_state(self):
        return self

    def select(self, rows):
        pass

    def decode_step(self, ids, state):
        return LOGITS_OF_RULES.expand(len(ids), -1)


def write(prompt=(0,), ends=(), **changes) -> list[int]:
    config = SamplingConfig(**{"temperature": 0, "max_tokens": 4} | changes)
    return [int(drawn.tokens) for drawn in sample(Fixed(), list(prompt), config, ends=ends)]


def test_a_penalty_counts_for_the_tokens_of_prompt_and_output():
    assert write() == [1, 1, 1, 1]
    assert write(repetition_penalty=2.0) == [1, 2, 1, 1]  # 1.5 and 1.25 are above 1.0
    assert write(prompt=(1, 2), repetition_penalty=4.0) == [4, 1, 1, 1]


def test_no_ngram_comes_twice():
    assert write(no_repeat_size=1, max_tokens=3) == [1, 2, 4]
    assert write(no_repeat_size=2) == [1, 1, 2, 1]
    assert write(prompt=(1,), no_repeat_size=9) == [1, 1, 1, 1]


def test_an_end_waits_for_the_fewest_tokens():
    assert write(ends=(1,), min_tokens=3) == [2, 2, 1, 1]
    assert write(ends=(1,)) == [1, 1, 1, 1]


@pytest.mark.parametrize(("max_length", "num"), [(3, 2), (2, 1), (1, 0), (None, 4)])
def test_the_most_tokens_may_count_those_of_the_prompt(max_length, num):
    assert len(write(max_length=max_length)) == num
    assert SamplingConfig(max_tokens=4, max_length=max_length).limit(1) == num


@pytest.mark.parametrize(
    "changes",
    [
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("inf")},
        {"min_tokens": -1},
        {"no_repeat_size": -1},
        {"max_length": 0},
        {"forbidden": (-1,)},
    ],
)
def test_a_rule_out_of_its_range_is_refused_by_its_name(changes):
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}"):
        SamplingConfig(**changes)


def test_rules_that_leave_no_token_say_so():
    with pytest.raises(ConfigError, match="no token is left for position 5"):
        write(no_repeat_size=1, max_tokens=9, prompt=(0,))


def test_forbidden_tokens_count_among_those_that_the_rules_leave():
    with pytest.raises(ConfigError, match="no token is left for position 4"):
        write(no_repeat_size=1, max_tokens=9, prompt=(0,), forbidden=(3,))


def test_a_text_that_has_ended_needs_no_token():
    assert write(ends=(1,), no_repeat_size=1, max_tokens=7)[:1] == [1]


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
def test_a_model_that_gives_no_probabilities_is_refused(factor, temperature):
    class Broken(Fixed):
        def decode_step(self, ids, state):
            return LOGITS_OF_RULES.expand(len(ids), -1) * factor

    with pytest.raises(WeightsError, match="the model gives NaN for the next token"):
        next(sample(Broken(), [0], SamplingConfig(temperature=temperature)))
