"""Kinds of inputs other than texts: images, recordings and series, one file each."""

from regard.tasks.classification.modalities.base import Modality
from regard.tasks.classification.modalities.images import Images
from regard.tasks.classification.modalities.recordings import Recordings
from regard.tasks.classification.modalities.series import Series

MODALITIES: tuple[Modality, ...] = (Images(), Recordings(), Series())
"""All of them, in the order in which data is claimed."""


def modality_of(task: str) -> Modality:
    """Return the modality of a task."""
    return next(modality for modality in MODALITIES if modality.task == task)


__all__ = ["MODALITIES", "modality_of"]
