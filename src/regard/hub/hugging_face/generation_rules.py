"""The generation settings of a Hugging Face folder: ``generation_config.json``.

Older folders have the same fields in ``config.json``. The names and meanings are those of
``GenerationConfig`` of ``transformers``. A field that asks for another search is refused: the
outputs would not be those that the folder was published for.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from regard.errors import ConfigError
from regard.generation.sampling import SamplingConfig
from regard.hub.file_names import GENERATION_CONFIG, HF_CONFIG
from regard.hub.hugging_face.weight_files import read_json

OWN_FIELD = "regard"
"""Field of ``generation_config.json`` for what ``transformers`` has no name for and ignores."""

# Fields that would change the output in a way that is not supported, with their neutral values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "penalty_alpha": (0,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "guidance_scale": (1,),
    "exponential_decay_length_penalty": (),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({}, []),
    "force_words_ids": ([],),
    "constraints": ([],),
    "forced_decoder_ids": ([],),
    "stop_strings": ([],),
    "watermarking_config": (),
    "dola_layers": (),
    "max_time": (),
    "token_healing": (False,),
}
_NEUTRAL_OF_SEARCH = _NEUTRAL | {"do_sample": (False,)}
_NEUTRAL_OF_SAMPLING = _NEUTRAL | {
    "num_beams": (1,),
    "min_length": (0,),  # counts the prompt
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
}
_TOP_K = 50  # of `transformers` where a folder that samples names none
_COUNTS = (
    "forced_bos_token_id",
    "num_beams",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
)
_COUNTS_OF_SAMPLING = (
    "top_k",
    "max_length",
    "max_new_tokens",
    "min_new_tokens",
    "no_repeat_ngram_size",
)
_REPETITION = "repetition_penalty"
_POSITIVE = ("num_beams", _REPETITION)


class GenerationRules(NamedTuple):
    """The generation settings of a folder, except its forbidden tokens.

    Args:
        first_id: Token that every output begins with; None leaves it to the model.
        has_end: Whether an output that reaches its limit ends with the end of a text.
        max_length: Maximum number of tokens of an output, its end counted; None is unlimited.
        min_length: Minimum number of tokens of an output, its end counted.
        no_repeat_size: Size of the n-grams that no output repeats; 0 allows all.
        beam: Hypotheses kept in the search; None where the folder has no number.
        length_penalty: Power of the length by which a log-probability is divided.
        early_stopping: Whether a search stops as soon as the beam is full; ``"never"`` continues
            while an output of the greatest length could still be ranked in it.
        repetition_penalty: Factor on the score of a token that an output has already.
        is_renormalized: Whether probabilities sum to 1 again after tokens are forbidden.
        own_settings: Settings of regard's own search, from `OWN_FIELD`.
    """

    first_id: int | None
    has_end: bool
    max_length: int | None
    min_length: int = 0
    no_repeat_size: int = 0
    beam: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    repetition_penalty: float = 1.0
    is_renormalized: bool = False
    own_settings: Mapping[str, Any] = {}


def read_generation_rules(folder: Path) -> GenerationRules:
    """Read the settings of search, first and last tokens, lengths and repetitions.

    Args:
        folder: Folder with ``generation_config.json``, or else the fields in ``config.json``.

    Returns:
        The settings.

    Raises:
        ConfigError: A token other than the end of a text is forced last, a value is of another
            type, or asks for another search.
    """
    path, fields = _generation_fields(folder)
    _check_supported(path, fields, _NEUTRAL_OF_SEARCH)
    ends = fields.get("eos_token_id")
    if isinstance(ends, list) and len(ends) > 1:
        raise ConfigError(
            f"{path}: eos_token_id={json.dumps(ends)[:80]}: one token ends an output here, not "
            "several.  Leave the one that the vocabulary names as its end."
        )
    _check_start(path, fields)
    counts = {name: _number(path, fields, name, int) for name in _COUNTS}
    is_forced = fields.get("force_bos_token_to_be_generated") is True  # in files of old releases
    if is_forced and counts["forced_bos_token_id"] is None:
        counts["forced_bos_token_id"] = fields.get("bos_token_id", 0)
    # `transformers` counts the token that begins the decoder's input, and not the end.
    max_length, min_length = counts["max_new_tokens"], counts["min_length"] or 0
    if max_length is None and counts["max_length"] is not None:
        max_length = counts["max_length"] - 1
    if counts["min_new_tokens"] is not None:
        min_length = counts["min_new_tokens"] + 1
    early_stopping = fields.get("early_stopping")
    if early_stopping not in (None, True, False, "never"):
        raise ConfigError(
            f"{path}: early_stopping={json.dumps(early_stopping)}: true, false or "
            '"never" was expected.'
        )
    return GenerationRules(
        first_id=counts["forced_bos_token_id"],
        has_end=_has_end(path, fields),
        max_length=None if max_length is None else max(1, max_length),
        min_length=min_length,
        no_repeat_size=counts["no_repeat_ngram_size"] or 0,
        beam=counts["num_beams"],
        length_penalty=_number(path, fields, "length_penalty", float, 1.0),
        early_stopping=early_stopping or False,
        repetition_penalty=_number(path, fields, _REPETITION, float, 1.0),
        is_renormalized=fields.get("renormalize_logits") is True,
        own_settings=fields.get(OWN_FIELD) or {},
    )


def read_sampling(folder: Path, num_rows: int, *, max_positions: int | None) -> SamplingConfig:
    """Read the settings of a decoder: how its tokens are chosen, and how many.

    A folder that names no way, by ``do_sample``, is sampled from; without ``max_new_tokens`` and
    ``max_length`` an output has as many tokens as regard's own.

    Args:
        folder: Folder with ``generation_config.json``, or else the fields in ``config.json``.
        num_rows: Number of token ids.
        max_positions: Maximum number of tokens of a text; None is unlimited.

    Returns:
        The settings.

    Raises:
        ConfigError: A value is of another type or out of its range, or asks for another way.
    """
    path, fields = _generation_fields(folder)
    _check_supported(path, fields, _NEUTRAL_OF_SAMPLING)
    counts = {name: _number(path, fields, name, int) for name in _COUNTS_OF_SAMPLING}
    samples, default = fields.get("do_sample"), SamplingConfig()
    temperature = _number(path, fields, "temperature", float, 1.0)
    top_k = counts["top_k"]
    if top_k is None:
        top_k = _TOP_K if samples is True else 0
    max_tokens, max_length = counts["max_new_tokens"], counts["max_length"]
    if max_tokens is None and max_length is not None and max_positions is not None:
        max_length = min(max_length, max_positions)
    try:
        return SamplingConfig(
            temperature=0.0 if samples is False else temperature,
            top_k=top_k,
            top_p=_number(path, fields, "top_p", float, 1.0),
            max_tokens=max_tokens or default.max_tokens,
            max_length=None if max_tokens else max_length or None,
            # `transformers` does not count the end.
            min_tokens=counts["min_new_tokens"] + 1 if counts["min_new_tokens"] else 0,
            repetition_penalty=_number(path, fields, _REPETITION, float, 1.0),
            no_repeat_size=counts["no_repeat_ngram_size"] or 0,
            forbidden=forbidden_ids(folder, num_rows),
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from error


def forbidden_ids(folder: Path, num_rows: int) -> tuple[int, ...]:
    """Read the tokens that are never generated, except those that end a text.

    Args:
        folder: Folder with ``generation_config.json``, or else the fields in ``config.json``.
        num_rows: Number of token ids; others are left out, of which a warning says so.

    Returns:
        Their ids.

    Raises:
        ConfigError: Sequences of several tokens are forbidden.
    """
    path, fields = _generation_fields(folder)
    ends = fields.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    rows = fields.get("bad_words_ids") or []
    if any(not isinstance(row, list) or len(row) != 1 for row in rows):
        raise ConfigError(
            f"{path}: bad_words_ids={json.dumps(rows)[:80]}: only single tokens can be forbidden.  "
            "Take out what is longer."
        )
    tokens = [*(row[0] for row in rows), *(fields.get("suppress_tokens") or [])]
    if any(type(token) is not int or token < 0 for token in tokens):
        raise ConfigError(f"{path}: bad_words_ids or suppress_tokens: ids of tokens were expected.")
    if outside := [token for token in tokens if token >= num_rows]:
        warnings.warn(
            f"{path}: the forbidden tokens {', '.join(map(str, outside[:10]))} left out: the model "
            f"has {num_rows:,} tokens.",
            stacklevel=3,
        )
    allowed = (token for token in tokens if token not in ends and token < num_rows)
    return tuple(dict.fromkeys(allowed))


def _generation_fields(folder: Path) -> tuple[Path, dict[str, Any]]:
    path = folder / GENERATION_CONFIG
    path = path if path.is_file() else folder / HF_CONFIG
    return path, read_json(path)


def _check_supported(
    path: Path, fields: Mapping[str, Any], neutral_values: Mapping[str, tuple[Any, ...]]
) -> None:
    for name, neutral in neutral_values.items():
        value = fields.get(name)
        if value is not None and value not in neutral:
            raise ConfigError(
                f"{path}: {name}={json.dumps(value)[:80]}: no search here does that, so the "
                "outputs would not be those the folder asks for.  To do without it, take "
                f"{name} out."
            )


def _check_start(path: Path, fields: Mapping[str, Any]) -> None:
    """Raise where the token that begins the decoder's input differs from that of training."""
    name = "decoder_start_token_id"
    start, other = fields.get(name), read_json(path.with_name(HF_CONFIG)).get(name)
    if None not in (start, other) and start != other:
        raise ConfigError(
            f"{path}: {name}={json.dumps(start)}: config.json has {json.dumps(other)}, and the two "
            "must be equal."
        )


