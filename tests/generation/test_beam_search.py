"""Search against exhaustive enumeration on small random language models."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.batching import SpecialIds
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search import beam_search
from regard.generation.beam_search_config import BeamSearchConfig, length_normalizer

VOCAB, BOS, EOS = 5, 1, 2


class Markov:
    """A model whose next token depends on the source's first token and the last token only."""

    def __init__(self, seed, end_bias=0.0):
        generator = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(VOCAB, VOCAB, VOCAB, generator=generator)
        self.table[:, :, 0] = self.table[:, :, BOS] = -1e9
        self.table[:, :, EOS] += end_bias
        self.rows_seen = []

    def init_state(self, source_ids):
        return Rows(source_ids[:, 0] % VOCAB)

    def decode_step(self, ids, state):
        self.rows_seen.append(len(ids))
        return self.table[state.first, ids]

    def log_probability(self, first, tokens):
        table = self.table.log_softmax(-1)[first % VOCAB]
        return sum(float(table[a, b]) for a, b in itertools.pairwise([BOS, *tokens]))


class Rows:
    def __init__(self, first):
        self.first = first

    def select(self, rows):
        self.first = self.first[rows]


def outputs_of(max_length):
    for length in range(max_length):
        for tokens in itertools.product([3, 4], repeat=length):
            yield [*tokens, EOS]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), alpha=st.sampled_from([0.0, 1.0]))
def test_a_wide_beam_finds_the_best_of_all_outputs(seed, alpha):
    model = Markov(seed, end_bias=2.0)
    source = torch.tensor([[7, 2], [8, 2]])
    # Only 2 tokens go on, so a beam of 64 keeps every prefix up to 6 tokens.
    config = BeamSearchConfig(beam=64, length_penalty=alpha, max_length_ratio=0.01)
    for row, hypotheses in enumerate(beam_search(Wide(model), source, config)):
        scored = [
            (
                model.log_probability(int(source[row, 0]), out)
                / length_normalizer(len(out), alpha),
                out,
            )
            for out in outputs_of(6)
        ]
        best = max(scored)
        assert hypotheses[0].score >= best[0] - 1e-4


