"""What an export tells: where it is, and how far its outputs are from those it was made from."""

from __future__ import annotations

import msgspec


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and how it compares.

    Args:
        folder: Where it is.
        model_type: Its published layout.
        difference: Largest difference of a logit between the model and what was read back.
        scale: Standard deviation of the logits.
        peer_difference: Largest difference to ``transformers``; None where it is not installed.
    """

    folder: str
    model_type: str
    difference: float
    scale: float
    peer_difference: float | None
