"""Folders of models as graphs, and what reads and runs them.

Next to the graphs are the vocabulary (``tokenizer.json`` with truncation and padding),
``config.json`` with the fields that ``transformers.js`` and Optimum read, and a README whose lines
run the model. A graph is run once for several shapes before the folder counts as written: what
the tracer took from its example for a constant would show.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from torch import Tensor

from regard.data.time_series import MONTHS
from regard.errors import ConfigError, WeightsError
from regard.hub.export.formats import choose_format, image_obstacles
from regard.hub.export.generation_fields import generation_fields
from regard.hub.export.graph import Graph
from regard.hub.export.graph_format import GraphFormat
from regard.hub.export.graph_readme import write_readme
from regard.hub.export.graphs import make_graphs, predicts_tokens
from regard.hub.export.hugging_face import pixel_preparation
from regard.hub.export.tokenizer_files import tokenizer_files
from regard.hub.export.trained_model import SeriesCalendar, TrainedModel
from regard.hub.file_names import (
    EXPORTER,
    GENERATION_CONFIG,
    HF_CONFIG,
    MODEL_CARD,
    PREPROCESSOR_CONFIG,
    TOKENIZER,
)
from regard.hub.hugging_face.generation_rules import OWN_FIELD
from regard.hub.hugging_face.published_folder import checkpoint_writer
from regard.hub.hugging_face.published_tokenizer import vocabulary_files
from regard.hub.hugging_face.recognize import require_no_run
from regard.hub.hugging_face.sentence_transformers import SentencePooling
from regard.hub.hugging_face.weight_files import dump_json
from regard.hub.storage import write_atomic
from regard.metrics.forecasts import LEVELS
from regard.metrics.words import word_pattern
from regard.models import (
    INPUT_ENCODERS,
    Classifier,
    Decoder,
    Encoder,
    EncoderDecoder,
    Model,
    ModelConfig,
    PatchTst,
    PatchTstConfig,
    SpanModel,
    TextModel,
    TransformerConfig,
    Vit,
)
from regard.models.base.checkpoint_format import label_fields, threshold_fields
from regard.models.base.encoder import EncoderConfig
from regard.settings.validation import LARGEST

_SHAPES = ((1, 1), (1, 2), (2, 1), (4, 30), (3, 131))  # rows and length
_TOLERANCE = 1e-3  # of the largest number of an output
_FLOOR = 1e-3  # of that number: a model before training gives zeros


def write_graph_folder(trained: TrainedModel, folder: Path, form: GraphFormat) -> str:
    """Write a folder with graphs in a format, and return its ``model_type``.

    Args:
        trained: The model.
        folder: Created as needed.
        form: The format.

    Returns:
        The ``model_type``.

    Raises:
        ConfigError: The model has a pattern of attention or a cache that no graph has.
        ResourceError: The disk is full.
        WeightsError: A graph gives other outputs than the model.
    """
    require_no_run(folder)
    trained = trained._replace(model=_in_float32(trained.model))
    _require_one_vocabulary(trained)
    graphs = make_graphs(trained)
    fields = _config_fields(trained)
    settings = _own_settings(trained)
    files = _vocabulary_files(trained) | _preprocessor_files(trained) | _generation_files(trained)
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        path = folder / f"{name}{form.suffix}"
        form.write(graph, path, _metadata(trained))
        check_shapes(graph, path, form)
    summary = model_config(trained.model).summary(trained.attention)
    files[MODEL_CARD] = write_readme(trained, graphs, summary, form)
    for name, content in files.items():
        write_atomic(folder / name, content)
    write_atomic(folder / HF_CONFIG, dump_json({**fields, OWN_FIELD: settings, **EXPORTER}))
    return fields["model_type"]


def graph_obstacles(trained: TrainedModel) -> str:
    """Return why a model has no graph; empty where it has one.

    Args:
        trained: Any model.

    Returns:
        A sentence or two.
    """
    try:
        _require_one_vocabulary(trained)
        make_graphs(trained)
    except ConfigError as error:
        return str(error)
    return ""


def _require_one_vocabulary(trained: TrainedModel) -> None:
    """Check that the lines of the README can read the vocabulary of a model that writes texts.

    Raises:
        ConfigError: Sources and targets have two, or there is no ``tokenizer.json`` of it.
    """
    tokenizer = trained.tokenizer
    if tokenizer is None or not isinstance(trained.model, Decoder | EncoderDecoder):
        return
    files = vocabulary_files(tokenizer)
    if files and TOKENIZER not in files:
        raise ConfigError(
            f"export: the vocabulary is in {', '.join(files)}, and a graph that writes texts goes "
            f"with a {TOKENIZER}.  Of such folders `transformers` writes one: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)."
        )
    if isinstance(trained.model, EncoderDecoder) and hasattr(tokenizer, "source"):
        raise ConfigError(
            "export: sources and targets have vocabularies of their own, and a folder of graphs "
            "has one."
        )


def check_shapes(graph: Graph, path: Path, form: GraphFormat) -> None:
    """Compare a written graph with its model, for batches of several sizes and lengths.

    Args:
        graph: The graph.
        path: Its file.
        form: The format.

    Raises:
        WeightsError: An output differs, or is not computed.
    """
    session, failures = form.open_session(path), form.failures()
    generator = torch.Generator().manual_seed(1)
    for rows, length in _SHAPES:
        inputs = graph.make_inputs(generator, rows, length)
        arrays = {name: values.numpy() for name, values in inputs.items()}
        shape = f"{rows} rows of length {length}"
        with torch.inference_mode():
            expected = graph.compute(inputs)
        try:
            outputs = session.run(list(graph.outputs), arrays)
        except failures as error:
            raise WeightsError(f"{path}: {shape}: {error}") from error
        for (name, left), right in zip(expected.items(), outputs, strict=True):
            if not _is_near(left.numpy(), right, inputs.get("attention_mask")):
                raise WeightsError(
                    f"{path}: {name} differs from the model's for {shape}.  Please report this "
                    "model: the graph holds a number of the example it was made from."
                )


def _is_near(left: NDArray, right: NDArray, mask: Tensor | None) -> bool:
    """Return whether two outputs are equal but for rounding, padding left out.

    Args:
        left: The model's, ``[batch, ...]``.
        right: That of the graph.
        mask: 1 at tokens, ``[batch, length]``; None where nothing is padded.
    """
    if left.shape != right.shape:
        return False
    if mask is not None and left.shape[:2] == tuple(mask.shape) and left.ndim > 1:
        is_token = mask.numpy() == 1
        left, right = left[is_token], right[is_token]
    return np.allclose(
        left, right, rtol=0, atol=_TOLERANCE * max(float(np.abs(left).max(initial=0)), _FLOOR)
    )


def _in_float32(model: Model) -> Model:
    """Return a model with float32 weights: itself, or a copy."""
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return model
    return copy.deepcopy(model).float()


def _config_fields(trained: TrainedModel) -> dict[str, Any]:
    """Return the fields of ``config.json``: of a published layout where one has the model.

    Else they are those that all layouts share, with the name of the family.
    """
    model, labels = trained.model, trained.labels
    config = model_config(model)
    fields = {"model_type": _family(config), **_sizes(config)}
    if isinstance(model, Vit) and model.config.input == "image":
        (layout,) = INPUT_ENCODERS[config.family].formats
        if not image_obstacles(model.config, trained.attention):
            fields, _ = checkpoint_writer(model, ())(config, layout, 0)
    elif isinstance(model, TextModel):
        with suppress(ConfigError):
            layout = choose_format(
                model, config, labels, trained.attention, model_type=trained.model_type
            )
            fields, _ = checkpoint_writer(model, labels)(config, layout, model.vocab_size)
    special = {} if trained.tokenizer is None else trained.tokenizer.special_ids
    ids = {
        f"{role}_token_id": special[role]
        for role in ("bos", "eos", "pad")
        if role in special and isinstance(model, Decoder | EncoderDecoder)
    }
    of_labels = label_fields(labels) if labels else {}
    return {**ids, **fields, **of_labels, **threshold_fields(trained.label_threshold)}


def _family(config: ModelConfig) -> str:
    """Return the name of a model's family; a Transformer's encoder alone has none of its own."""
    return (TransformerConfig() if type(config) is EncoderConfig else config).family


def _sizes(config: ModelConfig) -> dict[str, Any]:
    """Return the sizes of a model by the names of ``transformers``."""
    names = {
        "dim": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "pad_id": "pad_token_id",
        "num_segments": "type_vocab_size",
    }
    sizes = {there: getattr(config, here, None) for here, there in names.items()}
    return {name: size for name, size in sizes.items() if size not in (None, LARGEST)}


def model_config(model: Model) -> ModelConfig:
    """Return the configuration of a model; of a classifier or finder of answers its encoder's."""
    encoder = model.encoder if isinstance(model, Classifier | SpanModel) else model
    return cast("ModelConfig", encoder.config)


