"""Runs of the other families: trained, opened, aligned, described."""

from __future__ import annotations

import pytest
from tests.settings.words import apply_settings
from tests.setup.decide import decide

from regard import load
from regard.cli.translate import translate
from regard.cli.wording import error_text
from regard.errors import ConfigError
from regard.models import ENCODER_DECODERS
from regard.runs.information import inspect_folder
from regard.runs.run import train
from regard.settings.binding import describe, from_toml, to_toml
from regard.setup.build import build_model
from regard.setup.config import RunConfig
from regard.setup.estimate import predict_training_bytes
from regard.setup.presets import SEQ2SEQ_PRESETS
from regard.tasks import TASKS

SHORT = (
    "preset=tiny",
    "tokenizer.vocab_size=400",
    "training.batch_tokens=256",
    "training.epochs=1",
)
SMALL = (
    "model.dim=16",
    "model.num_encoder_layers=1",
    "model.num_decoder_layers=1",
    *SHORT,
)
PAIR = (
    "model.encoder.family=longformer",
    "model.decoder.family=transformer_xl",
    *(
        f"model.{side}.{size}"
        for side, dim in (("encoder", 8), ("decoder", 16))
        for size in (f"dim={dim}", "num_layers=1", "num_heads=2", "hidden_dim=16")
    ),
    *SHORT,
)


@pytest.fixture(scope="module", params=["lstm", "conv_s2s", "encoder_decoder"])
def folder(request, tmp_path_factory, pairs_file):
    path = tmp_path_factory.mktemp("families") / request.param
    sizes = PAIR if request.param == "encoder_decoder" else SMALL
    train(pairs_file, path, settings=[f"model.family={request.param}", *sizes])
    return path


@pytest.mark.slow
def test_a_run_trains_the_family_that_is_set(folder):
    translator = load(folder)
    assert isinstance(translator.model, ENCODER_DECODERS[folder.name].model)
    assert f'[model]\nfamily = "{folder.name}"' in (folder / "config.toml").read_text()
    assert len(translator.translate(["7 red cat sees the dog", ""])) == 2


def test_its_output_is_aligned_with_its_source(folder):
    alignment = load(folder).align("7 red cat", "7 Katze rot")
    assert len(alignment.weights) == len(alignment.target_pieces)
    for row in alignment.weights:
        assert len(row) == len(alignment.source_pieces)
        assert sum(row) == pytest.approx(1.0, abs=1e-5)


def test_information_and_card_name_the_family(folder):
    found, _ = inspect_folder(folder)
    sizes = {
        "encoder_decoder": "longformer (1 layers, d=8, 2 heads, ff 16, pre-norm, attention full, "
        "window 128, 1 global) + transformer_xl (1 layers, d=16, "
    }.get(folder.name, "1+1 layers, d=16, ")
    assert found.summary.startswith(f"{folder.name} tiny   {sizes}")
    assert found.summary in (folder / "README.md").read_text()


@pytest.mark.slow
def test_a_model_without_attention_has_no_alignment(tmp_path, pairs_file):
    settings = ["model.family=lstm", "model.attention=none", *SMALL]
    translator = train(pairs_file, tmp_path / "model", settings=settings)
    with pytest.raises(ConfigError) as raised:
        translator.align("7 red cat", "7 Katze rot")
    assert str(raised.value) == (
        "the model has no attention over its source to align by.  "
        "Train one with `model.attention=luong` or `model.attention=bahdanau`."
    )


@pytest.mark.slow
def test_a_pattern_of_self_attention_is_refused_before_training(tmp_path, pairs_file):
    with pytest.raises(ConfigError, match="lstm has no self-attention"):
        train(
            pairs_file,
            tmp_path / "model",
            settings=["model.family=lstm", "attention.pattern=local:4", *SMALL],
        )


@pytest.mark.parametrize("family", ENCODER_DECODERS)
@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_every_family_has_every_preset(family, preset):
    config = decide(f"model.family={family}", f"preset={preset}")
    assert config.model == SEQ2SEQ_PRESETS[family][preset].model
    assert config.optimizer.learning_rate == SEQ2SEQ_PRESETS[family][preset].learning_rate
    assert TASKS["translation"].summarize(config).startswith(f"{family} {preset}   ")


def test_a_side_of_another_family_has_the_sizes_of_the_transformer():
    settings = ["model.family=encoder_decoder", "model.decoder.family=mesanet"]
    settings += ["model.decoder.dropout=0.3", "model.encoder.family=longformer"]
    config = decide(*settings, "preset=base")
    encoder, decoder = config.model.encoder, config.model.decoder
    like = SEQ2SEQ_PRESETS["transformer"]["base"].model
    for side, layers in ((encoder, like.num_encoder_layers), (decoder, like.num_decoder_layers)):
        assert (side.num_layers, side.dim, side.num_heads) == (layers, like.dim, like.num_heads)
    assert (encoder.dropout, decoder.dropout, decoder.hidden_dim) == (0.1, 0.3, 1536)


