from __future__ import annotations

import io
import math

import msgspec
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.derivatives import assert_every_parameter_has_a_gradient, assert_second_derivatives
from tests.models.published_weights import spread

from regard.data.readers.audio import LogMelConfig, log_mel, standardized
from regard.errors import ConfigError, ShapeError
from regard.hub.hugging_face.name_mapping import (
    describe_mismatches,
    match_tensors,
    to_local,
    to_remote,
)
from regard.layers.attention_config import AttentionConfig
from regard.models.vit.hf import VIT_FORMAT
from regard.models.vit.model import Vit, VitConfig

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": (8, 12),
    "patch_size": (4, 2),
    "num_channels": 3,
    "layer_norm_eps": 1e-2,
}
FORMAT = VIT_FORMAT
OWN_SIZES = {"num_layers": 2, "dim": 16, "num_heads": 2, "hidden_dim": 32, "num_labels": 5}
IMAGE = {"height": 4, "width": 6, "channels": 2, "patch_height": 2, "patch_width": 2}
FEATURES = {"input": "features", "num_features": 3, "max_positions": 8}
INPUTS = {"image": IMAGE, "features": FEATURES}
LENGTHS = torch.tensor([7, 3, 1])


@pytest.fixture(scope="module")
def transformers(transformers):
    assert transformers.ViTForImageClassification  # imported on first use, which takes its time
    return transformers


def saved(theirs, folder):
    """Save a model as published ones are, whose names are others than those in memory."""
    from safetensors.torch import load_file

    theirs.save_pretrained(folder)
    fields = msgspec.json.decode((folder / "config.json").read_bytes())
    return fields, load_file(folder / "model.safetensors")


def load(theirs, folder):
    """Build our model of the same weights, all of which must have a place."""
    fields, tensors = saved(theirs, folder)
    config = FORMAT.adapt(FORMAT.read(fields), set(tensors))
    ours = Vit(config).eval()
    parameters, mappings = dict(ours.named_parameters()), FORMAT.map_parameters(config)
    assert sorted(mapping.local for mapping in mappings) == sorted(parameters)
    parts = match_tensors(folder, FORMAT, mappings, tensors)
    with torch.no_grad():
        for mapping in mappings:
            assert not describe_mismatches(mapping, parameters[mapping.local].shape, parts)
            parameters[mapping.local].copy_(to_local(mapping, parts))
    return ours


