"""Settings of beam search, and the score by which its outputs are ranked.

Two rankings: that of ``transformers``, for which published folders were tuned, and that of Wu et
al. 2016, equation 14. Both divide the log-probability of an output by a function of its length. New
models have the former (`NEW_SEARCH`): an export gives the same outputs, and these are no worse.
"""

from __future__ import annotations

from typing import Literal, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.settings.binding import check_types
from regard.settings.validation import (
    require_at_least,
    require_at_most,
    require_finite,
    require_positive,
)

Ranking = Literal["wu", "transformers"]
Stopping = Literal["certain", "likely", "first"]
_LARGEST_BEAM = 1_000
_LARGEST_PENALTY = 100.0  # a power of the length: a higher one is above any number
_UNLIMITED = np.iinfo(np.int64).max
_FEW_FORBIDDEN = 64  # tokens that may be left out of a few more of the best ones
_POWER_OF_WU = 0.75
"""Power of a length by which ``(5 + length) / 6`` rises where an output has 15 tokens."""
_LONGEST = 1e12  # tokens of an output by its source's; a product may be above any whole number


class BeamSearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to search.

    Args:
        beam: Number of hypotheses kept at every step; 1 is greedy.
        length_penalty: alpha; 0 is none, 1 about the mean log-probability, more favours long
            outputs.
        ranking: What a log-probability is divided by: ``transformers`` by ``length ** alpha``, the
            end counted, where an output cut off at its limit is ranked with those that ended;
            ``wu``, of settings that name none, as of earlier models, by ``((5 + length) / 6) **
            alpha``, where it counts only if too few ended.
        stopping: When a beam is done: ``certain``, once no hypothesis that continues can be among
            the `num_best`; ``likely``, once `beam` have ended and none that continues would be
            among them at its present length; ``first``, once `beam` have ended. These are "never",
            false and true of ``early_stopping`` in ``transformers``.
        max_length_ratio: Maximum number of output tokens for each source token, plus ten; None sets
            no limit.
        max_length: Maximum number of output tokens whatever the source, the end counted; None sets
            no limit. One of the two must set one.
        min_length: Minimum number of output tokens, the end counted; a lower `max_length` has
            precedence.
        num_best: Number of hypotheses to return for each sentence, at most `beam`.
        no_repeat_size: Length of the n-grams that no output has twice (Paulus et al. 2017); 0
            allows all.
        repetition_penalty: Factor on the score of a token that an output already has, or divisor
            where the score is above 0 (Keskar et al. 2019); 1 is none.
        forbidden: Ids of tokens that are never written.
        forced_first: Id of the token that every output begins with; None leaves it to the model.
        forces_end: Whether an output that reaches its limit is ended there, and not cut off.
        forced_last: Id of the token that an output has at its limit, if that is not the end; None
            leaves it to the model. Published folders whose end was changed have one.
        is_renormalized: Whether the probabilities of the tokens that remain sum to 1 again.
    """

    beam: int = 4
    length_penalty: float = 1.0
    ranking: Ranking = "wu"
    stopping: Stopping = "certain"
    max_length_ratio: float | None = 2.0
    max_length: int | None = None
    min_length: int = 0
    num_best: int = 1
    no_repeat_size: int = 0
    repetition_penalty: float = 1.0
    forbidden: tuple[int, ...] = ()
    forced_first: int | None = None
    forces_end: bool = False
    forced_last: int | None = None
    is_renormalized: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "beam", "max_length")
        require_at_most(_LARGEST_BEAM, self, "beam")
        if not abs(self.length_penalty) <= _LARGEST_PENALTY:
            raise ValueError(
                f"length_penalty must be {-_LARGEST_PENALTY} to {_LARGEST_PENALTY}, "
                f"not {self.length_penalty}"
            )
        require_at_least(0, self, "min_length", "no_repeat_size", "forced_first", "forced_last")
        require_at_least(0, self, "max_length_ratio")
        require_positive(self, "repetition_penalty")
        require_finite(self, "length_penalty", "max_length_ratio")
        if not 1 <= self.num_best <= self.beam:
            raise ValueError(f"num_best must be 1 to beam ({self.beam}), not {self.num_best}")
        if self.max_length is None and self.max_length_ratio is None:
            raise ValueError("max_length and max_length_ratio: one of the two must set a limit")
        if self.forces_end and self.forced_last is not None:
            raise ValueError("forces_end and forced_last: one token can be the last; set one")
        if any(token < 0 for token in self.forbidden):
            raise ValueError(f"forbidden: ids must be 0 or more, not {min(self.forbidden)}")

    def output_limits(self, source_lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the maximum number of tokens of each output, by the tokens of its source.

        Args:
            source_lengths: Tokens of the sources, their ends counted.

        Returns:
            The limits, in the shape of `source_lengths`.

        >>> BeamSearchConfig(max_length=40).output_limits(np.array([3, 90]))
        array([16, 40])
        """
        most = _UNLIMITED if self.max_length is None else self.max_length
        if self.max_length_ratio is None:
            return np.full_like(source_lengths, most)
        ratio = np.float32(min(self.max_length_ratio, _LONGEST))
        products = np.minimum(source_lengths.astype(np.float32) * ratio, _LONGEST)
        return np.minimum(products.astype(np.int64) + 10, most)

    @property
    def power_of_length(self) -> float:
        """What log-probabilities are divided by, as a power of the length; of ``wu`` the nearest.

        >>> BeamSearchConfig(length_penalty=2.0, ranking="wu").power_of_length
        1.5
        """
        return self.length_penalty * (_POWER_OF_WU if self.ranking == "wu" else 1.0)

    @property
    def reads_logits(self) -> bool:
        """Whether the constraints depend on more than the best tokens of each row."""
        return (
            self.repetition_penalty != 1.0
            or self.no_repeat_size > 0
            or self.forced_first is not None
            or self.forces_end
            or self.forced_last is not None
            or self.is_renormalized
            or len(self.forbidden) > _FEW_FORBIDDEN
        )

    def summary(self) -> str:
        """Return beam, score and limits in a line."""
        divisor = "length" if self.ranking == "transformers" else "((5 + length) / 6)"
        parts = [f"beam {self.beam}", f"log-probability / {divisor}^{self.length_penalty:g}"]
        rules = (  # text, value, and the value that sets no rule
            ("at most {:,} tokens", self.max_length, None),
            ("at most {:g} x source + 10", self.max_length_ratio, None),
            ("at least {:,}", self.min_length, 0),
            ("no {} in a row twice", self.no_repeat_size, 0),
            ("repetition penalty {:g}", self.repetition_penalty, 1),
        )
        parts += [text.format(value) for text, value, unset in rules if value != unset]
        return ", ".join(parts)


NEW_SEARCH = BeamSearchConfig(ranking="transformers", stopping="likely")
"""The search of a newly trained model: that of ``generate`` of ``transformers``."""


@overload
def length_normalizer(length: float, alpha: float, ranking: Ranking = "wu") -> float: ...


@overload
def length_normalizer(
    length: NDArray[np.float64], alpha: float, ranking: Ranking = "wu"
) -> NDArray[np.float64]: ...


def length_normalizer(
    length: float | NDArray[np.float64], alpha: float, ranking: Ranking = "wu"
) -> float | NDArray[np.float64]:
    """Return what the log-probability of an output of `length` tokens is divided by.

    Args:
        length: Tokens, the end counted, 1 or more; one number or an array of them.
        alpha: The length penalty.
        ranking: The formula.

    >>> length_normalizer(7, 1.0), length_normalizer(7, 1.0, "transformers")
    (2.0, 7.0)
    """
    return (length if ranking == "transformers" else (5.0 + length) / 6.0) ** alpha
