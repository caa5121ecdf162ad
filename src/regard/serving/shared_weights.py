"""A second model over the same weights, whose layers are recorded while the first one computes."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

from regard.generation.decoders import CurrentDecoder
from regard.tasks import Predictor
from regard.tasks.language_modeling.predictor import TextGenerator

P = TypeVar("P", bound=Predictor)


def with_shared_weights(predictor: P) -> P:
    """Return a copy of a predictor that has its layers, but not its weights, for itself."""
    own, model = copy.copy(predictor), predictor.model
    tensors = chain(model.parameters(), model.buffers())
    vars(own)["model"] = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    if isinstance(own, TextGenerator):  # its decoder is that of its own layers
        vars(own)["_current"] = CurrentDecoder()
    return own
