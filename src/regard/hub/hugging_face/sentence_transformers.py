"""Folders of sentence-transformers: an encoder, and how its states become one vector of a text.

``modules.json`` lists the modules (Reimers & Gurevych 2019): a Transformer, in the folder itself or
in ``0_Transformer``, its Pooling, and Normalize. Another module is refused, since vectors without
it would be others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from regard.errors import ConfigError, WeightsError
from regard.hub.file_names import HF_CONFIG, SENTENCE_MODULES
from regard.hub.hugging_face.weight_files import (
    as_list,
    dump_json,
    is_whole_number,
    read_json,
    read_optional_json,
)

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

_PACKAGE = "sentence_transformers"
_SETTINGS = "config_sentence_transformers.json"
_TRANSFORMER_SETTINGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ARGUMENTS = {
    "model": ("attn_implementation", "dtype", "torch_dtype", "use_safetensors"),
    "tokenizer": ("padding_side", "use_fast"),
    "config": (),
}
"""Arguments of the loaders of ``transformers`` that leave the vector of a text as it is."""
_NEW_NAMES = {"tokenizer": "processor"}  # of `_ARGUMENTS` in newer folders, which end in _kwargs
# In the order in which sentence-transformers joins their vectors.
_MODES: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

_Modes = Annotated[tuple[PoolingMode, ...], msgspec.Meta(min_length=1)]
_ONLY = {"transformer_task": "feature-extraction", "processing_kwargs": {}}
"""Settings of the Transformer of which one value alone is computed here."""


class _Module(msgspec.Struct):
    """A module of ``modules.json``: its position, its class and its folder."""

    idx: int
    type: str
    path: str


class SentencePooling(NamedTuple):
    """How the last hidden states of a text become its vector.

    Args:
        modes: The vectors that are joined: ``cls`` the state of the first token, ``max`` the
            largest value of each dimension, ``mean``, ``mean_sqrt_len_tokens`` the sum divided by
            the root of the length, ``weightedmean`` weighted by the position, ``lasttoken``.
        is_normalized: Whether the vector has length 1.
        max_length: Maximum number of tokens that are read of a text; None is as many as the model
            can.
        lowercases: Whether texts are read in lower case.
        prompt: Text before each text.
    """

    modes: tuple[PoolingMode, ...] = ("mean",)
    is_normalized: bool = False
    max_length: int | None = None
    lowercases: bool = False
    prompt: str = ""


def transformer_folder(folder: Path) -> Path:
    """Return the folder with the weights: that which ``modules.json`` names, or `folder` itself.

    Args:
        folder: Any.

    Raises:
        WeightsError: ``modules.json`` is damaged, or names a folder outside.
    """
    if not (folder / SENTENCE_MODULES).is_file():
        return folder
    modules = _modules(folder)
    return next((path for kind, path in modules if kind.split(".")[-1] == "Transformer"), folder)


def read_sentence_pooling(folder: Path) -> SentencePooling | None:
    """Read how vectors of texts are computed.

    Args:
        folder: Any.

    Returns:
        None where the folder is not of sentence-transformers.

    Raises:
        ConfigError: A module or a setting is not computed here.
        WeightsError: A file is damaged.
    """
    path = folder / SENTENCE_MODULES
    if not path.is_file():
        return None
    (kind, transformer), *modules = _modules(folder) or [("", folder)]
    kinds = [kind, *(kind for kind, _ in modules)]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
        raise ConfigError(
            f"{path}: the modules {', '.join(kinds)}: read are Transformer, Pooling and, after "
            "them, Normalize.  Without the others the vectors would not be those of this model."
        )
    prompt = _default_prompt(folder / _SETTINGS)
    modes = _read_modes(modules[0][1] / HF_CONFIG, has_prompt=bool(prompt))
    fields = _transformer_fields(transformer)
    return SentencePooling(
        modes=modes,
        is_normalized="Normalize" in kinds,
        max_length=fields.get("max_seq_length"),
        lowercases=fields.get("do_lower_case") is True,
        prompt=prompt,
    )


def sentence_files(pooling: SentencePooling, dim: int) -> dict[str, str]:
    """Return the files with which sentence-transformers computes the same vectors, by name.

    Args:
        pooling: How.
        dim: Size of a hidden state.

    Returns:
        The files; none for the mean of whatever the model reads, which needs none.
    """
    if pooling == SentencePooling():
        return {}
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    if not pooling.is_normalized:
        del paths["Normalize"]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"{_PACKAGE}.models.{kind}"}
        for index, (kind, path) in enumerate(paths.items())
    ]
    settings = {"max_seq_length": pooling.max_length, "do_lower_case": pooling.lowercases}
    modes = {name: mode in pooling.modes for name, mode in _MODES.items()}
    files = {
        SENTENCE_MODULES: json.dumps(modules, indent=2),
        _TRANSFORMER_SETTINGS[0]: dump_json(settings),
        f"1_Pooling/{HF_CONFIG}": dump_json({"word_embedding_dimension": dim, **modes}),
    }
    if pooling.prompt:
        prompts = {"prompts": {"default": pooling.prompt}, "default_prompt_name": "default"}
        files[_SETTINGS] = dump_json(prompts)
    return files


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Return the kind and the folder of each module, in order."""
    path = folder / SENTENCE_MODULES
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[_Module])
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a list of modules with idx, type and path.") from error
    modules.sort(key=attrgetter("idx"))
    for module in modules:
        if Path(module.path).is_absolute() or ".." in Path(module.path).parts:
            raise WeightsError(f"{path}: the module {json.dumps(module.path)} leaves the folder.")
    return [(_kind(module.type), folder / module.path) for module in modules]


