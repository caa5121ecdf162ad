"""The picture that a run leaves in its folder: its curves."""

from __future__ import annotations

from regard.errors import RegardError, describe_lack_of_memory
from regard.hub.file_names import CURVES
from regard.hub.model_folder import ModelFolder
from regard.metrics import metric_named
from regard.plots import curves
from regard.training.events import Drawn, Warned


def write_curves(folder: ModelFolder, unit: str) -> Drawn | Warned | None:
    """Draw the evaluations of a run into its folder.

    Args:
        folder: Folder of the run.
        unit: Unit of the losses.

    Returns:
        The picture; a warning with the reason, where drawing has failed; None without evaluations.
    """
    path = folder.path / CURVES
    try:
        figures = curves.Curves.from_metrics(
            folder.read_metrics(), unit=unit, title_of=lambda name: metric_named(name).axis
        )
        if not figures.steps:
            return None
        curves.draw_curves(figures, path)
    # The model is saved already: no error of the plotting library may end the run.
    except (RegardError, ImportError, OSError, MemoryError, RuntimeError, ValueError) as error:
        reason = describe_lack_of_memory(error) or str(error)
        reason = reason if isinstance(error, RegardError) else f"{path}: not drawn ({reason})."
        return Warned(text=f"No picture of the curves.  {reason}")
    return Drawn(path=str(path))
