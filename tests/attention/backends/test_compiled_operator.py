"""`attend` inside ``torch.compile``: one graph, first derivative, the same numbers."""

import pytest
import torch
from tests.covering import covering_pairs

from regard.attention import (
    Additive,
    Alibi,
    Blocks,
    Causal,
    Cosine,
    DotProduct,
    Full,
    Global,
    Local,
    RandomBlocks,
    Strided,
    T5Relative,
    TransformerXL,
    attend,
)
from regard.errors import ConfigError

LEARNED = torch.tensor([0.3, 0.7], requires_grad=True)  # of two heads
TABLE = torch.linspace(-1, 1, 16).view(2, 8).requires_grad_()
SHIFT = torch.ones(2, 1, 1, requires_grad=True)
VECTOR = torch.linspace(-1, 1, 16).view(2, 8).requires_grad_()
MAP = torch.linspace(-1, 1, 128).view(2, 8, 8).requires_grad_()
LEAVES = (LEARNED, TABLE, SHIFT, VECTOR, MAP)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("pattern", "others", "length"),
    [
        (Full(), {}, 40),
        (Full(), {}, 600),
        (Causal(), {"score": DotProduct(soft_cap=5.0)}, 600),
        ((Local(20, 0) | Global((0,))) & Causal(), {"lengths": torch.tensor([30, 7])}, 40),
        ((Local(20, 0) | Global((0,))) & Causal(), {"lengths": torch.tensor([30, 7])}, 600),
        (Strided(9), {"segments": True}, 600),
        ("local:20|global:0", {}, 40),
        ("(local:20|strided:9)&causal", {}, 600),
        ("local:0.1", {}, 600),
        (Blocks.random(10, 10, 64, per_row=2, seed=1), {}, 600),
        (Causal(), {"bias": Alibi(LEARNED)}, 40),
        (Local(9, 9), {"bias": T5Relative(TABLE, max_distance=9)}, 600),
        (Causal(), {"score": Cosine(LEARNED), "bias": SHIFT, "dropout": 0.3}, 40),
        (Causal(), {"score": Cosine(LEARNED), "bias": SHIFT, "dropout": 0.3}, 600),
        (Full(), {"score": Cosine(3.0, soft_cap=2.0)}, 600),
        (Causal(), {"score": Additive(VECTOR)}, 600),
        (Local(9, 9), {"score": Additive(VECTOR, query_map=MAP)}, 600),
        (Local(9, 9), {"score": Additive(VECTOR, key_map=MAP), "bias": SHIFT}, 600),
        (Strided(9), {"score": Additive(VECTOR, MAP, MAP)}, 600),
        (Full(), {"score": TransformerXL(VECTOR, VECTOR, MAP, offset=3)}, 600),
        (Causal(), {"mask": True}, 600),
        (Local(9, 9), {"mask": True, "bias": SHIFT, "lengths": torch.tensor([300, 7])}, 600),
    ],
    ids=repr,
)
def test_the_compiled_graph_is_whole_and_equals_the_eager_call(pattern, others, length):
    q, k, v = (torch.randn(2, 2, length, 8, requires_grad=True) for _ in range(3))
    if "segments" in others:
        others = {"segments": (torch.arange(length).expand(2, -1) // 10,) * 2}
    if "mask" in others:
        others = {**others, "mask": torch.randn(2, 1, length, length) < 1}

    def run(q, k, v):
        return attend(q, k, v, pattern=pattern, **others).sin()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    wanted = run(q, k, v)
    torch.manual_seed(1)
    found = compiled(q, k, v)
    torch.testing.assert_close(found, wanted)
    leaves = (q, k, v, *LEAVES)
    torch.testing.assert_close(gradients(found, leaves), gradients(wanted, leaves))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        lambda n: {
            "mask": torch.rand(2, 2, n, n, generator=torch.Generator().manual_seed(1)) < 0.9
        },
        lambda n: {"mask": torch.arange(n) % 7 < 6},
        lambda n: {"bias": torch.linspace(-1, 1, n)},
        lambda n: {"bias": SHIFT},
        lambda n: {
            "score": TransformerXL(
                torch.ones(2, 8), torch.ones(2, 8), torch.linspace(-1, 1, 2 * n * 8).view(2, n, 8)
            )
        },
    ],
    ids=["mask", "mask of keys", "bias of keys", "bias of heads", "transformer-xl"],
)
def test_one_graph_of_any_length_equals_the_eager_call(options):
    def run(q, **options):
        return attend(q, q + 1, q - 1, pattern=Causal(), **options)

    compiled = torch.compile(run, dynamic=True, backend="eager")
    for length in (300, 520, 700):  # other methods from 512 on
        q = torch.randn(2, 2, length, 8)
        torch.testing.assert_close(compiled(q, **options(length)), run(q, **options(length)))


def test_a_graph_is_compiled_anew_for_lengths_of_another_method_alone():
    """Without a graph, the definition has a threshold before that of the operator."""
    count = 0

    def backend(graph, _):
        nonlocal count
        count += 1
        return graph.forward

    def run(q, lengths):
        return attend(q, q, q, lengths=lengths)

    compiled, counts = torch.compile(run, dynamic=True, backend=backend), []
    for length in (40, 200, 510, 520, 700):
        q, lengths = torch.randn(2, 2, length, 8), torch.tensor([length, 3])
        torch.testing.assert_close(compiled(q, lengths), run(q, lengths))
        counts.append(count)
    assert counts == [1, 1, 1, 2, 2]


