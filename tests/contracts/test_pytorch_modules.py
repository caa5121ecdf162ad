"""Every family is an ordinary PyTorch module: in one's own loop it gives what a plain pass gives.

The table of `docs/library.md` names these tests.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from regard.layers import Dropout
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    FORECASTERS,
    INPUT_ENCODERS,
    AttentionConfig,
    Bert,
    BertConfig,
    Classifier,
    ConvS2SConfig,
    EncoderDecoderConfig,
    Gpt,
    GptConfig,
    LongformerConfig,
    LstmConfig,
    MesaNetConfig,
    Model,
    ModernBertConfig,
    PatchTstConfig,
    T5Config,
    TransformerConfig,
    TransformerXlConfig,
    VitConfig,
)

VOCAB = 20
SIZES = {"dim": 8, "num_heads": 2, "hidden_dim": 8, "dropout": 0.3}
ONE = {"num_layers": 1, **SIZES}
BOTH = {"num_encoder_layers": 1, "num_decoder_layers": 1}
IDS = torch.tensor([[5, 6, 7, 8, 9, 2], [9, 4, 2, 0, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12, 4], [1, 13, 14, 15, 9]])


class Case(NamedTuple):
    """One family in one role.

    Args:
        build: Makes a small model, with dropout.
        inputs: Of a pass: ids, or floating point.
        least: The type of outputs that have no less precision than it.
    """

    build: Callable[[], Model]
    inputs: tuple[Tensor, ...]
    least: torch.dtype = torch.bfloat16

    def output_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type of outputs of a model that computes in `dtype`."""
        is_wider = torch.finfo(self.least).bits > torch.finfo(dtype).bits
        return self.least if is_wider else dtype


def of_text(registry: str, name: str, config: object) -> Case:
    family = {"decoder": DECODERS, "encoder": ENCODERS, "both": ENCODER_DECODERS}[registry][name]
    inputs = (IDS, TARGET) if registry == "both" else (IDS,)
    return Case(lambda: family.model(config, VOCAB, AttentionConfig()), inputs)


TRANSFORMER = TransformerConfig(**BOTH, **SIZES)
LSTM = LstmConfig(**BOTH, dim=8, dropout=0.3)
CONV = ConvS2SConfig(**BOTH, dim=8, dropout=0.3)
PATCH_TST = {"window": 8, "horizon": 3, "patch": 2, "scaled_steps": 4, "num_members": 2, **ONE}
VIT = {"patch_height": 4, "patch_width": 4, "height": 8, "width": 8, **ONE}
CASES = {
    "gpt": of_text("decoder", "gpt", GptConfig(**ONE)),
    "transformer_xl": of_text("decoder", "transformer_xl", TransformerXlConfig(**ONE)),
    "mesanet": of_text("decoder", "mesanet", MesaNetConfig(num_iterations=3, **ONE)),
    "transformer decoder": of_text("decoder", "transformer", TRANSFORMER),
    "lstm decoder": of_text("decoder", "lstm", LSTM),
    "conv_s2s decoder": of_text("decoder", "conv_s2s", CONV),
    "bert": of_text("encoder", "bert", BertConfig(**ONE)),
    "longformer": of_text("encoder", "longformer", LongformerConfig(window=2, **ONE)),
    "modernbert": of_text("encoder", "modernbert", ModernBertConfig(window=2, **ONE)),
    "transformer encoder": of_text("encoder", "transformer", TRANSFORMER),
    "transformer": of_text("both", "transformer", TRANSFORMER),
    "transformer that copies": of_text(
        "both", "transformer", TransformerConfig(**BOTH, **SIZES, has_copy=True)
    )._replace(least=torch.float32),
    "t5": of_text("both", "t5", T5Config(**BOTH, **SIZES)),
    "lstm": of_text("both", "lstm", LSTM),
    "conv_s2s": of_text("both", "conv_s2s", CONV),
    "encoder_decoder": of_text(
        "both",
        "encoder_decoder",
        EncoderDecoderConfig(encoder=BertConfig(**ONE), decoder=GptConfig(**ONE)),
    ),
    "classifier": Case(
        lambda: Classifier(Bert(BertConfig(has_mlm_head=False, **ONE), VOCAB), 3), (IDS,)
    ),
    "vit of images": Case(
        lambda: INPUT_ENCODERS["vit"].model(VitConfig(**VIT), AttentionConfig()),
        (torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8),),
    ),
    "vit of features": Case(
        lambda: INPUT_ENCODERS["vit"].model(
            VitConfig(input="features", num_features=5, **ONE), AttentionConfig()
        ),
        (torch.linspace(-1, 1, 2 * 6 * 5).view(2, 6, 5),),
    ),
    "patch_tst": Case(
        lambda: FORECASTERS["patch_tst"].model(PatchTstConfig(**PATCH_TST), AttentionConfig()),
        (torch.linspace(-1, 1, 2 * 8).view(2, 8).sin(),),
        least=torch.float32,
    ),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def build(case: Case, seed: int = 0) -> Model:
    """Build a model whose outputs show every part, in evaluation mode."""
    torch.manual_seed(seed)
    model = case.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # heads of classifiers begin at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def loss_of(outputs: Tensor) -> Tensor:
    return outputs.float().square().mean()  # the log-sum-exp of log-probabilities is 0


