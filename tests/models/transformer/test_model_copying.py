"""The Transformer that copies tokens of the source: its mixture, loss, search and refusals."""

from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace
from tests.models.whole_and_stepwise import assert_decodes_as_it_reads

from regard.attention import Full
from regard.data.batching import Batch
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError
from regard.generation.beam_search import beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.export.formats import choose_format
from regard.hub.hugging_face.source_target_tokenizer import SourceTargetTokenizer
from regard.layers.attention_config import AttentionConfig
from regard.layers.layer import count_flops
from regard.layers.linear import use_plain_linears
from regard.models import DECODERS, ENCODERS
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.sequence_to_sequence.loss import TargetLoss
from regard.training.train_step import MiniBatchStep
from regard.training.training_config import OptimizerConfig

CONFIG = TransformerConfig(
    num_encoder_layers=1,
    num_decoder_layers=1,
    dim=16,
    num_heads=2,
    hidden_dim=32,
    dropout=0.0,
    has_copy=True,
)
SOURCE = torch.tensor([[5, 6, 5, 8, 2], [9, 4, 2, 0, 0]])
TARGET = torch.tensor([[1, 10, 5, 12], [1, 4, 4, 15]])
LABELS = torch.tensor([[10, 5, 12, 2], [4, 4, 2, 0]])
BATCH = Batch(source_ids=SOURCE, target_ids=TARGET, labels=LABELS, rows=torch.arange(2).numpy())


def build(**changes) -> Transformer:
    torch.manual_seed(0)
    return Transformer(replace(CONFIG, **changes), 20).double().eval()


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "post"},
        {"tied": "none", "has_output_bias": True},
        {"positions": "learned", "max_positions": 8, "has_embedding_norm": True},
    ],
    ids=str,
)
def test_decoding_token_by_token_equals_the_whole_pass(changes):
    assert_decodes_as_it_reads(build(**changes), SOURCE, TARGET, select_at=2)


def test_outputs_are_log_probabilities():
    outputs = build()(SOURCE, TARGET)
    torch.testing.assert_close(outputs, outputs.log_softmax(-1), rtol=0, atol=1e-12)


def test_probabilities_in_an_autocast_region_are_of_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = build().float()(SOURCE, TARGET)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs.logsumexp(-1), torch.zeros(2, 4), rtol=0, atol=1e-6)


def test_plain_maps_of_half_precision_copy_too():
    model = build().bfloat16()
    own = model(SOURCE, TARGET)
    use_plain_linears(model)
    plain = model(SOURCE, TARGET)
    assert plain.dtype == torch.float32
    torch.testing.assert_close(plain, own, rtol=0, atol=0.02)  # the gate is rounded


def test_a_source_without_tokens_leaves_the_vocabulary():
    model, target = build(), TARGET[:1]
    empty = model(SOURCE[:1, :0], target)
    padded = model(SOURCE[:1] * 0, target)
    hidden = model.hidden_states(SOURCE[:1] * 0, target)
    torch.testing.assert_close(padded, model.logits(hidden).log_softmax(-1))
    torch.testing.assert_close(empty, padded)


def test_a_token_that_the_vocabulary_forbids_can_still_be_copied():
    model = build(tied="none", has_output_bias=True)
    with torch.no_grad():
        model.output_bias[0, 8] = -1e4
        outputs = model(SOURCE, TARGET)
    assert outputs[0, :, 8].exp().min().item() > 1e-3  # in the first source
    assert outputs[1, :, 8].exp().max().item() == 0  # not in the second


@pytest.mark.parametrize("has_output_bias", [False, True])
def test_the_loss_is_the_mean_of_the_mixture_over_labels(has_output_bias):
    model = build(tied="none", has_output_bias=has_output_bias)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    outputs = model(SOURCE, TARGET)
    is_label = LABELS != 0
    wanted = -outputs.gather(-1, LABELS[..., None])[..., 0][is_label].mean()
    loss = TargetLoss(0.0)(model, BATCH)
    torch.testing.assert_close(loss.loss, wanted)
    torch.testing.assert_close(loss.nll, wanted.detach())
    assert loss.num_tokens == 7
    parameters = list(model.parameters())
    ours, theirs = (torch.autograd.grad(value, parameters) for value in (loss.loss, wanted))
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_coverage_adds_its_mean_over_labels_and_is_not_in_the_measured_loss():
    model = build()
    plain, covered = (TargetLoss(0.1, coverage=weight)(model, BATCH) for weight in (0.0, 2.0))
    _, copies = model.states_and_copies(SOURCE, TARGET)
    coverage = copies.coverage_losses()[LABELS != 0].mean()
    assert coverage.item() > 0.1
    torch.testing.assert_close(covered.loss, plain.loss + 2 * coverage)
    assert covered.nll.item() == plain.nll.item()


