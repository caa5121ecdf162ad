"""Figures by layer are the true ones, and each alarm has its case, its text, and comes once."""

import math

import msgspec
import pytest
import torch
from torch import nn

from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.training.stability_monitor import (
    MonitorState,
    StabilityMonitor,
    Step,
    gradient_norms,
    largest_gradient,
    layer_of,
    sublayer_of,
)


class Blocks(nn.Module):
    """Three blocks in a row."""

    def __init__(self, dim=4):
        super().__init__()
        self.encoder = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x):
        for block in self.encoder:
            x = block(x)
        return x


def step_of(number=1, *, loss=1.0, norms=(1.0,) * 6):
    return Step(number=number, loss=loss, norm=math.hypot(*norms), norms=torch.tensor(norms))


def describe_batch():
    return "batch 7, lines 3, 5, 8 and 2 more"


def take(monitor, state, steps):
    """Show steps to a monitor; return the alarms."""
    alarms = []
    for step in steps:
        monitor.before_step(step.number, ends_interval=False)
        alarms.append(monitor.after_step(state, step, describe_batch))
    return [alarm for alarm in alarms if alarm is not None]


def evaluate(monitor, state, step=100, train=1.0, valid: float | None = 1.0):
    return monitor.after_evaluation(state, step=step, train_loss=train, valid_loss=valid)


def test_layers_of_a_transformer_are_its_blocks_embeddings_and_norms():
    config = TransformerConfig(
        num_encoder_layers=1, num_decoder_layers=2, dim=8, num_heads=2, hidden_dim=8, tied="none"
    )
    model = Transformer(config, 20, AttentionConfig())
    names = [name for name, _ in model.named_parameters()]
    assert list(dict.fromkeys(map(layer_of, names))) == [
        "output_weight",
        "source_embedding",
        "target_embedding",
        "encoder.0",
        "decoder.0",
        "decoder.1",
        "encoder_norm",
        "decoder_norm",
    ]
    assert {sublayer_of(name) for name in names if name.startswith("encoder.0")} == {
        "encoder.0.self_attention",
        "encoder.0.ffn",
        "encoder.0.attention_residual",
        "encoder.0.ffn_residual",
    }


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("0.weight", "0", "0"),
        ("model.layers.11.mlp.up.weight", "model.layers.11", "model.layers.11.mlp"),
        ("embed.tokens.weight", "embed.tokens", "embed.tokens"),
        ("scale", "scale", "scale"),
    ],
)
def test_layers_of_other_models_are_named_by_the_first_number(name, layer, part):
    assert (layer_of(name), sublayer_of(name)) == (layer, part)


def test_each_parameter_has_a_gradient_norm_which_is_zero_without_gradient():
    first, second, third = (nn.Parameter(torch.ones(3)) for _ in range(3))
    first.grad, third.grad = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    assert gradient_norms([first, second, third]).tolist() == [5.0, 0.0, 2.0]


def test_the_largest_gradient_is_named_by_its_part_of_the_block():
    names = ["encoder.0.weight", "decoder.5.feed_forward.a.weight", "decoder.5.feed_forward.b.bias"]
    assert largest_gradient(names, torch.tensor([2.0e6, 2.0e6, 1.0e6])) == "decoder.5.ffn 2.2e6"