def _number(
    path: Path,
    fields: Mapping[str, Any],
    name: str,
    kind: type[int | float],
    default: float | None = None,
) -> Any:
    """Return the number in a field, of the kind that is expected; `default` where there is none."""
    value = fields.get(name)
    if value is None:
        return default
    is_number = type(value) is int or (kind is float and type(value) is float)
    if not is_number or (kind is int and value < 0):
        expected = "a number" if kind is float else "0 or more"
        raise ConfigError(f"{path}: {name}={json.dumps(value)}: {expected} was expected.")
    if name in _POSITIVE and value <= 0:
        raise ConfigError(f"{path}: {name}={json.dumps(value)}: more than 0 was expected.")
    return kind(value)


def _has_end(path: Path, fields: Mapping[str, Any]) -> bool:
    """Return whether the end of a text is forced at the limit of an output."""
    # `transformers` has it by default in its classes of models, not in that of generation.
    default = True if path.name == HF_CONFIG else None
    last, end = fields.get("forced_eos_token_id", default), fields.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    last = last[0] if isinstance(last, list) and len(last) == 1 else last
    if last is not None and last is not True and end is not None and last != end:
        raise ConfigError(
            f"{path}: forced_eos_token_id={json.dumps(last)}: only what ends a text "
            f"(eos_token_id={json.dumps(end)}) can be forced last."
        )
    return last is not None
