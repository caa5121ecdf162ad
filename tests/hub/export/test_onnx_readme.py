"""The lines of a README, for every kind of model: they give what the model gives.

The graphs are computed by PyTorch here, since tracing takes seconds of a CPU.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.hub.export.onnx_models import (
    ENCODER,
    TEXTS,
    answerer,
    export_untraced,
    opened,
    readme_names,
    text_classifier,
    train_tokenizer,
)
from tests.tasks.classification.input_data import write_wav

from regard.data.readers.audio import LogMelConfig, read_log_mel
from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
from regard.errors import ConfigError
from regard.hub.export.graphs import pool_padded
from regard.hub.hugging_face.sentence_transformers import SentencePooling
from regard.models import BertConfig, LongformerConfig, PatchTstConfig, TransformerConfig, VitConfig
from regard.setup.config import ForecastConfig
from regard.tasks.masked_language_modeling.predictor import pool_states

CONTEXT = "the red cat sees a dog. The dog likes the old tree, and the cat paints it. " * 3
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
VIT = {"num_layers": 1, "dim": 8, "num_heads": 2, "hidden_dim": 8, "num_labels": 3}
LABELS = {"labels": ("a", "b", "c")}

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.mark.parametrize("family", ["bert", "longformer"])
def test_answers_are_those_of_the_model(family, tokenizer, tmp_path, monkeypatch):
    model = BertConfig(**ENCODER, num_segments=2)
    if family == "longformer":
        model = LongformerConfig(**ENCODER, window=4, question_end_id=2)
    own = answerer(model, tokenizer)
    own.threshold = 0.3
    export_untraced(own, tmp_path, monkeypatch)
    answer = readme_names(tmp_path, monkeypatch)["answer"]
    asked = [("What does the cat see?", CONTEXT), ("the " * 40, CONTEXT), ("dog?", "the Dog ran")]
    asked += [("who?", ""), ("Où est l'été 打?", "L'ÉTÉ est 打开 là-bas"), ("cat", "x")]
    for question, context in asked:
        expected = own.answer(question, context)
        found = answer(question, context)
        assert found["answer"] == expected.answer
        assert found["probability"] == pytest.approx(expected.probability, abs=1e-5)
    answers = [own.answer(*row).answer for row in asked]
    assert None in answers and any(answers)  # both kinds were compared


@pytest.mark.parametrize("has_head", [True, False])
def test_masks_and_vectors_are_those_of_the_model(has_head, tokenizer, tmp_path, monkeypatch):
    model = BertConfig(**ENCODER | {"has_mlm_head": has_head})
    own = opened("masked-language-modeling", model, tokenizer)
    if not has_head:
        own.pooling = SentencePooling(("mean", "cls"), True, 12, True, "query: ")
    exported = export_untraced(own, tmp_path, monkeypatch, texts=TEXTS)
    assert exported.texts.is_equal
    names = readme_names(tmp_path, monkeypatch)
    if has_head:
        text = "7 <mask> cat </s>"
        (found,) = names["fill"](text)
        (expected,) = own.fill(text)
        assert [p for _, p in found] == pytest.approx([p for _, p in expected], abs=1e-6)
    else:
        np.testing.assert_allclose(names["embed"](TEXTS), own.embed(TEXTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_padded_states_are_pooled_as_those_of_single_texts(mode):
    states = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 2, 1])
    alone = [
        pool_states(states[row : row + 1, :length], SentencePooling((mode,)))
        for row, length in enumerate(lengths.tolist())
    ]
    torch.testing.assert_close(pool_padded(states, lengths, mode), torch.cat(alone))


def test_images_have_the_labels_of_the_model(tmp_path, monkeypatch):
    sizes = {"height": 4, "width": 6, "channels": 3, "patch_height": 2, "patch_width": 3}
    data = LABELS | {"mean": (90.0, 120.0, 30.0), "std": (40.0, 60.0, 20.0)}
    own = opened("image-classification", VitConfig(**VIT, **sizes), data=data)
    export_untraced(own, tmp_path, monkeypatch)
    images = list(np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6)))
    found = readme_names(tmp_path, monkeypatch)["classify"](images)
    for own_output, probabilities in zip(own.classify(images), found, strict=True):
        assert probabilities == pytest.approx(own_output.probabilities, abs=1e-5)
    with pytest.raises(ConfigError, match="`texts_path=x`: a model of images reads no texts"):
        export_untraced(own, tmp_path, monkeypatch, texts_path="x")


def test_series_far_from_zero_have_the_labels_of_the_model(tmp_path, monkeypatch):
    data = LABELS | {"mean": (1e9, 0.0), "std": (2.0, 1.0), "max_length": 9}
    model = VitConfig(**VIT, input="features", num_features=2, max_positions=12)
    own = opened("series-classification", model, data=data)
    export_untraced(own, tmp_path, monkeypatch)
    generator = np.random.default_rng(0)
    series = [generator.normal((1e9, 0.0), size=(n, 2)) for n in (1, 5, 30)]
    found = readme_names(tmp_path, monkeypatch)["classify"](series)
    with pytest.warns(UserWarning, match="the rest was cut off"):
        expected = own.classify(series)
    for own_output, probabilities in zip(expected, found, strict=True):
        assert probabilities == pytest.approx(own_output.probabilities, abs=1e-5)


@pytest.mark.parametrize("size", [64, 65])
def test_recordings_have_the_labels_of_the_model(size, tmp_path, monkeypatch):
    audio = LogMelConfig(
        sample_rate=8_000, window_size=50, hop_size=20, fft_size=size, num_bands=6, low_hz=20.0
    )
    model = VitConfig(**VIT, input="features", num_features=6, max_positions=80)
    own = opened("audio-classification", model, data=LABELS | {"max_length": 40}, audio=audio)
    export_untraced(own, tmp_path, monkeypatch)
    names = readme_names(tmp_path, monkeypatch)
    samples = np.sin(np.arange(900) ** 1.2 / 9) / 3
    write_wav(tmp_path / "a.wav", samples)
    read = (samples * 32_000).astype("<i2") / 32_768
    frames = names["log_mel"](read, names["classify"].settings)
    np.testing.assert_allclose(frames, read_log_mel(tmp_path / "a.wav", audio), atol=1e-3, rtol=0)
    (found,) = names["classify"]([frames])
    with pytest.warns(UserWarning, match="longer than 40 frames"):
        expected = own.classify(tmp_path / "a.wav")
    assert found == pytest.approx(expected.probabilities, abs=1e-4)


STEPS = {
    "hour": ("day", "week"),
    "30 minutes": ("day",),
    "day": ("week", "month", "year"),
    "month": ("year",),
    "3 rows": (),
}


@pytest.mark.parametrize("step", STEPS)
def test_forecasts_are_those_of_the_model(step, tmp_path, monkeypatch):
    parsed = TimeStep.parse(step)
    settings = ForecastConfig(step=step, cycles=STEPS[step], seasons=(8,), horizon=6)
    own = opened("forecasting", forecaster_config(0), forecast=settings)
    num_calendar = own.calendar.num_features
    own = opened(
        "forecasting",
        forecaster_config(num_calendar),
        forecast=settings,
        data={"mean": (3.0,), "std": (2.0,)},
    )
    own.bands = {"band_95": 1.5, "band_80": 0.5}
    export_untraced(own, tmp_path, monkeypatch)
    forecast = readme_names(tmp_path, monkeypatch)["forecast"]
    generator = np.random.default_rng(0)
    start = "12" if parsed.unit == "row" else "2024-01-31T05:30:00"
    index = TimeIndex(start=start, step=parsed)
    for length in (5, 24, 70):
        values = 1e6 + generator.normal(size=length)
        values[2] = np.nan
        known, observed = generator.normal(size=(length + 6, 1)), generator.normal(size=(length, 1))
        series = TimeSeries(
            path="",
            names=["a"],
            values=[values],
            indices=[index],
            known=[known],
            observed=[observed],
        )
        quantiles = forecast(values, index.starting_at(length).start, known, observed)
        assert list(quantiles)[:2] == ["0.025", "0.1"]
        np.testing.assert_allclose(
            np.array(list(quantiles.values())).T, own.quantiles(series)[0], rtol=0, atol=1e-4
        )


def forecaster_config(num_calendar: int) -> PatchTstConfig:
    return PatchTstConfig(
        **{
            "window": 24,
            "horizon": 6,
            "patch": 8,
            "scaled_steps": 12,
            "num_calendar": num_calendar,
        },
        **{"num_known": 1, "num_observed": 1, "num_layers": 1},
        **{"dim": 8, "num_heads": 2, "hidden_dim": 8},
    )


def test_an_encoder_without_a_last_position_has_no_longest_text(tokenizer, tmp_path, monkeypatch):
    sizes = {"num_encoder_layers": 1, "dim": 8, "num_heads": 2, "hidden_dim": 8}
    own = opened("masked-language-modeling", TransformerConfig(**sizes), tokenizer)
    export_untraced(own, tmp_path, monkeypatch)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["regard"]["max_length"]) == ("transformer", None)
    assert "max_position_embeddings" not in config
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is None


def test_labels_cannot_be_taken_for_lines_of_the_readme(tokenizer, tmp_path, monkeypatch):
    own = text_classifier(
        BertConfig(**ENCODER), tokenizer, labels=("a\n```python\n1/0\n", "b", "c")
    )
    export_untraced(own, tmp_path, monkeypatch)
    assert set(readme_names(tmp_path, monkeypatch)["classify"].labels) == set(own.labels)


def test_windows_may_overlap_by_more_than_they_hold(tokenizer, tmp_path, monkeypatch):
    own = answerer(BertConfig(**ENCODER), tokenizer, overlap=128)
    export_untraced(own, tmp_path, monkeypatch)
    truncation = json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]
    assert (truncation["max_length"], truncation["stride"]) == (30, 6)
    answer = readme_names(tmp_path, monkeypatch)["answer"]
    assert answer("dog?", CONTEXT)["answer"] == own.answer("dog?", CONTEXT).answer


def test_the_settings_of_answers_are_in_the_configuration(tokenizer, tmp_path, monkeypatch):
    own = answerer(BertConfig(**ENCODER), tokenizer)
    own.threshold = 0.25
    export_untraced(own, tmp_path, monkeypatch)
    settings = json.loads((tmp_path / "config.json").read_text())["regard"]
    assert settings["no_answer_threshold"] == 0.25
    assert (settings["max_length"], settings["overlap"], settings["max_answer_tokens"]) == (
        30,
        6,
        5,
    )
