"""Rules of sampling about the tokens so far: repetition, the fewest and the most tokens."""

from __future__ import annotations

import pytest
import torch

from regard.errors import ConfigError, WeightsError
from regard.generation.sampling import SamplingConfig, sample

LOGITS = torch.tensor([[0.1, 3.0, 2.5, -0.5, 1.0]])


class Fixed:
    """Writes from the same logits after any text."""

    def init_state(self):
        return self

    def select(self, rows):
        pass

    def decode_step(self, ids, state):
        return LOGITS.expand(len(ids), -1)


def write(prompt=(0,), ends=(), **changes) -> list[int]:
    config = SamplingConfig(**{"temperature": 0, "max_tokens": 4} | changes)
    return [int(tokens[0]) for tokens in sample(Fixed(), list(prompt), config, ends=ends)]


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


def test_a_model_that_gives_nan_is_refused():
    class Broken(Fixed):
        def decode_step(self, ids, state):
            return LOGITS.expand(len(ids), -1) * torch.nan

    with pytest.raises(WeightsError, match="the model gives NaN for the next token"):
        next(sample(Broken(), [0], SamplingConfig()))
