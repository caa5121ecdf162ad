"""Models in Hugging Face's layout: opened for use, and written for others to open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.hub.hugging_face.checkpoint import write_hugging_face
from regard.hub.hugging_face.generation_rules import OWN_FIELD
from regard.hub.hugging_face.published_tokenizer import (
    vocabulary_files,
)
from regard.hub.hugging_face.weight_files import dump_json
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    FAMILIES,
    CheckpointFormat,
    Classifier,
    Decoder,
    Encoder,
    EncoderDecoder,
    Family,
    TextModel,
    Vit,
    family_of,
)
from regard.models.base.classifier_checkpoints import checkpoint_of
from regard.runs.export_check import Exported
from regard.runs.export_images import export_images
from regard.tasks.loading import open_published
from regard.tasks.translation.loss import among_tokens
from regard.tasks.translation.predictor import Translator

_CHECKED_TOKENS = 24  # of the text on which an exported model is compared


def export_hugging_face(opened: Any, output: str | Path) -> Exported:
    """Write a model in Hugging Face's layout, read it again and compare.

    Args:
        opened: A model as `regard.load` returns it.
        output: Folder to write.

    Raises:
        ConfigError: No published layout has a place for the model.
    """
    if isinstance(opened.model, Vit):
        return export_images(opened.model, opened.config, output)
    model: TextModel = opened.model
    config = _exportable(opened)
    labels = opened.labels if isinstance(model, Classifier) else ()
    checkpoint_format = _format_for(model, config, labels)
    files = vocabulary_files(opened.tokenizer)
    if isinstance(opened, Translator):
        files["generation_config.json"] = _generation(opened)
    place = Path(output)
    write_hugging_face(
        place,
        model,
        config,
        checkpoint_format,
        model.vocab_size,
        files=files,
        special_ids=opened.tokenizer.special_ids,
        labels=labels,
    )
    tokens = _checked_ids(model)
    with torch.inference_mode():
        ours = _logits(model, tokens)
        again = _logits(open_published(place).model, tokens)
    return Exported(
        folder=str(place),
        model_type=checkpoint_format.model_type,
        difference=float((ours - again).abs().max()),
        scale=float(ours.std()),
        peer_difference=_peer_difference(place, model, tokens, ours),
    )


def _exportable(opened: Any) -> Any:
    """Return the family's configuration of a model that others can compute."""
    model = opened.model
    if not isinstance(model, TextModel):
        raise ConfigError("export: only models of text are written for others.")
    attention = AttentionConfig() if opened.config is None else opened.config.attention
    if attention != AttentionConfig():
        raise ConfigError(
            f"attention {attention.summary()}: published configurations tell no pattern, "
            "so others would compute full attention.  Export a model with full attention."
        )
    config = model.encoder.config if isinstance(model, Classifier) else model.config
    if type(config) not in {family.config for family in FAMILIES.values()}:
        raise ConfigError("export: no published layout has a Transformer's encoder alone.")
    return config


def _generation(translator: Translator) -> str:
    """Write the ``generation_config.json`` of a translator; some of it is for regard alone."""
    search = among_tokens(translator.config.search, translator.model, translator.tokenizer)
    fields = {
        "bos_token_id": translator.tokenizer.bos_id,
        "eos_token_id": translator.tokenizer.eos_id,
        "pad_token_id": translator.model.pad_id,
        "decoder_start_token_id": translator.model.start_id,
        "num_beams": search.beam,
        "bad_words_ids": [[token] for token in search.forbidden] or None,
        "min_length": search.min_length or None,
        "no_repeat_ngram_size": search.no_repeat_size or None,
        "repetition_penalty": None if search.repetition_penalty == 1 else search.repetition_penalty,
        "renormalize_logits": search.is_renormalized or None,
        "forced_bos_token_id": search.forced_first,
        "forced_eos_token_id": translator.tokenizer.eos_id if search.forces_end else None,
        # `transformers` counts the token that begins the decoder's input.
        "max_length": None if search.max_length is None else search.max_length + 1,
    }
    own: dict[str, Any] = {"max_length_ratio": search.max_length_ratio}
    if search.ranking == "transformers":
        stopping = {"certain": "never", "likely": None, "first": True}
        fields |= {
            "length_penalty": search.length_penalty,
            "early_stopping": stopping[search.stopping],
        }
    else:
        names = ("ranking", "stopping", "length_penalty")
        own |= {name: getattr(search, name) for name in names}
    fields[OWN_FIELD] = own
    return dump_json({name: value for name, value in fields.items() if value is not None})


def _format_for(model: TextModel, config: Any, labels: Sequence[str]) -> CheckpointFormat:
    """Choose the first checkpoint format of a family that can express all its settings."""
    reasons, family, families = [], family_of(config), _families_of(model)
    for checkpoint_format in families[family].formats:
        try:
            _require_expressible(model, config, checkpoint_format, labels)
        except ConfigError as error:
            reasons.append(str(error))
        else:
            return checkpoint_format
    known = ", ".join(name for name, each in families.items() if each.formats)
    raise ConfigError(
        f"model.family={family}: no published layout has a place for this model.  "
        + "  ".join(reasons or [f"Families of this kind that have one: {known}."])
    )


def _families_of(model: TextModel) -> Mapping[str, Family]:
    """List the families that have the role of a model."""
    if isinstance(model, Decoder):
        return DECODERS
    return ENCODER_DECODERS if isinstance(model, EncoderDecoder) else ENCODERS


def _require_expressible(
    model: TextModel, config: Any, checkpoint_format: CheckpointFormat, labels: Sequence[str]
) -> None:
    """Refuse settings and layers of a model that a checkpoint format cannot express."""
    _, mappings = checkpoint_of(config, checkpoint_format, model.vocab_size, labels)
    if {mapping.local for mapping in mappings} != {name for name, _ in model.named_parameters()}:
        raise ConfigError("The layout is that of another role of the family.")


def _checked_ids(model: TextModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, model.vocab_size, (2, _CHECKED_TOKENS), generator=generator)
    pad_id = model.pad_id if isinstance(model, EncoderDecoder) else 0
    return ids.masked_fill(ids == pad_id, 3 if pad_id != 3 else 4)  # what is padding has no place


def _logits(model: Any, tokens: Tensor) -> Tensor:
    if isinstance(model, Encoder) and model.head is None:
        return model.hidden(tokens)
    if isinstance(model, Classifier | Encoder | Decoder):
        return model(tokens)
    return model(tokens, tokens)


def _peer_difference(folder: Path, model: TextModel, tokens: Tensor, ours: Tensor) -> float | None:
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    has_head = not (isinstance(model, Encoder) and model.head is None)
    name = "AutoModel"
    if isinstance(model, Classifier):
        name = "AutoModelForSequenceClassification"
    elif has_head and isinstance(model, Encoder):
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
