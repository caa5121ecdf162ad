"""The verdicts on a run, from real steps of small models: each failure has its own, health none."""

import json
import math

import msgspec
import pytest
import torch
from torch import nn

from regard.training.loss_oscillation import amplitude_at
from regard.training.stability_monitor import MonitorState, StabilityMonitor, Step
from regard.training.stability_verdicts import read_stability
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig


class Network(nn.Module):
    """Layers with a nonlinearity between them."""

    def __init__(self, depth, *, dim=8, scale=1.0, activation: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.activation = nn.Tanh() if activation is None else activation
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(scale)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def run(model, *, rate, num_steps=40, every=10, name="sgd", clip=1e9, momentum=0.0):
    """Train on a fixed batch; return the lines that a run writes into its folder."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(16, 8, generator=generator)
    targets = torch.randn(16, 8, generator=generator).mul(0.1)

    def compute(model, batch):
        is_network = isinstance(model, Network)
        loss = (model(batch[0]) - batch[1]).square().mean() if is_network else model.loss()
        return Loss(loss=loss, nll=loss.detach(), num_tokens=16)

    config = OptimizerConfig(
        name=name,
        learning_rate=rate,
        schedule="constant",
        warmup=0.0,
        clip=clip,
        momentum=momentum,
        weight_decay=0.0,
    )
    stepper = MiniBatchStep(model, compute, config)
    monitor, state, lines = StabilityMonitor(model), MonitorState(), []
    for number in range(1, num_steps + 1):
        monitor.before_step(number, ends_interval=number % every == 0)
        output = stepper.step((inputs, targets), number / num_steps)
        nll, norm = float(output.loss.nll), output.gradient_norm
        if not (math.isfinite(nll) and math.isfinite(norm)):
            stability = monitor.after_failure(state)
            lines.append({"event": "diverged", "step": number, "problem": f"loss is {nll}"})
            lines[-1] |= {"cause": "Not finite.", "stability": msgspec.to_builtins(stability)}
            break
        step = Step(number=number, loss=nll, norm=norm, norms=output.gradient_norms)
        monitor.after_step(state, step, lambda: "batch 1")
        if number % every == 0:
            stability, _ = monitor.after_evaluation(
                state, step=number, train_loss=nll, valid_loss=nll
            )
            line = {"event": "evaluated", "step": number}
            lines.append(line | {"stability": msgspec.to_builtins(stability)})
    return json.loads(msgspec.json.encode(lines))


def verdicts_of(lines):
    record = read_stability(lines)
    assert record is not None
    return {verdict.kind: verdict for verdict in record.verdicts}


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_a_healthy_run_has_no_verdict_and_a_record_of_every_layer(name):
    record = read_stability(run(Network(3), rate=3e-3, name=name))
    assert record is not None
    assert (record.verdicts, record.is_mean) == ([], False)
    assert record.steps == [1, 4, 10, 16, 20, 30, 40]
    assert record.layers == ["layers.0", "layers.1", "layers.2"]
    norms = [value or 0.0 for values in record.gradient_norms.values() for value in values]
    ratios = [value or 0.0 for values in record.update_ratios.values() for value in values]
    assert min(norms) > 0 and min(ratios) > 0 and max(ratios) < 0.2


def test_a_deep_network_of_small_weights_has_a_vanishing_gradient_in_its_first_layer():
    model = Network(12, scale=0.3, activation=nn.Sigmoid())
    verdicts = verdicts_of(run(model, rate=1e-5))
    assert list(verdicts) == ["vanishing"]
    vanishing = verdicts["vanishing"]
    assert (vanishing.layer, vanishing.step) == ("layers.0", 1)
    assert "layers.0" in vanishing.layers and "layers.11" not in vanishing.layers
    assert vanishing.text.startswith("Vanishing gradient in layers.0 (and ")
    assert vanishing.text.endswith(" of that of layers.11.")


def test_a_layer_that_no_gradient_reaches_is_said_to_have_none():
    model = Network(3, activation=nn.ReLU())
    with torch.no_grad():
        next(model.layers[0].parameters()).zero_()
        model.layers[0].get_parameter("bias").fill_(-1.0)
    verdict = verdicts_of(run(model, rate=1e-4))["vanishing"]
    assert verdict.text == ("Vanishing gradient in layers.0 from step 1: no gradient reaches it.")


def test_a_gate_that_closes_is_a_closed_gate_and_no_problem():
    samples = [
        {"step": step, "gradient_norms": {"decoder.0": 1.0, "copy_head": norm}, "update_ratios": {}}
        for step, norm in ((1, 0.1), (4, 0.01), (16, 1e-8), (20, 1e-9), (40, 1e-9))
    ]
    record = read_stability(
        [{"event": "evaluated", "step": 40, "stability": {"num_samples": 2, "samples": samples}}]
    )
    assert record is not None
    assert [(v.kind, v.layer, v.step) for v in record.verdicts] == [
        ("closed gate", "copy_head", 16)
    ]
    assert record.sentences() == [
        "No gradient vanished or exploded, the loss did not oscillate.",
        "Closed copy gate from step 16: the model copies nothing from the source.",
    ]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_learning_rate_of_100_is_an_explosion_with_its_step_and_layer(name):
    verdicts = verdicts_of(run(Network(4), rate=100.0, name=name))
    assert verdicts["exploding"].step <= 4
    assert verdicts["exploding"].layer.startswith("layers.")
    assert verdicts["exploding"].text.startswith("Exploding ")


def test_a_run_whose_loss_is_not_finite_exploded_even_before_its_first_evaluation():
    lines = run(Network(4, activation=nn.Identity()), rate=100.0, every=100)
    assert [line["event"] for line in lines] == ["diverged"]
    verdict = verdicts_of(lines)["exploding"]
    assert verdict.step < lines[0]["step"]
    assert verdict.text.endswith(f"  The run ended at step {lines[0]['step']:,}.")


def test_an_explosion_between_two_samples_is_found_by_the_largest_norm():
    lines = run(Network(3), rate=1e-4, name="adamw")
    last = lines[-1]["stability"]
    last |= {"largest_gradient_norm": 1e6, "largest_gradient_step": 37}
    last["largest_gradient_layer"] = "layers.1"
    verdict = verdicts_of(lines)["exploding"]
    assert (verdict.step, verdict.layer) == (37, "layers.1")


class Wells(nn.Module):
    """Two double wells: the first one is 1,000 times as sharp at its minimum, 1, as the second."""

    def __init__(self):
        super().__init__()
        self.sharp, self.flat = (nn.Parameter(torch.tensor([0.9])) for _ in range(2))

    def loss(self):
        wells = [(w.square() - 1).square() / 4 for w in (self.sharp, self.flat)]
        return (wells[0] + 0.001 * wells[1]).sum()


def test_a_rate_above_the_edge_of_stability_oscillates_and_names_the_sharp_layer():
    # The curvature at the minimum is 2: steps of more than 2 / 2 = 1 swing about it for ever.
    verdicts = verdicts_of(run(Wells(), rate=0.11, num_steps=200, every=100))
    assert list(verdicts) == ["oscillating"]
    assert (verdicts["oscillating"].layer, verdicts["oscillating"].step) == ("sharp", 1)
    assert "once in 2.0 steps" in verdicts["oscillating"].text
    assert "oscillating" not in verdicts_of(run(Wells(), rate=0.08, num_steps=200, every=100))


def test_a_record_of_means_by_an_earlier_version_is_read_as_such():
    lines = run(Network(3), rate=1e-3)
    new = ("samples", "largest_gradient_step", "largest_gradient_layer", "loss_oscillation")
    for line in lines:
        for name in (*new, "oscillation_by_layer"):
            del line["stability"][name]
    record = read_stability(lines)
    assert record is not None
    assert (record.is_mean, record.steps) == (True, [10, 20, 30, 40])


def test_lines_without_figures_by_layer_have_no_record():
    assert read_stability([{"event": "evaluated", "step": 3}, {"event": "finished"}]) is None
    assert read_stability([]) is None


def test_the_amplitude_at_a_period_is_that_of_the_wave_alone():
    series = [5 + 0.1 * n + 2 * math.cos(math.pi * n / 4) for n in range(256)]
    assert amplitude_at(series, 8.0) == pytest.approx(2 / math.sqrt(2), rel=0.02)
    assert amplitude_at(series, 2.0) < 0.05


def test_at_most_eight_samples_are_recorded_between_two_evaluations_evenly():
    lines = run(Network(2), rate=1e-4, num_steps=400, every=400)
    steps = [sample["step"] for sample in lines[0]["stability"]["samples"]]
    assert len(steps) <= 8 and steps[0] == 1 and steps[-1] >= 340


def test_the_layer_that_vanished_most_is_named_with_its_own_step_and_norm():
    early = {"a": 1e-9, "b": 1e-2, "c": 1.0}
    late = {"a": 1e-9, "b": 1e-10, "c": 1e-2}
    samples = [
        {"step": step, "gradient_norms": early if step < 4 else late, "update_ratios": {}}
        for step in (1, 2, 3, 14, 15, 16)
    ]
    record = read_stability([{"event": "evaluated", "step": 16, "stability": {"samples": samples}}])
    (verdict,) = record.verdicts
    assert (verdict.layer, verdict.step) == ("a", 1)
    assert "in a" in verdict.text
    assert "1.0e-9" in verdict.text
