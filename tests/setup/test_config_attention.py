"""``attention.*`` from the setting to the folder and back."""

import pytest
from tests.conftest import TINY
from tests.settings.words import apply_settings
from tests.setup.decide import decide

from regard import load
from regard.attention import Causal, Full, Local, TopK
from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.layers.attention_config import AttentionConfig
from regard.layers.transformer_block import TransformerBlock
from regard.runs.information import inspect_folder
from regard.runs.run import resume, train
from regard.settings.binding import describe, from_toml, to_toml
from regard.setup.config import RunConfig
from regard.training.events import Saved

SETTINGS = (
    *TINY,
    "model.num_decoder_layers=2",
    "training.epochs=1",
    "training.checkpoint_seconds=0.0",
    'attention.pattern=["local:2", "top_k:3"]',
    "attention.cross=local:20|global:0",
)
NO_WINDOW = "the window must be 1 or more (or a fraction of the length, e.g. local:0.1)."
SENTENCES = ["3 red cat sees the dog", "12 old house likes the river"]


class Crash(Exception):  # noqa: N818 - it stands for an event
    """Stands for a power cut."""


def crash(event):
    if isinstance(event, Saved) and event.step >= 2:
        raise Crash


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pairs_file):
    """A model trained with sparse attention, without interruption."""
    folder = tmp_path_factory.mktemp("sparse") / "model"
    train(pairs_file, folder, settings=SETTINGS)
    return folder


@pytest.mark.slow
def test_an_opened_folder_attends_as_it_was_trained(folder):
    model = load(folder).model
    blocks = [block for block in model.encoder if isinstance(block, TransformerBlock)]
    assert [block.self_attention.pattern for block in blocks] == [Local(2, 2)]
    found = [block.self_attention.pattern for block in model.decoder_blocks]
    assert found == [Local(2, 0) & Causal(), TopK(3, causal=True)]
    assert repr(model.decoder_blocks[1].cross_attention.pattern).startswith("(Local(before=20")


@pytest.mark.slow
def test_a_model_with_sparse_attention_translates_and_aligns(folder):
    translator = load(folder)
    assert len(translator.translate(SENTENCES, beam=2)) == 2
    alignment = translator.align(SENTENCES[0], "3 roter Katze sieht Hund")
    assert len(alignment.weights) == len(alignment.target_pieces)
    for row in alignment.weights:
        assert sum(row) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_a_run_with_sparse_attention_resumes_to_the_same_bits(folder, tmp_path, pairs_file):
    with pytest.raises(Crash):
        train(pairs_file, tmp_path / "model", settings=SETTINGS, report=crash)
    resume(tmp_path / "model")
    found, wanted = ModelFolder(tmp_path / "model"), ModelFolder(folder)
    assert found.weights_path.read_bytes() == wanted.weights_path.read_bytes()


@pytest.mark.slow
def test_information_tells_the_patterns(folder):
    found = inspect_folder(folder)[0]
    assert found.summary.endswith(
        "attention encoder local:2 / top_k:3, decoder local:2 / top_k:3, "
        "cross local:20|global:0, copy mechanism"
    )
    assert found.config.attention.pattern == ("local:2", "top_k:3")


def test_a_setting_outlives_the_preset():
    config = decide("attention.pattern=local:2,0")
    assert config.attention == AttentionConfig(pattern="local:2,0")
    config = apply_settings(config, ["attention.pattern=full"])
    assert config.attention == AttentionConfig()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("attention.pattern=global:0,5", AttentionConfig(pattern="global:0,5")),
        ('attention.encoder=["global:0,5"]', AttentionConfig(encoder=("global:0,5",))),
        ("attention.encoder=none", AttentionConfig()),
        ("attention.pattern=['local:4','full']", AttentionConfig(pattern=("local:4", "full"))),
    ],
)
def test_a_setting_is_a_pattern_or_a_list(setting, expected):
    assert apply_settings(RunConfig(), [setting]).attention == expected


def test_toml_holds_the_patterns_once():
    config = apply_settings(RunConfig(), ['attention.decoder=["local:4","full"]'])
    text = to_toml(config)
    assert text.count('pattern = "full"') == 1
    assert "[model.attention]" not in text
    assert from_toml(text, RunConfig, name="config.toml") == config


def test_a_configuration_from_before_the_section_attends_fully():
    text = to_toml(RunConfig())
    section = text[text.index("[attention]") : text.index("[training]")]
    config = from_toml(text.replace(section, ""), RunConfig, name="config.toml")
    assert config.attention.encoder_patterns(1) == [Full()]


def test_a_bad_pattern_names_the_setting():
    with pytest.raises(ConfigError) as raised:
        apply_settings(RunConfig(), ["attention.decoder=local:0"])
    assert str(raised.value) == f"attention.decoder=local:0: {NO_WINDOW}"


def test_a_bad_pattern_in_a_file_names_the_file_too():
    with pytest.raises(ConfigError) as raised:
        from_toml("[attention]\npattern = 'local:0'", RunConfig, name="run.toml")
    assert str(raised.value) == f"run.toml: attention.pattern=local:0: {NO_WINDOW}"


def test_a_value_of_another_type_says_what_is_expected():
    with pytest.raises(ConfigError) as raised:
        from_toml("[attention]\npattern = 3", RunConfig, name="run.toml")
    assert str(raised.value) == (
        "run.toml: attention.pattern=3: text or a bracketed list of text was expected."
    )


def test_attention_has_one_section():
    with pytest.raises(ConfigError) as raised:
        apply_settings(RunConfig(), ["model.attention.pattern=local:3"])
    message = str(raised.value)
    assert message.startswith("unknown section model.attention.  Did you mean attention?")
    assert "model.attention." not in describe(RunConfig)


def test_the_meaning_of_the_settings_is_reported():
    text = describe(RunConfig, "attention")
    assert "attention.cross" in text
    assert "local:256|global:0" in text
