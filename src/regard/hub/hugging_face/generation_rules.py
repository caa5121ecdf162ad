"""The generation settings of a Hugging Face folder: ``generation_config.json``.

Older folders have the same fields in ``config.json``. The names and meanings are those of
``GenerationConfig`` of ``transformers``. A field that asks for another search is refused: the
outputs would not be those that the folder was published for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from regard.errors import ConfigError
from regard.generation.sampling import SamplingConfig
from regard.hub.file_names import GENERATION_CONFIG, HF_CONFIG
from regard.hub.hugging_face.tokenizer_rows import warn_of_missing_rows
from regard.hub.hugging_face.weight_files import as_list, is_whole_number, read_json

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
_POSITIVE = ("num_beams", "max_length", "max_new_tokens", _REPETITION)


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
        last_id: Token that an output has at its limit, if that is not the end; None leaves it to
            the model.
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
    last_id: int | None = None
    own_settings: Mapping[str, Any] = {}


class _Fields(NamedTuple):
    """The fields of a file, and its path for messages."""

    path: Path
    values: Mapping[str, Any]

    def require(self, name: str, expected: str, *, is_met: bool) -> None:
        """Raise ConfigError where the value of a field is not what is expected."""
        if not is_met:
            text = json.dumps(self.values[name])[:80]
            raise ConfigError(f"{self.path}: {name}={text}: {expected} was expected.")

    def number(self, name: str, default: Any, kind: type[int | float] = float) -> Any:
        """Return the number in a field, a count where `kind` is int; `default` without one."""
        value = self.values.get(name)
        if value is None:
            return default
        if kind is int:
            self.require(name, "0 or more", is_met=is_whole_number(value))
        self.require(name, "a number", is_met=type(value) in (int, float))
        self.require(name, "more than 0", is_met=name not in _POSITIVE or value > 0)
        return kind(value)

    def counts(self, *names: str) -> dict[str, int | None]:
        """Return the counts in fields, by name; None where there is none."""
        return {name: self.number(name, None, int) for name in names}

    def tokens(self, name: str) -> list[Any]:
        """Return the list in a field; empty where there is none."""
        value = self.values.get(name)
        self.require(name, "a list", is_met=value is None or isinstance(value, list))
        return value or []


def read_generation_rules(
    folder: Path, changes: Mapping[str, Any] = MappingProxyType({})
) -> GenerationRules:
    """Read the settings of search, first and last tokens, lengths and repetitions.

    Args:
        folder: Folder with ``generation_config.json``, or else the fields in ``config.json``.
        changes: Fields that count before these, such as those of a task (`read_uses`).

    Returns:
        The settings.

    Raises:
        ConfigError: Several tokens are forced last, a value is of another type, or asks for
            another search.
    """
    path, fields = rules = _generation_fields(folder, changes)
    _check_supported(path, fields, _NEUTRAL_OF_SEARCH)
    ends = fields.get("eos_token_id")
    if isinstance(ends, list) and len(ends) > 1:
        raise ConfigError(
            f"{path}: eos_token_id={json.dumps(ends)[:80]}: one token ends an output here, not "
            "several.  Leave the one that the vocabulary names as its end."
        )
    _check_start(path, fields)
    counts = rules.counts(*_COUNTS)
    max_length, min_length = _output_lengths(counts)
    early_stopping = fields.get("early_stopping")
    is_known = early_stopping in (None, True, False, "never")
    rules.require("early_stopping", 'true, false or "never"', is_met=is_known)
    own_settings = fields.get(OWN_FIELD) or {}
    rules.require(OWN_FIELD, "an object", is_met=isinstance(own_settings, dict))
    last = _last_id(rules)
    has_end = last is not None and _content(fields.get("eos_token_id")) in (None, last)
    return GenerationRules(
        first_id=_first_id(fields, counts["forced_bos_token_id"]),
        has_end=has_end,
        max_length=max_length,
        min_length=min_length,
        no_repeat_size=counts["no_repeat_ngram_size"] or 0,
        beam=counts["num_beams"],
        length_penalty=rules.number("length_penalty", 1.0),
        early_stopping=early_stopping or False,
        repetition_penalty=rules.number(_REPETITION, 1.0),
        is_renormalized=fields.get("renormalize_logits") is True,
        last_id=None if has_end else last,
        own_settings=own_settings,
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
    path, fields = rules = _generation_fields(folder)
    _check_supported(path, fields, _NEUTRAL_OF_SAMPLING)
    counts = rules.counts(*_COUNTS_OF_SAMPLING)
    samples, min_tokens = fields.get("do_sample"), counts["min_new_tokens"]
    temperature = rules.number("temperature", 1.0)
    settings = {
        "temperature": 0.0 if samples is False else temperature,
        "top_k": rules.number("top_k", _TOP_K if samples is True else 0, int),
        "top_p": rules.number("top_p", 1.0),
        **_continuation_limit(counts, max_positions),
        # `transformers` does not count the end.
        "min_tokens": min_tokens + 1 if min_tokens else 0,
        "repetition_penalty": rules.number(_REPETITION, 1.0),
        "no_repeat_size": counts["no_repeat_ngram_size"] or 0,
        "forbidden": forbidden_ids(folder, num_rows),
    }
    try:
        return SamplingConfig(**settings)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from error


def forbidden_ids(folder: Path, num_rows: int) -> tuple[int, ...]:
    """Read the tokens that are never generated.

    Those of ``bad_words_ids`` that end a text are left out, as in ``transformers``; those of
    ``suppress_tokens`` are not.

    Args:
        folder: Folder with ``generation_config.json``, or else the fields in ``config.json``.
        num_rows: Number of token ids; others are left out, of which a warning says so.

    Returns:
        Their ids.

    Raises:
        ConfigError: Sequences of several tokens are forbidden, or something other than a token.
    """
    path, fields = rules = _generation_fields(folder)
    rows = rules.tokens("bad_words_ids")
    if not all(map(_is_single, rows)):
        raise ConfigError(
            f"{path}: bad_words_ids={json.dumps(rows)[:80]}: only single tokens can be forbidden.  "
            "Take out what is longer."
        )
    words, suppressed = list(chain.from_iterable(rows)), rules.tokens("suppress_tokens")
    tokens = [*words, *suppressed]
    if not all(map(is_whole_number, tokens)):
        raise ConfigError(f"{path}: bad_words_ids or suppress_tokens: ids of tokens were expected.")
    outside = [str(token) for token in tokens if token >= num_rows]
    warn_of_missing_rows(path, "the forbidden tokens ", outside, num_rows)
    ends = as_list(fields.get("eos_token_id"))
    forbidden = [*(token for token in words if token not in ends), *suppressed]
    return tuple(token for token in dict.fromkeys(forbidden) if token < num_rows)


def _generation_fields(folder: Path, changes: Mapping[str, Any] = MappingProxyType({})) -> _Fields:
    path = folder / GENERATION_CONFIG
    path = path if path.is_file() else folder / HF_CONFIG
    return _Fields(path, read_json(path) | dict(changes))


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


def _first_id(fields: Mapping[str, Any], forced_id: int | None) -> int | None:
    """Return the token that every output begins with, also by the field of old releases."""
    is_forced = fields.get("force_bos_token_to_be_generated") is True
    return fields.get("bos_token_id", 0) if is_forced and forced_id is None else forced_id


def _output_lengths(counts: Mapping[str, int | None]) -> tuple[int | None, int]:
    """Return the maximum, None without one, and the minimum number of tokens with the end.

    `transformers` counts the token that begins the decoder's input, and not the end.
    """
    longest, in_all = counts["max_new_tokens"], counts["max_length"]
    if longest is None and in_all is not None:
        longest = in_all - 1
    num_new = counts["min_new_tokens"]
    shortest = counts["min_length"] or 0 if num_new is None else num_new + 1
    return None if longest is None else max(1, longest), shortest


def _continuation_limit(
    counts: Mapping[str, int | None], max_positions: int | None
) -> dict[str, int]:
    """Return the limit of new tokens, or else that of prompt and output, by its setting."""
    if num_new := counts["max_new_tokens"]:
        return {"max_tokens": num_new}
    length = counts["max_length"]
    return {"max_length": min(length, max_positions or length)} if length else {}


def _is_single(value: object) -> bool:
    return isinstance(value, list) and len(value) == 1


def _content(value: Any) -> Any:
    """Return the element of a list of one; other values as they are."""
    return value[0] if _is_single(value) else value


def _last_id(rules: _Fields) -> int | None:
    """Return the token that an output has at its limit; None where the model chooses it."""
    name = "forced_eos_token_id"
    last = _content(rules.values.get(name))
    if last is None:
        return None
    rules.require(name, "one id of a token", is_met=is_whole_number(last))
    # `transformers` applies these afterwards: no token would be left.
    is_allowed = last not in rules.tokens("suppress_tokens")
    rules.require(name, "a token that is not in suppress_tokens", is_met=is_allowed)
    return last
