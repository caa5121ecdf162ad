"""Settings of ``tokenizer_config.json`` that change what ``tokenizer.json`` or a vocabulary says.

``transformers`` builds a tokenizer of the class that a folder names, whose settings count before
the file: BERT's lower case, GPT-2's space before a text, the tokens that begin and end it, and
added tokens, which older folders have in ``added_tokens.json``. What cannot be obeyed is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import AddedToken, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from regard.errors import ConfigError, WeightsError
from regard.hub.file_names import (
    ADDED_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    WORD_PIECES,
)
from regard.hub.hugging_face.weight_files import read_optional_json
from regard.models import CHECKPOINT_FORMATS

T = TypeVar("T")

WORD_PIECE_CLASSES = {
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "LxmertTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
}
"""Classes of WordPiece with BERT's settings."""
_UNIGRAM_CLASSES = {"CamembertTokenizer", "XLMRobertaTokenizer"}
"""Classes of the unigram model (Kudo 2018) with RoBERTa's special tokens."""
_BYTE_PAIR_CLASSES = {"BartTokenizer", "LongformerTokenizer", "RobertaTokenizer"}
ROBERTA_CLASSES = _BYTE_PAIR_CLASSES | _UNIGRAM_CLASSES
"""Classes with RoBERTa's special tokens."""
NEOX_CLASS = "GPTNeoXTokenizer"
"""The class of GPT-NeoX and Pythia."""
_BYTE_LEVEL_CLASSES = {"GPT2Tokenizer", NEOX_CLASS, *_BYTE_PAIR_CLASSES}
T5_CLASS = "T5Tokenizer"
"""The class of T5, T5 v1.1, mT5 and umT5: the unigram model with sentinels."""
BYT5_CLASS = "ByT5Tokenizer"
"""The class of ByT5, of bytes."""
QWEN_CLASS = "Qwen2Tokenizer"
"""The class of Qwen2, Qwen2.5 and Qwen3."""
_CLASSES_OF_FILES = {  # that read a vocabulary without tokenizer.json as it is read here
    WORD_PIECES: WORD_PIECE_CLASSES,
    VOCABULARY: {QWEN_CLASS, *_BYTE_LEVEL_CLASSES},
}
# Parts of tokenizer.json that classes of `transformers` from 5 on build themselves.
_Pipeline = Mapping[str, Mapping[str, object]]
_WORD_PIECE: _Pipeline = {
    "model": {"type": "WordPiece"},
    "normalizer": {"type": "BertNormalizer"},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
}
_BYTE_LEVEL: _Pipeline = {
    "model": {"type": "BPE"},
    "normalizer": {},
    "pre_tokenizer": {"type": "ByteLevel", "use_regex": True},
    "decoder": {"type": "ByteLevel"},
}
_QWEN: _Pipeline = {
    "model": {"type": "BPE"},
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence"},
    "decoder": {"type": "ByteLevel"},
}
GEMMA_CLASS = "GemmaTokenizer"
"""The class of Gemma: pieces of SentencePiece, and bytes."""
_GEMMA: _Pipeline = {
    "model": {"type": "BPE", "byte_fallback": True},
    "normalizer": {"type": "Replace"},
    "pre_tokenizer": {"type": "Split"},
    "decoder": {"type": "Sequence"},
}
_PIPELINES = {
    GEMMA_CLASS: _GEMMA,
    QWEN_CLASS: _QWEN,
    **dict.fromkeys(WORD_PIECE_CLASSES, _WORD_PIECE),
    **dict.fromkeys(_BYTE_LEVEL_CLASSES, _BYTE_LEVEL),
    NEOX_CLASS: {**_BYTE_LEVEL, "normalizer": {"type": "NFC"}},
}
_ANY_CLASS = "PreTrainedTokenizer"
_GENERAL_CLASSES = {_ANY_CLASS, "TokenizersBackend"}
_LARGEST_LENGTH = 1_000_000  # `transformers` writes 1e30 for a text without a limit
_FLAGS = ("lstrip", "rstrip", "normalized", "single_word")


def tokenizer_class(settings: Mapping[str, Any], model_type: object) -> str:
    """Return the class of ``transformers`` that reads a folder's tokenizer, without ``Fast``.

    Args:
        settings: Settings of ``tokenizer_config.json``.
        model_type: Field of ``config.json``.

    >>> tokenizer_class({"tokenizer_class": "GPT2TokenizerFast"}, "bert")
    'GPT2Tokenizer'
    >>> tokenizer_class({}, "bert")
    'BertTokenizer'
    """
    name = settings.get("tokenizer_class")
    if isinstance(name, str) and name:
        name = name.removesuffix("Fast")
        return T5_CLASS if name == "MT5Tokenizer" else name
    checkpoint_format = CHECKPOINT_FORMATS.get(str(model_type))
    return _ANY_CLASS if checkpoint_format is None else checkpoint_format.tokenizer_class