def test_search_finds_what_the_mixture_finds_probable():
    model = build()
    (first,), (second,) = beam_search(model, SOURCE, BeamSearchConfig(beam=1, max_length=4))
    for row, output in enumerate((first, second)):
        ids = [1, *output.ids]
        outputs = model(SOURCE[row : row + 1], torch.tensor([ids]))[0]
        ends = [*output.ids, 2] if output.is_complete else output.ids
        gains = [outputs[index, token].item() for index, token in enumerate(ends)]
        assert [int(step.argmax()) for step in outputs[: len(ends)]] == ends
        assert output.log_probability == pytest.approx(sum(gains), abs=1e-5)


def test_the_option_costs_one_head_and_is_named():
    model, plain = build(), build(has_copy=False)
    num_more = sum(map(torch.numel, model.parameters())) - sum(map(torch.numel, plain.parameters()))
    assert num_more == 2 * 16 * 16 + 3 * 16 + 2
    assert count_flops(model, 8) - count_flops(plain, 8) == count_flops(model.copy_head, 8)
    full = AttentionConfig()
    assert model.attention_bytes(full, 100) > plain.attention_bytes(full, 100)
    assert model.config.summary(full).endswith("copy mechanism")
    assert not model.has_plain_logits


def test_attention_for_alignment_is_that_of_a_decoder_layer():
    model = build()
    assert model.alignment_attention is model.decoder[0].cross_attention
    assert model.alignment_attention.pattern == Full()


@pytest.mark.parametrize("families", [DECODERS, ENCODERS])
def test_one_side_alone_cannot_copy(families):
    with pytest.raises(ConfigError, match=r"`model\.has_copy=true`: an? \w+ alone has no source"):
        families["transformer"].model(CONFIG, 20)


def test_there_are_no_logits_for_gauss_newton_products():
    with pytest.raises(ConfigError, match="a model that copies has no logits"):
        TargetLoss(0.0).outputs(build(), BATCH)


def test_published_formats_have_no_copy_mechanism():
    config = replace(CONFIG, norm="post", positions="sinusoidal_halves", has_output_bias=True)
    with pytest.raises(ConfigError) as caught:
        choose_format(Transformer(config, 20), config, (), AttentionConfig())
    message = str(caught.value)
    assert "model.has_copy=true: marian checkpoints have no copy mechanism." in message
    assert message.endswith("A model that can be written is trained with `model.has_copy=false`.")


def draw_commands(num: int, generator: torch.Generator) -> Batch:
    """Draw rows "run <names>" with the target "<names> laufen"; each name is one of 140."""
    names = torch.randint(10, 150, (num, 4), generator=generator)
    start, end, run, laufen = (torch.full((num, 1), token) for token in (1, 2, 3, 4))
    labels = torch.cat([names, laufen, end], dim=1)
    return Batch(
        source_ids=torch.cat([run, names, end], dim=1),
        target_ids=torch.cat([start, labels[:, :-1]], dim=1),
        labels=labels,
        rows=torch.arange(num).numpy(),
    )


@pytest.mark.slow
def test_rare_names_are_copied_before_a_model_without_the_option_has_learned_them():
    num_right = {}
    for has_copy in (True, False):
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(1)
        config = replace(CONFIG, dim=32, hidden_dim=64, has_copy=has_copy)
        model = Transformer(config, 150).train()
        optimizer = OptimizerConfig(name="adamw", learning_rate=5e-3)
        training = MiniBatchStep(model, TargetLoss(0.1), optimizer)
        for step in range(110):
            training.step(draw_commands(64, generator), step / 110)
        test = draw_commands(50, generator)
        outputs = beam_search(model.eval(), test.source_ids, BeamSearchConfig(beam=1))
        wanted = [row[:-1] for row in test.labels.tolist()]
        num_right[has_copy] = sum(
            best.ids == ids for (best,), ids in zip(outputs, wanted, strict=True)
        )
    assert num_right[True] >= 45
    assert num_right[False] <= 10


class TwoVocabularies(SourceTargetTokenizer):
    """Two vocabularies of the same tokens."""

    def __init__(self) -> None:
        config = TokenizerConfig(kind="byte")
        self.source, self.target = (Tokenizer.train(["a b"], config) for _ in range(2))
        self.languages = None


def test_two_vocabularies_are_refused():
    special_ids(build(has_copy=False), TwoVocabularies())
    with pytest.raises(ConfigError, match=r"`model\.has_copy=true`: source and target have"):
        special_ids(build(), TwoVocabularies())
