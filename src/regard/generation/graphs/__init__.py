"""Steps of decoding on a GPU, each repeated as one CUDA graph.

A step of a Transformer's decoder is hundreds of small kernels, whose launches take a multiple of
their work. `StaticStep` computes it on tensors of fixed shapes and addresses, so that a GPU can
repeat it by one call; `GraphDecoder` and `GraphCausalDecoder` are the decoders of searches and of
sampling. Python waits for the GPU once a step, for the best tokens of all rows.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.generation.graphs.graph_causal_decoder import GraphCausalDecoder
    from regard.generation.graphs.graph_decoder import GraphDecoder

import_lazily(__name__)

__all__ = ["GraphCausalDecoder", "GraphDecoder"]