def check_class_of_file(path: Path, name: str) -> None:
    """Raise where a class reads a vocabulary in another way than it is read here.

    Args:
        path: ``vocab.txt`` or ``vocab.json``.
        name: The class of ``transformers``.

    Raises:
        ConfigError: With the way to a ``tokenizer.json``, which says how texts are split.
    """
    classes = _CLASSES_OF_FILES[path.name]
    is_byte_level = name in _BYTE_LEVEL_CLASSES and path.name == WORD_PIECES
    if name not in classes | _GENERAL_CLASSES and not is_byte_level:
        raise ConfigError(
            f"{path.with_name(TOKENIZER_CONFIG)}: tokenizer_class={name}: splits texts in its own "
            f"way, which {path.name} does not say.  Supported: {', '.join(sorted(classes))}; or "
            "save a tokenizer.json with it."
        )


def max_length_of(settings: Mapping[str, Any]) -> int | None:
    """Return ``model_max_length``, the maximum number of tokens of a text; None without one."""
    length = settings.get("model_max_length")
    if isinstance(length, bool) or not isinstance(length, int | float):
        return None
    return int(length) if 1 <= length <= _LARGEST_LENGTH else None


def apply_settings(
    backend: Backend,
    folder: Path,
    settings: Mapping[str, Any],
    tokens: Mapping[str, str],
    name: str,
) -> None:
    """Change a tokenizer as the settings of its folder say.

    Args:
        backend: Changed in place.
        folder: Folder, for added tokens and messages.
        settings: Settings of ``tokenizer_config.json``.
        tokens: Special tokens by their roles.
        name: The class of ``transformers``.

    Raises:
        ConfigError: A setting asks for what this kind of tokenizer cannot do.
        WeightsError: An added token has another id in the vocabulary.
    """
    if name in WORD_PIECE_CLASSES:
        _apply_case(backend, settings)
    if name in _BYTE_LEVEL_CLASSES:
        _apply_prefix_space(backend, settings.get("add_prefix_space") is True)
    elif name not in _GENERAL_CLASSES:
        _check_prefix_space(backend, folder, settings)
    _add_tokens(backend, folder, settings, tokens)
    if name in WORD_PIECE_CLASSES | ROBERTA_CLASSES:
        _surround(backend, tokens, name)
    if (folder / TOKENIZER).is_file():
        _warn_of_other_pipeline(backend, folder, settings, name)
        _check_ends(backend, folder, settings, tokens)
    elif name not in WORD_PIECE_CLASSES | ROBERTA_CLASSES:
        _apply_ends(backend, settings, tokens)


def _apply_case(backend: Backend, settings: Mapping[str, Any]) -> None:
    """Lower case, accents and Chinese characters, where BERT's normalizer handles them."""
    if backend.normalizer is None or isinstance(backend.normalizer, normalizers.BertNormalizer):
        backend.normalizer = bert_normalizer(settings)


def bert_normalizer(settings: Mapping[str, Any]) -> normalizers.Normalizer:
    """Return BERT's normalizer, by the settings of ``tokenizer_config.json``."""
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True) is not False,
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True) is not False,
    )


def _apply_prefix_space(backend: Backend, has_prefix: bool) -> None:
    pre_tokenizer = backend.pre_tokenizer
    if (
        isinstance(pre_tokenizer, pre_tokenizers.ByteLevel)
        and pre_tokenizer.add_prefix_space != has_prefix
    ):
        pre_tokenizer.add_prefix_space = has_prefix
        backend.pre_tokenizer = pre_tokenizer


