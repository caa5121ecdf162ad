"""How outputs are searched for, and how they rank.

Two rankings: that of Wu et al. 2016, equation 14, and that of ``transformers``, by which published
folders were tuned. Both divide the log-probability of an output by a function of its length.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from regard.settings.validation import require_at_least, require_positive

Ranking = Literal["wu", "transformers"]
Stopping = Literal["certain", "likely", "first"]


class BeamSearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to search.

    Args:
        beam: Number of hypotheses kept at every step; 1 is greedy.
        length_penalty: alpha; 0 is none, 1 about the mean log-probability, more favours long
            outputs.
        ranking: What a log-probability is divided by: ``wu`` by ``((5 + length) / 6) ** alpha``,
            where an output cut off at its limit counts only if too few ended; ``transformers`` by
            ``length ** alpha``, the end counted, where it ranks with those.
        stopping: When a beam is done: ``certain``, once nothing that goes on can rank among the
            `num_best`; ``likely``, once `beam` have ended and none that goes on would rank among
            them as long as it is now; ``first``, once `beam` have ended. As ``early_stopping`` of
            ``transformers``: "never", false, true.
        max_length_ratio: Most output tokens for each source token, plus ten; none sets no limit.
        max_length: Most output tokens whatever the source, its end counted; none sets no limit,
            which one of the two must.
        min_length: Fewest output tokens, its end counted; a lower `max_length` goes before.
        num_best: Number of hypotheses to return for each sentence, at most `beam`.
        no_repeat_size: Number of tokens in a row that no output has twice (Paulus et al. 2017); 0
            lets them come again.
        repetition_penalty: What the score of a token that an output has already is multiplied by,
            or divided by where it is above 0 (Keskar et al. 2019); 1 is none.
        forbidden: Ids of tokens that are never written.
        forced_first: Id of the token that every output begins with; none leaves it to the model.
        forces_end: Whether an output that reaches its limit is ended there, as if by itself,
            rather than cut off.
        is_renormalized: Whether the probabilities of what is left sum to 1 again after all of
            these.
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
    is_renormalized: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, self, "beam", "max_length")
        require_at_least(0, self, "min_length", "no_repeat_size", "forced_first")
        require_positive(self, "repetition_penalty")
        if not 1 <= self.num_best <= self.beam:
            raise ValueError(f"num_best must be 1 to beam ({self.beam}), not {self.num_best}")
        if self.max_length is None and self.max_length_ratio is None:
            raise ValueError("max_length and max_length_ratio: one of the two must set a limit")
        if any(token < 0 for token in self.forbidden):
            raise ValueError(f"forbidden: ids must be 0 or more, not {min(self.forbidden)}")

    def summary(self) -> str:
        """Tell beam, score and limits in a line."""
        divisor = "length" if self.ranking == "transformers" else "((5 + length) / 6)"
        said = [f"beam {self.beam}", f"log-probability / {divisor}^{self.length_penalty:g}"]
        if self.max_length is not None:
            said.append(f"at most {self.max_length:,} tokens")
        if self.max_length_ratio is not None:
            said.append(f"at most {self.max_length_ratio:g} x source + 10")
        if self.min_length:
            said.append(f"at least {self.min_length:,}")
        if self.no_repeat_size:
            said.append(f"no {self.no_repeat_size} in a row twice")
        if self.repetition_penalty != 1:
            said.append(f"repetition penalty {self.repetition_penalty:g}")
        return ", ".join(said)


def length_normalizer(length: int, alpha: float, ranking: Ranking = "wu") -> float:
    """Compute what the log-probability of an output of `length` tokens is divided by.

    Args:
        length: Tokens, the end counted, 1 or more.
        alpha: The length penalty.
        ranking: Which of the two.

    >>> length_normalizer(7, 1.0), length_normalizer(7, 1.0, "transformers")
    (2.0, 7.0)
    """
    return (float(length) if ranking == "transformers" else (5.0 + length) / 6.0) ** alpha