def _kind(class_name: str) -> str:
    """Return the name of a module's class, with its package where that is not the library's.

    The code of a folder may compute other vectors than the library's class of the same name.
    """
    package, _, name = class_name.rpartition(".")
    return name if package.split(".")[0] == _PACKAGE else class_name


def _transformer_fields(folder: Path) -> dict[str, Any]:
    """Read the settings of the Transformer, in the first of their files; empty without one."""
    paths = [folder / name for name in _TRANSFORMER_SETTINGS]
    path = next(filter(Path.is_file, paths), paths[0])
    fields = read_optional_json(path)
    length = fields.get("max_seq_length")
    if length is not None and not is_whole_number(length, least=1):
        raise ConfigError(f"{path}: max_seq_length={json.dumps(length)}: expected 1 or more.")
    for name, value in _ONLY.items():
        if fields.get(name) not in (None, value):
            raise ConfigError(
                f"{path}: {name}={json.dumps(fields[name])[:80]}: not computed here, "
                f"{json.dumps(value)} alone is."
            )
    _check_arguments(path, fields)
    return fields


def _check_arguments(path: Path, fields: Mapping[str, Any]) -> None:
    """Raise where arguments of ``transformers`` would change what its own files say."""
    for kind, harmless in _ARGUMENTS.items():
        for name in (f"{kind}_args", f"{_NEW_NAMES.get(kind, kind)}_kwargs"):
            arguments = fields.get(name) or {}
            if other := sorted(set(arguments) - set(harmless)):
                raise ConfigError(
                    f"{path}: {name}: {', '.join(other)}: not obeyed here.  Write what it says "
                    "into the file that it is about, tokenizer_config.json or config.json."
                )


def _read_modes(path: Path, *, has_prompt: bool) -> tuple[PoolingMode, ...]:
    fields = read_json(path)
    modes = fields.get("pooling_mode")
    if modes is None:
        # An older file has a flag for each mode.
        modes = [mode for name, mode in _MODES.items() if fields.get(name)] or ["mean"]
    try:
        read = msgspec.convert(as_list(modes), _Modes)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{path}: pooling_mode={json.dumps(modes)}: known are {', '.join(_MODES.values())}."
        ) from error
    if has_prompt and fields.get("include_prompt") is False:
        raise ConfigError(
            f"{path}: include_prompt=false: vectors that leave a prompt out are not computed here."
        )
    return read


def _default_prompt(path: Path) -> str:
    settings = read_optional_json(path)
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    if settings.get("truncate_dim") is not None:
        raise ConfigError(
            f"{path}: truncate_dim={json.dumps(settings['truncate_dim'])}: vectors are not "
            "shortened here.  To have them whole, take truncate_dim out."
        )
    if name is None:
        return ""
    texts = prompts if isinstance(prompts, dict) else {}
    prompt = texts.get(name) if isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise ConfigError(f"{path}: default_prompt_name={json.dumps(name)}: no such prompt.")
    return prompt
