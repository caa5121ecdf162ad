"""The model of a step is compiled block by block: the same numbers, the same names, once a kind."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from tests.conftest import TINY, toy_pairs
from tests.contracts.test_pytorch_modules import CASES, build
from tests.training.test_train_step import SIZES, VOCABULARY, language_model, rows
from torch import nn

import regard
from regard.data.batching import PairBatches
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models import Transformer, TransformerConfig
from regard.tasks.sequence_to_sequence.loss import TargetLoss
from regard.training import compilation
from regard.training.compilation import blocks_of, compile_blocks, compiles_blocks
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig, TrainingConfig

pytestmark = pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor")
DECODER = (
    "preset=tiny",
    "model.dim=16",
    "model.hidden_dim=32",
    "model.num_heads=2",
    "model.num_layers=1",
    "tokenizer.vocab_size=300",
    "data.max_length=16",
    "training.epochs=1",
)
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiles(device, *, name="muon", in_shards=False, seconds=3600.0, **training):
    return compiles_blocks(
        TrainingConfig(**training),
        OptimizerConfig(name=name),
        device,
        in_shards=in_shards,
        seconds=seconds,
    )


def test_auto_compiles_long_runs_on_cuda_alone():
    assert compiles(CUDA)
    assert not compiles(CUDA, seconds=599.0)
    assert not compiles(CPU)
    assert not compiles(CUDA, name="cg")
    assert not compiles(CUDA, in_shards=True)
    assert not compiles(CUDA, compile=False)
    assert compiles(CPU, compile=True, seconds=1.0)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"name": "newton-cg"}, "optimizer.name=newton-cg"),
        ({"name": "adam-then-cg"}, "optimizer.name=adam-then-cg"),
        ({"in_shards": True}, "in shards"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(settings, cause):
    with pytest.raises(ConfigError, match=rf"^training\.compile=true: .*{cause}"):
        compiles(CPU, compile=True, **settings)


@pytest.mark.parametrize("name", [name for name in CASES if "lstm" not in name])
def test_every_family_has_blocks_each_counted_once(name):
    blocks = blocks_of(build(CASES[name]))
    parts = [part for block in blocks for part in block.modules()]
    assert blocks
    assert len(parts) == len({id(part) for part in parts})


@pytest.mark.parametrize("name", [name for name in CASES if "lstm" in name])
def test_blocks_that_go_from_position_to_position_are_refused_by_name(name):
    model = build(CASES[name])
    assert blocks_of(model) == []
    with pytest.raises(ConfigError, match=r"^training\.compile: .* again for every length"):
        compile_blocks(model, lambda *_: None, [])


class Graphs:
    """A compiler that computes the graph as it is, and counts."""

    def __init__(self, monkeypatch):
        self.count = 0
        compiled = nn.Module.compile
        monkeypatch.setattr(
            nn.Module, "compile", lambda block, **words: compiled(block, backend=self, **words)
        )

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


@pytest.mark.slow
def test_blocks_of_a_kind_are_compiled_once_for_all_layers_and_lengths(monkeypatch):
    graphs = Graphs(monkeypatch)
    torch.manual_seed(0)
    config = TransformerConfig(num_encoder_layers=3, num_decoder_layers=3, **SIZES)
    model = without_dropout(Transformer(config, VOCABULARY, AttentionConfig()))
    expected = copy.deepcopy(model)
    loss, lengths = TargetLoss(0.1), range(4, 20)
    batches = PairBatches(rows(lengths), rows(lengths), batch_tokens=48, seed=1)
    order = batches.in_sequence()
    compile_blocks(model, loss, map(batches.batch, order[:4]))
    first = graphs.count
    assert first == 2  # a block of the encoder, and one of the decoder
    for numbers in order:
        batch = batches.batch(numbers)
        for each in (model, expected):
            loss(each, batch).loss.backward()
    assert len(order) == 6
    assert graphs.count == first + 2  # the same without lengths, for the batch without padding
    for weight, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_names_copies_gradients_and_random_numbers_are_as_before(monkeypatch):
    graphs = Graphs(monkeypatch)
    model, batches, loss = language_model()
    names, parameters = list(model.state_dict()), list(dict(model.named_parameters()))
    batch = batches.batch(batches.in_sequence()[0])
    state = torch.get_rng_state()
    assert compile_blocks(model.train(), loss, [batch]) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert list(model.state_dict()) == names
    assert list(dict(model.named_parameters())) == parameters
    assert all(weight.grad is None for weight in model.parameters())
    count = graphs.count
    twin = copy.deepcopy(model)
    torch._dynamo.reset()
    loss(twin, batch)
    assert graphs.count == count == 1  # the copy is not compiled


@pytest.mark.slow
def test_what_the_compiler_cannot_do_is_refused_and_the_model_is_as_before(monkeypatch):
    def refuse(graph, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(Graphs, "__call__", lambda _, graph, inputs: refuse(graph, inputs))
    Graphs(monkeypatch)
    model, batches, loss = language_model()
    batch = batches.batch(batches.in_sequence()[0])
    with pytest.raises(
        ConfigError, match=r"^training\.compile: .*no C\+\+ compiler.*compile=false"
    ):
        compile_blocks(model.train(), loss, [batch])
    assert float(loss(model, batch).loss.detach()) > 0


def test_a_python_that_the_compiler_does_not_support_is_refused(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    monkeypatch.setattr(torch, "compile", refuse)
    model, batches, loss = language_model()
    batch = batches.batch(batches.in_sequence()[0])
    with pytest.raises(ConfigError, match=r"^training\.compile: .*not supported on Python 3\.99"):
        compile_blocks(model.train(), loss, [batch])


@pytest.mark.slow
def test_a_compiler_that_loses_gradients_is_noticed(monkeypatch):
    """As with `torch.compile` of PyTorch 2.11 on a GPU."""

    def detach(graph, inputs):
        return lambda *arguments: [out.detach() for out in graph.forward(*arguments)]

    monkeypatch.setattr(Graphs, "__call__", lambda _, graph, inputs: detach(graph, inputs))
    Graphs(monkeypatch)
    model, batches, loss = language_model()
    batch = batches.batch(batches.in_sequence()[0])
    with pytest.raises(ConfigError, match=r"^training\.compile: .* blocks\.0\..* has no gradient"):
        compile_blocks(model.train(), loss, [batch])
    loss(model, batch).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


class Block(nn.Module):
    """A block of which a compiler makes few kernels."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(self.linear(x))


