"""Models written as ``transformers`` opens them, in float32: ``config.json`` and safetensors.

A model of text is written with its vocabulary, one that translates with its settings of generation
(``generation_config.json``), one of images with the preparation of pixels
(``preprocessor_config.json``). The format is the first one of the family that has a field for each
setting of the model; where there is none, the model is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.formats import advice, attention_obstacles, choose_format
from regard.hub.export.tokenizer_files import tokenizer_files
from regard.hub.export.trained_model import TrainedModel
from regard.hub.file_names import GENERATION_CONFIG, PREPROCESSOR_CONFIG
from regard.hub.hugging_face.generation_rules import OWN_FIELD
from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.hub.hugging_face.sentence_transformers import sentence_files
from regard.hub.hugging_face.weight_files import dump_json
from regard.models import (
    FAMILIES,
    INPUT_ENCODERS,
    Classifier,
    Decoder,
    EncoderDecoder,
    ModelConfig,
    SpanModel,
    TextModel,
    Vit,
    family_of,
)
from regard.models.base.checkpoint_format import label_fields
from regard.models.base.encoder import EncoderConfig

BRIGHTEST = 255
"""Greatest value of a pixel."""
_BILINEAR = 2  # the number of the filter in Pillow


def export_hugging_face(trained: TrainedModel, folder: Path) -> str:
    """Write a folder that ``transformers`` opens.

    Args:
        trained: A model of text or of images.
        folder: Created as needed.

    Returns:
        Its ``model_type``.

    Raises:
        ConfigError: No checkpoint format can express the model.
        ResourceError: The disk is full.
    """
    if isinstance(trained.model, Vit):
        return _export_images(trained.model, trained, folder)
    return _export_text(trained, folder)


def _export_text(trained: TrainedModel, folder: Path) -> str:
    model, tokenizer = trained.model, trained.tokenizer
    if not isinstance(model, TextModel) or tokenizer is None:
        raise ConfigError(
            f"export: a model of {trained.inputs}, which no published layout here reads.  In "
            "Python, `regard.load(FOLDER).model` is a module of PyTorch."
        )
    encoder = model.encoder if isinstance(model, Classifier | SpanModel) else model
    config = cast("ModelConfig", encoder.config)
    if isinstance(model, SpanModel) and model.roles is not None:
        raise ConfigError(
            "qa.match_words=true: published models do not read which words of a text are in the "
            "question.  A model that can be written is trained with `qa.match_words=false` "
            "`model.rotary_base=none`, or starts from a published head for questions."
        )
    if type(config) not in {family.config for family in FAMILIES.values()}:
        raise ConfigError("export: no published layout has a Transformer's encoder alone.")
    checkpoint_format = choose_format(model, config, trained.labels, trained.attention)
    limit = _longest_text(model, config, trained)
    files = tokenizer_files(tokenizer, model, checkpoint_format.model_type, limit)
    if trained.pooling is not None and isinstance(config, EncoderConfig):
        files |= sentence_files(trained.pooling, config.dim)
    if isinstance(model, EncoderDecoder) and trained.search is not None:
        files[GENERATION_CONFIG] = _generation_config(model, tokenizer, trained.search)
    if isinstance(model, Decoder) and trained.sampling is not None and files:
        files[GENERATION_CONFIG] = _sampling_config(model, tokenizer, trained.sampling)
    write_hugging_face(
        folder,
        model,
        config,
        checkpoint_format,
        model.vocab_size,
        files=files,
        special_ids=tokenizer.special_ids,
        labels=trained.labels,
        finds_spans=isinstance(model, SpanModel),
    )
    return checkpoint_format.model_type


def _longest_text(model: TextModel, config: ModelConfig, trained: TrainedModel) -> int | None:
    """Return the maximum number of tokens that the model reads of a text; None if unknown."""
    limits = [getattr(config, "max_positions", None)]
    if trained.max_length is not None and isinstance(
        model, Classifier | SpanModel | EncoderDecoder
    ):
        # The end of a source is not counted.
        limits.append(trained.max_length + isinstance(model, EncoderDecoder))
    return min((limit for limit in limits if limit is not None), default=None)


def _generation_config(
    model: EncoderDecoder[Any], tokenizer: AnyTokenizer, search: BeamSearchConfig
) -> str:
    """Return ``generation_config.json``; `OWN_FIELD` has the settings that only regard reads."""
    forbidden = dict.fromkeys((*search.forbidden, *tokenizer.unused_ids(model.vocab_size)))
    fields = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": model.pad_id,
        "decoder_start_token_id": model.start_id,
        "num_beams": search.beam,
        "bad_words_ids": [[token] for token in forbidden] or None,
        "min_length": search.min_length or None,
        "no_repeat_ngram_size": search.no_repeat_size or None,
        "repetition_penalty": None if search.repetition_penalty == 1 else search.repetition_penalty,
        "renormalize_logits": search.is_renormalized or None,
        "forced_bos_token_id": search.forced_first,
        "forced_eos_token_id": tokenizer.eos_id if search.forces_end else None,
        # `transformers` counts the token that begins the decoder's input.
        "max_length": 1 + (search.max_length or getattr(model.config, "max_positions", None) or 0),
    }
    if fields["max_length"] == 1:
        fields["max_length"] = None
    own: dict[str, Any] = {"max_length_ratio": search.max_length_ratio}
    if search.ranking == "transformers":
        stopping = {"certain": "never", "likely": None, "first": True}
        fields["length_penalty"] = search.length_penalty
        fields["early_stopping"] = stopping[search.stopping]
    else:
        names = ("ranking", "stopping", "length_penalty")
        own |= {name: getattr(search, name) for name in names}
    fields[OWN_FIELD] = own
    return dump_json({name: value for name, value in fields.items() if value is not None})


def _sampling_config(model: Decoder, tokenizer: AnyTokenizer, sampling: SamplingConfig) -> str:
    """Return ``generation_config.json``; without a prompt a text begins as documents do."""
    forbidden = dict.fromkeys((*sampling.forbidden, *tokenizer.unused_ids(model.vocab_size)))
    ends, limits = sorted(tokenizer.stop_ids), {"max_new_tokens": sampling.max_tokens}
    if sampling.max_length is not None:
        limits = {"max_length": sampling.max_length}
    is_sampled = sampling.temperature > 0
    sampled_fields = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    fields = {
        "bos_token_id": next(iter(tokenizer.document_start), None),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": tokenizer.pad_id,
        "do_sample": is_sampled,
        **(sampled_fields if is_sampled else {}),
        **limits,
        "min_new_tokens": sampling.min_tokens - 1 if sampling.min_tokens > 1 else None,
        "repetition_penalty": sampling.repetition_penalty,
        "no_repeat_ngram_size": sampling.no_repeat_size or None,
        "suppress_tokens": list(forbidden) or None,
    }
    return dump_json({name: value for name, value in fields.items() if value is not None})


def _export_images(model: Vit, trained: TrainedModel, folder: Path) -> str:
    config = model.config
    if config.input != "image":
        raise ConfigError(
            f"export: a model of {trained.inputs}, which no published layout here reads: those of "
            "a Vision Transformer are of images alone."
        )
    obstacles, settings = attention_obstacles(trained.attention)
    if config.pooling != "first":
        obstacles.append(
            f"model.pooling={config.pooling}: published classifiers of this layout read the class "
            "token alone."
        )
        settings["model.pooling"] = "first"
    if obstacles:
        raise ConfigError("  ".join([*obstacles, advice(settings)]))
    (checkpoint_format,) = INPUT_ENCODERS[family_of(config)].formats
    mean, std = trained.mean or [0.0] * config.channels, trained.std or [1.0] * config.channels
    preparation = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": config.height, "width": config.width},
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / BRIGHTEST,
        "do_normalize": True,
        "image_mean": [value / BRIGHTEST for value in mean],
        "image_std": [value / BRIGHTEST for value in std],
    }
    files, fields = {PREPROCESSOR_CONFIG: dump_json(preparation)}, label_fields(trained.labels)
    write_hugging_face(folder, model, config, checkpoint_format, 0, files=files, fields=fields)
    return checkpoint_format.model_type
