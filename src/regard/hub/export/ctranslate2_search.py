"""A search of regard as options of CTranslate2, and where the two are not the same.

Both keep the best ``2 * beam`` candidates and rank outputs by the log-probability over a power of
the length, its end counted. CTranslate2 ends a beam once ``beam * patience`` outputs have ended; it
sets tokens that are not allowed to minus infinity before, not after, probabilities are computed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig

LEAST_POSITIONS = 1024
"""Rows of a table of sinusoids at least: the tokens to which CTranslate2 cuts a source."""
MOST_POSITIONS = 32_768
"""Rows of a table of positions for outputs alone, whatever the limit by the length of a source."""
_PATIENCE = {"first": 1.0, "likely": 2.0, "certain": 1_000.0}
"""Patience by the rule that ends a search. The first rule is that of CTranslate2; a search that
continues to its limit finds the best output of the last.
"""


class WritingLimits(NamedTuple):
    """The lengths that a translator was trained for.

    Args:
        source: Maximum number of tokens of a source, special tokens counted; None sets no limit.
        ratio: Maximum number of tokens of an output for each of its source, plus ten; None sets no
            limit.
        output: Maximum number of tokens of an output whatever the source; None sets no limit.
        forces_end: Whether an output is ended at its limit, and not cut off: CTranslate2 then cuts
            it off before the end.
    """

    source: int | None
    ratio: float | None
    output: int | None
    forces_end: bool = False

    def of_output(self, num_source: int) -> int:
        """Return the maximum number of tokens of an output, an end that it writes counted."""
        by_source = None if self.ratio is None else int(self.ratio * num_source) + 10
        least = min(limit for limit in (by_source, self.output) if limit is not None)
        return max(1, least - self.forces_end)

    @property
    def formula(self) -> str:
        """The same in Python, of ``num_source``."""
        text = f"int({self.ratio!r} * num_source) + 10"
        if self.ratio is None:
            text = str(self.output)
        elif self.output is not None:
            text = f"min({text}, {self.output})"
        return f"max(1, {text} - 1)" if self.forces_end else text


def writing_limits(search: BeamSearchConfig, max_source: int | None) -> WritingLimits:
    """Return the lengths of a model.

    Args:
        search: Its search.
        max_source: Maximum number of tokens of a source, its end not counted; None is not known.
    """
    source = LEAST_POSITIONS if max_source is None else max_source + 1
    return WritingLimits(source, search.max_length_ratio, search.max_length, search.forces_end)


def search_options(search: BeamSearchConfig, tokens: Sequence[str]) -> dict[str, Any]:
    """Return the options of ``translate_batch`` for a search, but for lengths.

    Args:
        search: How outputs are searched for.
        tokens: The token of each id.
    """
    options: dict[str, Any] = {"beam_size": search.beam}
    if search.beam > 1:
        options["patience"] = _PATIENCE[search.stopping]
        options["length_penalty"] = search.power_of_length
    # Here the end counts, and CTranslate2 would not write an empty output by itself.
    options["min_decoding_length"] = max(0, search.min_length - 1)
    return options | _rules(search, tokens)


def sampling_options(
    sampling: SamplingConfig,
    ends: Collection[int],
    written_ends: Collection[int],
    tokens: Sequence[str],
) -> dict[str, Any]:
    """Return the options of ``generate_batch`` for a language model, but for how tokens are drawn.

    Args:
        sampling: How tokens are chosen.
        ends: Ids that end a text.
        written_ends: Those of them that belong to the text, such as a newline.
        tokens: The token of each id.
    """
    options: dict[str, Any] = {"end_token": [tokens[token] for token in sorted(ends)]}
    if written_ends:
        options["return_end_token"] = True
    if sampling.min_tokens > 1:
        options["min_length"] = sampling.min_tokens - 1
    return options | _rules(sampling, tokens)


def _rules(config: BeamSearchConfig | SamplingConfig, tokens: Sequence[str]) -> dict[str, Any]:
    """Return the options about repetition and tokens that are never written."""
    options: dict[str, Any] = {}
    if config.repetition_penalty != 1.0:
        options["repetition_penalty"] = config.repetition_penalty
    if config.no_repeat_size:
        options["no_repeat_ngram_size"] = config.no_repeat_size
    if config.forbidden:
        forbidden = dict.fromkeys(config.forbidden)
        options["suppress_sequences"] = [[tokens[token]] for token in forbidden]
    return options


def search_difference(search: BeamSearchConfig) -> str:
    """Return in words what CTranslate2 does otherwise in a search; empty where it is the same.

    Args:
        search: How outputs are searched for; a greedy one is the same.
    """
    if search.beam == 1:
        return ""
    if search.ranking == "wu":
        return "ranks outputs by another function of their length"
    # Without a length penalty CTranslate2 stops once the best candidate ends.
    if search.stopping == "likely" or search.length_penalty <= 0:
        return "ends a search by another rule"
    has_rules = search.repetition_penalty != 1 or search.no_repeat_size or search.forbidden
    if has_rules or search.min_length > 1 or search.forced_first is not None:
        return "renormalises probabilities where tokens are not allowed"
    return ""