def test_figures_by_layer_are_those_of_the_formula():
    torch.manual_seed(0)
    model = Blocks()
    monitor, state = StabilityMonitor(model), MonitorState()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    monitor.before_step(1, ends_interval=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    norms = (3.0, 4.0, 5.0, 12.0, 0.0, 1.0)
    monitor.after_step(state, step_of(norms=norms), describe_batch)
    stability, _ = evaluate(monitor, state, train=1.0, valid=1.5)
    assert stability.gradient_norms == {"encoder.0": 5.0, "encoder.1": 13.0, "encoder.2": 1.0}
    assert stability.update_ratios == pytest.approx(dict.fromkeys(stability.gradient_norms, 0.25))
    assert stability.largest_gradient_norm == math.hypot(*norms)
    assert (stability.num_samples, stability.gap, stability.oscillation) == (1, 0.5, None)
    assert all(b.shape == p.shape for b, p in zip(before, model.parameters(), strict=True))


def test_ratios_of_a_large_layer_are_estimated_from_some_entries_within_a_percent():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 600))
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
    monitor, state = StabilityMonitor(model), MonitorState()
    monitor.before_step(20, ends_interval=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    monitor.after_step(state, step_of(20, norms=(1.0, 1.0)), describe_batch)
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    ratio = float((after - before).norm() / before.norm())
    stability, _ = evaluate(monitor, state)
    assert stability.update_ratios["0"] == pytest.approx(ratio, rel=0.01)


def test_one_step_in_twenty_is_sampled_and_the_last_before_an_evaluation():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    take(monitor, state, [step_of(number) for number in range(1, 46)])
    assert state.num_samples == 2
    monitor.before_step(46, ends_interval=True)
    monitor.after_step(state, step_of(46), describe_batch)
    assert evaluate(monitor, state)[0].num_samples == 3
    assert evaluate(monitor, state)[0].num_samples == 0


def test_frozen_parameters_are_not_watched():
    model = Blocks()
    model.encoder[0].requires_grad_(requires_grad=False)
    monitor, state = StabilityMonitor(model), MonitorState()
    take(monitor, state, [step_of(20, norms=(0.0, 0.0, 1.0, 1.0, 1.0, 1.0))])
    assert list(evaluate(monitor, state)[0].gradient_norms) == ["encoder.1", "encoder.2"]


def test_the_state_survives_json_unchanged():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    take(monitor, state, [step_of(n, loss=1 / n, norms=(0.1 / n,) * 6) for n in range(1, 300)])
    evaluate(monitor, state, train=0.1, valid=0.3)
    take(monitor, state, [step_of(300)])
    assert msgspec.json.decode(msgspec.json.encode(state), type=MonitorState) == state
    assert len(state.losses) == len(state.norms) == 256


def test_an_exploding_gradient_is_reported_once_with_batch_and_layer():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    assert take(monitor, state, [step_of(number) for number in range(1, 61)]) == []
    bad = step_of(61, norms=(1.0, 1.0, 1.0, 1.0, 500.0, 0.0))
    assert take(monitor, state, [bad, bad]) == [
        "Exploding gradient at step 61 (batch 7, lines 3, 5, 8 and 2 more): its norm, 500, is 204 "
        "times the usual 2.45.  Largest: encoder.2 500.  Look at that text; if it is as it should "
        "be, lower `optimizer.learning_rate` or `optimizer.clip`, with another `output`."
    ]
    assert state.raised == ["exploding"]
    assert len(evaluate(monitor, state)[0].alarms) == 1
    assert evaluate(monitor, state)[0].alarms == []


def test_a_gradient_ten_times_the_usual_and_a_steep_start_are_no_explosion():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    start = [step_of(number, norms=(1000.0 / number**2,) * 6) for number in range(1, 30)]
    steady = [step_of(number) for number in range(30, 90)]
    assert take(monitor, state, [*start, *steady, step_of(90, norms=(20.0,) * 6)]) == []


class Configured(Blocks):
    """Blocks with the settings of a Transformer, and a copy mechanism on top."""

    def __init__(self, *, has_copy=False, **settings):
        super().__init__()
        self.config = TransformerConfig(**settings)
        if has_copy:
            self.copy_head = nn.Linear(4, 4, bias=False)


FAINT = (1e-9, 0.0, 1.0, 0.0, 1.0, 0.0)  # gradient of the first block


def alarms_of(monitor, norms):
    """Return the alarms of a run whose samples all have these norms."""
    state = MonitorState()
    take(monitor, state, [step_of(n, norms=norms) for n in (20, 40, 60)])
    return evaluate(monitor, state, step=60)[1]


def test_a_vanishing_gradient_is_reported_once_where_all_samples_agree():
    monitor, state = StabilityMonitor(Configured(norm="post")), MonitorState()
    take(monitor, state, [step_of(n, norms=FAINT) for n in (20, 40, 60)])
    stability, alarms = evaluate(monitor, state, step=60)
    assert alarms == [
        "Vanishing gradient in encoder.0 up to step 60: its norm, 1.0e-9, is 1.0e-9 of that of "
        "encoder.1.  `model.norm=pre`, fewer layers or a longer `optimizer.warmup`, with another "
        "`output`, helps."
    ]
    assert stability.alarms == alarms
    take(monitor, state, [step_of(n, norms=FAINT) for n in (80, 100, 120)])
    assert evaluate(monitor, state, step=120)[1] == []


@pytest.mark.parametrize(
    ("monitor", "advice"),
    [
        (
            StabilityMonitor(Configured(norm="pre")),
            "  Fewer layers or a longer `optimizer.warmup`, with another `output`, helps.",
        ),
        (
            StabilityMonitor(Configured(norm="pre"), has_rate=False),
            "  Fewer layers, with another `output`, helps.",
        ),
        (
            StabilityMonitor(Blocks()),
            "  Fewer layers or a longer `optimizer.warmup`, with another `output`, helps.",
        ),
    ],
    ids=["pre", "without a rate", "without settings"],
)
def test_what_is_suggested_against_a_vanishing_gradient_is_not_the_case_already(monitor, advice):
    assert alarms_of(monitor, FAINT) == [
        "Vanishing gradient in encoder.0 up to step 60: its norm, 1.0e-9, is 1.0e-9 of that of "
        "encoder.1." + advice
    ]


def test_depth_is_not_blamed_for_a_layer_on_top_of_all_blocks():
    model = Configured(norm="post")
    model.register_module("output_norm", nn.Linear(4, 4, bias=False))
    assert alarms_of(StabilityMonitor(model), (1.0, 0.0) * 3 + (1e-9,)) == [
        "Vanishing gradient in output_norm up to step 60: its norm, 1.0e-9, is 1.0e-9 of that of "
        "encoder.0."
    ]


@pytest.mark.parametrize("gradient", [1e-9, 0.0])
def test_a_closed_copy_gate_is_no_vanishing_gradient(gradient):
    monitor = StabilityMonitor(Configured(has_copy=True))
    assert alarms_of(monitor, (1.0, 0.0) * 3 + (gradient,)) == [
        "The copy gate has closed up to step 60: the model copies nothing from the source.  Where "
        "outputs repeat no words of it, `model.has_copy=false`, with another `output`, is faster."
    ]
    alarms = alarms_of(monitor, (*FAINT, gradient))
    assert [alarm.split(" up to")[0] for alarm in alarms] == [
        "The copy gate has closed",
        "Vanishing gradient in encoder.0",
    ]


@pytest.mark.parametrize(
    ("activation", "advice"),
    [
        (
            "relu",
            "  Where its inputs are all negative before a relu, `model.activation=gelu` or a "
            "lower `optimizer.learning_rate`, with another `output`, helps.",
        ),
        ("gelu", ""),
    ],
)
def test_a_layer_without_any_gradient_is_reported_as_disconnected(activation, advice):
    monitor = StabilityMonitor(Configured(activation=activation))
    assert alarms_of(monitor, (0.0, 0.0, 0.0, 0.0, 1.0, 0.0)) == [
        "No gradient reaches encoder.0 (and 1 more layer) up to step 60: it is exactly 0 at every "
        "sample.  Is the layer connected to the output?" + advice
    ]


@pytest.mark.parametrize(
    "samples",
    [
        [(1e-9, 0.0, 1.0, 0.0, 1.0, 0.0)] * 2,
        [(0.0,) * 6] * 5,
        [(0.0, 0.0, 1.0, 0.0, 1.0, 0.0)] * 2 + [(0.1, 0.0, 1.0, 0.0, 1.0, 0.0)],
        [(1e-4, 0.0, 1.0, 0.0, 1.0, 0.0)] * 5,
    ],
    ids=["few", "minimum", "recovers", "small"],
)
def test_few_samples_a_minimum_a_recovery_and_small_gradients_are_no_vanishing(samples):
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    take(monitor, state, [step_of(20 * n, norms=norms) for n, norms in enumerate(samples, 1)])
    assert evaluate(monitor, state)[1] == []


def test_an_oscillating_loss_is_reported_once():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    take(monitor, state, [step_of(n, loss=3 + 0.5 * (-1) ** n) for n in range(1, 401)])
    stability, alarms = evaluate(monitor, state, step=400)
    assert alarms == [
        "Training loss swings by 0.5 to either side of 3, once in 2.0 steps, and does not settle "
        "(steps 145 to 400).  A lower `optimizer.learning_rate` or a larger "
        "`training.batch_tokens`, with another `output`, steadies it."
    ]
    assert stability.oscillation == pytest.approx(1, abs=1e-3)
    assert evaluate(monitor, state, step=400)[1] == []


def test_a_state_of_an_earlier_version_oscillates_without_a_layer():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    take(monitor, state, [step_of(n, loss=3 + 0.5 * (-1) ** n) for n in range(1, 300)])
    assert evaluate(monitor, state, step=299)[0].oscillation_by_layer != {}
    state.layer_norms = b""
    take(monitor, state, [step_of(300, loss=3.5)])
    stability, _ = evaluate(monitor, state, step=300)
    assert stability.oscillation == pytest.approx(1, abs=1e-3)
    assert stability.oscillation_by_layer == {}


def test_over_fitting_is_reported_once_after_three_rises_in_a_row():
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    losses = [(2.0, 2.1), (1.5, 2.0), (1.2, 2.1), (1.0, 2.2), (0.8, 2.3), (0.6, 2.4)]
    alarms = [evaluate(monitor, state, train=a, valid=b)[1] for a, b in losses]
    assert alarms == [
        [],
        [],
        [],
        [],
        [
            "Over-fitting: validation loss rose 3 evaluations in a row (2.000 to 2.300), its gap "
            "to training loss from 0.500 to 1.500.  The best weights so far are kept.  More data, "
            "a smaller model or a higher `model.dropout`, with another `output`, helps."
        ],
        [],
    ]


@pytest.mark.parametrize(
    "losses",
    [
        [(2.0, 2.0), (1.5, 2.1), (1.2, 2.2), (1.0, 2.15), (0.8, 2.2)],
        [(2.0, 2.0), (2.2, 2.1), (2.4, 2.2), (2.6, 2.3)],
        [(2.0, None), (1.5, None), (1.2, None), (1.0, None)],
    ],
    ids=["interrupted", "both rise", "no validation"],
)
def test_interrupted_rises_and_a_loss_that_rises_on_both_sides_are_no_over_fitting(losses):
    monitor, state = StabilityMonitor(Blocks()), MonitorState()
    assert [evaluate(monitor, state, train=a, valid=b)[1] for a, b in losses] == [[]] * len(losses)
