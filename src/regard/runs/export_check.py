"""A model exported, read again, and compared with the one it was made from.

Its outputs on texts, cut into tokens by its own vocabulary, are compared with those of the folder
that was written, opened here and, where it is installed, in ``transformers``. The exported
vocabulary must cut the texts into the same tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from regard.errors import ConfigError, WeightsError
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.export import EXPORTS, TrainedModel
from regard.models import Classifier, Decoder, Encoder, EncoderDecoder, Model, TextModel, Vit
from regard.setup.config import RunConfig
from regard.tasks.loading import open_published
from regard.tasks.translation.loss import special_ids

_CHECKED_TEXTS = 8
_CHECKED_TOKENS = 24  # of a text
_WORDS = 12  # of a text that is made of a vocabulary
_SAMPLED_TOKENS = 500  # of a vocabulary, among which words are found
_CHECKED_IMAGES = 4
_INPUTS = {
    "image-classification": "images",
    "audio-classification": "recordings",
    "series-classification": "series",
}


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and how it compares.

    Args:
        folder: Where it is.
        model_type: Its published layout.
        difference: Largest difference of a logit between the model and what was read back.
        scale: Standard deviation of the logits.
        peer_difference: Largest difference to ``transformers``; None where it is not installed.
    """

    folder: str
    model_type: str
    difference: float
    scale: float
    peer_difference: float | None


def export_model(
    opened: Any, output: str | Path, to: str = "hf", *, texts: Sequence[str] = ()
) -> Exported:
    """Write a model for others, read it again and compare.

    Args:
        opened: A model as `regard.load` returns it.
        output: Folder to write.
        to: Format, one of `EXPORTS`.
        texts: On which the outputs are compared; without any they are made of the words of the
            vocabulary.

    Raises:
        ConfigError: There is no such format, or it cannot express the model.
        WeightsError: The exported vocabulary cuts a text into other tokens.
    """
    if to not in EXPORTS:
        raise ConfigError(f"`to={to}`: one of {', '.join(EXPORTS)} was expected.")
    folder = Path(output)
    model_type = EXPORTS[to](_trained_model(opened), folder)
    again: Any = open_published(folder)
    if not isinstance(opened.model, Vit):
        texts = texts or vocabulary_texts(opened.tokenizer)
        if texts:
            _check_tokens(folder, opened.tokenizer, again.tokenizer, texts)
    inputs = _model_inputs(opened, texts)
    outputs = _outputs(opened.model, inputs)
    peers = _peer_outputs(folder, opened.model, inputs)
    return Exported(
        folder=str(folder),
        model_type=model_type,
        difference=_largest_difference(outputs, _outputs(again.model, inputs)),
        scale=float(torch.cat([output.flatten() for output in outputs]).std()),
        peer_difference=None if peers is None else _largest_difference(outputs, peers),
    )


def vocabulary_texts(tokenizer: AnyTokenizer) -> list[str]:
    """Make texts of the words of a vocabulary, always the same; none where it has no files."""
    if not tokenizer.files():
        return []
    known = set(range(len(tokenizer))) - set(tokenizer.unused_ids(len(tokenizer)))
    ids = sorted(known - set(tokenizer.special_ids.values()))
    draw = random.Random(0)
    sampled = draw.sample(ids, min(_SAMPLED_TOKENS, len(ids)))
    decoded = tokenizer.decode([token] for token in sampled)
    words = [word for word in map(str.strip, decoded) if word.isprintable() and word]
    return [" ".join(draw.choices(words, k=_WORDS)) for _ in range(_CHECKED_TEXTS)]


def _trained_model(opened: Any) -> TrainedModel:
    """Collect what an export needs of an opened model."""
    config = opened.config or RunConfig()
    return TrainedModel(
        opened.model,
        None if isinstance(opened.model, Vit) else opened.tokenizer,
        config.attention,
        inputs=_INPUTS.get(config.task, "texts"),
        search=config.search,
        labels=config.data.labels,
        mean=config.data.mean,
        std=config.data.std,
    )


