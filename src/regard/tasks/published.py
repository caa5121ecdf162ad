"""Models in Hugging Face's layout: opened for use, and written for others to open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.interchange.folder import AnyTokenizer
from regard.interchange.hugging_face import read_hugging_face, write_hugging_face
from regard.interchange.hugging_face_tokenizer import (
    PublishedTokenizer,
    TokenIds,
)
from regard.interchange.sentencepiece_tokenizer import read_any_tokenizer
from regard.layers.patterns import AttentionConfig
from regard.models import FAMILIES, LAYOUTS, Classifier, Decoder, Encoder, family_of, make_model
from regard.models.text_model import TextModel
from regard.tasks.encoder import TextEncoder
from regard.tasks.generator import TextGenerator
from regard.tasks.run_config import RunConfig

_CHECKED_TOKENS = 24  # of the text on which an exported model is compared


class PublishedModel:
    """An encoder-decoder opened for its logits, ``model(source_ids, target_ids)``.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
    """

    def __init__(self, model: TextModel, tokenizer: PublishedTokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer


def open_published(
    folder: str | Path,
    attention: AttentionConfig = AttentionConfig(),  # noqa: B008 - immutable
) -> TextGenerator | TextEncoder | PublishedModel:
    """Open a folder in Hugging Face's layout.

    Args:
        folder: With ``config.json`` and safetensors; without a tokenizer only methods that take
            text raise.
        attention: The pattern of each layer.

    Returns:
        By what the model is: a generator, an encoder, or a model alone; all have ``.model``.

    Raises:
        ConfigError: It is none that can be read.
        WeightsError: A file is missing, damaged or a pickle, or tensors are missing or surplus.
    """
    place = Path(folder)
    published = read_hugging_face(place, LAYOUTS)
    model = make_model(published.config, published.vocab_size, attention)
    published.load_into(model)
    model.eval()
    tokenizer = read_any_tokenizer(place)
    if isinstance(model, Decoder):
        config = RunConfig(task="language-modeling", model=published.config, attention=attention)
        return TextGenerator(model, tokenizer, config)
    if isinstance(model, Encoder):
        return TextEncoder(model, tokenizer)
    return PublishedModel(model, tokenizer)


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


def export_hugging_face(opened: Any, output: str | Path) -> Exported:
    """Write a model in Hugging Face's layout, read it again and compare.

    Args:
        opened: A model as `regard.load` returns it.
        output: Folder to write.

    Raises:
        ConfigError: No published layout has a place for the model.
    """
    model: TextModel = opened.model
    config = _exportable(opened)
    model_type = _layout_for(config, model.vocab_size)
    tokenizer: AnyTokenizer = opened.tokenizer
    if isinstance(tokenizer, PublishedTokenizer):
        ids = tokenizer.token_ids
    else:
        ids = TokenIds(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    place = Path(output)
    write_hugging_face(
        place,
        model,
        config,
        LAYOUTS[model_type],
        model.vocab_size,
        tokenizer.to_json(),
        ids,
    )
    tokens = _checked_ids(model)
    with torch.inference_mode():
        ours = _logits(model, tokens)
        again = _logits(open_published(place).model, tokens)
    return Exported(
        folder=str(place),
        model_type=model_type,
        difference=float((ours - again).abs().max()),
        scale=float(ours.std()),
        peer_difference=_peer_difference(place, model, tokens, ours),
    )


def _exportable(opened: Any) -> Any:
    """Return the family's configuration of a model that others can compute."""
    model = opened.model
    if isinstance(model, Classifier):
        raise ConfigError("export: a classifier's map to its labels has no place in the layout.")
    config = getattr(opened, "config", None)
    if config is not None and config.attention != AttentionConfig():
        raise ConfigError(
            f"attention {config.attention.summary()}: published configurations tell no pattern, "
            "so others would compute full attention.  Export a model with full attention."
        )
    return model.config


def _layout_for(config: Any, vocab_size: int) -> str:
    """Choose the first layout of a family that has a place for all its settings."""
    reasons = []
    for model_type, layout in FAMILIES[family_of(config)].layouts.items():
        try:
            layout.write(config, vocab_size)
        except ConfigError as error:
            reasons.append(str(error))
        else:
            return model_type
    raise ConfigError(
        f"model.family={family_of(config)}: no published layout has a place for this model.  "
        + "  ".join(reasons)
    )


def _checked_ids(model: TextModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, model.vocab_size, (2, _CHECKED_TOKENS), generator=generator)


def _logits(model: Any, tokens: Tensor) -> Tensor:
    if isinstance(model, Encoder) and model.head is None:
        return model.hidden(tokens)
    if isinstance(model, Encoder | Decoder):
        return model(tokens)
    return model(tokens, tokens)


def _peer_difference(folder: Path, model: TextModel, tokens: Tensor, ours: Tensor) -> float | None:
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    has_head = not (isinstance(model, Encoder) and model.head is None)
    name = "AutoModel"
    if has_head and isinstance(model, Encoder):
        name = "AutoModelForMaskedLM"
    elif has_head:
        name = "AutoModelForCausalLM" if isinstance(model, Decoder) else "AutoModelForSeq2SeqLM"
    peer = getattr(transformers, name).from_pretrained(folder).eval()
    inputs = {"input_ids": tokens}
    if name == "AutoModelForSeq2SeqLM":
        inputs["decoder_input_ids"] = tokens
    with torch.inference_mode():
        found = peer(**inputs)
    theirs = found.logits if has_head else found.last_hidden_state
    return float((ours - theirs).abs().max())
