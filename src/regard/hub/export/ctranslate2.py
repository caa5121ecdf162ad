"""Transformers that write texts as CTranslate2 opens them: ``model.bin``, in float32.

The folder has the vocabulary twice: as the strings by which CTranslate2 names tokens, and as
``tokenizer.json`` (or the files of SentencePiece) for what splits texts into them. Its README has
the lines of Python that write the same texts. What CTranslate2 does not compute exactly is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tokenizers import Tokenizer as Backend

from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.ctranslate2_readme import (
    SpecialTokens,
    TokenUsage,
    generator_readme,
    translator_readme,
    usage_of_tokens,
)
from regard.hub.export.ctranslate2_search import (
    LEAST_POSITIONS,
    MOST_POSITIONS,
    WritingLimits,
    sampling_options,
    search_difference,
    search_options,
    writing_limits,
)
from regard.hub.export.ctranslate2_spec import generator_spec, translator_spec
from regard.hub.export.formats import advice, attention_obstacles
from regard.hub.export.tokenizer_files import files_with_ends
from regard.hub.export.trained_model import TrainedModel
from regard.hub.file_names import CTRANSLATE2_MODEL, EXPORTER, MODEL_CARD, TOKENIZER
from regard.hub.hugging_face.published_tokenizer import SENTINEL, reader_of
from regard.hub.hugging_face.recognize import require_no_run
from regard.hub.storage import (
    force_to_disk,
    require_space,
    temporary_folder,
    write_atomic,
    writing,
)
from regard.models import (
    T5,
    Decoder,
    EncoderDecoder,
    Gpt,
    GptConfig,
    TextModel,
    Transformer,
    TransformerDecoder,
)
from regard.models.base.checkpoint_format import setting_text

_LEAST_WINDOW = 256
"""Tokens that a window has at least: longer texts than that are refused by an export."""
_FAMILIES: dict[type, str] = {Decoder: "gpt", EncoderDecoder: "transformer"}
"""Family of a model that can be written, by the kind of one that cannot."""
C = TypeVar("C", BeamSearchConfig, SamplingConfig)
_LARGEST_BYTES = 2**32 - 1
"""Of a tensor: ``model.bin`` counts them in 32 bits."""


def export_ctranslate2(trained: TrainedModel, folder: Path) -> str:
    """Write a folder that CTranslate2 opens.

    Args:
        trained: A Transformer that writes texts.
        folder: Created as needed.

    Returns:
        The name of its specification, ``TransformerSpec`` or ``TransformerDecoderSpec``.

    Raises:
        ConfigError: CTranslate2 does not compute the model, or is not installed.
        ResourceError: The disk is full.
        WeightsError: The vocabulary is missing, or has no token that ends a text.
    """
    if obstacles := ctranslate2_obstacles(trained):
        raise ConfigError(obstacles)
    require_no_run(folder)
    model, tokenizer = trained.model, trained.tokenizer
    assert isinstance(model, Transformer | T5 | TransformerDecoder | Gpt)
    assert tokenizer is not None
    specs = _require_package().specs
    files = files_with_ends(tokenizer, model)
    if not files:
        raise WeightsError(
            "the model has no vocabulary, by whose tokens CTranslate2 reads and writes.  "
            "Put its tokenizer.json into the folder."
        )
    tokens = token_strings(tokenizer, model.vocab_size)
    if TOKENIZER in files and not isinstance(tokenizer, Tokenizer):
        files[TOKENIZER] = reader_of(Backend.from_str(str(files[TOKENIZER]))).to_str()
    usage = usage_of_tokens(files, _special_tokens(tokenizer, tokens))
    if isinstance(model, Transformer | T5):
        spec, readme = _translator(specs, model, trained, tokens, usage)
    else:
        spec, readme = _generator(specs, model, trained, tokens, usage)
    _name_tokens(spec.config, model, tokenizer, tokens)
    for name, content in {**files, MODEL_CARD: readme}.items():
        write_atomic(folder / name, content)
    _save(spec, folder)
    return str(spec.name)


def ctranslate2_obstacles(trained: TrainedModel) -> str:
    """Return what CTranslate2 cannot compute of a model; empty where it can.

    Args:
        trained: Any model.

    Returns:
        All obstacles, and the settings of a model without them.
    """
    model = trained.model
    kind = next((kind for kind in _FAMILIES if isinstance(model, kind)), None)
    if kind is None:
        return (
            f"export: a model of {trained.inputs} that writes no texts, and here CTranslate2 has "
            "only models that do."
        )
    config: Any = model.config
    if isinstance(model, Transformer | T5 | TransformerDecoder | Gpt):
        sentences, changes = _config_obstacles(config)
    else:
        family = _FAMILIES[kind]
        sentences = [f"model.family={config.family}: CTranslate2 has Transformers alone."]
        new = trained.new_models.get(family)
        changes = {"family": family} | ({} if new is None else _config_obstacles(new)[1])
    patterns = attention_obstacles(trained.attention, "CTranslate2 has no patterns")
    settings = (patterns.settings or {}) | {f"model.{key}": value for key, value in changes.items()}
    sentences = [*patterns.sentences, *sentences]
    languages = None if trained.tokenizer is None else trained.tokenizer.languages
    if languages is not None and languages.target is None:
        sentences.append(
            "a translator of many languages: for CTranslate2 one pair is written, with its tokens "
            "before source and target.  Name it: `lang=en-fr`."
        )
    if trained.search is not None and (last := trained.search.forced_last) is not None:
        sentences.append(
            f"forced_eos_token_id={last}: not what ends a text; at the limit of an output "
            "CTranslate2 writes the token that is most probable.  Take the field out of the "
            "published folder."
        )
    largest = 4 * max(parameter.numel() for parameter in model.parameters())
    if largest > _LARGEST_BYTES:
        return f"export: a tensor of {largest:,} bytes; CTranslate2 has {_LARGEST_BYTES:,} at most."
    return "  ".join([*sentences, *([advice(settings)] if settings else [])])


def _config_obstacles(config: Any) -> tuple[list[str], dict[str, Any]]:
    """Return what CTranslate2 cannot compute of dimensions, and settings without that."""
    sentences, changes = [], {}
    if getattr(config, "has_copy", False):
        sentences.append("model.has_copy=true: CTranslate2 has no copy mechanism.")
        changes["has_copy"] = False
    if (separator := getattr(config, "separator_id", None)) is not None:
        sentences.append(f"model.separator_id={separator}: CTranslate2 has no roles of tokens.")
        changes["separator_id"] = None
    window = _smallest_window(config)
    if window is not None and window < _LEAST_WINDOW:
        sentences.append(
            f"model.window={setting_text(config.window)}: CTranslate2 reads a prompt without "
            f"windows, so texts end where one would begin, at {_LEAST_WINDOW} tokens or more."
        )
        changes["window"] = 0
    rope_type = getattr(getattr(config, "rotary_scaling", None), "rope_type", "default")
    if rope_type not in ("default", "linear"):
        sentences.append(
            f"model.rotary_scaling.rope_type={rope_type}: CTranslate2 gets no slower angles here."
        )
        changes["rotary_scaling.rope_type"] = "default"
    if (soft_cap := getattr(config, "attention_soft_cap", None)) is not None:
        sentences.append(
            f"model.attention_soft_cap={setting_text(soft_cap)}: CTranslate2 has no bound of "
            "scores; its own converter leaves it out."
        )
        changes["attention_soft_cap"] = None
    norm, is_parallel = getattr(config, "norm", "pre"), getattr(config, "parallel_residual", False)
    if norm == "output" or (norm == "sandwich" and is_parallel):
        reason = "gets norms of outputs in addition to others, and in no parallel block"
        sentences.append(f"model.norm={norm}: CTranslate2 {reason}.")
        changes["norm"] = "pre"
    qk_norm = getattr(config, "qk_norm", False)
    if qk_norm == "joint" or (qk_norm and config.norm_kind == "layer"):
        sentences.append(
            f"model.qk_norm={setting_text(qk_norm)}: CTranslate2 has RMS norms of each head of "
            "queries and keys alone."
        )
        changes["qk_norm"] = False
    return sentences, changes


def _smallest_window(config: Any) -> int | None:
    """Return the tokens of the smallest window of a decoder; None where no layer has one."""
    sizes = config.windows() if isinstance(config, GptConfig) else ()
    return min(filter(None, sizes), default=None)


def _require_package() -> Any:
    try:
        return import_module("ctranslate2")
    except ImportError as error:
        raise ConfigError(
            f"`to=ctranslate2`: needs the package ctranslate2 ({error}).  "
            "Install it: pip install 'regard[ctranslate2]'"
        ) from error


def token_strings(tokenizer: AnyTokenizer, num_rows: int) -> list[str]:
    """Return the token of every id as a string of its own, which CTranslate2 knows it by.

    Args:
        tokenizer: The vocabulary.
        num_rows: Rows of the model's table; those of no token get a name.
    """
    tokens = [tokenizer.token_string(token) for token in range(num_rows)]
    used, names = {token for token in tokens if token is not None}, []
    for number, token in enumerate(tokens):
        name = f"<unused {number}>" if token is None else token
        while token is None and name in used:
            name = f"<{name}>"
        names.append(name)
    assert len(set(names)) == num_rows, "two ids have the same token"
    return names


def _name_tokens(
    config: Any, model: TextModel, tokenizer: AnyTokenizer, tokens: Sequence[str]
) -> None:
    """Name the special tokens in ``config.json``, and who wrote it."""
    ids = tokenizer.special_ids
    end = tokenizer.end_id
    if end is None:
        end = min(tokenizer.stop_ids, default=None)
    if end is None:
        raise WeightsError(
            "the vocabulary has no token that ends a text, without which no output ends.  "
            "Name it as eos_token in tokenizer_config.json."
        )
    config.eos_token = tokens[end]
    config.bos_token = tokens[ids.get("bos", getattr(model, "start_id", end))]
    # It would be added to the vocabulary without a row of the table if it were not there.
    config.unk_token = tokens[ids.get("unk", ids.get("pad", end))]
    for name, value in EXPORTER.items():
        config.add_attribute(name, value)


def _translator(
    specs: Any,
    model: Transformer | T5,
    trained: TrainedModel,
    tokens: Sequence[str],
    usage: TokenUsage,
) -> tuple[Any, str]:
    """Return the specification and the README of an encoder-decoder."""
    assert trained.search is not None
    search = _without_unused(trained.search, model, trained)
    limits = writing_limits(search, trained.max_length)
    if isinstance(model, T5):
        num_positions = 0
        limits = limits._replace(source=None if trained.max_length is None else limits.source)
    else:
        limits, num_positions = _fit_positions(limits)
    spec = translator_spec(specs, model, num_positions)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.decoder_start_token = tokens[model.start_id]
    prefix = None if search.forced_first is None else tokens[search.forced_first]
    options = search_options(search, tokens)
    notes = []
    if limits.source is not None:
        notes.append(f"A source of more than {limits.source:,} tokens is cut there.")
    if isinstance(model, T5) and trained.task == "translation":
        notes.append("Texts are read whole, and by regard in parts where they are long.")
    if words := trained.context_prefix:
        notes.append(f"What is read is a question, {words!r}, and the text that has the answer.")
    if difference := search_difference(search):
        notes.append(
            f"With a beam CTranslate2 {difference}, so some outputs are others than in regard; "
            "with `beam_size=1` all are the same, but for rounding."
        )
    notes += _notes(spec.decoder)
    source_prefix = trained.source_prefix
    return spec, translator_readme(usage, options, limits, prefix, notes, source_prefix)


def _fit_positions(limits: WritingLimits) -> tuple[WritingLimits, int]:
    """Return limits for which a table of positions is not too large, and the rows of the table."""
    assert limits.source is not None
    num_positions = max(LEAST_POSITIONS, limits.source, limits.of_output(limits.source))
    if num_positions > MOST_POSITIONS:
        num_positions = max(MOST_POSITIONS, limits.source)
        limits = limits._replace(output=min(limits.output or num_positions, num_positions))
    return limits, num_positions


def _generator(
    specs: Any,
    model: TransformerDecoder | Gpt,
    trained: TrainedModel,
    tokens: Sequence[str],
    usage: TokenUsage,
) -> tuple[Any, str]:
    """Return the specification and the README of a language model."""
    tokenizer, sampling = trained.tokenizer, trained.sampling
    assert tokenizer is not None
    assert sampling is not None
    sampling = _without_unused(sampling, model, trained)
    spec = generator_spec(specs, model, LEAST_POSITIONS)
    spec.register_vocabulary(tokens)
    options = sampling_options(sampling, tokenizer.stop_ids, tokenizer.written_stop_ids, tokens)
    start = next(iter(tokenizer.document_start), None)
    has_start = bool(tokenizer.encode_prompt(""))
    start_token = None if start is None or has_start else tokens[start]
    notes, window = _notes(spec.decoder), _smallest_window(model.config)
    if window is not None:
        notes.append(
            f"The model has windows of {window:,} tokens, without which CTranslate2 reads a prompt:"
            f" prompt and output have {window:,} tokens at most, for which they make no difference."
        )
    if sampling.repetition_penalty != 1 or sampling.no_repeat_size:
        notes.append(
            "Rules on repetition see the output alone here, and in regard the prompt, too."
        )
    return spec, generator_readme(usage, options, sampling, start_token, notes, window)


def _notes(decoder: Any) -> list[str]:
    """Return the sentences of a README on positions and types."""
    notes = [
        "Weights are float32, with which `regard` writes by `--precision float32`. "
        '`compute_type="int8"`, an argument of the class, is smaller, with other numbers.',
    ]
    positions = getattr(decoder, "position_encodings", None)
    if positions is not None and not isinstance(positions.encodings, str):
        rows = len(positions.encodings)
        notes.append(f"There are {rows:,} positions: more tokens are refused.")
    return notes


def _without_unused(config: C, model: TextModel, trained: TrainedModel) -> C:
    """Return a search or sampling in which no ids are written that belong to no token."""
    assert trained.tokenizer is not None
    unused = trained.tokenizer.unused_ids(model.vocab_size)
    return msgspec.structs.replace(config, forbidden=(*config.forbidden, *unused))


def _special_tokens(tokenizer: AnyTokenizer, tokens: Sequence[str]) -> SpecialTokens:
    """Return the tokens around texts; of a vocabulary of our own the file has them."""
    if isinstance(tokenizer, Tokenizer):
        return SpecialTokens((), (), ())
    has_sentinels = any(map(SENTINEL.fullmatch, tokens))
    around = (
        [tokens[token] for token in ids]
        for ids in (tokenizer.begin_ids, tokenizer.end_ids, tokenizer.hidden_ids)
    )
    return SpecialTokens(*around, has_sentinels=has_sentinels)


def _save(spec: Any, folder: Path) -> None:
    """Write weights, vocabulary and ``config.json``; ``model.bin`` appears last, and complete."""
    model = folder / CTRANSLATE2_MODEL
    spec.validate()
    spec.optimize()  # tied tables are written once
    variables = spec.variables().values()
    size = sum(value.num_bytes() for value in variables if not isinstance(value, str))
    temporary = temporary_folder(model)
    try:
        with writing(model, size, "model"):
            require_space(model, size)
            temporary.mkdir(parents=True, exist_ok=True)
            model.unlink(missing_ok=True)  # it would not belong to the new vocabulary
            spec.save(str(temporary))
            files = sorted(temporary.iterdir(), key=lambda path: path.name == CTRANSLATE2_MODEL)
            for path in files:
                force_to_disk(path)
                path.replace(folder / path.name)
            force_to_disk(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