def _model_inputs(opened: Any, texts: Sequence[str]) -> list[tuple[Tensor, ...]]:
    """Build what a model is computed on: token ids of each text, ``[1, length]``, or pixels."""
    model = opened.model
    if isinstance(model, Vit):
        shape = (_CHECKED_IMAGES, model.config.channels, model.config.height, model.config.width)
        return [(torch.randn(shape, generator=torch.Generator().manual_seed(0)),)]
    if not texts:
        return [_random_ids(model)]
    tokenizer: AnyTokenizer = opened.tokenizer
    if isinstance(model, EncoderDecoder):
        ids = special_ids(model, tokenizer)
        sources = prepend_special_tokens(tokenizer, tokenizer.encode(texts))
        targets = prepend_special_tokens(tokenizer, tokenizer.encode_targets(texts))
        return [
            (
                torch.tensor([[*source[: _CHECKED_TOKENS - 1], ids.end_of_source]]),
                torch.tensor([[ids.start, *target[: _CHECKED_TOKENS - 1]]]),
            )
            for source, target in zip(sources, targets, strict=True)
        ]
    if isinstance(model, Decoder):
        rows = [[*tokenizer.document_start, *tokenizer.encode_text(text)] for text in texts]
        return [(torch.tensor([row[:_CHECKED_TOKENS]]),) for row in rows]
    rows = tokenizer.encode_whole(texts, max_length=_CHECKED_TOKENS)
    return [(torch.tensor([row]),) for row in rows]


def _random_ids(model: TextModel) -> tuple[Tensor, ...]:
    """Draw token ids for a model without a vocabulary, ``[2, length]``, none of them padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, model.vocab_size, (2, _CHECKED_TOKENS), generator=generator)
    if not isinstance(model, EncoderDecoder):
        return (ids,)
    ids = ids.masked_fill(ids == model.pad_id, 3 if model.pad_id != 3 else 4)
    return ids, ids


def _check_tokens(
    folder: Path, tokenizer: AnyTokenizer, exported: AnyTokenizer, texts: Sequence[str]
) -> None:
    """Raise where an exported vocabulary cuts a text into other tokens than the one it was."""
    rows = zip(texts, tokenizer.encode(texts), exported.encode(texts), strict=True)
    for text, ours, theirs in rows:
        if ours != theirs:
            raise WeightsError(
                f"{folder}: the exported vocabulary cuts {text[:40]!r} into other tokens than the "
                f"model's own: {theirs[:8]}, not {ours[:8]}."
            )


@torch.inference_mode()
def _outputs(model: Model, inputs: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """Compute the logits of each input, or the last states of an encoder without a head."""
    if isinstance(model, Encoder) and model.head is None:
        return [model.hidden_states(*tensors) for tensors in inputs]
    return [model(*tensors) for tensors in inputs]


def _largest_difference(outputs: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    pairs = zip(outputs, others, strict=True)
    return max(float((output - other).abs().max()) for output, other in pairs)


def _peer_outputs(
    folder: Path, model: Model, inputs: Sequence[tuple[Tensor, ...]]
) -> list[Tensor] | None:
    """Compute the outputs of an exported folder in ``transformers``; None without it."""
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    gives_states = isinstance(model, Encoder) and model.head is None
    auto_classes: tuple[tuple[type[Model], str], ...] = (
        (Vit, "ViTForImageClassification"),
        (Classifier, "AutoModelForSequenceClassification"),
        (Encoder, "AutoModel" if gives_states else "AutoModelForMaskedLM"),
        (Decoder, "AutoModelForCausalLM"),
        (EncoderDecoder, "AutoModelForSeq2SeqLM"),
    )
    name = next(name for kind, name in auto_classes if isinstance(model, kind))
    peer = getattr(transformers, name).from_pretrained(folder).eval()
    first = "pixel_values" if isinstance(model, Vit) else "input_ids"
    names = (first, "decoder_input_ids")
    outputs = []
    with torch.inference_mode():
        for tensors in inputs:
            output = peer(**dict(zip(names, tensors, strict=False)))
            outputs.append(output.last_hidden_state if gives_states else output.logits)
    return outputs