def _check_prefix_space(backend: Backend, folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise where the file puts a space before a text, and the settings say otherwise."""
    adds_space = settings.get("add_prefix_space")
    if not isinstance(adds_space, bool):
        return
    content = json.loads(backend.to_str())
    parts = json.dumps([content["normalizer"], content["pre_tokenizer"]])
    has_prefix = any(
        text in parts for text in ('"Prepend"', '"add_prefix_space": true', '"first"', '"always"')
    )
    if has_prefix != adds_space:
        puts = "puts a" if has_prefix else "puts no"
        raise ConfigError(
            f"{folder}/{TOKENIZER_CONFIG}: add_prefix_space={json.dumps(adds_space)}: "
            f"tokenizer.json {puts} space before a text, and the two must agree."
        )


def _warn_of_other_pipeline(
    backend: Backend, folder: Path, settings: Mapping[str, Any], name: str
) -> None:
    """Warn where ``tokenizer.json`` reads or writes texts otherwise than its class.

    `transformers` builds these classes from the pieces of the file alone, from release 5 on; the
    pieces were trained with the rest of the file.
    """
    content = json.loads(backend.to_str())
    differing = [
        part
        for part, fields in _pipeline_of(name, settings, content).items()
        if bool(content[part]) != bool(fields)
        or not fields.items() <= (content[part] or {}).items()
    ]
    if differing:
        warnings.warn(
            f"{folder}/{TOKENIZER}: {', '.join(differing)}: not as in {name}, which transformers "
            "from 5 on builds instead, so tokens or texts may be others there.  Here the file "
            "counts.",
            stacklevel=5,
        )


def _pipeline_of(name: str, settings: Mapping[str, Any], content: Mapping[str, Any]) -> _Pipeline:
    """Return the parts that a class builds itself; none where it takes those of the file."""
    if name in _PIPELINES:
        return _PIPELINES[name]
    if name in (T5_CLASS, *_UNIGRAM_CLASSES):
        return _unigram_pipeline(name, settings, content)
    if name != "LlamaTokenizer" or '"ByteLevel"' in json.dumps(content["pre_tokenizer"]):
        return {}
    scheme = "always" if settings.get("legacy") is True else "first"
    scheme = scheme if settings.get("add_prefix_space") is not False else "never"
    return {
        "model": {"type": "BPE"},
        "normalizer": {},
        "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": scheme},
    }


def _unigram_pipeline(
    name: str, settings: Mapping[str, Any], content: Mapping[str, Any]
) -> _Pipeline:
    """Return the parts that a class of the unigram model builds itself, by its settings."""
    has_space = name == T5_CLASS or settings.get("add_prefix_space") is not False
    scheme = "always" if has_space else "never"
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    is_precompiled = '"Precompiled"' in json.dumps(content["normalizer"])
    unknown = {"unk_id": 3} if name == "XLMRobertaTokenizer" else {}
    return {
        "model": {"type": "Unigram", "byte_fallback": False, **unknown},
        "normalizer": {"type": "Precompiled"} if is_precompiled else {},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace],
        },
        "decoder": metaspace,
    }


def _add_tokens(
    backend: Backend, folder: Path, settings: Mapping[str, Any], tokens: Mapping[str, str]
) -> None:
    """Add the tokens that came after the vocabulary, with the ids that the folder names."""
    added = read_added_tokens(folder, settings, tokens)
    backend.add_tokens(list(added.values()))
    for number, token in added.items():
        if (actual := backend.token_to_id(token.content)) != number:
            path = _path_of_added_tokens(folder, settings)
            raise WeightsError(
                f"{path}: the added token {token.content!r} has id {number}, the vocabulary gives "
                f"it {actual}.  A file of the vocabulary is of another version."
            )


def read_added_tokens(
    folder: Path, settings: Mapping[str, Any], tokens: Mapping[str, str]
) -> dict[int, AddedToken]:
    """Read the tokens that came after a vocabulary.

    Args:
        folder: Folder with ``added_tokens.json``, where `settings` do not have them.
        settings: Settings of ``tokenizer_config.json``.
        tokens: Special tokens by their roles.

    Returns:
        The tokens by their ids, in order.

    Raises:
        WeightsError: An entry cannot be read, or two tokens have one id.
    """
    declared, path = settings.get("added_tokens_decoder"), _path_of_added_tokens(folder, settings)
    try:
        return _added_tokens(
            _older_tokens(path, settings, tokens) if declared is None else declared
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the added tokens cannot be read ({error}).") from error


def _path_of_added_tokens(folder: Path, settings: Mapping[str, Any]) -> Path:
    is_older = settings.get("added_tokens_decoder") is None
    return folder / (ADDED_TOKENS if is_older else TOKENIZER_CONFIG)


def _surround(backend: Backend, tokens: Mapping[str, str], name: str) -> None:
    """Put cls before a text and sep after it, as these classes do whatever the file says."""
    first, last = backend.token_to_id(tokens["cls"]), backend.token_to_id(tokens["sep"])
    if first is None or last is None:
        return
    plain = backend.encode("a", add_special_tokens=False).ids
    if backend.encode("a", add_special_tokens=True).ids != [first, *plain, last]:
        is_bert = name in WORD_PIECE_CLASSES
        kind = processors.BertProcessing if is_bert else processors.RobertaProcessing
        backend.post_processor = kind((tokens["sep"], last), (tokens["cls"], first))


def _older_tokens(
    path: Path, settings: Mapping[str, Any], tokens: Mapping[str, str]
) -> dict[Any, dict[str, Any]]:
    """Return the entries of ``added_tokens.json``, by id, as ``added_tokens_decoder`` has them."""
    special = {*tokens.values(), *_named(settings.get("additional_special_tokens"))}
    entries: dict[Any, dict[str, Any]] = {}
    for text, number in read_optional_json(path).items():
        if number in entries:
            raise ValueError(f"{entries[number]['content']!r} and {text!r} have one id, {number}")
        is_special = text in special
        entries[number] = {"content": text, "special": is_special, "normalized": not is_special}
    return entries


def _added_tokens(entries: Mapping[Any, Mapping[str, Any]]) -> dict[int, AddedToken]:
    """Return tokens by their ids, in order, from the entries of ``added_tokens_decoder``."""
    added = {}
    for number, entry in entries.items():
        fields = dict(entry)
        flags = {flag: fields[flag] for flag in _FLAGS if flag in fields}
        is_special = fields.get("special", False)
        added[int(number)] = AddedToken(fields["content"], special=is_special, **flags)
    return dict(sorted(added.items()))


def _named(tokens: object) -> list[str]:
    """Return the texts of a list of tokens, each as text or as an object with its content."""
    entries = tokens if isinstance(tokens, list) else []
    return [str(entry["content"]) if isinstance(entry, dict) else str(entry) for entry in entries]


def _check_ends(
    backend: Backend, folder: Path, settings: Mapping[str, Any], tokens: Mapping[str, str]
) -> None:
    """Warn where the settings name other tokens around a text than ``tokenizer.json`` has.

    `transformers` ignores these settings where it reads a ``tokenizer.json``.
    """
    ids = backend.encode("a", add_special_tokens=True).ids
    plain = backend.encode("a", add_special_tokens=False).ids
    for role, is_present in (("bos", ids[:1] != plain[:1]), ("eos", ids[-1:] != plain[-1:])):
        adds_token = settings.get(f"add_{role}_token")
        has_token = backend.token_to_id(tokens.get(role, "")) is not None
        if isinstance(adds_token, bool) and has_token and adds_token != is_present:
            verb = "adds one" if is_present else "adds none"
            warnings.warn(
                f"{folder}/{TOKENIZER_CONFIG}: add_{role}_token={json.dumps(adds_token)} ignored: "
                f"tokenizer.json, which counts before it, {verb}.",
                stacklevel=5,
            )


def _apply_ends(backend: Backend, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
    """Put the tokens that begin and end a text around it, where a setting names one of the two."""
    if settings.get("add_bos_token") is None and settings.get("add_eos_token") is None:
        return
    vocab = backend.get_vocab(with_added_tokens=True)
    present = {role: token for role, token in tokens.items() if token in vocab}
    begin, end = ends_of(settings, present)
    backend.post_processor = surround(begin, end, vocab, second_begin=begin)


def ends_of(
    settings: Mapping[str, Any], tokens: Mapping[str, T], defaults: Sequence[bool] = (False, False)
) -> tuple[list[T], list[T]]:
    """Return the tokens that settings put before and after a text: bos and eos, or none.

    Args:
        settings: Settings of ``tokenizer_config.json``, such as ``add_bos_token``.
        tokens: Tokens, or their ids, by their roles.
        defaults: Whether bos and eos are put there without a setting.
    """
    begin, end = (
        [tokens[role]]
        if role in tokens and settings.get(f"add_{role}_token", default) is True
        else []
        for role, default in zip(("bos", "eos"), defaults, strict=True)
    )
    return begin, end


def surround(
    begin: Sequence[str],
    end: Sequence[str],
    ids: Mapping[str, int],
    *,
    second_begin: Sequence[str] = (),
) -> processors.PostProcessor:
    """Return what puts special tokens before and after a text, and after each of two.

    Args:
        begin: Tokens before the first text.
        end: Tokens after each text.
        ids: Ids of these tokens.
        second_begin: Tokens before the second of two texts.
    """
    single, second = (
        " ".join(f"{piece}:{segment}" for piece in pieces)
        for segment, pieces in enumerate(([*begin, "$A", *end], [*second_begin, "$B", *end]))
    )
    special = {token: ids[token] for token in (*begin, *end)}
    return processors.TemplateProcessing(
        single=single, pair=f"{single} {second}", special_tokens=list(special.items())
    )
