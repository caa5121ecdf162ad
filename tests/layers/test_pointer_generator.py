"""The copy mechanism against a naive mixture over the vocabulary, in float64."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from regard.layers import cross_entropy
from regard.layers.cross_entropy import linear_cross_entropy, mixture_cross_entropy
from regard.layers.layer import count_flops
from regard.layers.pointer_generator import CopyDistribution, PointerGenerator

VOCAB, DIM = 11, 6
START = 1
SOURCE = torch.tensor([[5, 7, 5, 2, 9], [4, 2, 0, 0, 0], [0, 0, 0, 0, 0]])
LENGTHS = torch.tensor([5, 2, 0])
INPUTS = torch.tensor([[START, 5, 9], [START, 4, 0], [START, 0, 5]])  # the labels, moved by one
LABELS = torch.tensor([[5, 9, 3], [4, 0, 2], [0, 5, 2]])  # some are not in their source


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def build() -> PointerGenerator:
    torch.manual_seed(0)
    return PointerGenerator(DIM, VOCAB, START).double()


def distribution(head: PointerGenerator | None = None, *, scale: float = 1.0) -> CopyDistribution:
    head = head or build()
    states, hidden, embedded = (draw(3, n, DIM, seed=n) for n in (5, 3, 3))
    return head(scale * hidden, embedded, INPUTS, head.read(SOURCE, scale * states), LENGTHS)


def naive(copies: CopyDistribution, logits: Tensor) -> Tensor:
    """Add the probabilities one by one, ``[batch, length, vocab]``."""
    generated = copies.log_generate.exp()[..., None] * logits.softmax(-1)
    rows = []
    for row, length in enumerate(LENGTHS.tolist()):
        copied = torch.zeros(3, VOCAB, dtype=torch.float64)
        for index in range(length):
            weight = copies.log_copy[row].exp() * copies.log_attention[row, :, index].exp()
            copied = copied + weight[:, None] * (torch.arange(VOCAB) == SOURCE[row, index])
        rows.append(generated[row] + copied)
    return torch.stack(rows)


def test_the_mixture_is_that_of_a_naive_sum_and_sums_to_one():
    copies, logits = distribution(), draw(3, 3, VOCAB, seed=9)
    mixed = copies.mix(logits)
    torch.testing.assert_close(mixed.exp(), naive(copies, logits), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(mixed.logsumexp(-1), torch.zeros(3, 3).double(), rtol=0, atol=1e-12)


def test_attention_is_that_of_the_formula_and_leaves_padding_out():
    head = build()
    states, hidden = draw(3, 5, DIM, seed=5), draw(3, 3, DIM, seed=3)
    attention = distribution(head).log_attention.detach().exp()
    for row, length in enumerate((5, 2)):
        scores = head.query(hidden[row]) @ head.key(states[row, :length]).T / DIM**0.5
        before = torch.tensor([START, *SOURCE[row, : length - 1]])
        scores = scores + head.continuation * (before == INPUTS[row, :, None])
        torch.testing.assert_close(attention[row, :, :length], scores.softmax(-1))
        assert attention[row, :, length:].sum().item() == 0


def test_positions_that_continue_the_token_written_last_have_a_bonus():
    head = build()
    torch.nn.init.zeros_(head.query.weight)  # all scores are 0, but for the bonus
    attention = distribution(head).log_attention.detach().exp()
    bonus = float(head.continuation.detach().exp())
    beginning = torch.tensor([bonus, 1.0, 1.0, 1.0, 1.0]).double() / (4 + bonus)
    torch.testing.assert_close(attention[0, 0], beginning)  # nothing is written yet
    after_five = torch.tensor([1.0, bonus, 1.0, bonus, 1.0]).double() / (3 + 2 * bonus)
    torch.testing.assert_close(attention[0, 1], after_five)
    torch.testing.assert_close(attention[0, 2], torch.full((5,), 0.2).double())  # 9 is the last


def test_positions_that_continue_in_part_have_that_part_of_the_bonus():
    head, states, hidden = build(), draw(1, 3, DIM, seed=5), draw(1, 2, DIM, seed=3)
    source, ids = head.read(torch.tensor([[5, 7, 5]]), states), torch.tensor([[START, 5]])
    continues = torch.tensor([[[1, 0, 0], [0, 1, 0]]]).double()
    compared = head(hidden, hidden, ids, source)
    torch.testing.assert_close(
        head(hidden, hidden, ids, source, continues=continues).log_attention,
        compared.log_attention,
    )
    half = head(hidden, hidden, ids, source, continues=0.5 * continues).log_attention
    difference = (compared.log_attention - half)[0]
    bonus = (difference[0, 0] - difference[0, 1]).detach()
    torch.testing.assert_close(bonus, 0.5 * head.continuation[0].detach())


def test_a_source_without_tokens_has_nothing_to_copy():
    copies, logits = distribution(), draw(3, 3, VOCAB, seed=9)
    assert copies.log_generate[2].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(copies.mix(logits)[2], logits[2].log_softmax(-1))


def test_the_probability_of_copying_a_label_adds_all_its_positions():
    copies = distribution()
    attention = copies.log_attention.exp()
    both = copies.log_copy[0, 0].exp() * (attention[0, 0, 0] + attention[0, 0, 2])
    probabilities = copies.log_copied(LABELS).exp()
    torch.testing.assert_close(probabilities[0, 0], both)  # token 5 is at 0 and at 2
    is_in_source = [[True, True, False], [True, False, True], [False] * 3]
    assert (probabilities > 0).tolist() == is_in_source


def test_a_label_that_float32_cannot_hold_keeps_its_logarithm():
    attention = torch.tensor([[[0.0, -200.0]]])
    copies = CopyDistribution(
        torch.tensor([[3, 4]]), attention, torch.tensor([[-300.0]]), torch.tensor([[0.0]])
    )
    mixed = copies.mix(torch.zeros(1, 1, VOCAB))
    assert mixed[0, 0, 4].item() == -200.0
    assert copies.log_copied(torch.tensor([[4]])).item() == -200.0


def test_coverage_is_the_attention_that_returns():
    once = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]]).clamp_min(1e-30).log()
    again = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0.25, 0.5, 0.25]]]).clamp_min(1e-30).log()
    zeros = torch.zeros(1, 3)
    losses = [
        CopyDistribution(SOURCE[:1, :3], attention, zeros, zeros).coverage_losses()
        for attention in (once, again)
    ]
    assert losses[0].round(decimals=6).tolist() == [[0.0, 0.0, 0.0]]
    assert losses[1].round(decimals=6).tolist() == [[0.0, 0.0, 0.75]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradients_are_those_of_the_naive_mixture(smoothing, monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", 2 * VOCAB)  # chunks of two rows
    head, hidden = build(), draw(3, 3, DIM, seed=3).requires_grad_()
    weight = draw(VOCAB, DIM, seed=8).requires_grad_()
    inputs = [hidden, weight, *head.parameters()]
    source, embedded = draw(3, 5, DIM, seed=5), draw(3, 3, DIM, seed=4)

    def loss(*, is_naive: bool) -> tuple[Tensor, Tensor]:
        copies, labels = (
            head(hidden, embedded, INPUTS, head.read(SOURCE, source), LENGTHS),
            LABELS.flatten(),
        )
        if not is_naive:
            rows, log_copied = hidden.flatten(0, 1), copies.log_copied(LABELS).flatten()
            parts = (copies.log_generate.flatten(), log_copied)
            return mixture_cross_entropy(rows, weight, labels, *parts, label_smoothing=smoothing)
        logits = hidden @ weight.T
        plain = -naive(copies, logits).log().gather(-1, LABELS[..., None]).mean()
        uniform = -logits.log_softmax(-1).mean()
        return (1 - smoothing) * plain + smoothing * uniform, plain

    (ours, our_nll), (wanted, wanted_nll) = loss(is_naive=False), loss(is_naive=True)
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(our_nll, wanted_nll.detach(), rtol=1e-12, atol=0)
    for found, expected in zip(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(wanted, inputs), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_derivatives_of_the_loss_pass_the_checks(smoothing):
    rows, labels = draw(4, DIM), torch.tensor([3, 3, 0, 10])
    inputs = (rows, draw(VOCAB, DIM, seed=1), draw(4, seed=2), draw(4, seed=3))
    inputs = tuple(tensor.requires_grad_() for tensor in inputs)

    def run(hidden: Tensor, weight: Tensor, generate: Tensor, copied: Tensor) -> Tensor:
        parts = (generate, copied)
        return mixture_cross_entropy(hidden, weight, labels, *parts, label_smoothing=smoothing)[0]

    assert gradcheck(run, inputs, check_forward_ad=True)
    assert gradgradcheck(run, inputs)


def test_derivatives_of_the_mixture_pass_the_checks():
    head = build()
    inputs = (draw(3, 1, DIM, seed=3), draw(3, 5, DIM, seed=5), draw(3, 1, VOCAB, seed=9))
    inputs = tuple(tensor.requires_grad_() for tensor in inputs)

    def run(hidden: Tensor, states: Tensor, logits: Tensor) -> Tensor:
        return head(hidden, hidden, INPUTS[:, :1], head.read(SOURCE, states), LENGTHS).mix(logits)

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs, fast_mode=True)


def test_without_copies_the_loss_is_the_plain_one():
    rows, weight, labels = draw(4, DIM), draw(VOCAB, DIM, seed=1), torch.tensor([3, 3, 0, 10])
    zeros = torch.zeros(4).double()
    mixed = mixture_cross_entropy(rows, weight, labels, zeros, zeros - 1e30, label_smoothing=0.1)
    plain = linear_cross_entropy(rows, weight, labels, label_smoothing=0.1)
    assert [float(value) for value in mixed] == [float(value) for value in plain]


def test_bfloat16_states_have_float32_probabilities():
    head = build().float()
    hidden, states = (draw(3, n, DIM, seed=n).bfloat16() for n in (3, 5))
    copies = head(hidden, hidden, INPUTS, head.read(SOURCE, states), LENGTHS)
    mixed = copies.mix(draw(3, 3, VOCAB).bfloat16())
    assert mixed.dtype == copies.log_attention.dtype == torch.float32
    torch.testing.assert_close(mixed.logsumexp(-1), torch.zeros(3, 3), rtol=0, atol=1e-6)


def test_operations_are_those_of_the_maps_scores_and_contexts():
    head = PointerGenerator(8, 50, START)
    assert count_flops(head, 10) == 2 * 10 * (8 * 8 + 8 * 8 + 3 * 8) + 2 * 2 * 8 * 10 * 10
