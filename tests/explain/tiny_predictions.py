"""Predictions of small random models of text, to explain."""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.explain.prediction import Baseline, Feature, Output, Prediction
from regard.explain.predictions.classified_text import ClassifiedText
from regard.explain.predictions.continued_text import ContinuedText
from regard.explain.predictions.written_target import WrittenTarget
from regard.models import (
    Bert,
    BertConfig,
    Classifier,
    EncoderDecoder,
    Gpt,
    GptConfig,
    Transformer,
    TransformerConfig,
)

WORDS = "the cat sat on the mat while a dog ran to the old red door of the house"
SIZES: dict[str, Any] = {"dim": 16, "num_heads": 2, "hidden_dim": 24, "dropout": 0.0}
TRANSFORMER = TransformerConfig(  # smooth: an integral of its gradient converges fast
    num_encoder_layers=2, num_decoder_layers=2, activation="gelu", **SIZES
)
LABELS = ("calm", "glad", "sad")


def tokenizer() -> Tokenizer:
    """Return a vocabulary of the words of `WORDS`."""
    return Tokenizer.train([WORDS], TokenizerConfig(kind="word"))


def randomized(model: nn.Module) -> Any:
    """Return a model in evaluation mode with random weights, those that begin at zero too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.4 if parameter.dim() > 1 else 0.1
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(mean + scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def translated(
    model: EncoderDecoder[Any] | None = None,
    *,
    source: str = "the cat sat on the mat",
    target: str = "a dog ran",
    contrast: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> WrittenTarget:
    """Return the prediction of a translation, by a Transformer unless another model is given."""
    words = tokenizer()
    if model is None:
        model = randomized(Transformer(TRANSFORMER, len(words)).to(dtype))
    encoded = [words.encode_text(text) for text in (source, target)]
    other = None if contrast is None else words.encode_text(contrast)
    return WrittenTarget(model, words, *encoded, other)


def copied(*, separator: str | None = None, dtype: torch.dtype = torch.float32) -> WrittenTarget:
    """Return the prediction of a target with words of its source, by a model that copies.

    Args:
        separator: The word that ends a question; None where the source is no question with a text.
        dtype: Of the model.
    """
    separator_id = None if separator is None else tokenizer().encode_text(separator)[0]
    config = msgspec.structs.replace(TRANSFORMER, has_copy=True, separator_id=separator_id)
    model = randomized(Transformer(config, len(tokenizer())).to(dtype))
    torch.nn.init.constant_(model.copy_head.continuation, 3.0)
    return translated(model, target="a cat sat")


def classified(
    text: str = WORDS, *, dtype: torch.dtype = torch.float32, contrast: int | None = None
) -> ClassifiedText:
    """Return the prediction of the label of a text."""
    words = tokenizer()
    config = BertConfig(num_layers=2, max_positions=64, has_mlm_head=False, **SIZES)
    model = randomized(Classifier(Bert(config, len(words)), len(LABELS)).to(dtype))
    (ids,) = words.encode_truncated([text], max_length=64)
    return ClassifiedText(model, words, LABELS, ids, contrast=contrast)


def continued(
    prompt: str = "the cat sat",
    continuation: str = "on the mat",
    *,
    dtype: torch.dtype = torch.float32,
) -> ContinuedText:
    """Return the prediction of a continuation."""
    words = tokenizer()
    model = randomized(Gpt(GptConfig(num_layers=2, **SIZES), len(words)).to(dtype))
    return ContinuedText(
        model,
        words,
        before=words.document_start,
        prompt=words.encode_text(prompt),
        continuation=words.encode_text(continuation),
    )


class Linear(Prediction):
    """Scores that are linear in the weights of features, to compare methods with by hand.

    Args:
        effects: Of each feature on each output, ``[outputs, features]``.
        num_special: How many features at the end are special.
        reads: Which features an output reads, ``[outputs, features]``; None is all.
    """

    unit = "points"

    def __init__(self, effects: Tensor, num_special: int = 0, reads: Tensor | None = None) -> None:
        num_outputs, num_features = effects.shape
        self._effects = effects.double()
        self._reads = torch.ones_like(effects, dtype=torch.bool) if reads is None else reads
        first_special = num_features - num_special
        super().__init__(
            randomized(Gpt(GptConfig(num_layers=1, **SIZES), 9)),
            tuple(Feature(f"{i}", "text", i >= first_special) for i in range(num_features)),
            tuple(Output(f"{i}", 0.0) for i in range(num_outputs)),
            stacks=(),
            readout=torch.full(effects.shape, 1 / num_features),
        )

    @property
    def reads(self) -> Tensor:
        """What was set."""
        return self._reads

    def scores(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute the sums of the effects of weighted features; special ones always have them."""
        weights = weights.mean(-1) if weights.dim() == 3 else weights
        if baseline == "reference":
            weights = torch.where(self.is_special, 1.0, weights)
        effects = self._effects * self._reads
        scores = weights.double() @ effects.T
        return scores if outputs is None else scores.gather(1, outputs[:, None])[:, 0]
