"""Options of verbs that use a trained model: what computes, and how outputs are searched for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cyclopts import Parameter

from regard.settings.values import DecodingPrecision

if TYPE_CHECKING:
    from regard.tasks.sequence_to_sequence.predictor import SearchOptions


@Parameter(name="*")
@dataclass(frozen=True)
class ComputeOptions:
    """What computes.

    Attributes:
        device: What computes: cpu, cuda (a GPU; of several, cuda:N), or auto, a GPU where there is
            one.
        threads: Threads of the processor; the default is one for each core.
    """

    device: str = "auto"
    threads: int | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class WritingOptions(ComputeOptions):
    """What computes the outputs of a model that writes text.

    Attributes:
        precision: Type of the weights of a model that writes text: float32, bf16, or int8, which is
            fastest where the compiled decoder writes (regard info MODEL). The default is what
            regard info says.
    """

    precision: DecodingPrecision | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class BeamOptions:
    """How outputs are searched for.

    Attributes:
        beam: Hypotheses in the beam search; 1 is greedy. The default is the model's: 4, or that of
            a published folder.
        nbest: Number of outputs for each input, best first, at most the beam.
        length_penalty: 0 favors short output, 1 is neutral, more favors long output. The default
            is the model's.
        min_length: Minimum number of tokens of an output, its end counted.
        max_length: Maximum number of tokens of an output, its end counted. The default is the
            model's.
    """

    beam: int | None = None
    nbest: int = 1
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None

    def search(self) -> SearchOptions:
        """Return the options of a call."""
        return asdict(self)  # pyright: ignore[reportReturnType] - the same names


COMPUTE_DEFAULTS = ComputeOptions()
WRITING_DEFAULTS = WritingOptions()
BEAM_DEFAULTS = BeamOptions()
"""No option is set."""