class Wide:
    """Gives a small vocabulary enough columns for a beam wider than it."""

    def __init__(self, model):
        self.model = model

    def init_state(self, source_ids):
        return self.model.init_state(source_ids)

    def decode_step(self, ids, state):
        logits = self.model.decode_step(ids.clamp(max=VOCAB - 1), state)
        return torch.nn.functional.pad(logits, (0, 200), value=-1e9)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_most_probable_token_each_time(seed):
    model = Markov(seed, end_bias=1.0)
    (hypothesis,) = beam_search(model, torch.tensor([[7, 2]]), BeamSearchConfig(beam=1))[0]
    last, expected = BOS, []
    while len(expected) < 14:
        last = int(model.table[7 % VOCAB, last].argmax())
        if last == EOS:
            break
        expected.append(last)
    assert hypothesis.ids == expected


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_scores_are_those_of_the_output(beam):
    model = Markov(3, end_bias=1.0)
    batch = beam_search(
        model, torch.tensor([[7, 2], [9, 2]]), BeamSearchConfig(beam=beam, num_best=beam)
    )
    for first, hypotheses in zip((7, 9), batch, strict=True):
        assert len(hypotheses) == beam
        for hypothesis in hypotheses:
            tokens = [*hypothesis.ids, EOS] if hypothesis.is_complete else hypothesis.ids
            expected = model.log_probability(first, tokens)
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-4)
            divisor = length_normalizer(len(tokens), 1.0)
            assert hypothesis.score == pytest.approx(expected / divisor, abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_batch_gives_what_each_sentence_gives_alone(beam):
    model, config = Markov(11, end_bias=1.0), BeamSearchConfig(beam=beam)
    sources = torch.tensor([[5, 2], [6, 2], [7, 2], [8, 2]])
    together = beam_search(model, sources, config)
    alone = [beam_search(model, sources[row : row + 1], config)[0] for row in range(4)]
    assert [[h.ids for h in outputs] for outputs in together] == [
        [h.ids for h in outputs] for outputs in alone
    ]


class Peaked:
    """Is sure of 3, 3, 3, end; whatever leaves that path ends at once."""

    def init_state(self, source_ids):
        return Path(torch.zeros(len(source_ids)), torch.ones(len(source_ids), dtype=torch.bool))

    def decode_step(self, ids, state):
        state.on_path &= (ids == 3) | (ids == BOS)
        best = torch.where(state.on_path & (state.length < 3), 3, EOS)
        state.length += 1
        ending = torch.full_like(best, EOS)
        one_hot = torch.nn.functional.one_hot
        return 12.0 * one_hot(best.long(), VOCAB) + 1.0 * one_hot(ending.long(), VOCAB)


class Path:
    def __init__(self, length, on_path):
        self.length, self.on_path = length, on_path

    def select(self, rows):
        self.length, self.on_path = self.length[rows], self.on_path[rows]


def test_bad_hypotheses_that_end_early_do_not_end_the_search():
    (hypothesis,) = beam_search(Peaked(), torch.tensor([[7, 2]]), BeamSearchConfig(beam=2))[0]
    assert hypothesis.ids == [3, 3, 3]


def test_finished_sentences_leave_the_batch():
    model = Markov(1, end_bias=0.5)
    beam_search(model, torch.tensor([[row, 2] for row in range(5, 25)]), BeamSearchConfig(beam=2))
    assert model.rows_seen[0] == 40
    assert model.rows_seen[-1] < 40


@pytest.mark.parametrize("beam", [1, 2])
def test_output_that_never_ends_is_cut_at_the_limit_and_says_so(beam):
    model = Markov(1, end_bias=-1e9)
    config = BeamSearchConfig(beam=beam, num_best=beam)
    (hypotheses,) = beam_search(model, torch.tensor([[7, 2]]), config)
    assert [len(hypothesis.ids) for hypothesis in hypotheses] == [14] * beam
    assert not any(hypothesis.is_complete for hypothesis in hypotheses)


def test_a_longer_list_than_the_beam_is_refused():
    with pytest.raises(ValueError, match=r"num_best must be 1 to beam \(2\), not 3"):
        BeamSearchConfig(beam=2, num_best=3)


@pytest.mark.parametrize("beam", [1, 3])
def test_forbidden_tokens_are_never_written_and_the_others_keep_their_probability(beam):
    model, source = Markov(3), torch.tensor([[7, 2]])
    config = BeamSearchConfig(beam=beam, num_best=beam, forbidden=(4,), max_length_ratio=0.01)
    (hypotheses,) = beam_search(model, source, config)
    assert hypotheses
    for hypothesis in hypotheses:
        assert set(hypothesis.ids) <= {3}
        tokens = [*hypothesis.ids, EOS] if hypothesis.is_complete else hypothesis.ids
        expected = model.log_probability(7, tokens)
        assert hypothesis.log_probability == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_no_output_is_longer_than_its_limit(beam):
    config = BeamSearchConfig(beam=beam, max_length=4)
    (hypotheses,) = beam_search(Markov(3, end_bias=-9.0), torch.tensor([[7, 3, 4, 3, 2]]), config)
    assert len(hypotheses[0].ids) == 4 or (beam > 1 and hypotheses[0].is_complete)
    (free,) = beam_search(
        Markov(3, end_bias=-9.0), torch.tensor([[7, 3, 4, 3, 2]]), BeamSearchConfig(beam=1)
    )
    assert len(free[0].ids) == 20


@pytest.mark.parametrize("beam", [1, 3])
def test_a_forced_first_token_costs_nothing_and_has_precedence_over_a_forbidden_one(beam):
    model, source = Markov(3), torch.tensor([[7, 2], [8, 2]])
    config = BeamSearchConfig(beam=beam, num_best=beam, forced_first=0, forbidden=(0,))
    for row, hypotheses in enumerate(beam_search(model, source, config)):
        for hypothesis in hypotheses:
            first, *rest = hypothesis.ids
            assert first == 0
            assert 0 not in rest
            tokens = [*rest, EOS] if hypothesis.is_complete else rest
            table = model.table.log_softmax(-1)[int(source[row, 0]) % VOCAB]
            expected = sum(float(table[a, b]) for a, b in itertools.pairwise([0, *tokens]))
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_forced_end_is_at_the_limit_of_each_row_and_costs_nothing(beam):
    model, source = Markov(3, end_bias=-1e9), torch.tensor([[7, 3, 4, 2], [8, 2, 0, 0]])
    config = BeamSearchConfig(beam=beam, num_best=beam, max_length_ratio=1.0, forces_end=True)
    for hypotheses, first, limit in zip(
        beam_search(model, source, config), (7, 8), (14, 12), strict=True
    ):
        assert len(hypotheses) == beam
        for hypothesis in hypotheses:
            assert hypothesis.is_complete
            assert len(hypothesis.ids) == limit - 1
            expected = model.log_probability(first, hypothesis.ids)
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_forced_last_token_is_at_the_limit_and_costs_nothing(beam):
    model, source = Markov(3, end_bias=-1e9), torch.tensor([[7, 3, 4, 2], [8, 2, 0, 0]])
    config = BeamSearchConfig(
        beam=beam, ranking="transformers", max_length_ratio=1.0, forced_last=0
    )
    for hypotheses, first, limit in zip(
        beam_search(model, source, config), (7, 8), (14, 12), strict=True
    ):
        for hypothesis in hypotheses:
            assert not hypothesis.is_complete
            assert len(hypothesis.ids) == limit
            assert hypothesis.ids[-1] == 0
            expected = model.log_probability(first, hypothesis.ids[:-1])
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("beam", [1, 3])
def test_no_output_ends_before_its_shortest_length_unless_its_longest_is_lower(beam):
    model, source = Markov(3, end_bias=9.0), torch.tensor([[7, 3, 4, 2]])
    for least, most, length in ((0, None, 0), (5, None, 4), (9, 3, 2)):
        config = BeamSearchConfig(beam=beam, forces_end=True, min_length=least, max_length=most)
        (hypotheses,) = beam_search(model, source, config)
        assert (len(hypotheses[0].ids), hypotheses[0].is_complete) == (length, True)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(("size", "longest"), [(1, 2), (2, 5), (3, 10)])
def test_no_output_has_tokens_in_a_row_twice(size, longest, beam):
    model, source = Markov(5, end_bias=-60.0), torch.tensor([[7, 3, 4, 2], [9, 2, 0, 0]])
    config = BeamSearchConfig(beam=beam, num_best=beam, no_repeat_size=size)
    for hypotheses in beam_search(model, source, config):
        ids = hypotheses[0].ids
        rows = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
        assert len(rows) == len(set(rows))
        assert len(ids) <= longest  # of the two tokens 3 and 4; then the end must come


@pytest.mark.parametrize("ranking", ["wu", "transformers"])
@pytest.mark.parametrize("is_renormalized", [False, True])
def test_there_are_fewer_hypotheses_where_constraints_allow_no_more(ranking, is_renormalized):
    config = BeamSearchConfig(
        beam=4,
        num_best=4,
        max_length=2,
        forced_first=3,
        forbidden=(0, BOS, 4),
        ranking=ranking,
        is_renormalized=is_renormalized,
    )
    (hypotheses,) = beam_search(Markov(0), torch.tensor([[7, 2]]), config)
    assert sorted(hypothesis.ids for hypothesis in hypotheses) == [[3], [3, 3]]
    assert all(torch.tensor(hypothesis.score).isfinite() for hypothesis in hypotheses)


@pytest.mark.parametrize("ranking", ["wu", "transformers"])
@pytest.mark.parametrize("is_renormalized", [False, True])
@pytest.mark.parametrize("beam", [1, 3])
def test_an_output_without_an_allowed_token_ends_incomplete(beam, is_renormalized, ranking):
    """Each of two tokens may be written once, and the end is not allowed before the tenth."""
    model, source = Markov(0), torch.tensor([[7, 2], [8, 2]])
    config = BeamSearchConfig(
        beam=beam,
        num_best=beam,
        no_repeat_size=1,
        min_length=10,
        forbidden=(0, BOS),
        ranking=ranking,
        is_renormalized=is_renormalized,
    )
    for row, hypotheses in enumerate(beam_search(model, source, config)):
        outputs = [hypothesis.ids for hypothesis in hypotheses]
        assert sorted(outputs) == [[3, 4], [4, 3]] if beam > 1 else outputs in ([[3, 4]], [[4, 3]])
        assert not any(hypothesis.is_complete for hypothesis in hypotheses)
        for hypothesis in hypotheses:
            if is_renormalized:
                assert -torch.inf < hypothesis.log_probability <= 0
            else:
                wanted = model.log_probability(int(source[row, 0]), hypothesis.ids)
                assert hypothesis.log_probability == pytest.approx(wanted, abs=1e-5)


def test_outputs_that_end_come_before_those_that_found_no_token():
    config = BeamSearchConfig(beam=3, num_best=3, no_repeat_size=1, min_length=2, forbidden=(0, 1))
    (hypotheses,) = beam_search(Markov(0), torch.tensor([[7, 2]]), config)
    assert [len(hypothesis.ids) for hypothesis in hypotheses if hypothesis.is_complete] != []
    assert all(torch.tensor(hypothesis.score).isfinite() for hypothesis in hypotheses)


@pytest.mark.parametrize("beam", [1, 2])
def test_a_search_that_may_write_nothing_is_refused(beam):
    config = BeamSearchConfig(beam=beam, forbidden=tuple(range(VOCAB)))
    with pytest.raises(ConfigError, match="`forbidden` names all 5 tokens, so that nothing can be"):
        beam_search(Markov(0), torch.tensor([[7, 2]]), config)


@pytest.mark.parametrize("beam", [1, 2])
def test_a_model_that_gives_nan_is_refused(beam):
    model = Markov(0)
    model.table[:, 3:] = torch.nan
    with pytest.raises(WeightsError, match="the model gives NaN for the next token"):
        beam_search(model, torch.tensor([[7, 2]]), BeamSearchConfig(beam=beam))


def test_padding_that_is_not_0_does_not_count():
    ids = SpecialIds(pad=9, start=BOS, end=EOS)
    config = BeamSearchConfig(beam=1, max_length_ratio=1.0)
    source = torch.tensor([[7, 0, 9, 9, 9]])
    (hypotheses,) = beam_search(Markov(3, end_bias=-50.0), source, config, ids)
    assert len(hypotheses[0].ids) == 2 + 10


def test_a_ratio_beyond_all_lengths_sets_no_limit():
    config = BeamSearchConfig(beam=1, max_length_ratio=1e38, max_length=30)
    (hypotheses,) = beam_search(Markov(3, end_bias=-50.0), torch.tensor([[7, 2]]), config)
    assert len(hypotheses[0].ids) == 30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length must be 1 or more, not 0"),
        ({"forbidden": (3, -1)}, "forbidden: ids must be 0 or more, not -1"),
        ({"forced_first": -1}, "forced_first must be 0 or more, not -1"),
        (
            {"forces_end": True, "forced_last": 3},
            "forces_end and forced_last: one token can be the last; set one",
        ),
        ({"min_length": -1}, "min_length must be 0 or more, not -1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, not 0.0"),
        (
            {"max_length_ratio": None},
            "max_length and max_length_ratio: one of the two must set a limit",
        ),
        ({"no_repeat_size": -2}, "no_repeat_size must be 0 or more, not -2"),
    ],
)
def test_limits_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        BeamSearchConfig(**settings)
    assert str(caught.value) == message
