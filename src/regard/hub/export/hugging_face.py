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
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.formats import choose_format, image_obstacles
from regard.hub.export.generation_fields import generation_fields
from regard.hub.export.hugging_face_readme import write_readme
from regard.hub.export.tokenizer_files import tokenizer_files
from regard.hub.export.trained_model import TrainedModel
from regard.hub.file_names import GENERATION_CONFIG, MODEL_CARD, PREPROCESSOR_CONFIG
from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.hub.hugging_face.sentence_transformers import sentence_files
from regard.hub.hugging_face.task_prefixes import CONTEXT_PREFIX, USES
from regard.hub.hugging_face.weight_files import dump_json
from regard.models import (
    INPUT_ENCODERS,
    CheckpointFormat,
    Classifier,
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
    if generation := generation_fields(trained, model, tokenizer, has_vocabulary=has_vocabulary):
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
