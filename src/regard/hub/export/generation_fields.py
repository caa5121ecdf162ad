"""The search or sampling of a model as the fields of ``generation_config.json``."""

from __future__ import annotations

from typing import Any

from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.sampling import SamplingConfig
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.export.trained_model import TrainedModel
from regard.hub.hugging_face.generation_rules import OWN_FIELD
from regard.models import Decoder, EncoderDecoder, TextModel

_UNSET = {  # by which `transformers` computes what it does without the field
    "bad_words_ids": [],
    "suppress_tokens": [],
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "renormalize_logits": False,
}


def generation_fields(
    trained: TrainedModel, model: TextModel, tokenizer: AnyTokenizer, *, has_vocabulary: bool
) -> dict[str, Any]:
    """Return the fields of ``generation_config.json``.

    Args:
        trained: The model with its search or sampling.
        model: The model itself.
        tokenizer: Its vocabulary.
        has_vocabulary: Whether the folder has what splits texts into tokens.

    Returns:
        The fields by name; none of a model that writes no texts.
    """
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
        "forced_eos_token_id": tokenizer.eos_id if search.forces_end else search.forced_last,
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
