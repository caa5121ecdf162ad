"""Text from a trained model: beam search, sampling, constraints and alignment over one cache."""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.generation.alignment import cross_attention
    from regard.generation.beam_search import Hypothesis, beam_search
    from regard.generation.beam_search_config import BeamSearchConfig, length_normalizer
    from regard.generation.constraints import Constraints
    from regard.generation.decoders import causal_decoder, seq2seq_decoder
    from regard.generation.decoding import CausalDecoder, DecodingState, Seq2SeqDecoder
    from regard.generation.sampling import SamplingConfig, next_probabilities, sample
    from regard.generation.scheduling import decode

import_lazily(__name__)

__all__ = [
    "BeamSearchConfig",
    "CausalDecoder",
    "Constraints",
    "DecodingState",
    "Hypothesis",
    "SamplingConfig",
    "Seq2SeqDecoder",
    "beam_search",
    "causal_decoder",
    "cross_attention",
    "decode",
    "length_normalizer",
    "next_probabilities",
    "sample",
    "seq2seq_decoder",
]