def assert_near(ours, theirs):
    """Compare by the standard deviation of theirs."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).detach().abs().max()) < 1e-4 * float(theirs.detach().std())


def pixels_of(config: VitConfig, batch: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    shape = (batch, config.channels, config.height, config.width)
    return torch.randn(shape, generator=generator, dtype=dtype)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 3, 4, 6]),
    activation=st.sampled_from(["gelu", "gelu_new", "relu"]),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    tiles=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 4),
    labels=st.integers(2, 7),
    batch=st.integers(1, 3),
)
def test_logits_are_those_of_transformers(
    transformers,
    tmp_path_factory,
    layers,
    heads,
    activation,
    patch,
    tiles,
    channels,
    labels,
    batch,
):
    changes = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": activation,
        "patch_size": patch,
        "image_size": (patch[0] * tiles[0], patch[1] * tiles[1]),
        "num_channels": channels,
        "num_labels": labels,
    }
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL | changes))
    spread(theirs.eval())
    ours = load(theirs, tmp_path_factory.mktemp("vit"))
    pixels = pixels_of(ours.config, batch)
    assert_near(ours(pixels), theirs(pixels).logits)


def test_states_and_vector_of_a_bare_encoder_are_those_of_transformers(transformers, tmp_path):
    changes = {"image_size": 9, "patch_size": 3}
    theirs = transformers.ViTModel(transformers.ViTConfig(**SMALL | changes)).eval()
    spread(theirs)
    ours = load(theirs, tmp_path)
    assert (ours.config.has_pooler, ours.config.num_labels) == (True, 0)
    pixels = pixels_of(ours.config, 3)
    expected, hidden = theirs(pixels), ours.hidden_states(pixels)
    assert_near(hidden, expected.last_hidden_state)
    assert_near(ours.pooled(hidden), expected.pooler_output)


def test_an_encoder_with_the_token_of_masked_patches_is_read(transformers, tmp_path):
    config = transformers.ViTConfig(**SMALL)
    theirs = transformers.ViTModel(config, add_pooling_layer=False, use_mask_token=True).eval()
    spread(theirs)
    ours = load(theirs, tmp_path)
    assert not ours.config.has_pooler
    pixels = pixels_of(ours.config, 2)
    assert_near(ours.hidden_states(pixels), theirs(pixels).last_hidden_state)


@pytest.mark.parametrize("changes", [{"num_labels": 3}, {"num_labels": 0, "has_pooler": True}])
def test_a_model_written_opens_in_transformers(transformers, tmp_path, changes):
    from safetensors.torch import save_file

    model, pixels = build("image", **changes)
    model.float().compute_dtype = torch.float32
    fields, parameters = FORMAT.write(model.config, 1), dict(model.named_parameters())
    tensors = to_remote(FORMAT.map_parameters(model.config), parameters)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(fields))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    theirs = getattr(transformers, fields["architectures"][0]).from_pretrained(tmp_path).eval()
    found = theirs(pixels.float())
    if model.num_labels:
        assert_near(model(pixels), found.logits)
    else:
        assert_near(model.pooled(model.hidden_states(pixels)), found.pooler_output)
    adapted = FORMAT.adapt(FORMAT.read(saved(theirs, tmp_path / "again")[0]), set(tensors))
    assert adapted == model.config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"qkv_bias": False},
            "config.json: qkv_bias=false: no such variant here, qkv_bias=true alone is computed.",
        ),
        (
            {"pooler_output_size": 9, "hidden_size": 8},
            "config.json: pooler_output_size=9: no such variant here, pooler_output_size=8 alone "
            "is computed.",
        ),
        (
            {"image_size": [8, 8, 8]},
            "config.json: image_size=[8, 8, 8]: expected a whole number, or two: height and width.",
        ),
        (
            {"patch_size": 1.5},
            "config.json: patch_size=1.5: expected a whole number, or two: height and width.",
        ),
    ],
)
def test_what_is_not_computed_is_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        FORMAT.read(fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "features"}, "model.input=features: vit checkpoints have image"),
        ({"pooling": "mean"}, "model.pooling=mean: vit checkpoints have first"),
        ({"has_pooler": True}, "model.has_pooler=true: vit checkpoints have false"),
    ],
)
def test_a_model_that_the_format_cannot_express_is_not_written(changes, message):
    with pytest.raises(ConfigError) as caught:
        FORMAT.write(VitConfig(**changes), 1)
    assert str(caught.value) == message + " only."


def test_a_gated_model_is_not_written():
    with pytest.raises(ConfigError) as caught:
        FORMAT.write(VitConfig(activation="swiglu"), 1)
    assert str(caught.value) == (
        "model.activation=swiglu: vit checkpoints have gelu, gelu_tanh, relu only."
    )


def build(kind: str, attention: AttentionConfig | None = None, **changes):
    """Build a small model in float64, in evaluation mode, with inputs."""
    torch.manual_seed(0)
    config = VitConfig(**OWN_SIZES | INPUTS[kind] | changes)
    model = Vit(config, attention or AttentionConfig()).double().eval()
    model.compute_dtype = torch.float64
    with torch.no_grad():  # larger than initial weights, so that all parts show
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                bound = parameter.shape[-1] ** -0.5
                parameter.normal_(std=2.0 if "front_end" in name else 2.0 * bound)
    shape = (3, 2, 4, 6) if kind == "image" else (3, 7, 3)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return model, inputs


def loss_of(model, inputs):
    lengths = LENGTHS if model.config.input == "features" else None
    return model(inputs, lengths).logsumexp(-1).sum()


@pytest.fixture(params=INPUTS)
def kind(request):
    return request.param


def test_logits_have_one_row_an_input(kind):
    model, inputs = build(kind)
    assert model(inputs).shape == (3, 5)
    assert model.hidden_states(inputs).shape == (3, 7 if kind == "image" else 8, 16)


def test_logits_are_those_of_the_class_token(kind):
    model, inputs = build(kind)
    torch.testing.assert_close(model(inputs), model.head(model.hidden_states(inputs)[:, 0]))


def test_every_patch_matters():
    model, pixels = build("image")
    before = model(pixels)
    for down in range(4):
        for across in range(6):
            changed = pixels.clone()
            changed[:, 1, down, across] += 1.0
            assert bool(((model(changed) - before).abs().amax(-1) > 1e-6).all())


def test_the_order_of_patches_matters(kind):
    model, inputs = build(kind)
    turned = inputs.flip(-1) if kind == "image" else inputs.flip(1)
    assert not torch.allclose(model(turned), model(inputs))


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("has_pooler", [False, True])
def test_padding_of_features_changes_nothing(pooling, has_pooler):
    model, rows = build("features", pooling=pooling, has_pooler=has_pooler)
    whole, hidden = model(rows, LENGTHS), model.hidden_states(rows, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = rows[row : row + 1, :length]
        torch.testing.assert_close(whole[row : row + 1], model(alone), rtol=0, atol=1e-12)
        states = hidden[row : row + 1, : length + 1]
        torch.testing.assert_close(states, model.hidden_states(alone), rtol=0, atol=1e-12)


def test_a_row_without_features_is_finite():
    for pooling in ("first", "mean"):
        model, rows = build("features", pooling=pooling)
        assert bool(model(rows, torch.tensor([0, 7, 2])).isfinite().all())
        assert bool(model(rows[:, :0], torch.tensor([0, 0, 0])).isfinite().all())


def test_the_mean_leaves_the_class_token_out():
    model, pixels = build("image", pooling="mean")
    expected = model.head(model.hidden_states(pixels)[:, 1:].mean(1))
    torch.testing.assert_close(model(pixels), expected)


@pytest.mark.parametrize(
    "changes", [{}, {"pooling": "mean", "has_pooler": True, "activation": "swiglu"}]
)
def test_every_parameter_gets_a_gradient(kind, changes):
    model, inputs = build(kind, **changes, **({"max_positions": 7} if kind == "features" else {}))
    assert_every_parameter_has_a_gradient(model, lambda built: loss_of(built, inputs))


def test_second_derivatives_are_those_of_the_gradient(kind):
    model, inputs = build(kind)
    assert_second_derivatives(model, lambda built: loss_of(built, inputs))


def test_dropout_is_on_in_training_and_off_in_evaluation(kind):
    model, inputs = build(kind, dropout=0.5)
    assert torch.equal(model(inputs), model(inputs))
    model.train()
    torch.manual_seed(1)
    first = model(inputs)
    assert not torch.allclose(first, model(inputs))
    torch.manual_seed(1)
    torch.testing.assert_close(model(inputs), first, rtol=0, atol=0)


def test_weights_stay_float32_while_activations_are_bfloat16(kind):
    model, inputs = build(kind, has_pooler=True)
    model.float().compute_dtype = torch.bfloat16
    logits = model(inputs)
    assert logits.dtype == torch.bfloat16
    logits.float().logsumexp(-1).sum().backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_bfloat16_logits_are_near_those_of_float64(kind, pooling):
    model, inputs = build(kind, pooling=pooling)
    exact = model(inputs).detach()
    model.compute_dtype = torch.bfloat16
    rounded = model(inputs).detach().double()
    # 8 bits of mantissa through two layers and the head.
    assert float((rounded - exact).abs().max()) < 0.1 * float(exact.std())


@pytest.mark.parametrize(
    "pattern",
    [
        "full",
        "local:2",
        "local:2|global:0",
        "strided:2",
        "local:0.3",
        "random:2:1",
        "top_k:2",
        "hierarchical:2",
    ],
)
def test_it_attends_by_any_pattern(kind, pattern):
    model, inputs = build(kind, AttentionConfig(encoder=pattern), pooling="mean")
    whole = loss_of(model, inputs)
    whole.backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    if kind == "features":
        rows = enumerate(LENGTHS.tolist())
        alone = [model(inputs[row : row + 1, :length]) for row, length in rows]
        torch.testing.assert_close(torch.cat(alone).logsumexp(-1).sum(), whole)


@pytest.mark.parametrize("pattern", ["local:1", "strided:3", "top_k:2", "hierarchical:2"])
def test_another_pattern_gives_other_logits(kind, pattern):
    model, inputs = build(kind, AttentionConfig(encoder=pattern))
    assert not torch.allclose(model(inputs), build(kind)[0](inputs))


@pytest.mark.parametrize("name", ["decoder", "cross"])
def test_a_pattern_for_a_decoder_is_refused(name):
    with pytest.raises(ConfigError, match=rf"attention\.{name}=local:4: vit has no decoder"):
        build("image", AttentionConfig(**{name: "local:4"}))


def test_the_memory_of_attention_is_reported(kind):
    model, _ = build(kind)
    assert model.attention_bytes(AttentionConfig(), 200) > 0


def test_a_state_dict_round_trip_gives_equal_logits(kind):
    (model, inputs), (other, _) = build(kind), build(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(model(inputs), other(inputs))


def test_a_new_model_holds_all_labels_for_as_likely(kind):
    assert not Vit(VitConfig(**OWN_SIZES | INPUTS[kind]))(build(kind)[1].float()).any()


def test_logits_without_a_head_are_refused():
    model, pixels = build("image", num_labels=0)
    with pytest.raises(ConfigError) as caught:
        model(pixels)
    assert str(caught.value) == (
        "num_labels=0: the model has hidden states and vectors, no logits of labels.  "
        "Use hidden_states(inputs) or pooled(hidden), or load weights that hold the head."
    )


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (
            "image",
            (1, 2, 4, 8),
            "pixels are [1, 2, 4, 8]; [batch, 2, 4, 6] is expected (channels, height, width).  "
            "Scale or crop the images.",
        ),
        (
            "image",
            (2, 4, 6),
            "pixels are [2, 4, 6]; [batch, 2, 4, 6] is expected (channels, height, width).  "
            "Scale or crop the images.",
        ),
        ("features", (1, 5, 4), "features are [1, 5, 4]; [batch, length, 3] is expected."),
        ("features", (5, 3), "features are [5, 3]; [batch, length, 3] is expected."),
    ],
)
def test_inputs_of_another_shape_are_refused(kind, shape, message):
    with pytest.raises(ShapeError) as caught:
        build(kind)[0](torch.zeros(shape))
    assert str(caught.value) == message


def test_lengths_of_images_are_refused():
    model, pixels = build("image")
    with pytest.raises(ShapeError) as caught:
        model(pixels, LENGTHS)
    assert str(caught.value) == "lengths: images have none, all patches are seen.  Leave them out."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 10, "num_heads": 3}, "dim must be a multiple of num_heads (3): 10"),
        ({"height": 225}, "height must be a multiple of patch_height (16): 225"),
        ({"patch_width": 5}, "width must be a multiple of patch_width (5): 224"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"channels": 0}, "channels must be 1 or more, not 0"),
        ({"num_labels": -1}, "num_labels must be 0 or more, not -1"),
        ({"epsilon": 0.0}, "epsilon must be above 0, not 0.0"),
    ],
)
def test_dimensions_are_checked(changes, message):
    with pytest.raises(ValueError) as caught:
        VitConfig(**changes)
    assert str(caught.value) == message


def test_a_summary_tells_the_dimensions():
    assert VitConfig().summary(AttentionConfig()) == (
        "12 layers, d=768, 12 heads, ff 3072, images 224x224x3 in patches of 16x16, attention full"
    )
    assert VitConfig(input="features").summary(AttentionConfig()) == (
        "12 layers, d=768, 12 heads, ff 3072, rows of 40 features, attention full"
    )


def fit(model, batches):
    """Take one step on each batch of inputs, as a tuple, and labels."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for inputs, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(*inputs), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@pytest.mark.slow