def assert_near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Check the largest difference, as a fraction of the largest number."""
    found, wanted = found.detach().double(), wanted.detach().double()
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def cast(inputs: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)


def test_every_family_is_walked():
    families = {name.split()[0] for name in CASES} - {"classifier"}
    registries = (DECODERS, ENCODERS, ENCODER_DECODERS, INPUT_ENCODERS, FORECASTERS)
    assert families == set().union(*registries)


def test_a_loop_of_ones_own_lowers_the_loss(case):
    model = build(case)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = loss_of(model(*case.inputs))
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model(*case.inputs)).backward()
        optimizer.step()
    assert float(loss_of(model(*case.inputs)).detach()) < float(before.detach())


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients_with_dropout(case, use_reentrant):
    model = build(case).train()
    anchor = torch.ones((), requires_grad=True)  # reentrant checkpointing wants one
    gradients = []
    for is_checkpointed in (False, True):
        model.zero_grad()
        torch.manual_seed(5)

        def whole(anchor: Tensor, *inputs: Tensor) -> Tensor:
            return model(*inputs) * anchor

        if is_checkpointed:
            outputs = checkpoint(whole, anchor, *case.inputs, use_reentrant=use_reentrant)
        else:
            outputs = whole(anchor, *case.inputs)
        torch.rand(3)  # what follows draws, too
        loss_of(outputs).backward()
        used = [p.grad for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat([gradient.flatten() for gradient in used]))
    # PyTorch's kernel of recurrent layers rounds otherwise without a graph.
    assert_near(*gradients, 1e-6)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's own
def test_gradients_of_each_row_at_once_are_those_one_by_one(case):
    model, inputs = build(case).eval().double(), cast(case.inputs, torch.float64)

    def loss(parameters, *row):
        outputs = functional_call(model, parameters, tuple(x[None] for x in row))
        return loss_of(outputs)

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    gradient = torch.func.grad(loss)
    of_rows = torch.vmap(gradient, in_dims=(None, *(0 for _ in inputs)))(parameters, *inputs)
    for i, row in enumerate(zip(*inputs, strict=True)):
        expected = gradient(parameters, *row)
        torch.testing.assert_close({name: g[i] for name, g in of_rows.items()}, expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's own
def test_models_are_stacked_and_mapped_over(case):
    models = [build(case).eval().double() for _ in range(2)]
    inputs = cast(case.inputs, torch.float64)
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.25)
    stacked = torch.func.stack_module_state(models)

    def outputs(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), inputs)

    expected = torch.stack([model(*inputs) for model in models])
    torch.testing.assert_close(torch.vmap(outputs)(*stacked), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "mesanet"])  # they decide by numbers where they may
def test_recorded_operators_of_a_model_give_its_outputs(name):
    case = CASES[name]
    model, inputs = build(case).eval().double(), cast(case.inputs, torch.float64)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(parameters):
        return functional_call(model, parameters, inputs)

    recorded = make_fx(outputs)(parameters)
    torch.testing.assert_close(recorded(parameters), outputs(parameters))


def test_many_cotangents_of_a_model_give_what_each_gives(case):
    model, inputs = build(case).eval().double(), cast(case.inputs, torch.float64)
    parameters, outputs = list(model.parameters()), model(*inputs)
    cotangents = torch.stack([outputs.detach(), outputs.detach().cos()])
    options = {"retain_graph": True, "materialize_grads": True}
    many = torch.autograd.grad(outputs, parameters, cotangents, is_grads_batched=True, **options)
    for i, cotangent in enumerate(cotangents):
        expected = torch.autograd.grad(outputs, parameters, cotangent, **options)
        torch.testing.assert_close(tuple(g[i] for g in many), expected)


def test_the_seed_of_pytorch_decides_the_masks(case):
    model = build(case).train()

    def outputs(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(*case.inputs)

    assert torch.equal(outputs(1), outputs(1))
    assert not torch.equal(outputs(1), outputs(2))


def test_a_deep_copy_is_equal_and_apart(case):
    model = build(case)
    copied = copy.deepcopy(model)
    before = model(*case.inputs)
    assert torch.equal(copied(*case.inputs), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(1.5)
    assert torch.equal(model(*case.inputs), before)


def test_a_state_dict_goes_through_a_file(case):
    model, other = build(case), build(case, seed=1)
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(*case.inputs), model(*case.inputs))


def test_from_the_meta_device_outputs_are_equal_and_tied_weights_one(case):
    model = build(case)
    with torch.device("meta"):
        empty = case.build()
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    empty.to_empty(device="cpu").eval()
    empty.load_state_dict(model.state_dict())
    assert torch.equal(empty(*case.inputs), model(*case.inputs))
    assert len(list(empty.parameters())) == len(list(model.parameters()))


def test_every_tensor_moves_with_the_model(case):
    model = build(case).to("meta")
    tensors = [value for module in model.modules() for value in vars(module).values()]
    tensors += [*model.parameters(), *model.buffers()]
    assert {x.device.type for x in tensors if isinstance(x, Tensor)} == {"meta"}


def test_a_double_model_computes_in_float64(case):
    model = build(case)
    plain = model(*case.inputs)
    exact = model.double()(*cast(case.inputs, torch.float64))
    assert exact.dtype == torch.float64
    assert_near(exact, plain, 1e-5)
    assert not torch.equal(exact, exact.float().double())  # not float32 numbers in float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_computes_in_it(case, dtype):
    model = build(case)
    plain = model(*case.inputs)
    rounded = model.to(dtype)(*cast(case.inputs, dtype))
    assert rounded.dtype == case.output_dtype(dtype)
    assert_near(rounded, plain, 0.05)


def test_a_model_built_in_the_default_type_computes_in_it(case):
    torch.set_default_dtype(torch.float64)
    try:
        model = case.build()
        assert model(*cast(case.inputs, torch.float64)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_autocast_trains_float32_weights(case):
    model = build(case)
    plain = model(*case.inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(*case.inputs)
    assert_near(rounded, plain, 0.05)
    assert not torch.equal(rounded.float(), plain)
    loss_of(rounded).backward()
    types = {p.grad.dtype for p in model.parameters() if p.grad is not None}
    assert types == {torch.float32}


def test_a_set_type_of_activations_ends_with_a_cast(case):
    model = build(case)
    model.compute_dtype = torch.bfloat16
    assert model(*case.inputs).dtype == case.output_dtype(torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.double().compute_dtype == torch.float64
    assert model(*cast(case.inputs, torch.float64)).dtype == torch.float64


def test_tools_find_linear_maps_and_dropout_and_their_hooks_run(case):
    model, called = build(case).train(), set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    model(*case.inputs)
    dropouts = {name for name, module in model.named_modules() if isinstance(module, Dropout)}
    maps = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert maps
    assert dropouts <= called
    # A recurrent layer takes the weights of its maps, for all steps at once.
    of_lstm = {name for name in maps if name.endswith((".input", ".recurrent"))}
    assert maps - called <= of_lstm | {name for name in maps if name.endswith("cross_attention")}


def test_blocks_can_be_checkpointed_one_by_one():
    model = Gpt(GptConfig(**ONE | {"num_layers": 3}), VOCAB).train()

    def gradients() -> list[Tensor]:
        model.zero_grad()
        torch.manual_seed(5)
        loss_of(model(IDS)).backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients()
    for block in model.blocks:
        forward = block.forward
        block.forward = lambda x, forward=forward, **options: checkpoint(
            forward, x, use_reentrant=False, **options
        )
    for found, wanted in zip(gradients(), plain, strict=True):
        assert torch.equal(found, wanted)