class Chain(nn.Module):
    """Two blocks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def squares(model, batch):
    loss = model(batch).square().mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=len(batch))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("default")  # PyTorch's own, while it compiles
def test_steps_of_a_compiled_model_are_those_of_the_model():
    """Compiled by the compiler of the machine."""
    losses, data = [], [torch.randn(size, 4, generator=torch.Generator()) for size in (3, 5, 8)]
    for is_compiled in (False, True):
        torch.manual_seed(0)
        model = Chain().train()
        if is_compiled:
            torch._dynamo.utils.counters.clear()
            compile_blocks(model, squares, data[:1])
            assert torch._dynamo.utils.counters["inductor"]
        settings = OptimizerConfig(name="sgd", learning_rate=0.01, warmup=0.0)
        stepper = MiniBatchStep(model, squares, settings)
        losses.append([float(stepper.step(batch, 0.0).loss.nll) for batch in data * 3])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][-1] < losses[0][2]
    # Two for all sizes: the input of the first block needs no gradient.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
def test_a_run_says_that_it_compiles_and_its_folder_opens(tmp_path, monkeypatch):
    Graphs(monkeypatch)
    events = []
    data, folder = tmp_path / "text.txt", tmp_path / "model"
    data.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(60)))
    writer = regard.train(
        data, folder, settings=[*DECODER, "training.compile=true"], report=events.append
    )
    notes = [event.text for event in events if type(event).__name__ == "Warned"]
    assert sum(note.startswith("The blocks of the model were compiled in ") for note in notes) == 1
    greedy = {"temperature": 0.0, "max_tokens": 8}
    text = writer.generate("3 red", **greedy).text
    assert text
    assert regard.load(folder).generate("3 red", **greedy).text == text


@pytest.mark.slow
def test_where_auto_cannot_compile_a_run_says_so_and_goes_on(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise ConfigError("training.compile: no compiler.")

    monkeypatch.setattr("regard.runs.session.compile_blocks", refuse)
    monkeypatch.setattr("regard.runs.session.compiles_blocks", lambda *_, **__: True)
    events = []
    regard.train(toy_pairs(60), tmp_path / "model", settings=TINY, report=events.append)
    notes = [event.text for event in events if type(event).__name__ == "Warned"]
    assert "training.compile: no compiler." in notes
    assert compilation.compile_blocks is compile_blocks
