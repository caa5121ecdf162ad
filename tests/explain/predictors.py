"""Small untrained models in use, one for each task."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.models import (
    Bert,
    BertConfig,
    Classifier,
    EncoderDecoder,
    Gpt,
    GptConfig,
    PatchTst,
    PatchTstConfig,
    SpanModel,
    Transformer,
    TransformerConfig,
    Vit,
    VitConfig,
)
from regard.setup.config import DataConfig, ForecastConfig, RunConfig
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.translation.predictor import Translator

TEXTS = ["the cat sat on the mat", "a dog ran to the door", "who sat on the mat ?"]
LABELS = ("calm", "glad", "sad")
SIZES: dict[str, Any] = {"dim": 16, "num_heads": 2, "hidden_dim": 24, "dropout": 0.0}
TRANSFORMER = TransformerConfig(num_encoder_layers=2, num_decoder_layers=2, **SIZES)
BERT = BertConfig(num_layers=2, max_positions=64, has_mlm_head=False, **SIZES)


def tokenizer() -> Tokenizer:
    """Return a vocabulary of the words of `TEXTS`."""
    return Tokenizer.train(TEXTS, TokenizerConfig(kind="word"))


def randomized(model: torch.nn.Module, seed: int = 0) -> Any:
    """Return a model with random weights everywhere, those that begin at zero too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.dim() > 1 else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def translator(model: EncoderDecoder[Any] | None = None) -> Translator:
    """Return a translator, by a Transformer unless another model is given."""
    words = tokenizer()
    if model is None:
        model = randomized(Transformer(TRANSFORMER, len(words)))
    return Translator(model, words, RunConfig(model=TRANSFORMER))


def text_classifier() -> TextClassifier:
    """Return a classifier of texts."""
    words = tokenizer()
    model = randomized(Classifier(Bert(BERT, len(words)), len(LABELS)))
    config = RunConfig(task="classification", model=BERT, data=DataConfig(labels=LABELS))
    return TextClassifier(model, words, config)


def text_generator() -> TextGenerator:
    """Return a language model."""
    words = tokenizer()
    config = GptConfig(num_layers=2, max_positions=64, **SIZES)
    model = randomized(Gpt(config, len(words)))
    return TextGenerator(model, words, RunConfig(task="language-modeling", model=config))


def question_answerer() -> QuestionAnswerer:
    """Return a model that finds answers in windows of 24 tokens."""
    words = tokenizer()
    model = randomized(SpanModel(Bert(BERT, len(words)), has_roles=True))
    config = RunConfig(task="question-answering", model=BERT, data=DataConfig(max_length=24))
    return QuestionAnswerer(model, words, config)


def image_classifier() -> InputClassifier:
    """Return a classifier of images of 4 x 6 pixels in patches of 2 x 2."""
    sizes = {"height": 4, "width": 6, "channels": 1, "patch_height": 2, "patch_width": 2}
    config = VitConfig(input="image", num_layers=2, num_labels=3, **sizes, **SIZES)
    data = DataConfig(labels=LABELS, mean=(0.0,), std=(1.0,))
    return InputClassifier(
        randomized(Vit(config)), RunConfig(task="image-classification", model=config, data=data)
    )


def series_classifier() -> InputClassifier:
    """Return a classifier of rows of three features."""
    config = VitConfig(
        input="features", num_features=3, max_positions=8, num_layers=2, num_labels=3, **SIZES
    )
    data = DataConfig(labels=LABELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    return InputClassifier(
        randomized(Vit(config)), RunConfig(task="series-classification", model=config, data=data)
    )


def forecaster() -> Forecaster:
    """Return a forecaster of four days by the last twelve."""
    config = PatchTstConfig(
        window=12, horizon=4, patch=3, scaled_steps=12, num_members=2, num_layers=2, **SIZES
    )
    forecast = ForecastConfig(horizon=4, seasons=(), step="day", targets=("sales",))
    return Forecaster(
        randomized(PatchTst(config)),
        RunConfig(task="forecasting", model=config, forecast=forecast, data=DataConfig()),
    )


def write_series(path: Path, days: int = 20) -> Path:
    """Write a series of sales by day as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["day", "sales"])
        times = np.datetime64("2026-01-01") + np.arange(days).astype("m8[D]")
        writer.writerows([str(time), 10 + day % 7] for day, time in enumerate(times))
    return path