class OwnScore:
    """Half a dot product, as a user may write it."""

    def tensors(self):
        return ()

    def check(self, q):
        pass

    def __call__(self, q, k, queries, keys, tensors):
        return q @ k.transpose(-1, -2) / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"score": OwnScore()}, {"return_lse": True}], ids=["own score", "log-sum-exp"]
)
def test_what_the_operator_does_not_take_is_not_traced(options):
    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    def run(q):
        return attend(q.sin(), q, q, pattern=Local(9, 9), **options)

    compiled = torch.compile(run, dynamic=True, backend=count)
    num_graphs = []
    for length in (530, 700):
        q = torch.randn(2, 2, length, 8)
        torch.testing.assert_close(compiled(q), run(q))
        num_graphs.append(len(graphs))
    assert num_graphs[0] == num_graphs[1]
    assert not any("bmm" in graph.code for graph in graphs)
    whole = torch.compile(run, fullgraph=True, backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="score, bias or pattern of one's own"):
        whole(torch.randn(2, 2, 600, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda q: DotProduct(q.shape[3] ** -0.5),
        lambda q: DotProduct(soft_cap=q.shape[2] * 1.0),
        lambda q: Cosine(1 / q.shape[2]),
    ],
    ids=["scale", "soft cap", "temperature"],
)
def test_a_score_of_a_size_that_is_a_symbol_is_part_of_the_graph(build):
    def run(q):
        return attend(q, q, q, score=build(q))

    compiled = torch.compile(run, dynamic=True, fullgraph=True, backend="eager")
    for length in (20, 40, 600):
        q = torch.randn(1, 2, length, 8)
        torch.testing.assert_close(compiled(q), run(q))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "options", "length"),
    covering_pairs([Full(), Causal(), Local(4, 4)], ["segments", "lengths", "bias"], [9, 600]),
    ids=repr,
)
def test_a_compiled_call_shows_what_is_not_finite_to_the_same_queries(pattern, options, length):
    half = (torch.arange(length) >= length // 2).long().expand(2, -1)
    forbidden = torch.zeros(length, length).masked_fill(half[:1] != half[:1].T, -torch.inf)
    others = {
        "segments": {"segments": (half, half)},
        "lengths": {"lengths": torch.tensor([length, length - 2])},
        "bias": {"bias": forbidden},
    }[options]

    def run(q, k, v):
        return attend(q, k, v, pattern=pattern, **others)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for name in ("k", "v"):
        inputs = {key: torch.randn(2, 2, length, 8) for key in "qkv"}
        inputs["k"], inputs["v"] = inputs["k"][:, :1], inputs["v"][:, :1]
        inputs[name][0, 0, 2, 0], inputs[name][1, 0, -1, 1] = torch.nan, torch.inf
        leaves = [tensor.clone().requires_grad_() for tensor in inputs.values()]
        wanted, found = run(*leaves), compiled(*leaves)
        assert wanted.isnan().any()
        assert not wanted.isnan().all()
        torch.testing.assert_close(found, wanted, equal_nan=True)
        torch.testing.assert_close(
            gradients(found, leaves),
            gradients(wanted, leaves),
            equal_nan=True,
            rtol=1e-4,
            atol=1e-5,
        )


def gradients(out, leaves):
    """The gradients of a sum; zeros of what it does not depend on."""
    return torch.autograd.grad(out.sum(), leaves, allow_unused=True, materialize_grads=True)


class Attention(torch.nn.Module):
    """A module of one call."""

    def __init__(self, options):
        super().__init__()
        self.options = options

    def forward(self, q):
        return attend(q, q, q, **self.options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [{"pattern": Local(5, 2)}, {"pattern": Causal(), "score": Cosine(3.0)}],
    ids=repr,
)
def test_an_exported_program_has_a_dynamic_length(options):
    example = torch.randn(1, 2, 20, 4)
    length = torch.export.Dim("length", min=2, max=4096)
    program = torch.export.export(Attention(options), (example,), dynamic_shapes=({2: length},))
    assert "regard" not in str(program.graph)
    for n in (7, 130, 600):
        q = torch.randn(1, 2, n, 4)
        torch.testing.assert_close(program.module()(q), attend(q, q, q, **options))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_table_of_blocks_has_its_numbers(strict):
    pattern = Blocks.random(8, 8, 8, per_row=2, seed=1)
    q = torch.randn(1, 2, 64, 4)
    program = torch.export.export(Attention({"pattern": pattern}), (q,), strict=strict)
    torch.testing.assert_close(program.module()(q), attend(q, q, q, pattern=pattern))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_random_blocks_ask_to_be_resolved_before_one_graph_or_a_program():
    q = torch.randn(1, 2, 40, 4)
    module = Attention({"pattern": "random:4:2"})
    message = r"random:4:2:0 draws its blocks for a length.*Resolve it first: \.resolve\("
    with pytest.raises(torch._dynamo.exc.Unsupported, match=message):
        torch.compile(module, fullgraph=True, backend="aot_eager")(q)
    with pytest.raises(ConfigError, match=message):
        torch.export.export(module, (q,))
    resolved = Attention({"pattern": RandomBlocks(4, 2).resolve(40, 40)})
    out = torch.compile(resolved, fullgraph=True, backend="aot_eager")(q)
    torch.testing.assert_close(out, module(q))
    torch.testing.assert_close(torch.compile(module, backend="aot_eager")(q), module(q))
