"""Models written as ``transformers`` opens them, in float32: ``config.json`` and safetensors.

A model of text is written with its vocabulary, one that translates with its settings of generation
(``generation_config.json``), one of images with the preparation of pixels
(``preprocessor_config.json``). The format is the first one of the family that has a field for each
setting of the model; where there is none, the model is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from regard.errors import ConfigError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.formats import choose_format, image_obstacles
from regard.hub.export.hugging_face_readme import write_readme
from regard.hub.export.tokenizer_files import tokenizer_files
from regard.hub.export.trained_model import TrainedModel
from regard.hub.file_names import GENERATION_CONFIG, MODEL_CARD, PREPROCESSOR_CONFIG
from regard.hub.hugging_face.generation_rules import OWN_FIELD
from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.hub.hugging_face.sentence_transformers import sentence_files
from regard.hub.hugging_face.task_prefixes import CONTEXT_PREFIX, USES
from regard.hub.hugging_face.weight_files import dump_json
from regard.models import (
    INPUT_ENCODERS,
    CheckpointFormat,
    Classifier,
    Decoder,
    EncoderDecoder,
    LongformerConfig,
    ModelConfig,
    SpanModel,
    TextModel,
    Vit,
    VitConfig,
)
from regard.models.base.checkpoint_format import label_fields, threshold_fields
from regard.models.base.encoder import EncoderConfig

_UNSET = {  # by which `transformers` computes what it does without the field
    "bad_words_ids": [],
    "suppress_tokens": [],
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "renormalize_logits": False,
}
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


def hugging_face_obstacles(trained: TrainedModel) -> str:
    """Return what no checkpoint format can express of a model; empty where one can.

    Args:
        trained: Any model.

    Returns:
        All obstacles, and the settings of a model without them.
    """
    try:
        _checkpoint_format(trained)
    except ConfigError as error:
        return str(error)
    return ""


def _checkpoint_format(trained: TrainedModel) -> CheckpointFormat:
    """Return the format that can express a model.

    Raises:
        ConfigError: There is none.
    """
    if isinstance(trained.model, Vit):
        config = trained.model.config
        if config.input != "image":
            raise ConfigError(
                f"export: a model of {trained.inputs}, which no published layout here reads: those "
                "of a Vision Transformer are of images alone."
            )
        if obstacles := image_obstacles(config, trained.attention):
            raise ConfigError(obstacles)
        (image_format,) = INPUT_ENCODERS[config.family].formats
        return image_format
    model, tokenizer, config = _require_text_model(trained)
    return choose_format(
        model,
        _with_readable_questions(config, tokenizer) if isinstance(model, SpanModel) else config,
        trained.labels,
        trained.attention,
        trained.new_models,
        model_type=trained.model_type,
    )


def _export_text(trained: TrainedModel, folder: Path) -> str:
    checkpoint_format = _checkpoint_format(trained)
    model, tokenizer, config = _require_text_model(trained)
    limit = _longest_text(model, config, trained)
    reads_segments = checkpoint_format.reads_segments
    files = tokenizer_files(tokenizer, model, reads_segments=reads_segments, max_length=limit)
    has_vocabulary = bool(files)
    if trained.pooling is not None and isinstance(config, EncoderConfig):
        files |= sentence_files(trained.pooling, config.dim)
    if generation := _generation_fields(trained, model, tokenizer, has_vocabulary=has_vocabulary):
        files[GENERATION_CONFIG] = dump_json(generation)
    model_type = checkpoint_format.model_type
    files[MODEL_CARD] = write_readme(trained, model_type, has_vocabulary=has_vocabulary)
    write_hugging_face(
        folder,
        model,
        config,
        checkpoint_format,
        model.vocab_size,
        files=files,
        special_ids=tokenizer.special_ids,
        labels=trained.labels,
        fields={
            **{name: value for name, value in _words_of_tasks(trained).items() if value},
            **threshold_fields(trained.label_threshold),
        },
    )
    return model_type


def _words_of_tasks(trained: TrainedModel) -> dict[str, Any]:
    """Return the fields of ``config.json`` for the words by which a model knows its task."""
    return {
        "prefix": trained.source_prefix,
        CONTEXT_PREFIX: trained.context_prefix,
        USES: dict(trained.uses),
    }


def _require_text_model(trained: TrainedModel) -> tuple[TextModel, AnyTokenizer, ModelConfig]:
    """Return model, vocabulary and configuration, of a classifier that of its encoder.

    Raises:
        ConfigError: The model reads no texts.
    """
    model, tokenizer = trained.model, trained.tokenizer
    if not isinstance(model, TextModel) or tokenizer is None:
        raise ConfigError(
            f"export: a model of {trained.inputs}, which no published layout here reads.  In "
            "Python, `regard.load(FOLDER).model` is a module of PyTorch."
        )
    encoder = model.encoder if isinstance(model, Classifier | SpanModel) else model
    config = cast("ModelConfig", encoder.config)
    return model, tokenizer, config


def _with_readable_questions(config: ModelConfig, tokenizer: AnyTokenizer) -> ModelConfig:
    """Return a configuration that ends no questions where others would not find their ends.

    In `transformers` a Longformer counts three tokens that end texts: one after the question, one
    before the text and one after it.
    """
    if not isinstance(config, LongformerConfig) or config.question_end_id is None:
        return config
    begin, between, end, _ = tokenizer.pair_template
    is_found = [*begin, *between, *end].count(config.question_end_id) == 3
    return config if is_found else msgspec.structs.replace(config, question_end_id=None)


def _longest_text(model: TextModel, config: ModelConfig, trained: TrainedModel) -> int | None:
    """Return the maximum number of tokens that the model reads of a text; None if unknown."""
    limits = [getattr(config, "max_positions", None)]
    if trained.max_length is not None and isinstance(
        model, Classifier | SpanModel | EncoderDecoder
    ):
        # The end of a source is not counted.
        limits.append(trained.max_length + isinstance(model, EncoderDecoder))
    return min((limit for limit in limits if limit is not None), default=None)


def _generation_fields(
    trained: TrainedModel, model: TextModel, tokenizer: AnyTokenizer, *, has_vocabulary: bool
) -> dict[str, Any]:
    """Return the fields of ``generation_config.json``; none of a model that writes no texts."""
    fields: dict[str, Any] = {}
    if isinstance(model, EncoderDecoder) and trained.search is not None:
        fields = _search_fields(model, tokenizer, trained.search)
    if isinstance(model, Decoder) and trained.sampling is not None and has_vocabulary:
        fields = _sampling_fields(model, tokenizer, trained.sampling)
    # Those without which `transformers` would compute something else.
    return {name: value for name, value in fields.items() if value not in (None, _UNSET.get(name))}


def _search_fields(
    model: EncoderDecoder[Any], tokenizer: AnyTokenizer, search: BeamSearchConfig
) -> dict[str, Any]:
    """Return the settings of a search; `OWN_FIELD` has those that only regard reads."""
    forbidden = dict.fromkeys((*search.forbidden, *tokenizer.unused_ids(model.vocab_size)))
    fields = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": model.pad_id,
        "decoder_start_token_id": model.start_id,
        "num_beams": search.beam,
        "bad_words_ids": [[token] for token in forbidden],
        # `transformers` ends texts in spite of the former.
        "suppress_tokens": [token for token in forbidden if token == tokenizer.eos_id],
        "min_length": search.min_length,
        "no_repeat_ngram_size": search.no_repeat_size,
        "repetition_penalty": None if search.repetition_penalty == 1 else search.repetition_penalty,
        "renormalize_logits": search.is_renormalized,
        "forced_bos_token_id": search.forced_first,
        "forced_eos_token_id": tokenizer.eos_id if search.forces_end else None,
    }
    if limit := search.max_length or getattr(model.config, "max_positions", None):
        # `transformers` counts the token that begins the decoder's input.
        fields["max_length"] = 1 + limit
    return fields | _ranking_fields(search)


def _ranking_fields(search: BeamSearchConfig) -> dict[str, Any]:
    """Return how hypotheses are ranked, and when the search stops.

    `transformers` divides by a power of the length alone. A model that is ranked by Wu et al. gets
    the power that rises as fast as what its scores are divided by: 35 of 40 and 38 of 60
    translations of two small models with a beam of 4 were the same, with power 1 26 and 24.
    """
    own: dict[str, Any] = {"max_length_ratio": search.max_length_ratio}
    if search.ranking == "transformers":
        stopping = {"certain": "never", "likely": None, "first": True}[search.stopping]
        fields = {"length_penalty": search.length_penalty, "early_stopping": stopping}
        return fields | {OWN_FIELD: own}
    names = ("ranking", "stopping", "length_penalty")
    fields: dict[str, Any] = {OWN_FIELD: own | {name: getattr(search, name) for name in names}}
    if search.beam > 1:  # of the rankings that `transformers` has, the most similar
        fields["length_penalty"] = search.power_of_length
    return fields


def _sampling_fields(
    model: Decoder, tokenizer: AnyTokenizer, sampling: SamplingConfig
) -> dict[str, Any]:
    """Return the settings of sampling; without a prompt a text begins as documents do."""
    forbidden = dict.fromkeys((*sampling.forbidden, *tokenizer.unused_ids(model.vocab_size)))
    ends, limits = sorted(tokenizer.stop_ids), {"max_new_tokens": sampling.max_tokens}
    if sampling.max_length is not None:
        limits = {"max_length": sampling.max_length}
    is_sampled = sampling.temperature > 0
    sampled_fields = ("temperature", "top_k", "top_p") if is_sampled else ()
    return {
        "bos_token_id": next(iter(tokenizer.document_start), None),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": tokenizer.pad_id,
        "do_sample": is_sampled,
        **{name: getattr(sampling, name) for name in sampled_fields},
        **limits,
        "min_new_tokens": max(0, sampling.min_tokens - 1),
        "repetition_penalty": sampling.repetition_penalty,
        "no_repeat_ngram_size": sampling.no_repeat_size,
        "suppress_tokens": list(forbidden),
    }


def _export_images(model: Vit, trained: TrainedModel, folder: Path) -> str:
    checkpoint_format, config = _checkpoint_format(trained), model.config
    readme = write_readme(trained, checkpoint_format.model_type, has_vocabulary=False)
    files = {
        PREPROCESSOR_CONFIG: dump_json(pixel_preparation(trained, config)),
        MODEL_CARD: readme,
    }
    fields = label_fields(trained.labels)
    write_hugging_face(folder, model, config, checkpoint_format, 0, files=files, fields=fields)
    return checkpoint_format.model_type


def pixel_preparation(trained: TrainedModel, config: VitConfig) -> dict[str, Any]:
    """Return ``preprocessor_config.json``: the size of images, mean and deviation of pixels."""
    mean, std = trained.mean or [0.0] * config.channels, trained.std or [1.0] * config.channels
    return {
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