def test_dropout_that_nobody_chose_is_dropped_on_both_sides():
    settings = ("preset=small", "model.family=encoder_decoder", "model.decoder.dropout=0.3")
    short = decide(*settings, "training.epochs=1").model
    assert (short.encoder.dropout, short.decoder.dropout) == (0.0, 0.3)
    long = decide(*settings, "training.epochs=10").model
    assert (long.encoder.dropout, long.decoder.dropout) == (0.1, 0.3)
    full_batch = decide(*settings, "optimizer.name=lbfgs").model
    assert (full_batch.encoder.dropout, full_batch.decoder.dropout) == (0.0, 0.3)


WHOLE = [family for family in ENCODER_DECODERS if family != "encoder_decoder"]


@pytest.mark.parametrize("family", WHOLE)
def test_what_is_set_stays_in_a_preset(family):
    settings = [f"model.family={family}", "model.dim=32", "model.dropout=0.3"]
    config = decide(*settings, "preset=tiny", "training.epochs=1")
    assert config.model.dim == 32
    assert config.model.dropout == 0.3
    assert (
        config.model.num_encoder_layers == SEQ2SEQ_PRESETS[family]["tiny"].model.num_encoder_layers
    )


def test_a_configuration_of_two_sides_comes_back_from_toml():
    settings = ["model.family=encoder_decoder", *PAIR]
    config = apply_settings(RunConfig(), settings)
    text = to_toml(config)
    assert '[model.encoder]\nfamily = "longformer"\n' in text
    assert from_toml(text, RunConfig, name="config.toml") == config


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_a_configuration_of_every_family_comes_back_from_toml(family):
    config = apply_settings(RunConfig(), [f"model.family={family}"])
    assert from_toml(to_toml(config), RunConfig, name="config.toml") == config


def test_a_configuration_without_a_family_is_a_transformer():
    config = from_toml("[model]\ndim = 64\nnum_heads = 2", RunConfig, name="config.toml")
    assert type(config.model) is ENCODER_DECODERS["transformer"].config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["model.family=ltsm"],
            "model.family=ltsm: one of transformer, t5, lstm, conv_s2s, encoder_decoder, gpt, "
            "transformer_xl, mesanet, bert, longformer, modernbert, vit, patch_tst was expected.  "
            "Did you mean lstm?",
        ),
        (
            ["model.family=lstm", "model.num_heads=2"],
            "unknown setting model.num_heads.  It goes with model.family=transformer or t5 or "
            "gpt or transformer_xl or mesanet or bert or longformer or modernbert or vit or "
            "patch_tst.  "
            "All: regard train --help-config model",
        ),
        (
            ["model.family=conv_s2s", "model.gates=2"],
            "unknown setting model.gates.  model.family=conv_s2s has num_encoder_layers, "
            "num_decoder_layers, dim, kernel_width, dropout, positions, max_positions, tied.  "
            "All: regard train --help-config model",
        ),
        (
            ["model.encoder.family=bert"],
            "unknown section model.encoder.  It goes with model.family=encoder_decoder.  "
            "All: regard train --help-config model",
        ),
        (
            ["model.family=encoder_decoder", "model.encoder.window=64"],
            "unknown setting model.encoder.window.  Did you mean model.decoder.window?  "
            "It goes with model.encoder.family=longformer or modernbert.  "
            "All: regard train --help-config model.encoder",
        ),
    ],
)
def test_a_setting_that_does_not_fit_the_family_is_refused(settings, message):
    with pytest.raises(ConfigError) as raised:
        apply_settings(RunConfig(), settings)
    assert error_text(raised.value) == message


def test_help_lists_the_settings_of_every_family():
    text = describe(RunConfig, "model")
    for name in ("model.family", "model.num_heads", "model.luong_score", "model.kernel_width"):
        assert f"\n{name} " in text
    text = describe(RunConfig, "model.decoder")
    for name in ("model.decoder.family", "model.decoder.memory", "model.decoder.conv_width"):
        assert f"\n{name} " in text


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_longer_texts_are_predicted_to_take_more_memory(family):
    config = decide(f"model.family={family}")
    model = build_model(config, 300, TASKS["translation"])
    short, long = (predict_training_bytes(model, config.attention, 4096, n) for n in (64, 2048))
    assert long > short


def test_additive_attention_is_predicted_to_hold_every_pair():
    predicted = []
    for attention in ("luong", "bahdanau"):
        config = decide("model.family=lstm", f"model.attention={attention}")
        model = build_model(config, 300, TASKS["translation"])
        predicted.append(predict_training_bytes(model, config.attention, 1024, 1024))
    assert predicted[1] - predicted[0] > 0.9 * 1024 * 1024 * 192 * 4


def test_the_command_aligns(folder, capsys):
    translate(str(folder), "7 red cat", align=True)
    assert capsys.readouterr().out