def _max_length(trained: TrainedModel) -> int | None:
    """Return the maximum number of tokens, or of rows of features; None where there is none."""
    model, pooling = trained.model, trained.pooling
    limits = [getattr(model_config(model), "max_positions", None)]
    if isinstance(model, Decoder):
        return model.num_positions
    if isinstance(model, Classifier | SpanModel | Vit):
        limits.append(trained.max_length)
    elif isinstance(model, EncoderDecoder):  # the end of a source is not counted
        limits.append(None if trained.max_length is None else trained.max_length + 1)
    elif pooling is not None and pooling.max_length is not None:
        limits.append(pooling.max_length)
    elif trained.tokenizer is not None:
        limits.append(trained.tokenizer.max_length)
    if isinstance(model, Vit) and model.config.input == "image":
        return None
    return min((limit for limit in limits if limit not in (None, LARGEST)), default=None)


def _vocabulary_files(trained: TrainedModel) -> dict[str, str | bytes]:
    """Return the files of the vocabulary, by name: ``tokenizer.json`` cuts and pads texts."""
    model, tokenizer = trained.model, trained.tokenizer
    if tokenizer is None or not isinstance(model, TextModel):
        return {}
    limit = _max_length(trained)
    has_segments = isinstance(model, SpanModel) and model.encoder.config.num_segments > 1
    files = tokenizer_files(tokenizer, model, reads_segments=has_segments, max_length=limit)
    if TOKENIZER not in files or isinstance(model, Decoder):
        return files  # a prompt is neither cut nor padded on the right
    content = files[TOKENIZER]
    backend = Backend.from_str(content if isinstance(content, str) else content.decode())
    pad_id = model.pad_id if isinstance(model, EncoderDecoder) else _pad_id(model)
    backend.enable_padding(pad_id=pad_id, pad_token=backend.id_to_token(pad_id) or "[PAD]")
    if limit is not None:
        direction = "left" if getattr(tokenizer, "is_cut_left", False) else "right"
        search = trained.span_search
        if search is None:
            backend.enable_truncation(limit, direction=direction)
        else:
            # As much as there is room for after the longest question.
            stride = min(search.overlap, search.max_question // 2)
            backend.enable_truncation(
                search.max_length, stride=stride, strategy="only_second", direction=direction
            )
    return files | {TOKENIZER: backend.to_str()}


def _pad_id(model: Model) -> int:
    """Return the token that pads texts of a model that reads them."""
    return getattr(model_config(model), "pad_id", 0)


def _generation_files(trained: TrainedModel) -> dict[str, str | bytes]:
    """Return the file that says how texts are written, by its name; none for other models."""
    model, tokenizer = trained.model, trained.tokenizer
    if tokenizer is None or not isinstance(model, Decoder | EncoderDecoder):
        return {}
    fields = generation_fields(trained, model, tokenizer, has_vocabulary=True)
    return {GENERATION_CONFIG: dump_json(fields)}


def _preprocessor_files(trained: TrainedModel) -> dict[str, str | bytes]:
    """Return the file that says how images, recordings and series become inputs, by its name."""
    model = trained.model
    if not isinstance(model, Vit):
        return {}
    if model.config.input == "image":
        settings = pixel_preparation(trained, model.config)
    else:
        num_features = model.config.num_features
        settings = {
            "feature_size": num_features,
            "mean": list(trained.mean or [0.0] * num_features),
            "std": list(trained.std or [1.0] * num_features),
            "max_length": _max_length(trained),
            **_audio_settings(trained),
        }
    return {PREPROCESSOR_CONFIG: dump_json(settings)}


def _audio_settings(trained: TrainedModel) -> dict[str, Any]:
    """Return how a recording becomes frames, by the names of feature extractors; else nothing."""
    audio = trained.audio
    if audio is None:
        return {}
    return {
        "sampling_rate": audio.sample_rate,
        "n_fft": audio.fft_size,
        "win_length": audio.window_size,
        "hop_length": audio.hop_size,
        "fmin": audio.low_hz,
        "fmax": audio.top_hz(),
        "is_standardized": audio.is_standardized,
    }


def _own_settings(trained: TrainedModel) -> dict[str, Any]:
    """Return what the lines of the README read of ``config.json``."""
    settings: dict[str, Any] = {"inputs": trained.inputs, "max_length": _max_length(trained)}
    tokenizer, search = trained.tokenizer, trained.span_search
    if predicts_tokens(trained) and tokenizer is not None:
        settings["mask_token_id"] = tokenizer.mask_id
    elif isinstance(trained.model, Encoder):
        pooling = trained.pooling or SentencePooling()
        settings |= {"prompt": pooling.prompt, "lowercases": pooling.lowercases}
    if isinstance(trained.model, EncoderDecoder):
        settings["source_prefix"] = trained.source_prefix
    if isinstance(trained.model, SpanModel) and tokenizer is not None and search is not None:
        begin, between, end, segments = tokenizer.pair_template
        settings |= {
            "begin": begin,
            "between": between,
            "end": end,
            "segments": segments,
            "max_length": search.max_length,
            "max_question": search.max_question,
            "overlap": search.overlap,
            "max_answer_tokens": search.max_answer_tokens,
            "no_answer_threshold": search.threshold,
        }
        if trained.model.roles is not None:
            settings["word"] = word_pattern().pattern
    if isinstance(trained.model, PatchTst) and trained.calendar is not None:
        settings |= _series_settings(trained, trained.model.config, trained.calendar)
    return settings


def _series_settings(
    trained: TrainedModel, config: PatchTstConfig, calendar: SeriesCalendar
) -> dict[str, Any]:
    """Return how the history of a series becomes a window."""
    step = calendar.step
    unit, count = "row", step.count
    if step.seconds is not None:
        unit, count = "second", step.seconds
    elif step.unit in MONTHS:
        unit, count = "month", step.count * MONTHS[step.unit]
    return {
        "unit": unit,
        "count": count,
        "window": config.window,
        "horizon": config.horizon,
        "patch": config.patch,
        "cycles": calendar.cycles,
        "seasons": calendar.seasons,
        "num_harmonics": calendar.num_harmonics,
        "known_mean": trained.mean,
        "known_std": trained.std,
        "num_observed": config.num_observed,
        "levels": LEVELS,
    }


def _metadata(trained: TrainedModel) -> dict[str, str]:
    """Return the facts that the file of the graph holds."""
    config = model_config(trained.model)
    facts = {
        "task": trained.task,
        "family": _family(config),
        "summary": config.summary(trained.attention),
        "inputs": trained.inputs,
    }
    if trained.labels:
        facts["labels"] = json.dumps(trained.labels, ensure_ascii=False)
    if (limit := _max_length(trained)) is not None:
        facts["max_length"] = str(limit)
    return facts