def test_it_learns_32_images_by_heart():
    torch.manual_seed(3)
    model = Vit(VitConfig(**OWN_SIZES | IMAGE | {"dropout": 0.0}))
    pixels, labels = torch.randn(32, 2, 4, 6), torch.randint(5, (32,))
    fit(model, [((pixels,), labels)] * 80)
    assert torch.equal(model(pixels).argmax(-1), labels)


@pytest.mark.slow
def test_it_tells_rising_from_falling_tones():
    config = LogMelConfig(sample_rate=8_000, fft_size=256, window_size=256, hop_size=128)
    rows = msgspec.structs.replace(config, num_bands=16)
    frames, labels = [], []
    generator = torch.Generator().manual_seed(4)
    for number in range(48):
        seconds = torch.arange(2_000 + 300 * (number % 4)) / 8_000
        slope = 1_500.0 if number % 2 else -1_500.0
        start = 1_200.0 + 600.0 * float(torch.rand((), generator=generator))
        hz = start + slope * (seconds / 2 - 0.1)
        wave = torch.sin(2 * math.pi * hz * seconds)
        frames.append(standardized(log_mel(wave, rows)))
        labels.append(number % 2)
    lengths = torch.tensor([len(frame) for frame in frames])
    padded, labels = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True), torch.tensor(labels)
    torch.manual_seed(3)
    sizes = OWN_SIZES | {"num_labels": 2, "dropout": 0.0}
    model = Vit(VitConfig(**sizes, input="features", num_features=16, max_positions=32))
    fit(model, [((padded[:32], lengths[:32]), labels[:32])] * 40)
    found = model.eval()(padded[32:], lengths[32:]).argmax(-1)
    assert float((found == labels[32:]).float().mean()) > 0.9


def test_it_learns_handwritten_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    images, digits = datasets.load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8.0 - 1.0
    labels = torch.tensor(digits)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[450:], order[:450]
    torch.manual_seed(0)
    sizes = {"height": 8, "width": 8, "channels": 1, "patch_height": 2, "patch_width": 2}
    model = Vit(
        VitConfig(
            **sizes, num_layers=2, dim=32, num_heads=4, hidden_dim=64, dropout=0.0, num_labels=10
        )
    )
    epochs = torch.cat([train[torch.randperm(len(train))] for _ in range(5)])
    fit(model, (((pixels[rows],), labels[rows]) for rows in epochs.split(64)))
    found = model.eval()(pixels[test]).argmax(-1)
    assert float((found == labels[test]).float().mean()) > 0.9
