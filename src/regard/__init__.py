"""regard: Transformers you can train, solve, scale and see, on your own text.

    >>> import regard                                              # doctest: +SKIP
    >>> translator = regard.train("pairs.tsv", "ende")             # doctest: +SKIP
    >>> regard.load("ende").translate(["Good morning"], beam=4)    # doctest: +SKIP

Importing this package is light: torch is loaded when `train` or `load` is first called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regard.tasks.translation.predictor import Translator

__version__ = "0.1.0"
__all__ = ["__version__", "load", "train"]


def load(folder: str | Path) -> Translator:
    """Open a model folder.

    Args:
        folder: As written by `train`.

    Returns:
        The model with its text methods; ``.model`` is the `torch.nn.Module`.

    Raises:
        regard.errors.WeightsError: The folder is missing, incomplete or damaged.
    """
    from regard.tasks.loading import open_model

    return open_model(folder)


def train(
    data: str | Path | None,
    output: str | Path,
    *,
    preset: str = "auto",
    minutes: float | None = None,
    seed: int = 1,
    settings: Sequence[str] = (),
) -> Translator:
    """Train a translation model on a file of sentence pairs.

    Args:
        data: TSV, CSV or JSONL file of pairs; None takes the embedded corpus.
        output: Folder of the new model; must not hold one yet.
        preset: Size of the model: tiny, small, base, or auto by the amount of data.
        minutes: Wall-clock budget; None trains until validation stops improving.
        seed: Of everything random.
        settings: Further settings, ``section.key=value`` each, such as ``training.epochs=3``.

    Returns:
        The trained model, as `load` would open it.

    Raises:
        regard.errors.RegardError: A setting, a file or the machine does not allow it.
    """
    from regard.runs.run import train as run

    chosen = [f"preset={preset}", f"training.seed={seed}"]
    if minutes is not None:
        chosen.append(f"training.minutes={minutes}")
    return run(data, output, settings=[*chosen, *settings])
