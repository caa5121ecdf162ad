"""Text from a trained model: beam search, sampling, constraints and alignment over one cache."""

from regard.generation.alignment import cross_attention
from regard.generation.beam_search import Hypothesis, beam_search
from regard.generation.beam_search_config import BeamSearchConfig, length_normalizer
from regard.generation.constraints import Constraints
from regard.generation.decoding import CausalDecoder, DecodingState, Seq2SeqDecoder
from regard.generation.sampling import SamplingConfig, next_probabilities, sample

__all__ = [
    "BeamSearchConfig",
    "CausalDecoder",
    "Constraints",
    "DecodingState",
    "Hypothesis",
    "SamplingConfig",
    "Seq2SeqDecoder",
    "beam_search",
    "cross_attention",
    "length_normalizer",
    "next_probabilities",
    "sample",
]
